"""`--image COMPONENT=IMAGE`: what is an image, and who can pull it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ci_tools.components.references import split
from ci_tools.errors import ConfigError
from ci_tools.images import overrides

COMPONENTS = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)*", fullmatch=True)
HOSTS = st.sampled_from(["host:5000", "localhost", "127.0.0.1:5100", "registry.example.com"])
PATHS = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?(/[a-z0-9]{1,8}){0,2}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
IMAGES = st.one_of(
    DIGESTS,
    st.builds(
        lambda host, path, tag, digest: f"{host}{path}{tag}{digest}",
        st.one_of(st.just(""), HOSTS.map(lambda it: f"{it}/")),
        PATHS,
        st.one_of(st.just(""), TAGS.map(lambda it: f":{it}")),
        st.one_of(st.just(""), DIGESTS.map(lambda it: f"@{it}")),
    ),
)


@given(st.dictionaries(COMPONENTS, IMAGES, max_size=3))
@example({"comp": "host:5000/x:tag"})
@example({"comp": f"sha256:{'0' * 64}"})
def test_what_is_written_is_what_is_used(images: dict[str, str]) -> None:
    assert overrides.parsed(f"{name}={image}" for name, image in images.items()) == images


@given(COMPONENTS, IMAGES, IMAGES)
def test_one_component_has_one_image(component: str, one: str, other: str) -> None:
    pairs = [f"{component}={one}", f"{component}={other}"]
    if one == other:
        assert overrides.parsed(pairs) == {component: one}
    else:
        with pytest.raises(ConfigError, match="two images"):
            overrides.parsed(pairs)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_with_a_sentence(text: str) -> None:
    try:
        found = overrides.parsed([text])
    except ConfigError:
        return
    ((component, image),) = found.items()
    assert f"{component}={image}" == text


@pytest.mark.parametrize(
    "pair",
    ["", "train", "train=", "=train:dev", "train=a b", "train=${X}", "train={{$.x}}",
     "train=Train:dev", "train=x:", "train=x@sha256:12", "train=--privileged", "train=x;y",
     "train=https://host/x", "train=x\n"],
)  # fmt: skip
def test_no_image(pair: str) -> None:
    with pytest.raises(ConfigError):
        overrides.parsed([pair])


@given(IMAGES)
def test_who_can_pull_it(image: str) -> None:
    registry = "" if image.startswith("sha256:") else split(image).registry
    here = registry in ("", "localhost", "127.0.0.1:5100")
    assert overrides.only_here(image) is here
    if registry:
        assert not overrides.only_here(image, host=registry)
