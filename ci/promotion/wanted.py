"""What of a release an environment is to have: images, versions, servables, as it names them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci.promotion.target import Target, repository_in
from ci_tools import git, kubeflow, storage
from ci_tools.documents import Model, Release
from ci_tools.errors import RegistryError
from ci_tools.images import copy_set
from ci_tools.kubeflow import branches, ir, relocate, wanted
from ci_tools.kubeflow.branches import Mark
from ci_tools.release.bundle import Bundle
from ci_tools.serving import declaration
from ci_tools.serving.declaration import Servable


@dataclass(frozen=True)
class Wanted:
    """Satisfies `services.Wanted`. text: the declaration."""

    component: str
    servable: Servable
    text: str
    image: str
    model: Model | None
    images: Mapping[str, str]


def by_host(
    target: Target, release: Release, *, only_missing: bool = False
) -> list[tuple[str, list[copy_set.Wanted]]]:
    """What is to be copied, by the registry that it is in."""
    found: dict[str, list[copy_set.Wanted]] = {}
    for name, image in sorted(release.images.items()):
        host, path = repository_in(image.reference)
        repository = target.workspace.repository_of(name)
        if (host, path) == (target.registry.host, repository):
            if target.registry.digest(repository, image.digest) is None:
                raise RegistryError(f"{image.reference} is gone", "Build and release it again")
            continue
        if only_missing and target.registry.digest(repository, image.digest) == image.digest:
            continue
        found.setdefault(host, []).append(copy_set.Wanted(path, repository, image.digest))
    return sorted(found.items())


def asked_for(target: Target, bundle: Bundle) -> list[wanted.Wanted]:
    """What is to be uploaded, in the order of the release; the files are written below the
    build directory. Raises UnpinnedImageError, MissingInputError, WriteError."""
    release, workspace = bundle.release, target.workspace
    moves = target.moves(release)
    asked = []
    for name, pipeline in release.pipelines.items():
        text = bundle.files[pipeline.file].decode("utf-8")
        allowed = set(pipeline.images) - set(moves)
        moved = relocate.relocate(text, moves, allowed, name=pipeline.file)
        parsed = ir.parse(moved, pipeline.file)
        sha256 = ir.canonical_sha256(parsed)
        path = workspace.build / "promote" / target.name / pipeline.file
        storage.write_bytes(path, moved.encode())
        mark = Mark(
            project=release.project, origin=branches.place(release.repository), pipeline=name
        )
        build = git.without_credentials(os.environ.get("BUILD_URL", ""))
        asked.append(
            wanted.Wanted(
                name=branches.name_of(mark),
                ir_path=Path(path),
                sha256=sha256,
                version=kubeflow.version_name(release.source, sha256),
                description=wanted.described(
                    ir.description(parsed), release.source, sha256, lock=release.lock, build=build
                ),
                display_name=wanted.display_name_of(release.source),
                tags=wanted.tags_of(
                    release.project, release.source, sha256, lock=release.lock, build=build,
                    marks={"release": release.name},
                ),
                mark=mark,
            )
        )  # fmt: skip
    return asked


def servables(target: Target, bundle: Bundle) -> list[Wanted]:
    """The servables of a release as this environment has them, sorted by component.

    Raises ConfigError for a declaration that does not hold here.
    """
    release, images = bundle.release, target.images(bundle.release)
    found = []
    for component, one in sorted(release.servables.items()):
        content = bundle.files[one.file]
        servable = declaration.of(content, target.name, name=one.file)
        model = one.model
        own = servable.model
        if model is None and own is not None and own.uri and own.sha256:
            model = Model(uri=own.uri, sha256=own.sha256)
        text = content.decode("utf-8", "replace")
        found.append(Wanted(component, servable, text, images[component], model, images))
    return found
