"""Giving an image its key: what the registry then holds is what was built, or another
build's image of the same key, or it is an error."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

import docker
import pytest

from ci_tools.errors import PushError, RegistryError
from ci_tools.images.builders import EngineBuilder, Made, Pushed, Subject
from ci_tools.images.engine import Engine
from ci_tools.images.registry import Image, Registry
from tests.integration.repositories import Machine, forget_images, inspected

pytestmark = pytest.mark.integration


def image_of(content: bytes) -> Made:
    """An image with one file, in the engine only."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    answer = docker.from_env().api.import_image_from_data(stream.getvalue())
    image_id = str(json.loads(answer)["status"])
    return Made((Subject("docker", image_id, image_id),), context=None)


@pytest.fixture
def registry(machine: Machine) -> Iterator[Registry]:
    yield Registry(machine.registry)
    forget_images(machine.registry)


def builder(registry: Registry) -> EngineBuilder:
    return EngineBuilder(Engine.connect(), registry, containerd=False)


def test_the_digest_is_the_registrys(registry: Registry) -> None:
    made = image_of(b"one")
    pushed = builder(registry).push(made, "pushed/one", "key")
    seen = inspected(f"{registry.host}/pushed/one:key")
    assert pushed == Pushed(seen["Digest"], adopted=False)
    image = registry.image("pushed/one", pushed.digest)
    assert image is not None
    assert image.config == made.subjects[0].image_id
    # The same image once more is the same image.
    assert builder(registry).push(made, "pushed/one", "key") == pushed


def test_a_key_that_is_taken_is_not_pushed_over(registry: Registry) -> None:
    first = builder(registry).push(image_of(b"first"), "pushed/two", "key")
    second = builder(registry).push(image_of(b"second"), "pushed/two", "key")
    assert second == Pushed(first.digest, adopted=True)
    assert inspected(f"{registry.host}/pushed/two:key")["Digest"] == first.digest


def test_a_key_that_is_taken_between_the_question_and_the_push(registry: Registry) -> None:
    """What the registry then holds counts, whoever was last."""
    other = image_of(b"other")
    theirs = builder(registry).push(other, "pushed/three", "theirs")

    class Raced(Registry):
        asked = 0

        def image(self, repository: str, reference: str) -> Image | None:
            self.asked += 1
            if self.asked == 1:
                return None  # nobody has it yet
            builder(registry)._engine.push(  # and then somebody else does
                registry, repository, reference, other.subjects[0].image_id
            )
            return super().image(repository, reference)

    pushed = builder(Raced(registry.host)).push(image_of(b"ours"), "pushed/three", "key")
    assert pushed == Pushed(theirs.digest, adopted=True)


def test_a_registry_that_tells_another_digest_than_the_engine(registry: Registry) -> None:
    made = image_of(b"four")

    class Lying(Registry):
        def image(self, repository: str, reference: str) -> Image | None:
            image = super().image(repository, reference)
            return image and image._replace(digest=f"sha256:{'0' * 64}")

    with pytest.raises(PushError, match="but the engine pushed"):
        builder(Lying(registry.host)).push(made, "pushed/four", "key")


def test_a_registry_that_takes_no_push(registry: Registry) -> None:
    class Deaf(Registry):
        def image(self, repository: str, reference: str) -> Image | None:
            return None

    try:
        with pytest.raises(PushError, match="could not be pushed") as raised:
            builder(Deaf("127.0.0.1:1")).push(image_of(b"x"), "a/b", "key")
        assert raised.value.again  # nobody listens there: that may pass
    finally:
        forget_images("127.0.0.1:1")


def test_an_image_that_is_not_there(registry: Registry) -> None:
    missing = f"{registry.host}/pushed/none@sha256:{'0' * 64}"
    with pytest.raises(RegistryError, match="cannot be pulled"):
        Engine.connect().pull(missing, registry)


def test_the_name_of_a_run_is_taken_away_and_the_image_stays(registry: Registry) -> None:
    engine = docker.from_env()
    image_id = image_of(b"five").subjects[0].image_id
    engine.images.get(image_id).tag(f"{registry.host}/pushed/five", "run-1")
    engine.images.get(image_id).tag(f"{registry.host}/pushed/five", "key")
    Engine.connect().untag(f"{registry.host}/pushed/five:run-1")
    Engine.connect().untag(f"{registry.host}/pushed/five:run-1")  # gone already
    assert engine.images.get(image_id).tags == [f"{registry.host}/pushed/five:key"]
