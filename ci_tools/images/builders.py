"""From a Dockerfile to an image under its key, by the builder in use.

Docker's own builder puts an image into the engine, where it is tested and
scanned before it is pushed. Any other (a container, Kubernetes, a remote
BuildKit) pushes it without a tag: nobody finds it until, tested and scanned, it
is given its key.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ci_tools.errors import EngineError, PushError
from ci_tools.images import buildx
from ci_tools.images.buildx import Request, Watch
from ci_tools.images.engine import Engine
from ci_tools.images.registry import Image, Registry
from ci_tools.images.transient import transient


class Subject(NamedTuple):
    """What Trivy is to look at. source: "docker" (the engine) or "remote" (a registry).

    image_id: what its report must name.
    digest:   of its manifest, where it is in the registry; "" where it is not yet.
    layers:   what its layers are called where it is, the lowest first.
    """

    source: str
    reference: str
    image_id: str
    platform: str = ""
    digest: str = ""
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """An image that was built and has no key yet.

    subjects: what is to be scanned, one a platform.
    context:  what a child's build may name meanwhile; None: it waits for the push.
    digest:   of its manifest or index, where that is known before the push.
    """

    subjects: tuple[Subject, ...]
    context: str | None
    digest: str | None = None


class Pushed(NamedTuple):
    """An image under its key. adopted: the key was taken by another build of it
    meanwhile, whose image counts: of one key there is one image."""

    digest: str
    adopted: bool


class Builder(Protocol):
    """All of these raise EngineError when the builder is gone."""

    local_parents: bool  # whether a child may be built on what has no key yet
    exports_cache: bool  # whether layers can be kept in a registry

    def build(self, repository: str, request: Request, watch: Watch) -> Made:
        """Build an image that will belong into a repository. Raises BuildError."""

    def test(self, made: Made, name: str, command: Sequence[str], watch: Watch) -> None:
        """Run a declared test command in the image. Raises ImageTestError."""

    def push(self, made: Made, repository: str, key: str) -> Pushed:
        """Give an image its key, unless that is taken. Raises PushError, RegistryError."""

    def quarantine(self, made: Made, repository: str, apart: str, tag: str) -> str:
        """Put an image that may not be used where it can be looked at; it by digest.

        repository: where it would belong. apart: the repository it is put into.
        Raises PushError, RegistryError.
        """

    def close(self) -> None:
        """Forget what was only for this run."""


class EngineBuilder:
    """Docker's own builder: images go through the engine."""

    def __init__(self, engine: Engine, registry: Registry, *, containerd: bool) -> None:
        self._engine = engine
        self._registry = registry
        # Only the engine's own store looks for a tag at home first; containerd's
        # asks the registry, which does not have it yet.
        self.local_parents = not containerd
        self.exports_cache = containerd
        # Another job may build the same key on this engine: nobody else has this tag.
        self._run = uuid.uuid4().hex[:12]
        self._tags: list[str] = []

    def build(self, repository: str, request: Request, watch: Watch) -> Made:
        if len(request.platforms) > 1:
            raise EngineError(
                f"'{request.name}' is for {', '.join(request.platforms)}, and Docker's own "
                "builder makes one platform at a time",
                "Make one that can: docker buildx create --driver docker-container --use",
            )
        tag = f"{self._registry.host}/{repository}:run-{self._run}"
        self._tags.append(tag)
        metadata = buildx.build(request, ["--load", f"--tag={tag}"], watch)
        return Made(
            # Trivy and the engine call an image by the same id.
            subjects=(
                Subject(
                    "docker",
                    metadata.digest,
                    metadata.digest,
                    layers=self._engine.layers(metadata.digest),
                ),
            ),
            context=tag if self.local_parents else None,
        )

    def test(self, made: Made, name: str, command: Sequence[str], watch: Watch) -> None:
        self._engine.test(name, made.subjects[0].image_id, command, watch.timeout, watch.log)

    def push(self, made: Made, repository: str, key: str) -> Pushed:
        image_id = made.subjects[0].image_id
        found = self._registry.image(repository, key)
        if found is not None:
            return Pushed(found.digest, adopted=not _same(found, image_id))
        problem, claimed = self._engine.push(self._registry, repository, key, image_id)
        # Asked for what it is now: somebody may have been faster, and then the
        # tag is immutable or holds their image.
        found = self._registry.image(repository, key)
        name = f"{self._registry.host}/{repository}"
        if found is None:
            raise PushError(
                f"{name} could not be pushed ({problem or 'the registry does not have it'})",
                "Check that the registry is up, that the repository exists and that you may push",
                again=bool(problem and transient(problem)),
            )
        if _same(found, image_id):
            if claimed is not None and claimed != found.digest:
                raise PushError(
                    f"{name}:{key} is {found.digest}, but the engine pushed {claimed}",
                    "Check the registry and any proxy before it",
                )
            return Pushed(found.digest, adopted=False)
        return Pushed(found.digest, adopted=True)

    def quarantine(self, made: Made, repository: str, apart: str, tag: str) -> str:  # noqa: ARG002
        self._registry.ensure_repository(apart, mutable=True)
        image_id = made.subjects[0].image_id
        problem, digest = self._engine.push(self._registry, apart, tag, image_id)
        name = f"{self._registry.host}/{apart}"
        if digest is None:
            raise PushError(f"{name} could not be pushed ({problem})", "Check that you may push")
        return f"{name}@{digest}"

    def close(self) -> None:
        for tag in self._tags:
            self._engine.untag(tag)


