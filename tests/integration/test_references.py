"""The bases that we compute are those that BuildKit asks for: asked of the engine itself.

Every base is given to the build as a named context, and no host of these names
exists: a build with all of them passes, and without any one of them it fails.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.components import discovery
from ci_tools.config import Component as Override
from ci_tools.config import Config
from ci_tools.errors import BuildError, DockerfileError
from ci_tools.images import buildx
from tests.integration.repositories import BUSYBOX

pytestmark = pytest.mark.integration

A, B, C = "a.invalid/x:1", "b.invalid/y:2", "c.invalid/z"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a shell, in the engine only."""
    folder = tmp_path_factory.mktemp("image")
    shutil.copy(BUSYBOX, folder / "sh")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY sh /bin/sh\n")
    tag = f"kfp-ci-test/shell:{uuid.uuid4().hex[:8]}"  # two checkouts may share an engine
    subprocess.run(
        ["docker", "buildx", "build", "--quiet", "--provenance=false", "--load", "-t", tag, folder],
        check=True, capture_output=True,
    )  # fmt: skip
    yield tag
    subprocess.run(["docker", "image", "rm", "--force", tag], check=True, capture_output=True)


@dataclass(frozen=True)
class Case:
    """A Dockerfile, and what ci.yaml says of it. bases: None when nobody says them here."""

    text: str
    bases: list[str] | None = None
    args: dict[str, str] = field(default_factory=dict)
    target: str | None = None
    refused: bool = False


def component(root: Path, case: Case) -> discovery.Component:
    (root / "c").mkdir()
    (root / "c/Dockerfile").write_bytes(case.text.encode())
    override = Override(args=case.args, target=case.target)
    return discovery.discover(root, Config(components={"c": override}), "ml")["c"]


