"""What differs between two releases. Pure."""

from __future__ import annotations

import difflib

import msgspec

from ci_tools.documents import Release
from ci_tools.release.bundle import Bundle

_LINES = 60


class Changed(msgspec.Struct, kw_only=True):
    """before, after: "" where there is none. lines: what changed in it, where known."""

    name: str
    before: str
    after: str
    lines: list[str] = []


class Difference(msgspec.Struct, kw_only=True):
    """From one release to another. images: by digest. pipelines: by sha256 of the IR.
    servables: by that of the task definition; models: by address and sha256."""

    before: str
    after: str
    commits: list[str]
    images: list[Changed] = []
    pipelines: list[Changed] = []
    servables: list[Changed] = []
    models: list[Changed] = []


def compare(before: Bundle, after: Bundle) -> Difference:
    """What differs, in the order of names. Raises ReleaseSignatureError for no release."""
    one, two = before.release, after.release
    return Difference(
        before=one.name,
        after=two.name,
        commits=[str(one.source.commit), str(two.source.commit)],
        images=_images(one, two),
        pipelines=_changed(
            {name: it.sha256 for name, it in one.pipelines.items()},
            {name: it.sha256 for name, it in two.pipelines.items()},
            {name: it.file for name, it in one.pipelines.items()},
            {name: it.file for name, it in two.pipelines.items()},
            (before, after),
        ),
        servables=_changed(
            {name: it.task_definition_sha256 or it.image for name, it in one.servables.items()},
            {name: it.task_definition_sha256 or it.image for name, it in two.servables.items()},
            {name: it.file for name, it in one.servables.items()},
            {name: it.file for name, it in two.servables.items()},
            (before, after),
        ),
        models=_changed(_models(one), _models(two), {}, {}, (before, after)),
    )


def lines(difference: Difference) -> list[str]:
    """For people."""
    told = [f"{difference.before} → {difference.after}"]
    if difference.commits[0] != difference.commits[1]:
        told.append(f"commit  {difference.commits[0][:12]} → {difference.commits[1][:12]}")
    for kind in ("image", "pipeline", "servable", "model"):
        for one in getattr(difference, f"{kind}s"):
            told.append(f"{kind}  {one.name}  {_short(one.before)} → {_short(one.after)}")
            told += [f"    {line}" for line in one.lines]
    return told if len(told) > 1 else [*told, "nothing differs"]


def _images(one: Release, two: Release) -> list[Changed]:
    found = []
    for name in sorted({*one.images, *two.images}):
        old, new = one.images.get(name), two.images.get(name)
        if old is not None and new is not None and old.digest == new.digest:
            continue
        told = []
        if old is not None and new is not None:
            if old.key != new.key:
                told.append(f"key: {old.key[:12]} → {new.key[:12]}")
            told += [
                f"base {base}: {_short(old.bases.get(base) or '')} → "
                f"{_short(new.bases.get(base) or '')}"
                for base in sorted({*old.bases, *new.bases})
                if old.bases.get(base) != new.bases.get(base)
            ]
        found.append(
            Changed(
                name=name,
                before=old.digest if old else "",
                after=new.digest if new else "",
                lines=told,
            )
        )
    return found


def _models(release: Release) -> dict[str, str]:
    return {
        name: f"{it.model.uri} sha256:{it.model.sha256[:12]}"
        for name, it in release.servables.items()
        if it.model is not None
    }


def _changed(
    old: dict[str, str],
    new: dict[str, str],
    old_files: dict[str, str],
    new_files: dict[str, str],
    bundles: tuple[Bundle, Bundle],
) -> list[Changed]:
    found = []
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name):
            continue
        told: list[str] = []
        if name in old_files and name in new_files:
            texts = [
                bundle.files.get(files[name], b"").decode("utf-8", "replace").splitlines()
                for bundle, files in zip(bundles, (old_files, new_files), strict=True)
            ]
            told = [
                line
                for line in difflib.unified_diff(texts[0], texts[1], lineterm="", n=0)
                if not line.startswith(("---", "+++", "@@"))
            ]
            if len(told) > _LINES:
                told = [*told[:_LINES], f"... and {len(told) - _LINES} more lines"]
        found.append(
            Changed(name=name, before=old.get(name, ""), after=new.get(name, ""), lines=told)
        )
    return found


def _short(text: str) -> str:
    if not text:
        return "(none)"
    digest = text.removeprefix("sha256:")
    return digest[:12] if len(digest) == 64 else text
