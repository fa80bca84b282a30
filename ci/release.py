"""Stage `release`: everything that one commit became, in one immutable file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ci import build as building
from ci import choosing
from ci import compile as compiling
from ci import deploy as deploying
from ci import plan as planning
from ci import train as training
from ci import upload as uploading
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import (
    Compiled,
    Deployed,
    Document,
    Lock,
    Release,
    ReleasedImage,
    ReleasedPipeline,
    Run,
    Training,
    Uploads,
)
from ci_tools.errors import ReleaseError

FILE = "release.json"


def release(workspace: Workspace) -> Release:
    """Gather the stages' files into a release that is named by its content.

    Reads images.lock.json, pipelines.json and, where they are, uploads.json,
    train.json and deploy.json; writes release.json. What must keep it from
    being promoted is listed in `problems`.

    Raises MissingInputError, or ReleaseError when an image failed or the files
    are of different builds.
    """
    build = workspace.build
    lock = workspace.read(building.FILE, Lock, made_by="build")
    if lock.failed:
        raise ReleaseError(
            f"there is no release while images fail ({', '.join(sorted(lock.failed))})",
            "Mend them and run the stages again",
        )
    compiled = workspace.read(compiling.FILE, Compiled, made_by="compile")
    uploads = storage.read_if_there(build / uploading.FILE, Uploads, made_by="upload")
    runs = storage.read_if_there(build / training.FILE, Training, made_by="train")
    deployed = storage.read_if_there(build / deploying.FILE, Deployed, made_by="deploy")
    allowed = workspace.config.pipelines.allow_images
    tested = choosing.tested(workspace)
    result = assemble(lock, compiled, uploads, runs, deployed, tested, allowed)
    workspace.write(FILE, result)
    return result


def dry_run(workspace: Workspace) -> list[str]:
    """What a release of this work tree would hold. Asks nobody."""
    source = workspace.source
    parts = {
        "images": [component.name for component in planning.plan(workspace).components],
        "pipelines": list(compiling.dry_run(workspace).pipelines),
        "services": [servable.service for servable in workspace.servables.values()],
    }
    lines = [f"would release {workspace.project} at commit {source.commit or '(none)'}"]
    lines += [f"  {kind}: {', '.join(sorted(names)) or 'none'}" for kind, names in parts.items()]
    if source.dirty:
        lines.append("  not to be promoted: the work tree has changes that are in no commit")
    return lines


def assemble(
    lock: Lock,
    compiled: Compiled,
    uploads: Uploads | None,
    runs: Training | None,
    deployed: Deployed | None,
    tested: Sequence[str],
    allowed: Collection[str] = (),
) -> Release:
    """The release of these documents. Pure. Raises ReleaseError when they disagree,
    or when one of them is of a launch by hand.

    tested: the pipelines that must have had a training run. A run of another
    version than the uploaded one does not count, and is left out.
    allowed: images by digest that pipelines may name beside the lock's.
    """
    _check_unlaunched(
        {
            building.FILE: lock,
            compiling.FILE: compiled,
            uploading.FILE: uploads,
            training.FILE: runs,
            deploying.FILE: deployed,
        }
    )
    for file, environment in (
        (uploading.FILE, uploads.environment if uploads else None),
        (training.FILE, runs.environment if runs else None),
        (deploying.FILE, deployed.environment if deployed else None),
    ):
        if environment not in (None, lock.environment):
            raise ReleaseError(
                f"{file} is of environment '{environment}', "
                f"{building.FILE} of '{lock.environment}'",
                "Run every stage in one environment",
            )
    digests = {image.reference for image in lock.components.values()}
    for name, pipeline in compiled.pipelines.items():
        if not all(
            component in lock.components and lock.components[component].reference in pipeline.images
            for component in pipeline.components
        ):
            raise ReleaseError(
                f"pipeline '{name}' was compiled from another build than {building.FILE}",
                "Run the stages from 'pin' on again",
            )
        # Whatever the files are marked as: what runs must be what was built and judged.
        if strange := sorted({*pipeline.images} - digests - {*allowed}):
            raise ReleaseError(
                f"pipeline '{name}' runs {', '.join(strange)}, no image of {building.FILE}",
                "Run the stages from 'pin' on again",
            )
    pipelines = {}
    for name, pipeline in compiled.pipelines.items():
        version = uploads.pipelines.get(name) if uploads else None
        if version is not None and version.sha256 != pipeline.sha256:
            raise ReleaseError(
                f"the uploaded pipeline '{name}' is not the compiled one",
                "Run 'python -m ci upload' again",
            )
        pipelines[name] = ReleasedPipeline(
            sha256=pipeline.sha256,
            components=pipeline.components,
            version=version.version if version else None,
            version_id=version.version_id if version else None,
        )
    versions = {version.version_id for version in uploads.pipelines.values()} if uploads else set()
    specs = {version.sha256 for version in uploads.pipelines.values()} if uploads else set()
    current = [
        run
        for run in (runs.runs if runs else [])
        # What passed before and is unchanged ran as an equal version of another name.
        if run.version_id in versions or (run.unchanged and run.sha256 in specs)
    ]
    services = deployed.services if deployed else {}
    for service in services.values():
        if service.image not in digests:
            raise ReleaseError(
                f"the service '{service.service}' runs an image of another build",
                "Run 'python -m ci deploy' again",
            )
    result = Release(
        name="",
        project=lock.project,
        environment=lock.environment,
        source=lock.source,
        images={
            name: ReleasedImage(
                reference=image.reference,
                digest=image.digest,
                key=image.key,
                verdict=image.verdict,
                tests=image.tests,
            )
            for name, image in lock.components.items()
        },
        pipelines=pipelines,
        runs=current,
        services=services,
        problems=_problems(lock, pipelines, current, tested),
    )
    result.name = content_name(result)
    return result


def _check_unlaunched(documents: Mapping[str, Document | None]) -> None:
    """Raises ReleaseError for a file that `launch` wrote: it is of no build of CI."""
    for file, document in documents.items():
        mark = document.launched if document is not None else msgspec.UNSET
        if mark is not msgspec.UNSET:
            used = ", ".join(f"{name}={image}" for name, image in sorted(mark.named.items()))
            raise ReleaseError(
                f"{file} is of a launch by {mark.by}"
                + (f" with images that CI did not build ({used})" if mark.unpinned else "")
                + ", which is never released",
                "Push the commit, and release what CI makes of it",
            )


def content_name(result: Release) -> str:
    """`release-` and the hash of everything in it but the name: 64 hex.

    The hash is over the JSON with sorted keys and no spaces as Python's own
    `json` writes it, so that anybody can compute it from release.json again.
    """
    content = msgspec.to_builtins(result)
    del content["name"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"release-{hashlib.sha256(canonical.encode()).hexdigest()}"


def _problems(
    lock: Lock,
    pipelines: Mapping[str, ReleasedPipeline],
    runs: Sequence[Run],
    tested: Sequence[str],
) -> list[str]:
    """Why this release must not be promoted, a sentence each."""
    problems = []
    if lock.source.commit is None:
        problems.append("it comes from no commit")
    elif lock.source.dirty:
        problems.append("the work tree had changes that are in no commit")
    scans: dict[str, list[str]] = {}
    for name, image in sorted(lock.components.items()):
        if image.verdict.status != "pass":
            scans.setdefault(image.verdict.status, []).append(name)
        if image.tests == "none":
            problems.append(f"image '{name}' has no tests")
    problems += [f"the scan of {', '.join(n)} is {status}" for status, n in scans.items()]
    problems += [
        f"the pipeline '{name}' was not uploaded"
        for name, pipeline in sorted(pipelines.items())
        if pipeline.version_id is None
    ]
    for name in sorted(set(tested) - {run.pipeline for run in runs}):
        problems.append(f"the training test of '{name}' was not run")
    for run in runs:
        if run.state != "SUCCEEDED" or run.unmet:
            problems.append(f"the run of '{run.label}' did not pass")
    return problems