class RegistryBuilder:
    """A builder with a store of its own: images go straight to the registry.

    engine: only for declared test commands; None where there is none.
    """

    local_parents = True  # by digest, in the registry
    exports_cache = True

    def __init__(self, registry: Registry, engine: Engine | None) -> None:
        self._registry = registry
        self._engine = engine

    def build(self, repository: str, request: Request, watch: Watch) -> Made:
        name = f"{self._registry.host}/{repository}"
        options = "type=image,push=true,push-by-digest=true,name-canonical=true"
        if request.epoch is not None:
            options += ",rewrite-timestamp=true"
        if self._registry.plain_http:
            options += ",registry.insecure=true"
        metadata = buildx.build(request, [f"--output={options},name={name}"], watch)
        reference = f"{name}@{metadata.digest}"
        # Confirmed by the registry: a digest that it does not have is no image.
        images = self._registry.images(repository, metadata.digest)
        if not images:
            raise PushError(f"{reference} is not in the registry after its push", "Build again")
        return Made(
            subjects=tuple(
                Subject("remote", reference, image.config, platform, image.digest, image.layers)
                for platform, image in sorted(images.items())
            ),
            context=reference,
            digest=metadata.digest,
        )

    def test(self, made: Made, name: str, command: Sequence[str], watch: Watch) -> None:
        if self._engine is None:
            raise EngineError(
                f"the test command of '{name}' needs a Docker engine, and none answers",
                "Start one, or make the test a stage called 'test' in the Dockerfile",
            )
        image_id = self._engine.pull(made.subjects[0].reference, self._registry)
        self._engine.test(name, image_id, command, watch.timeout, watch.log)

    def push(self, made: Made, repository: str, key: str) -> Pushed:
        digest = made.digest or ""
        found = self._registry.digest(repository, key)
        if found is None:
            found = self._registry.tag(repository, digest, key)
        return Pushed(found, adopted=found != digest)

    def quarantine(self, made: Made, repository: str, apart: str, tag: str) -> str:
        from ci_tools.images import copying

        self._registry.ensure_repository(apart, mutable=True)
        source = copying.Place(self._registry, repository, made.digest or "")
        digest = copying.copy(source, copying.Place(self._registry, apart, tag))
        return f"{self._registry.host}/{apart}@{digest}"

    def close(self) -> None:
        """Nothing is left: an image without a tag is the registry's to collect."""


def in_use(registry: Registry, *, needs_engine: bool) -> Builder:
    """The builder that buildx is set to.

    needs_engine: a declared test command will be run.
    Raises EngineError.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        engine = pool.submit(Engine.connect)  # both take a moment, and mostly both are needed
        driver = buildx.driver()
    if driver.is_engine:
        return EngineBuilder(engine.result(), registry, containerd=driver.containerd)
    reached = engine.result() if needs_engine and engine.exception() is None else None
    return RegistryBuilder(registry, reached)


def present(registry: Registry, repository: str, digest: str) -> Made:
    """An image that the registry has, as something to be scanned there."""
    reference = f"{registry.host}/{repository}@{digest}"
    return Made(
        subjects=tuple(
            Subject("remote", reference, image.config, platform, image.digest, image.layers)
            for platform, image in sorted(registry.images(repository, digest).items())
        ),
        context=reference,
        digest=digest,
    )


def _same(image: Image, image_id: str) -> bool:
    """Whether the registry's image is the engine's, which calls an image by its
    config's digest or, in containerd's store, by its manifest's."""
    return image_id in (image.config, image.digest)
