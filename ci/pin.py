"""Stage `pin`: the digests of the lock go into the component templates, all or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ci import built
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.components.templates import Template
from ci_tools.documents import Pins
from ci_tools.errors import MissingInputError, PinDriftError, TemplateError, WriteError

FILE = "pins.json"
SPECS = "component_specs"


def pin(workspace: Workspace, *, write_sources: bool = False) -> Pins:
    """Write pinned copies of every template below `build/component_specs`.

    write_sources: rewrite the repository's own templates too, all or none.

    Reads images.lock.json; writes the copies and pins.json. Raises
    MissingInputError when an image is missing from the lock, TemplateError,
    WriteError; then no copy has changed.
    """
    templates, references = _wanted(workspace)
    pinned = {template.path: template.pinned(references) for template in templates}
    sources = {_source(workspace, path): text.encode() for path, text in pinned.items()}
    result = Pins(templates=named(templates, references))
    copy_all(pinned, workspace.config.pipelines.templates, workspace.build / SPECS)
    if write_sources:
        storage.rewrite_all({p: data for p, data in sources.items() if p.read_bytes() != data})
    workspace.write(FILE, result)
    return result


def drift(workspace: Workspace) -> list[str]:
    """What is pinned otherwise than images.lock.json has it, a sentence each: copies that
    `pin` made, and the repository's own templates that name digests. Writes nothing.

    Raises MissingInputError, TemplateError.
    """
    templates, references = _wanted(workspace)
    said = [
        f"{template.path} line {node.line} names {node.image}, the lock {wanted}"
        for template in templates
        for node, wanted in template.stale(references)
    ]
    copies = workspace.build / SPECS
    expected = {
        os.path.relpath(template.path, workspace.config.pipelines.templates): template
        for template in templates
    }
    found = {
        path.relative_to(copies).as_posix(): path for path in copies.rglob("*") if path.is_file()
    }
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected:
            said.append(f"{copies / name} is a copy of no template")
        elif name not in found:
            said.append(f"{copies / name} is not there")
        elif found[name].read_bytes() != expected[name].pinned(references).encode():
            said.append(f"{found[name]} is not what 'pin' makes of {expected[name].path}")
    return said


def raise_drift(said: list[str]) -> None:
    """Raises PinDriftError when anything has drifted."""
    if said:
        raise PinDriftError(
            "; ".join(said), "Run 'python -m ci pin', with --write for the repository's own"
        )


def _wanted(workspace: Workspace) -> tuple[list[Template], dict[str, str]]:
    """The templates, and every component's image by the lock."""
    lock = built.whole(workspace)
    templates = workspace.templates
    references = {name: image.reference for name, image in lock.components.items()}
    missing = sorted({n for t in templates for n in t.components} - references.keys())
    if missing:
        raise MissingInputError(
            f"{built.FILE} holds no image of {', '.join(missing)}",
            "Run 'python -m ci plan' and 'python -m ci build'",
        )
    return templates, references


def _source(workspace: Workspace, template: str) -> Path:
    """The file of a template, where a link leads to. Raises TemplateError for one outside."""
    path = (workspace.repository / template).resolve()
    if not path.is_relative_to(workspace.repository.resolve()):
        raise TemplateError(f"{template} is a link out of the repository", "Put the file there")
    return path


def dry_run(workspace: Workspace) -> list[str]:
    """What `pin` would write, a line each. Asks nobody."""
    return [
        f"{template.path}: would name the digest of {', '.join(template.components)}"
        for template in workspace.templates
    ]


def named(templates: list[Template], references: dict[str, str]) -> dict[str, str]:
    """Template path -> the images that it names once pinned."""
    return {
        template.path: ", ".join(references[component] for component in template.components)
        for template in templates
        if template.components
    }


def placeholders(workspace: Workspace) -> dict[str, str]:
    """Component -> a reference that stands for an image not yet built.

    For dry runs: it has the form of a pinned image, so that pipelines compile,
    with the key where the digest will be.
    """
    from ci import plan as planning  # a dry run alone needs it

    return {
        component.name: f"{workspace.registry.host}/{component.repository}@sha256:{component.key}"
        for component in (workspace.planned or planning.plan(workspace)).components
    }


def copy_all(texts: dict[str, str], directory: str, to: Path) -> None:
    """Write copies of templates below `directory` to the folder `to`, in one go.

    The whole folder is swapped at the end, so that a reader sees the old set or
    the new one. Raises WriteError.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as scratch:
            fresh, old = Path(scratch) / "fresh", Path(scratch) / "old"
            fresh.mkdir()
            for path, text in texts.items():
                copy = fresh / os.path.relpath(path, directory)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(text.encode())
            if to.exists():
                to.rename(old)
            try:
                fresh.rename(to)
            except OSError:
                if old.exists():
                    old.rename(to)
                raise
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise WriteError(
            f"the pinned templates in {to} could not be written ({error.strerror})",
            "Free some disk space or mend the permissions, then run 'python -m ci pin' again",
        ) from error
