"""Hostile YAML is refused, not run."""

from __future__ import annotations

import pytest
import yaml

from ci_tools import yaml_safe

READERS = [yaml_safe.load, yaml_safe.load_all, yaml_safe.compose]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000 + "x", "? " * 100_000])
def test_deep_nesting_is_refused_instead_of_crashing_libyaml(reader, text) -> None:
    with pytest.raises(yaml.YAMLError):
        reader(text)


# Nine short lines that stand for 9 ** 9 words.
BOMB = "l0: &l0 [x, x]\n" + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]", "stands in what it stands for"),
        ("a: &a {b: [1, {c: *a}]}", "stands in what it stands for"),
        (BOMB, "too large"),
    ],
)
def test_aliases_that_never_end_are_refused(reader, text: str, said: str) -> None:
    with pytest.raises(yaml.YAMLError, match=said):
        reader(text)


def test_aliases_of_what_is_there() -> None:
    text = "a: &a [1]\nb: [*a, *a]\nc: &c {d: *a}\ne: *c\n"
    assert yaml_safe.load(text) == {"a": [1], "b": [[1], [1]], "c": {"d": [1]}, "e": {"d": [1]}}
    assert yaml_safe.load_all("- &a [1]\n- *a\n---\n- &a [2]\n- *a\n") == [
        [[1], [1]],
        [[2], [2]],
    ]


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [exit 1]", "!!python/name:os.x"])
def test_no_object_is_ever_built(text) -> None:
    with pytest.raises(yaml.YAMLError):
        yaml_safe.load(text)


def test_a_key_that_is_there_twice() -> None:
    assert yaml_safe.load("a: 1\na: 2") == {"a": 2}
    with pytest.raises(yaml.YAMLError, match="'a' is there twice"):
        yaml_safe.load("a: 1\na: 2", unique_keys=True)


@pytest.mark.parametrize("text", ["a: 2026-02-30", "a: " + "9" * 10_000])
def test_a_scalar_that_is_no_value_is_a_yaml_error(text: str) -> None:
    for load in (yaml_safe.load, yaml_safe.load_all):
        with pytest.raises(yaml.YAMLError):
            load(text)
