"""Pushing: what the registry then holds is what was built, or it is an error."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

import docker
import pytest

from ci_tools.errors import PushError, RegistryError
from ci_tools.images.engine import Engine
from ci_tools.images.registry import Image, Registry
from tests.integration.repositories import Machine, forget_images, inspected

pytestmark = pytest.mark.integration


def image_of(content: bytes) -> str:
    """The id of an image with one file, in the engine only."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    answer = docker.from_env().api.import_image_from_data(stream.getvalue())
    return str(json.loads(answer)["status"])


@pytest.fixture
def registry(machine: Machine) -> Iterator[Registry]:
    yield Registry(machine.registry)
    forget_images(machine.registry)


def test_the_digest_is_the_registrys(registry: Registry) -> None:
    built = image_of(b"one")
    digest = Engine.connect().digest_pushed(registry, "pushed/one", "key", built)
    seen = inspected(f"{registry.host}/pushed/one:key")
    assert seen["Digest"] == digest
    image = registry.image("pushed/one", digest)
    assert image is not None
    assert image.config == built


def test_a_tag_that_somebody_else_took_meanwhile(registry: Registry) -> None:
    engine = Engine.connect()
    engine.digest_pushed(registry, "pushed/two", "other", image_of(b"other"))

    class Raced(Registry):
        def image(self, repository: str, reference: str) -> Image | None:
            return super().image(repository, "other")

    with pytest.raises(PushError, match="holds another image"):
        engine.digest_pushed(Raced(registry.host), "pushed/two", "key", image_of(b"ours"))


def test_a_registry_that_takes_no_push() -> None:
    try:
        with pytest.raises(PushError, match="could not be pushed"):
            Engine.connect().digest_pushed(Registry("127.0.0.1:1"), "a/b", "key", image_of(b"x"))
    finally:
        forget_images("127.0.0.1:1")


def test_an_image_that_is_not_there(registry: Registry) -> None:
    missing = f"{registry.host}/pushed/none@sha256:{'0' * 64}"
    with pytest.raises(RegistryError, match="cannot be pulled"):
        Engine.connect().pull(missing, registry)