def asked(
    root: Path, one: discovery.Component, contexts: list[str], image: str, target: str | None
) -> subprocess.CompletedProcess[str]:
    options = [f"--build-context={name}=docker-image://{image}" for name in contexts]
    options += [f"--build-arg={name}={value}" for name, value in one.args.items()]
    options += [f"--target={target}"] if target else []
    return subprocess.run(
        [
            "docker", "buildx", "build", "--provenance=false", "--output=type=cacheonly", *options,
            root / "c",
        ],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def check(root: Path, case: Case, image: str) -> None:
    one = component(root, case)
    if case.bases is not None:
        assert list(one.bases) == case.bases
    targets = [one.target, *([one.test_target] if one.test_target else [])]
    for target in targets:
        done = asked(root, one, list(one.bases), image, target)
        assert done.returncode == 0, done.stderr
    for reference in one.bases:
        others = [name for name in one.bases if name != reference]
        done = [asked(root, one, others, image, target) for target in targets]
        assert any(build.returncode for build in done), f"{reference} is not asked for"
        assert any(reference in build.stderr for build in done)


CASES = {
    "several stages": Case(
        f"FROM {A} AS one\nFROM {B} AS two\nCOPY --from=one / /one/\n"
        f"FROM {C}\nCOPY --from=1 / /two/\n",
        [A, B, C],
    ),
    "a stage that nobody needs": Case(
        f"FROM {A} AS one\nCOPY --from={B} / /\nFROM {C} AS two\nFROM two\n", [C]
    ),
    "a target": Case(f"FROM {A} AS One\nFROM {B}\nCOPY --from=one / /\n", [A], target="ONE"),
    "a test stage": Case(f"FROM {A} AS test\nRUN true\nFROM {B}\nCOPY Dockerfile /\n", [A, B]),
    "the nearest of a name": Case(
        f"FROM {A} AS x\nFROM x AS x\nCOPY Dockerfile /\n"
        "FROM scratch\nCOPY --from=x /Dockerfile /\n",
        [A],
    ),
    "the last of a name": Case(
        f"FROM {A} AS x\nFROM {B} AS x\nFROM scratch\nCOPY --from=x / /\n", [B]
    ),
    "a later stage, read where nobody looks": Case(
        f"FROM {A}\nCOPY --from=last / /\nFROM {B} AS last\n", [B]
    ),
    "defaults": Case("ARG HOST=a\nARG NAME=${HOST}.invalid/x\nFROM ${NAME}:${V:-1}\n", [A]),
    "arguments": Case(
        "ARG V=9\nARG NAME=${X:-a}.invalid/x\nFROM $NAME:$V\n", [A], {"V": "1", "X": "b"}
    ),
    "nested defaults": Case("ARG A=a\nFROM ${B:-${A}.invalid/${C:-x}:1}\n", [A]),
    "quotes": Case("ARG A='a.invalid' B=\"x\"\nFROM \"$A\"/${B}:'1'\n", [A]),
    "escapes": Case("# escape=`\nARG A=a`.invalid\nFROM $A/x:`1\n", [A]),
    "a shortest prefix": Case("ARG X=0/a.invalid/x:1\nFROM ${X#*/}\n", [A]),
    "a longest prefix": Case("ARG X=0/1/a.in\nFROM ${X##*/}valid/x:1\n", [A]),
    "a shortest suffix": Case(f"ARG X={A}.2.3\nFROM ${{X%.2.?}}\n", [A]),
    "a longest suffix": Case(f"ARG X={A}.2.3\nFROM ${{X%%.2*}}\n", [A]),
    "one replaced": Case("ARG X=a-invalid/x-1\nFROM ${X/-/.}\n", ["a.invalid/x-1"]),
    "all replaced": Case("ARG X=a-invalid-x\nFROM ${X//-/.}/y\n", ["a.invalid.x/y"]),
    "a slash replaced": Case("ARG X=a/invalid\nFROM ${X/\\//.}/x:1\n", [A]),
    "a platform's stage": Case(
        f"FROM {A} AS on-amd64\nFROM {B} AS on-arm64\nFROM on-$TARGETARCH$TARGETVARIANT\n", [A]
    ),
    "a platform flag": Case(
        f"FROM --platform=$BUILDPLATFORM {A} AS x\n"
        f"FROM --platform=linux/amd64 {B}\nCOPY --from=x / /x/\n",
        [A, B],
    ),
    "images copied from": Case(
        f"FROM scratch\nCOPY --link --from={A} / /\nCOPY --from={B} --chown=1:1 / /b/\n"
        "COPY --from=scratch / /\n",
        [A, B],
    ),
    "images mounted": Case(
        f"FROM {A}\nRUN --mount=from={B},target=/b --mount=type=bind,\"from={C}\",target=/c "
        "test -e /b/bin/sh -a -e /c/bin/sh\n", [A, B, C],
    ),
    "heredocs": Case(
        f"FROM {A}\nRUN <<EOF\ntrue ||\nFROM {B}\nEOF\n"
        f"COPY <<-ONE <<TWO /x/\nFROM {B}\n\tONE\nCOPY --from={C} x y\nTWO\n",
        [A],
    ),
    "CRLF": Case(f"FROM {A} \\\r\n AS x\r\nRUN true && \\\r\n true\r\nFROM x\r\n", [A]),
    "BOM": Case(f"\ufeffFROM {A}\n", [A]),
    "an escaped line": Case(f"# escape=`\nFROM {A} `\n AS x\nFROM x\nRUN true `\n || FROM\n", [A]),
    "no image": Case("FROM scratch\nCOPY Dockerfile /\n", []),
    "triggers": Case(
        f"FROM {A} AS x\nONBUILD ARG V\nONBUILD RUN test \"$V\" = 1\nFROM x\n", [A], {"V": "1"}
    ),
    "an argument of a stage": Case(
        f"FROM {A}\nARG V=0\nRUN test \"$V\" = 1\n", [A], {"V": "1", "NOBODYS": "2"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bases(tmp_path: Path, image: str, name: str) -> None:
    check(tmp_path, CASES[name], image)


STAGE = st.tuples(
    st.sampled_from([None, "s0", "s1", "s2", "S1"]),  # its name
    st.sampled_from([A, B, C, "scratch", "s0", "s1", "s2", "$ARG", "s${N}"]),  # its base
    st.lists(st.sampled_from(["s0", "s1", "s2", "0", "1", A, B, C]), max_size=2),  # copied from
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(STAGE, min_size=1, max_size=4), st.sampled_from(["s0", "s1", A, B]))
def test_any_stages(
    image: str, stages: list[tuple[str | None, str, list[str]]], argument: str
) -> None:
    """What we refuse the engine refuses, and of the rest we know the bases."""
    lines = [f"ARG ARG={argument}", "ARG N=0"]
    for name, base, copies in stages:
        lines.append(f"FROM {base}" + (f" AS {name}" if name else ""))
        lines += ["COPY Dockerfile /", *(f"COPY --from={one} / /{one}/" for one in copies)]
    case = Case("\n".join(lines) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            check(Path(scratch), case, image)
        except DockerfileError:
            done = subprocess.run(
                ["docker", "buildx", "build", "--output=type=cacheonly", f"{scratch}/c"]
                + [f"--build-context={name}=docker-image://{image}" for name in (A, B, C)],
                capture_output=True, check=False,
            )  # fmt: skip
            assert done.returncode, case.text


def test_why_a_stage_may_not_have_the_name_of_its_image(tmp_path: Path, image: str) -> None:
    text = "FROM tool AS tool\nCOPY Dockerfile /mine\nFROM tool\nRUN test -e /mine\n"
    with pytest.raises(DockerfileError, match="Give the stage another name"):
        component(tmp_path, Case(text))
    one = discovery.Component(name="c", dockerfile="", context="", folder="", parsed=())
    assert "test -e /mine" in asked(tmp_path, one, ["tool"], image, None).stderr  # it is not
    (tmp_path / "c/Dockerfile").write_text(
        text.replace(" AS tool", " AS t").replace("tool\nR", "t\nR")
    )
    assert asked(tmp_path, one, ["tool"], image, None).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch AS x\nFROM scratch\nRUN --mount=from=0 true\n",
        "FROM scratch\nCOPY --from=1 / /\nFROM scratch\nCOPY --from=0 / /\n",
        "FROM scratch\nFROM scratch AS x\nCOPY --from=x / /\n",
        "ARG X\nFROM --platform=$X scratch\n",
        "ARG X=ab\nFROM ${X^b}\n",
        "FROM ${X:?say}\n",
    ],
)
def test_what_we_refuse_the_engine_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(DockerfileError):
        component(tmp_path, Case(text))
    done = subprocess.run(
        ["docker", "buildx", "build", "--output=type=cacheonly", tmp_path / "c"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0


FRONTEND = "127.0.0.1:9/old:1"


@pytest.mark.parametrize(
    "text",
    [
        f"# syntax={FRONTEND}\nFROM scratch\n",
        f"#Syntax = {FRONTEND} more\nFROM scratch\n",
        f"#!/bin/x\n#syntax={FRONTEND}\r\nFROM scratch\n",
        f"# escape=`\n# syntax={FRONTEND}\nFROM scratch\n",
    ],
)
def test_the_frontend_is_the_one_of_the_key(tmp_path: Path, text: str) -> None:
    """An image that nobody serves: the engine says which one it wanted."""
    one = component(tmp_path, Case(text))
    assert one.syntax == FRONTEND
    assert FRONTEND in asked(tmp_path, one, [], "", None).stderr
    wanted = f"127.0.0.1:9/new@sha256:{'a' * 64}"
    request = buildx.Request(
        name="c", dockerfile=tmp_path / "c/Dockerfile", context=tmp_path / "c",
        args={"BUILDKIT_SYNTAX": wanted},
    )  # fmt: skip
    watch = buildx.Watch(timeout=600, log=tmp_path / "log")
    with pytest.raises(BuildError) as caught:
        buildx.build(request, ["--output=type=cacheonly"], watch)
    assert wanted in caught.value.what


@pytest.mark.parametrize(
    "text",
    [
        f"# a comment\n# syntax={FRONTEND}\nFROM scratch\nCOPY Dockerfile /\n",
        f"\n# syntax={FRONTEND}\nFROM scratch\nCOPY Dockerfile /\n",
        f" # syntax={FRONTEND}\nFROM scratch\nCOPY Dockerfile /\n",
        f"FROM scratch\n# syntax={FRONTEND}\nCOPY Dockerfile /\n",
    ],
)
def test_what_names_no_frontend(tmp_path: Path, text: str) -> None:
    one = component(tmp_path, Case(text))
    assert one.syntax is None
    assert asked(tmp_path, one, [], "", None).returncode == 0


@pytest.mark.parametrize(
    "text", [f"// syntax={FRONTEND}\nx()\n", f'{{"syntax": "{FRONTEND}", "x": {{}}}}\n']
)
def test_frontends_of_other_languages(tmp_path: Path, text: str) -> None:
    with pytest.raises(DockerfileError, match=f"its frontend {FRONTEND}"):
        component(tmp_path, Case(text))
    one = discovery.Component(name="c", dockerfile="", context="", folder="", parsed=())
    assert FRONTEND in asked(tmp_path, one, [], "", None).stderr
