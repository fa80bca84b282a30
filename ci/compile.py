"""Stage `compile`: pipelines become IR that names nothing but this build's digests."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ci import built
from ci import pin as pinning
from ci.workspace import Workspace
from ci_tools.documents import Compiled
from ci_tools.errors import MissingInputError, UnpinnedImageError
from ci_tools.kubeflow import compiler, ir
from ci_tools.kubeflow.compiler import Compilation
from ci_tools.kubeflow.kept import Kept

FILE = "pipelines.json"
DIRECTORY = "pipelines"
KEPT = "compiled"  # of this machine, below the home directory


def compile_pipelines(workspace: Workspace) -> Compiled:
    """Compile every pipeline from the pinned templates and prove its images.

    Reads images.lock.json and the pinned templates; writes one IR file a
    pipeline below `build/pipelines`, and pipelines.json.

    Raises MissingInputError, CompileError, UnpinnedImageError.
    """
    lock = built.whole(workspace)
    specs = workspace.build / pinning.SPECS
    if not specs.is_dir():
        raise MissingInputError(f"{specs} is not there", "Run 'python -m ci pin'")
    # Should this fail, `upload` must not find what an earlier build compiled.
    (workspace.build / FILE).unlink(missing_ok=True)
    references = {name: image.reference for name, image in lock.components.items()}
    compiled = _compile(workspace, references, specs, workspace.build / DIRECTORY)
    workspace.write(FILE, compiled)
    return compiled


@functools.cache
def dry_run(workspace: Workspace) -> Compiled:
    """What `compile_pipelines` would make, with keys where the digests will be.

    Compiles in a scratch directory and leaves nothing; once a workspace, for
    several stages' dry runs want it. Raises CompileError, UnpinnedImageError.
    """
    with tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch:
        references = pinning.placeholders(workspace)
        texts = {t.path: t.pinned(references) for t in workspace.templates}
        specs = Path(scratch) / pinning.SPECS
        pinning.copy_all(texts, workspace.config.pipelines.templates, specs)
        return _compile(workspace, references, specs, Path(scratch) / DIRECTORY)


def _compile(workspace: Workspace, references: dict[str, str], specs: Path, out: Path) -> Compiled:
    settings = workspace.config.pipelines
    root = workspace.repository.resolve()
    compilations = compiler.compile_all(
        root,
        workspace.files,
        settings,
        specs,
        out,
        os.cpu_count() or 1,
        kept(workspace, specs),
    )
    component_of = {reference: name for name, reference in references.items()}
    _prove(compilations, out.parent, set(references.values()), set(settings.allow_images))
    for one in compilations.values():
        one.pipeline.components = sorted(
            component_of[image] for image in one.pipeline.images if image in component_of
        )
    return Compiled(pipelines={name: one.pipeline for name, one in compilations.items()})


def kept(workspace: Workspace, specs: Path) -> Kept:
    """The earlier compilations of this machine. specs: the pinned templates."""
    return Kept(
        workspace.home / KEPT,
        workspace.repository.resolve(),
        specs.resolve(),
        write=not workspace.dry_run,
    )


def _prove(
    compilations: Mapping[str, Compilation], build: Path, pinned: set[str], allowed: set[str]
) -> None:
    """An IR that does not pass must not stay where `upload` would find it.

    Raises UnpinnedImageError naming what is wrong with all of them.
    """
    wrong: list[UnpinnedImageError] = []
    for one in compilations.values():
        try:
            ir.prove_images(one.images, pinned, allowed, one.pipeline.source)
        except UnpinnedImageError as error:
            (build / one.pipeline.path).unlink(missing_ok=True)
            wrong.append(error)
    if wrong:
        raise UnpinnedImageError("; ".join(error.what for error in wrong), wrong[0].todo)
