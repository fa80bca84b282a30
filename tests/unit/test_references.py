"""Image references, by the rules of distribution/reference."""

from __future__ import annotations

import re

import pytest
from docker.utils.build import match_tag
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.components.references import component_named, split, valid_name

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "registry", "path", "tag", "digest", "canonical"),
    [
        ("python", "", "python", "", "", "docker.io/library/python:latest"),
        ("python:3.11", "", "python", "3.11", "", "docker.io/library/python:3.11"),
        ("org/x", "", "org/x", "", "", "docker.io/org/x:latest"),
        ("localhost/x", "localhost", "x", "", "", "localhost/x:latest"),
        ("h:5000/x", "h:5000", "x", "", "", "h:5000/x:latest"),
        ("h:5000/a/b:1", "h:5000", "a/b", "1", "", "h:5000/a/b:1"),
        ("ghcr.io/a/b", "ghcr.io", "a/b", "", "", "ghcr.io/a/b:latest"),
        (f"x@{DIGEST}", "", "x", "", DIGEST, f"docker.io/library/x@{DIGEST}"),
        (f"g.io/a:1@{DIGEST}", "g.io", "a", "1", DIGEST, f"g.io/a:1@{DIGEST}"),
    ],
)
def test_taken_apart(
    reference: str, registry: str, path: str, tag: str, digest: str, canonical: str
) -> None:
    parts = split(reference)
    assert tuple(parts) == (registry, path, tag, digest)
    assert parts.canonical == canonical
    assert split(parts.canonical).canonical == canonical


@pytest.mark.parametrize(
    ("reference", "component"),
    [
        ("python", "python"),
        ("python:3.11", None),  # Docker Hub's
        (f"python@{DIGEST}", None),
        ("ml/python", "python"),
        ("ml/python:latest", "python"),
        (f"h:5000/ml/python@{DIGEST}", "python"),
        ("h.io/team/ml/python:1", "python"),
        ("other/python", None),
        ("ml/other", None),
        ("ml", None),
        ("xml/python", None),
    ],
)
def test_which_mean_a_component(reference: str, component: str | None) -> None:
    assert component_named(reference, {"python", "train"}, "ml") == component


@given(st.text())
def test_any_text_becomes_a_repository_name_or_nothing(text: str) -> None:
    name = valid_name(text)
    assert not name or match_tag(f"ml/{name}")  # docker-py's own rule
    assert name or not re.search("[a-z0-9]", text.lower())
    assert valid_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Data_Prep", "data_prep"),
        ("v1.2", "v1.2"),
        ("-a--b-", "a-b"),
        ("a b'\n", "a-b"),
        ("日本", ""),
    ],
)
def test_names(text: str, name: str) -> None:
    assert valid_name(text) == name
