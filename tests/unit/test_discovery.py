"""Which components a repository has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci import plan as planning
from ci_tools.components import graph
from ci_tools.components.discovery import Component, discover
from ci_tools.config import Build, Config
from ci_tools.config import Component as Override
from ci_tools.errors import (
    ConfigError,
    CycleError,
    DockerfileError,
    DuplicateComponentError,
)

FROM = "FROM python:3.11\n"


def found(repository: Any, config: Config | None = None) -> dict[str, Component]:
    return discover(repository.root, config or Config(), "ml")


def overridden(**components: Override) -> Config:
    return Config(components=components)


@pytest.fixture(params=["git", "no git"])
def any_repository(request: pytest.FixtureRequest, repository: Any) -> Any:
    if request.param == "git":
        repository.git("init", "-q")
    return repository


def test_every_dockerfile_is_a_component(any_repository: Any) -> None:
    for path in (
        "Dockerfile", "components/train/Dockerfile", "components/train/Dockerfile.gpu",
        "components/eval/small.Dockerfile", "components/low/dockerfile",
        "deep/er/Data_Prep/Dockerfile",
    ):  # fmt: skip
        any_repository.write(path, FROM)
    for path in (
        "components/train/Dockerfile.dockerignore", "components/train/Dockerfile.md",
        "docs/Dockerfile.j2", "docs/dockerfiles.txt", "docs/MyDockerfile",
    ):  # fmt: skip
        any_repository.write(path, "not one")
    assert {name: one.dockerfile for name, one in found(any_repository).items()} == {
        "data_prep": "deep/er/Data_Prep/Dockerfile",
        "eval-small": "components/eval/small.Dockerfile",
        "low": "components/low/dockerfile",
        "ml": "Dockerfile",
        "train": "components/train/Dockerfile",
        "train-gpu": "components/train/Dockerfile.gpu",
    }
    assert found(any_repository)["train-gpu"].context == "components/train"
    assert found(any_repository)["ml"].context == "."


def test_git_decides_what_belongs_to_the_repository(repository: Any) -> None:
    repository.write("tracked/Dockerfile", FROM)
    repository.write("gone/Dockerfile", FROM)
    repository.write(".gitignore", "scratch/\n")
    repository.commit()
    repository.write("scratch/Dockerfile", FROM)
    repository.write("untracked/Dockerfile", FROM)
    (repository.root / "gone/Dockerfile").unlink()
    assert list(found(repository)) == ["tracked", "untracked"]


def test_without_git_what_tools_make_is_left_out(repository: Any) -> None:
    for folder in ("a", ".hidden", "build", "env", "x/node_modules/y"):
        repository.write(f"{folder}/Dockerfile", FROM)
    repository.write("env/pyvenv.cfg")
    assert list(found(repository)) == ["a"]


def test_an_empty_repository_has_none(any_repository: Any) -> None:
    assert found(any_repository) == {}


def test_overrides(repository: Any) -> None:
    repository.write("src/train.docker", "ARG BASE=a\nFROM $BASE AS one\nFROM one AS two\n")
    one = found(
        repository,
        overridden(trainer=Override(
            dockerfile="./src/train.docker", context=".", target="one",
            args={"BASE": "b:1"}, test=["verify"],
        )),
    )["trainer"]  # fmt: skip
    assert (one.dockerfile, one.context, one.target) == ("src/train.docker", ".", "one")
    assert one.bases == ("b:1",)
    assert one.args == {"BASE": "b:1"}
    assert one.test == ("verify",)


def test_an_override_renames_what_is_found(repository: Any) -> None:
    repository.write("a/Dockerfile", FROM)
    assert list(found(repository, overridden(b=Override(dockerfile="a/Dockerfile")))) == ["b"]


def test_the_test_stage_is_used_unless_a_command_is_given(repository: Any) -> None:
    repository.write("a/Dockerfile", "FROM x AS Test\nFROM y\n")
    assert found(repository)["a"].test_target == "test"
    assert found(repository, overridden(a=Override(test=["ls"])))["a"].test_target is None


def test_ignore_reads_like_gitignore(repository: Any) -> None:
    for path in ("tests/data/x/Dockerfile", "a/Dockerfile", "a/Dockerfile.dev", "Dockerfile.dev"):
        repository.write(path, "FROM python:3\n" if "tests" not in path else "no Dockerfile at all")
    assert list(found(repository, Config(ignore=["tests/**", "**/Dockerfile.dev"]))) == ["a"]
    assert list(found(repository, Config(ignore=["/tests/", "*.dev"]))) == ["a"]
    with pytest.raises(ConfigError, match="'ignore' holds no pattern"):
        found(repository, Config(ignore=["!"]))


def test_two_of_one_name_are_both_named(repository: Any) -> None:
    repository.write("x/train/Dockerfile", FROM)
    repository.write("y/Train/Dockerfile", FROM)
    with pytest.raises(DuplicateComponentError) as caught:
        found(repository)
    assert "x/train/Dockerfile" in str(caught.value)
    assert "y/Train/Dockerfile" in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        Override(context="../.."),
        Override(context="/etc"),
        Override(context="leaves"),
        Override(context="inside/../../.."),
        Override(context="missing"),
        Override(context="a/Dockerfile"),
        Override(dockerfile="../a/Dockerfile"),
        Override(dockerfile="/etc/passwd"),
        Override(dockerfile="missing"),
        Override(target="nowhere"),
    ],
)
def test_hostile_overrides_are_refused(repository: Any, override: Override) -> None:
    repository.write("a/Dockerfile", FROM)
    (repository.root / "leaves").symlink_to("/etc")
    with pytest.raises(ConfigError, match=r"ci.yaml: .*'a'"):
        found(repository, overridden(a=override))


@pytest.mark.parametrize("target", ["../../secret", "../b/Dockerfile"])
def test_a_dockerfile_may_not_be_a_link_out_of_its_directory(repository: Any, target: str) -> None:
    (repository.root.parent / "secret").write_text("FROM secret\n")
    repository.write("b/Dockerfile", FROM)
    (repository.root / "a").mkdir()
    (repository.root / "a/Dockerfile").symlink_to(target)
    with pytest.raises(ConfigError, match="leaves its directory"):
        found(repository)


def test_a_dockerfile_may_be_a_link_within_it(repository: Any) -> None:
    repository.write("a/docker/main", FROM)
    (repository.root / "a/Dockerfile").symlink_to("docker/main")
    assert list(found(repository)) == ["a"]


def test_a_dangling_dockerfile_is_told(repository: Any) -> None:
    (repository.root / "a").mkdir()
    (repository.root / "a/Dockerfile").symlink_to("nothing")
    with pytest.raises(DockerfileError, match="a/Dockerfile cannot be read"):
        found(repository)


def test_a_dockerfile_that_is_a_link_to_itself_is_told(repository: Any) -> None:
    (repository.root / "a").mkdir()
    (repository.root / "a/Dockerfile").symlink_to("Dockerfile")
    with pytest.raises(DockerfileError, match="a/Dockerfile cannot be read"):
        found(repository)


@pytest.mark.parametrize("folder", ["new\nline", "quo\"te's", "$(touch x)", "a b", "-rf", "ünï"])
def test_odd_directories_get_valid_names(any_repository: Any, folder: str) -> None:
    any_repository.write(f"{folder}/Dockerfile", FROM)
    (one,) = found(any_repository).values()
    assert one.dockerfile == f"{folder}/Dockerfile"
    assert set(one.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_what_cannot_be_named_is_told_not_dropped(any_repository: Any) -> None:
    any_repository.write("日本/Dockerfile", FROM)
    with pytest.raises(ConfigError, match="no component can be named after 日本/Dockerfile"):
        found(any_repository)
    named = overridden(japan=Override(dockerfile="日本/Dockerfile"))
    assert list(found(any_repository, named)) == ["japan"]


def test_a_path_that_is_not_utf8_is_told(any_repository: Any) -> None:
    folder = Path(bytes(any_repository.root).decode()) / b"a\xff".decode("utf-8", "surrogateescape")
    folder.mkdir()
    (folder / "Dockerfile").write_text(FROM)
    with pytest.raises(ConfigError) as caught:
        found(any_repository)
    assert str(caught.value).encode()  # it can be printed


def test_siblings_and_bases(repository: Any) -> None:
    repository.write("python/Dockerfile", "FROM python\n")  # itself by a bare name: Docker Hub's
    for name in ("tools", "eval"):
        repository.write(f"{name}/Dockerfile", FROM)
    repository.write(
        "a/Dockerfile",
        "FROM ml/eval AS unreached\nFROM python AS one\nCOPY --from=reg.io/ml/tools:1 x x\n"
        "RUN --mount=from=python:3.11 ls\nCOPY --from=alpine x x\n"
        "FROM ml/python\nCOPY --from=one x x\n",
    )  # fmt: skip
    components = found(repository)
    assert components["a"].parents == {
        "python": "python", "ml/python": "python", "reg.io/ml/tools:1": "tools",
    }  # fmt: skip
    assert components["a"].bases == ("python:3.11", "alpine")
    assert components["python"].parents == {}
    assert components["python"].bases == ("python",)


def test_a_sibling_that_is_not_there_is_told(repository: Any) -> None:
    repository.write("a/Dockerfile", "FROM ml/pyton\n")
    with pytest.raises(ConfigError, match=r"a/Dockerfile builds FROM 'ml/pyton'.*'pyton'"):
        found(repository)


def test_a_real_circle_is_named(repository: Any) -> None:
    repository.write("a/Dockerfile", "FROM ml/b\n")
    repository.write("b/Dockerfile", "FROM scratch\nCOPY --from=ml/a x x\n")
    components = found(repository)
    with pytest.raises(CycleError, match=r"(a -> b -> a|b -> a -> b)"):
        graph.ordered({n: sorted(c.parents.values()) for n, c in components.items()})


def test_a_circle_through_a_stage_that_no_build_reaches_is_none(repository: Any) -> None:
    repository.write("a/Dockerfile", "FROM ml/b AS unused\nFROM scratch\n")
    repository.write("b/Dockerfile", "FROM ml/a\n")
    assert found(repository)["a"].parents == {}
    repository.write("a/Dockerfile", "FROM ml/b AS test\nFROM scratch\n")  # it is built too
    assert found(repository)["a"].parents == {"ml/b": "b"}
    assert found(repository, overridden(a=Override(test=["x"])))["a"].parents == {}


def test_arguments_that_the_build_uses(repository: Any) -> None:
    given = {
        "GLOBAL": "1", "USED": "2", "UNREACHED": "3", "NOBODYS": "4", "HTTPS_PROXY": "5",
        "no_proxy": "6", "SOURCE_DATE_EPOCH": "7", "BUILDKIT_CACHE_MOUNT_NS": "8",
        "TARGETARCH": "9",
    }  # fmt: skip
    text = "ARG GLOBAL\nFROM a AS b\nARG UNREACHED\nFROM a\nARG USED\n"
    repository.write("a/Dockerfile", text)
    one = found(repository, overridden(a=Override(args=given)))["a"]
    assert one.args == {
        "GLOBAL": "1", "USED": "2", "BUILDKIT_CACHE_MOUNT_NS": "8", "TARGETARCH": "9",
    }  # fmt: skip
    assert one.predefined == {"HTTPS_PROXY": "5", "no_proxy": "6", "SOURCE_DATE_EPOCH": "7"}
    assert one.unused_args == ("UNREACHED", "NOBODYS")
    assert [line.partition(":")[2] for line in planning.remarks({"a": one})] == [
        f" no ARG of a/Dockerfile is called '{name}': the build argument of ci.yaml is left out"
        for name in ("UNREACHED", "NOBODYS")
    ]
    repository.write("a/Dockerfile", text + "ARG no_proxy\nARG SOURCE_DATE_EPOCH=1\n")
    one = found(repository, overridden(a=Override(args=given)))["a"]
    assert one.args.keys() >= {"no_proxy", "SOURCE_DATE_EPOCH"}
    assert one.predefined == {"HTTPS_PROXY": "5"}


def test_the_triggers_of_a_sibling_count_where_they_are_run(repository: Any) -> None:
    repository.write(
        "base/Dockerfile",
        "FROM scratch\nONBUILD ARG V\nONBUILD COPY --from=tool:1 / /\n"
        "ONBUILD COPY --from=build / /\nONBUILD ADD https://h/x /\n",
    )  # fmt: skip
    repository.write("a/Dockerfile", "FROM b:1 AS build\nFROM ml/base\n")
    repository.write("copies/Dockerfile", "FROM scratch\nCOPY --from=ml/base / /\n")
    args = Override(args={"V": "1"})
    components = found(repository, overridden(a=args, base=args, copies=args))
    assert (components["base"].bases, components["base"].unused_args) == ((), ("V",))
    assert (components["copies"].bases, components["copies"].unused_args) == ((), ("V",))
    assert sorted(components["a"].bases) == ["b:1", "tool:1"]
    assert components["a"].args == {"V": "1"}
    assert components["a"].remotes == ("https://h/x",)
    assert planning.remarks({"a": components["a"]}) == [
        "a: a/Dockerfile adds https://h/x, whose content is in no key: "
        "give ADD a --checksum, or a git URL its whole commit"
    ]


def test_the_frontend_is_a_base(repository: Any) -> None:
    repository.write("a/Dockerfile", "# syntax=docker/dockerfile:1\nFROM python:3\n")
    repository.write("b/Dockerfile", "# syntax=ml/a\nFROM python:3\n")
    components = found(repository)
    assert components["a"].syntax == "docker/dockerfile:1"
    assert components["a"].images == ("python:3",)
    assert components["a"].bases == ("python:3", "docker/dockerfile:1")
    assert components["b"].syntax == "ml/a"
    assert components["b"].parents == {"ml/a": "a"}


@pytest.mark.parametrize(
    ("value", "syntax", "args"),
    [
        ("x:1 more", "x:1", {}),
        ("dockerfile.v0", None, {"BUILDKIT_SYNTAX": "dockerfile.v0"}),
        (" ", "docker/dockerfile:1", {}),
    ],
)
def test_an_argument_names_the_frontend(
    repository: Any, value: str, syntax: str | None, args: dict[str, str]
) -> None:
    repository.write("a/Dockerfile", "# syntax=docker/dockerfile:1\nFROM scratch\n")
    override = Override(args={"BUILDKIT_SYNTAX": value})
    one = found(repository, overridden(a=override))["a"]
    assert (one.syntax, one.args) == (syntax, args)
    assert one.bases == ((syntax,) if syntax else ())


def test_bases_are_those_of_all_platforms(repository: Any) -> None:
    repository.write(
        "a/Dockerfile",
        "FROM x AS on-amd64\nFROM y AS on-arm64\nFROM z AS on-s390x\nFROM on-$TARGETARCH\n"
        "COPY --from=tool / /\n",
    )
    one = found(repository)["a"]
    assert (one.platforms, one.bases) == (("linux/amd64",), ("x", "tool"))
    both = Config(build=Build(platforms=("linux/arm64", "linux/amd64", "linux/arm64")))
    one = found(repository, both)["a"]
    assert (one.platforms, one.bases) == (("linux/amd64", "linux/arm64"), ("x", "tool", "y"))
    both.components["a"] = Override(platforms=("linux/s390x",))
    one = found(repository, both)["a"]
    assert (one.platforms, one.bases) == (("linux/s390x",), ("z", "tool"))


def test_many_dockerfiles_in_many_places(repository: Any) -> None:
    repository.write("a/Dockerfile", "FROM x\n")
    repository.write("a/Dockerfile.gpu", "FROM y\n")
    repository.write("a/gpu.Dockerfile.dockerignore", "*\n")
    repository.write("a/small.Dockerfile", "FROM z\n")
    repository.write("docker/all.Dockerfile", "FROM x\n")
    components = found(repository, overridden(all=Override(
        dockerfile="docker/all.Dockerfile", context=".")
    ))  # fmt: skip
    assert {name: (one.context, one.bases) for name, one in components.items()} == {
        "a": ("a", ("x",)), "a-gpu": ("a", ("y",)), "a-small": ("a", ("z",)), "all": (".", ("x",)),
    }  # fmt: skip


def test_this_repository_finds_its_own() -> None:
    from ci_tools import config

    root = Path(__file__).parents[2]
    components = discover(root, config.load(root), "clinical-ml")
    assert {"train", "python", "servable"} <= set(components)
    assert not any(one.dockerfile.startswith("tests/") for one in components.values())
    assert components["train"].parents == {"clinical-ml/python": "python"}
