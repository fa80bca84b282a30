"""What a release needs to know beside what the stages hand to each other."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci import __version__, findings
from ci import deploy as deploying
from ci.findings import place_of
from ci.workspace import Workspace
from ci_tools import git
from ci_tools.components.references import split
from ci_tools.documents import Compiled, Lock, LockedImage
from ci_tools.errors import MissingInputError
from ci_tools.images.registry import Registry
from ci_tools.kubeflow import ir
from ci_tools.scanner import records


class Sbom(NamedTuple):
    """image: digest of the manifest of the image of one platform."""

    image: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


Sboms = Mapping[str, Mapping[str, Sbom]]  # component -> platform, "" for the only one
_AT_ONCE = 8


class Origin(msgspec.Struct, kw_only=True, frozen=True):
    """Where a release was made, as `Release` has it."""

    repository: str = ""
    committed: str = ""
    builder: str = ""
    build: str = ""
    tools: Mapping[str, str] = {}


def origin(workspace: Workspace, lock: Lock) -> Origin:
    """What git, the CI server's variables and the lock tell. JENKINS_URL and BUILD_URL
    are Jenkins' own; no credentials are left in an address."""
    tools = {
        "kfp-ci": __version__,
        "kfp": metadata.version("kfp"),
        "python": platform.python_version(),
    }
    trivy = {image.verdict.trivy for image in lock.components.values()} - {""}
    if trivy:
        tools["trivy"] = ", ".join(sorted(trivy))
    seconds = git.commit_time(workspace.repository)
    committed = datetime.fromtimestamp(seconds, timezone.utc) if seconds is not None else None
    return Origin(
        repository=workspace.origin or "",
        committed=committed.isoformat() if committed else "",
        builder=git.without_credentials(os.environ.get("JENKINS_URL", "")),
        build=git.without_credentials(os.environ.get("BUILD_URL", "")),
        tools=tools,
    )


def files(workspace: Workspace, compiled: Compiled) -> dict[str, bytes]:
    """What travels with a release: the IR as it was compiled, the declarations of the
    servables as they are.

    Raises MissingInputError where a pipeline is not the one that was proven.
    """
    found = {}
    for name, pipeline in compiled.pipelines.items():
        path = workspace.build / pipeline.path
        content = _content(path, "compile")
        if ir.canonical_sha256(ir.load(path)) != pipeline.sha256:
            raise MissingInputError(
                f"{path} is not what was compiled and proven", "Run 'python -m ci compile' again"
            )
        found[f"pipelines/{name}.yaml"] = content
    for component, content in deploying.declarations(workspace).items():
        found[f"servables/{component}.yaml"] = content
    return found


def sboms(workspace: Workspace, lock: Lock) -> Sboms:
    """The SBOM that the scan left of each image: on this machine, else beside the image.

    One that is nowhere is left out. Raises RegistryError, CredentialsError.
    """
    registry = Registry.of(workspace.registry)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = pool.map(lambda one: _sboms_of(workspace, registry, *one), lock.components.items())
        return dict(zip(lock.components, found, strict=True))


def _sboms_of(
    workspace: Workspace, registry: Registry, name: str, image: LockedImage
) -> dict[str, Sbom]:
    repository = split(image.reference).path
    if len(image.platforms) > 1:
        made = registry.images(repository, image.digest)
        parts = [(each, config, made[each].digest) for each, config in image.platforms.items()]
    else:
        parts = [("", image.config, image.digest)]
    found = {}
    for each, config, digest in parts:
        ids = (config, digest)  # the engine's containerd store calls an image by its manifest
        content = _here(workspace.build / place_of(name, each), ids)
        if content is None:
            kept = records.newest(registry, repository, digest)
            if kept is not None and kept.record.image in ids:
                content = kept.sbom()
        if content is not None:
            found[each] = Sbom(digest, content)
    return found


def _here(folder: Path, ids: Collection[str]) -> bytes | None:
    """The SBOM of this very image that a scan left on this machine."""
    record, path = findings.read(folder / findings.RECORD), folder / findings.SBOM
    if record is None or record.image not in ids or not path.is_file():
        return None
    return _content(path, "build")


def _content(path: Path, made_by: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInputError(
            f"{path} cannot be read ({error.strerror})", f"Run 'python -m ci {made_by}' again"
        ) from error
