"""Lines of Dockerfiles against what BuildKit really puts into the layers.

The oracle is content: each instruction makes a file of its own, and the layer that
holds the file in the saved image is the instruction's.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ci_tools.scanner import layers
from tests.integration.repositories import BUSYBOX

pytestmark = pytest.mark.integration

SHELL = 'SHELL ["/bin/busybox", "sh", "-c"]\n'
BASE = f"FROM scratch\nCOPY busybox /bin/busybox\n{SHELL}RUN echo > /of-the-base\n"


@dataclass(frozen=True)
class Built:
    """An image as the engine saves it. files: name of a file -> diff id of its layer."""

    history: list[dict[str, Any]]
    diff_ids: list[str]
    files: dict[str, str]

    def line(self, text: str, file: str, **more: Any) -> int | None:
        """Of the layer with that file."""
        found = layers.origins(layers.layers(self.history, self.diff_ids), text, **more)
        return found.lines.get(self.files[file])


class Engine:
    def __init__(self, folder: Path) -> None:
        self.prefix = f"kfp-ci-test-{uuid.uuid4().hex[:12]}"
        self.names: list[str] = []
        self._folder = folder

    def build(self, name: str, text: str, *options: str) -> Built:
        """Build an image, with labels given on the command line as the build stage does."""
        tag = f"{self.prefix}/{name}"
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        (folder / "busybox").write_bytes(BUSYBOX.read_bytes())
        (folder / "busybox").chmod(0o755)
        for file in ("one", "two", "with space"):
            (folder / file).write_text(f"{name} {file}")
        (folder / "Dockerfile").write_bytes(text.encode())
        command = "docker buildx build --quiet --provenance=false --output=type=docker --label=a=b"
        subprocess.run(
            [*command.split(), f"--tag={tag}", *options, "."],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        self.names.append(tag)
        saved = subprocess.run(["docker", "save", tag], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

            def member(path: str) -> bytes:
                stream = archive.extractfile(path)
                assert stream is not None
                return stream.read()

            (manifest,) = json.loads(member("manifest.json"))
            config = json.loads(member(manifest["Config"]))
            diff_ids = config["rootfs"]["diff_ids"]
            files: dict[str, str] = {}
            for diff_id, path in zip(diff_ids, manifest["Layers"], strict=True):
                with tarfile.open(fileobj=io.BytesIO(member(path))) as layer:
                    for one in layer.getnames():
                        files.setdefault(one.rpartition("/")[2], diff_id)
        return Built(config["history"], diff_ids, files)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = Engine(tmp_path_factory.mktemp("layers"))
    try:
        yield made
    finally:
        for name in made.names:
            subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True)


def test_every_kind_of_instruction(engine: Engine) -> None:
    engine.build("base", BASE)
    steps = [
        (f"FROM {engine.prefix}/base", "of-the-base"),
        ("ARG X=1", ""),
        ("ENV H=/home/it", ""),
        ("RUN echo > /f-shell", "f-shell"),
        ("RUN true", ""),
        ("WORKDIR /", ""),
        ("WORKDIR $H", "it"),
        ("WORKDIR below", "below"),
        ("COPY --chmod=0600 one f-copy", "f-copy"),
        ('COPY --link ["with space", "/f-json copy"]', "f-json copy"),
        ("ADD two /f-add", "f-add"),
        ("# a remark\n\nRUN echo \\\n  # within\n  'two  spaces' \\\n\n > /f-lines", "f-lines"),
        ("RUN <<EOF\necho > /f-heredoc\n\n  echo\nEOF", "f-heredoc"),
        ("RUN <<-'EOF'\n\techo $X > /f-tabs\n\tEOF", "f-tabs"),
        ("RUN <<EOF\n#!/bin/busybox sh\necho > /f-shebang\nEOF", "f-shebang"),
        ("RUN cat <<EOF > /f-input\nFROM not-a-base\nEOF", "f-input"),
        ("RUN <<A cat <<B > /f-two\necho\nA\nmore\nB", "f-two"),
        ("COPY <<F1 <<F2 one /f-files/\na\nF1\nb\nF2", "F1"),
        ('RUN ["/bin/busybox", "touch", "/f exec"]', "f exec"),
        ("RUN --mount=type=cache,target=/c --network=none echo > /f-mount", "f-mount"),
        ("LABEL a=c\nUSER 1", ""),
        ("USER 0\nCOPY tw?\t /f-tab/", "f-tab"),
    ]
    text, wanted, at = "", {}, 1
    for step, file in steps:
        # The instruction itself is the first line that is no remark and not empty.
        lines = step.split("\n")
        first = next(n for n, line in enumerate(lines) if line and line[0] != "#")
        first += next((n for n, line in enumerate(lines) if line.startswith("COPY tw?")), 0)
        if file:
            wanted[file] = at + first
        text += step + "\n"
        at += len(lines)
    built = engine.build("all", text)
    assert {file: built.line(text, file) for file in wanted} == wanted

    found = layers.origins(layers.layers(built.history, built.diff_ids), text)
    assert set(found.bases.values()) == {f"{engine.prefix}/base"}
    assert {file for file in wanted if built.files[file] in found.bases} == {"of-the-base"}
    assert found.bases.keys() <= found.lines.keys()


STAGES = """# escape=`
ARG WHICH=base
FROM {prefix}/$WHICH AS first
RUN echo `
    > /f-first
FROM {prefix}/base AS tools
RUN echo > /f-tool
FROM first AS second
ARG N=2
COPY --from=tools /f-tool /f-copied
COPY --from=1 /f-tool /f-again
FROM second
RUN echo $N > /f-last
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_stages(engine: Engine, end: str) -> None:
    engine.build("base", BASE)
    engine.build("other", BASE + "RUN echo > /of-the-other\n")
    text = STAGES.format(prefix=engine.prefix).replace("\n", end)
    wanted = {"of-the-base": 3, "f-first": 4, "f-copied": 10, "f-again": 11, "f-last": 13}
    built = engine.build("stages", text)
    assert {file: built.line(text, file) for file in wanted} == wanted

    built = engine.build("stages", text, "--target=second", "--build-arg=WHICH=other")
    options: dict[str, Any] = {"target": "second", "arguments": {"WHICH": "other"}}
    del wanted["f-last"]
    wanted["of-the-other"] = 3
    assert {file: built.line(text, file, **options) for file in wanted} == wanted
    found = layers.origins(layers.layers(built.history, built.diff_ids), text, **options)
    assert found.bases[built.files["of-the-other"]] == f"{engine.prefix}/other"


def test_triggers_of_a_base_are_the_base_s_and_of_a_stage_its_own(engine: Engine) -> None:
    engine.build("triggers", BASE + "ONBUILD COPY one /of-a-trigger\n")
    text = (
        f"FROM {engine.prefix}/triggers AS stage\nRUN echo > /f-stage\n"
        "ONBUILD ENV A=b\nONBUILD RUN echo > /f-trigger\nFROM stage\nRUN echo > /f-last\n"
    )
    built = engine.build("triggered", text)
    wanted = {"of-the-base": 1, "of-a-trigger": 1, "f-stage": 2, "f-trigger": 4, "f-last": 6}
    assert {file: built.line(text, file) for file in wanted} == wanted


def test_another_dockerfile_than_the_image_s_says_little(engine: Engine) -> None:
    engine.build("base", BASE)
    text = f"FROM {engine.prefix}/base\nRUN echo > /f-one\nRUN echo > /f-two\n"
    built = engine.build("right", text)
    assert (built.line(text, "f-one"), built.line(text, "f-two")) == (2, 3)
    other = text.replace("f-one", "f-other")
    assert [built.line(other, file) for file in ("of-the-base", "f-one", "f-two")] == [
        None,
        None,
        3,
    ]
