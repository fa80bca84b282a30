"""What a release needs to know beside what the stages hand to each other."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import msgspec

from ci import __version__, findings
from ci.findings import place_of
from ci.workspace import Workspace
from ci_tools import git
from ci_tools.documents import Compiled, Lock, LockedImage
from ci_tools.errors import MissingInputError
from ci_tools.kubeflow import ir
from ci_tools.serving import declaration


class Origin(msgspec.Struct, kw_only=True, frozen=True):
    """Where a release was made, as `Release` has it."""

    repository: str = ""
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
    return Origin(
        repository=workspace.origin or "",
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
    for component in workspace.servables:
        folder = Path(workspace.components[component].dockerfile).parent
        path = workspace.repository / folder / declaration.FILE
        found[f"servables/{component}.yaml"] = _content(path, "deploy")
    return found


def sboms(workspace: Workspace, lock: Lock) -> dict[str, dict[str, str]]:
    """Component -> platform -> sha256 of its SBOM, as far as this machine has it."""
    return {
        name: {
            platform: hashlib.sha256(content).hexdigest()
            for platform, content in sbom(workspace, name, image).items()
        }
        for name, image in lock.components.items()
    }


def sbom(workspace: Workspace, name: str, image: LockedImage) -> dict[str, bytes]:
    """Platform ("" for an image of one) -> the SBOM that the scan left of this very image."""
    found = {}
    several = len(image.platforms) > 1
    for each, config in image.platforms.items() if several else [("", image.config)]:
        folder = workspace.build / place_of(name, each)
        record = findings.read(folder / findings.RECORD)
        path = folder / findings.SBOM
        if record is not None and record.image == config and path.is_file():
            found[each] = _content(path, "build")
    return found


def _content(path: Path, made_by: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInputError(
            f"{path} cannot be read ({error.strerror})", f"Run 'python -m ci {made_by}' again"
        ) from error
