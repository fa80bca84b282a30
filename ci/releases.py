"""Releases that were published: which there are, what one holds, who signed it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ci import publishing
from ci.workspace import Workspace
from ci_tools import git
from ci_tools.documents import Release
from ci_tools.documents.base import Document
from ci_tools.errors import ConfigError, ReleaseNotFoundError, ReleaseSignatureError
from ci_tools.images.registry import Registry
from ci_tools.printable import printable
from ci_tools.release import bundle as bundles
from ci_tools.release import keys, signing, store
from ci_tools.release.bucket import Bucket
from ci_tools.release.bundle import Bundle

_AT_ONCE = 8


class Listed(msgspec.Struct, kw_only=True):
    """damaged: why it cannot be read; then nothing else is known of it but its name."""

    name: str
    commit: str | None = None
    branch: str | None = None
    committed: str = ""
    problems: list[str] = []
    damaged: str = ""


class Listing(Document, kw_only=True):
    """The newest commit first."""

    repository: str
    releases: list[Listed]


class Verified(Document, kw_only=True):
    """signed_by: ids of the allowed keys that signed it."""

    name: str
    signed_by: list[str]


def list_(workspace: Workspace) -> Listing:
    """All releases of the environment's registry. Raises RegistryError, CredentialsError."""
    registry, repository = _registry(workspace)

    def listed(name: str) -> Listed:
        try:
            release = store.find(registry, repository, name).release
        except ReleaseSignatureError as error:
            return Listed(name=name, damaged=error.what)
        return Listed(
            name=name,
            commit=release.source.commit,
            branch=release.source.branch,
            committed=release.committed,
            problems=release.problems,
        )

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = list(pool.map(listed, store.names(registry, repository)))
    found.sort(key=lambda one: (one.committed, one.name), reverse=True)
    return Listing(repository=f"{registry.host}/{repository}", releases=found)


def list_lines(listing: Listing) -> list[str]:
    lines = []
    for one in listing.releases:
        commit = f"{(one.commit or 'no commit')[:12]}  {one.committed or '-'}  {one.branch or '-'}"
        lines.append(f"{one.name}  {commit if not one.damaged else one.damaged}")
        if one.problems:
            lines.append(f"  not to be promoted: {'; '.join(one.problems)}")
    # Whoever may push there wrote some of it.
    return [printable(line) for line in lines] or [f"no release in {listing.repository}"]


def find(workspace: Workspace, what: str) -> Bundle:
    """A release by its name or commit (both may be abbreviated), its digest, the path of
    its bundle, or whatever means its commit to git (HEAD, a tag, a branch); in the
    environment's registry, else in its bucket.

    Raises ReleaseNotFoundError, ReleaseSignatureError, RegistryError, CredentialsError.
    """
    path = Path(what)
    return bundles.read(path) if path.exists() else published(workspace, what)


def published(workspace: Workspace, what: str, registry: Registry | None = None) -> Bundle:
    """As `find`, but never a path. registry: the environment's, where it is at hand."""
    registry = registry or Registry.of(workspace.registry)
    try:
        return _published(workspace, registry, what)
    except ReleaseNotFoundError:
        commit = git.commit_of(workspace.repository, what)
        if commit is None or commit == what:
            raise
        return _published(workspace, registry, commit)


def _published(workspace: Workspace, registry: Registry, what: str) -> Bundle:
    try:
        return store.find(registry, publishing.repository_of(workspace), what)
    except ReleaseNotFoundError:
        if workspace.environment.releases is None:
            raise
        return Bucket(workspace.environment.releases).find(what)


def show_lines(release: Release) -> list[str]:
    """A release as a person reads it."""
    source = release.source
    lines = [
        release.name,
        f"  of      {release.repository or release.project} {source.commit or '(no commit)'} "
        f"{source.branch or ''}".rstrip(),
        f"  built   in '{release.environment}' {release.build or 'on a machine'}",
    ]
    lines += [
        f"  image   {name}  {image.reference}  scan {image.verdict.status}, tests {image.tests}"
        for name, image in sorted(release.images.items())
    ]
    lines += [
        f"  runs    {name}  {pipeline.sha256[:12]}  {pipeline.version or 'not uploaded'}"
        for name, pipeline in sorted(release.pipelines.items())
    ]
    lines += [
        f"  serves  {name}  {one.service}  "
        f"{(one.revision and one.revision.task_definition) or 'not deployed'}"
        for name, one in sorted(release.servables.items())
    ]
    lines += [
        f"  tested  {run.pipeline}  {run.state}  "
        + " ".join(f"{metric}={value:.4g}" for metric, value in sorted(run.metrics.items()))
        for run in release.runs
    ]
    lines += [f"  not to be promoted: {problem}" for problem in release.problems]
    return [printable(line.rstrip()) for line in lines]


def verify(
    workspace: Workspace, what: str, *, public: Sequence[Path] = (), target: str | None = None
) -> Verified:
    """Who signed a release, of those whom an environment believes.

    public: files of keys to believe instead. target: that environment; by default
    the one that we work in. A release is looked for where it takes them from.

    Raises ReleaseSignatureError where nobody did, or it may not be promoted;
    ConfigError, and what `find` raises.
    """
    name = target or workspace.environment_name
    settings = workspace.config.environment(name).promotion
    allowed = settings.keys
    if target is not None and settings.after is not None:
        workspace = dataclasses.replace(workspace, environment_name=settings.after)
    if not public and not allowed:
        raise ConfigError(
            f"environment '{name}' allows no key to have signed a release",
            f"Name public keys: environments.{name}.promotion.keys in ci.yaml, or --key FILE",
        )
    believed = keys.load_all(public or allowed, Path() if public else workspace.repository)
    found = find(workspace, what)
    signed_by = signing.verify(found, believed)
    return Verified(name=found.release.name, signed_by=signed_by)


def _registry(workspace: Workspace) -> tuple[Registry, str]:
    return Registry.of(workspace.registry), publishing.repository_of(workspace)
