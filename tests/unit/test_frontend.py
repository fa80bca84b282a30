"""A Dockerfile's frontend: an image like any other, given to the build by digest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from ci import bases as stage
from ci import plan as planning
from ci.request import request_for
from ci.workspace import Workspace
from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images import bases

DIGEST = "sha256:" + "a" * 64
FRONTEND = "docker/dockerfile:1"
PINNED = f"docker.io/docker/dockerfile@{DIGEST}"


@pytest.fixture
def project(repository: Any) -> Any:
    repository.write("ci.yaml", "project: ml\ncomponents: {a: {args: {HTTP_PROXY: p, X: '1'}}}\n")
    repository.write("a/Dockerfile", f"# syntax={FRONTEND}\nFROM python:3\n")
    repository.write("b/Dockerfile", "FROM python:3\n")
    repository.write("bases.lock", f"{FRONTEND}: {DIGEST}\npython:3: {DIGEST}\n")
    return repository


def workspace(root: Path) -> Workspace:
    return Workspace(repository=root, build=root / "build", home=root / "nowhere", dry_run=True)


def request(root: Path, name: str, parents: dict[str, str] | None = None) -> Any:
    here = workspace(root)
    planned = {one.name: one for one in planning.plan(here).components}
    return request_for(here, planned[name], parents or {}, {}, exports_cache=False)


def test_it_is_pinned_and_no_context(project: Any) -> None:
    made = request(project.root, "a")
    assert made.args == {"BUILDKIT_SYNTAX": PINNED, "HTTP_PROXY": "p"}
    assert made.contexts == {"python:3": f"docker.io/library/python@{DIGEST}"}
    assert request(project.root, "b").args == {}


def test_a_sibling_may_be_it(project: Any) -> None:
    project.write("a/Dockerfile", "# syntax=ml/b\nFROM scratch\n")
    made = request(project.root, "a", {"b": "host/ml/b@sha256:1"})
    assert (made.args["BUILDKIT_SYNTAX"], made.contexts) == ("host/ml/b@sha256:1", {})


def test_it_is_a_context_where_it_is_an_image_too(project: Any) -> None:
    project.write("a/Dockerfile", f"# syntax={FRONTEND}\nFROM {FRONTEND}\n")
    made = request(project.root, "a")
    assert made.args["BUILDKIT_SYNTAX"] == PINNED
    assert made.contexts == {FRONTEND: PINNED}


def test_it_is_locked_and_provisional_like_a_base(project: Any) -> None:
    assert stage.users(workspace(project.root).components) == {
        FRONTEND: ["a"], "python:3": ["a", "b"],
    }  # fmt: skip
    planned = planning.plan(workspace(project.root)).components
    assert [one.provisional for one in planned] == [False, False]
    assert planned[0].platforms == ["linux/amd64"]
    project.write("bases.lock", f"python:3: {DIGEST}\n")
    planned = planning.plan(workspace(project.root)).components
    assert [one.provisional for one in planned] == [True, False]


@pytest.mark.parametrize("kind", [RegistryError, CredentialsError])
def test_without_a_network_it_says_whose_it_is(
    project: Any, monkeypatch: pytest.MonkeyPatch, kind: type[RegistryError]
) -> None:
    def resolve(references: Collection[str]) -> dict[str, str]:
        if FRONTEND in references:
            raise kind(f"the base image {FRONTEND} could not be looked up: away", "Wait")
        return dict.fromkeys(references, DIGEST)

    monkeypatch.setattr(bases, "resolve", resolve)
    with pytest.raises(kind) as caught:
        stage.refresh(workspace(project.root))
    assert caught.value.what.startswith(f"a/Dockerfile wants the frontend {FRONTEND}, but")
    assert "Take its '# syntax=' line out" in caught.value.todo
    assert stage.resolve(workspace(project.root).components, ["python:3"]) == {"python:3": DIGEST}


def test_plan_says_what_is_left_out(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("b/Dockerfile", "FROM scratch\nADD https://h/x /\n")
    planning.plan(workspace(project.root))
    said = capsys.readouterr().err
    assert "a: no ARG of a/Dockerfile is called 'X'" in said
    assert "b: b/Dockerfile adds https://h/x, whose content is in no key" in said
    assert "HTTP_PROXY" not in said
