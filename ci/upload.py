"""Stage `upload`: compiled pipelines become versions in Kubeflow, once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import msgspec

from ci import built
from ci import compile as compiling
from ci.workspace import Workspace
from ci_tools import git, kubeflow, storage
from ci_tools.documents import Compiled, CompiledPipeline, Lock, Upload, Uploads
from ci_tools.errors import MissingInputError
from ci_tools.kubeflow import branches, ir, wanted
from ci_tools.kubeflow.branches import Mark

FILE = "uploads.json"


def upload(workspace: Workspace, marks: Mapping[str, str] | None = None) -> Uploads:
    """Upload every compiled pipeline; one that did not change stays as it is.

    marks: further tags of what is uploaded.

    Reads pipelines.json, the IR files and, for its hash, images.lock.json; writes
    uploads.json, when all are there. Raises MissingInputError, also when an IR
    file is not the one that was proven; KubeflowError, CredentialsError,
    UploadConflictError, FloatingScheduleError.
    """
    # Should this fail, `train` must not run what an earlier build uploaded.
    (workspace.build / FILE).unlink(missing_ok=True)
    compiled = workspace.read(compiling.FILE, Compiled, made_by="compile")
    for pipeline in compiled.pipelines.values():
        path = workspace.build / pipeline.path
        if ir.canonical_sha256(ir.load(path)) != pipeline.sha256:
            raise MissingInputError(
                f"{path} is not what was compiled and proven", "Run 'python -m ci compile' again"
            )
    client = kubeflow.connect(workspace.environment, workspace.home)
    locked = storage.read_if_there(workspace.build / built.FILE, Lock, made_by="build")
    lock = lock_hash(locked) if locked else ""
    asked = [
        _wanted(workspace, name, pipeline, lock, marks or {})
        for name, pipeline in compiled.pipelines.items()
    ]
    with workspace.console.working("upload", f"{len(asked)} pipelines"):
        done = client.upload_all(asked)
    uploads = Uploads(
        environment=workspace.environment_name,
        pipelines=dict(zip(compiled.pipelines, done, strict=True)),
    )
    for name, one in uploads.pipelines.items():
        workspace.console.event(told(name, one))
        for schedule in one.followed_by:
            workspace.console.warn(
                f"the schedule '{schedule}' names no version of '{one.pipeline}' "
                f"and runs {one.version} from now on"
            )
    workspace.write(FILE, uploads)
    return uploads


def told(name: str, one: Upload) -> str:
    """One line about an upload."""
    done = "uploaded" if one.created else "unchanged" if one.unchanged else "already there"
    where = f" in {one.pipeline}" if one.pipeline not in ("", name) else ""
    return f"{name}: {done} as {one.version}{where}"


def dry_run(workspace: Workspace) -> list[str]:
    """What `upload` would do, a line each; compiles, asks nobody."""
    compiled = compiling.dry_run(workspace)
    lines = []
    for name, pipeline in compiled.pipelines.items():
        theirs = branches.name_of(mark_of(workspace, name))
        lines.append(
            f"{name}: would be uploaded{f' as {theirs}' if theirs != name else ''} "
            f"with {len(pipeline.components)} components "
            f"({', '.join(pipeline.components)}) from {pipeline.source}"
        )
    return lines


def mark_of(workspace: Workspace, pipeline: str) -> Mark:
    """Whose a pipeline is that this checkout uploads."""
    mark = Mark(
        project=workspace.project, origin=branches.place(workspace.origin), pipeline=pipeline
    )
    settings = workspace.config.pipelines.branches
    if settings is None or workspace.apart_from(settings.main) is None:
        return mark
    change = os.environ.get("CHANGE_ID")  # Jenkins sets these for pull requests
    if change:
        return msgspec.structs.replace(
            mark,
            change=change,
            branch=os.environ.get("CHANGE_BRANCH") or "",
            fork=bool(os.environ.get("CHANGE_FORK")),
        )
    return msgspec.structs.replace(mark, branch=workspace.source.branch or "")


def _wanted(
    workspace: Workspace,
    name: str,
    pipeline: CompiledPipeline,
    lock: str,
    marks: Mapping[str, str],
) -> wanted.Wanted:
    mark, source = mark_of(workspace, name), workspace.source
    build = git.without_credentials(os.environ.get("BUILD_URL", ""))
    return wanted.Wanted(
        name=branches.name_of(mark),
        ir_path=workspace.build / pipeline.path,
        sha256=pipeline.sha256,
        version=kubeflow.version_name(source, pipeline.sha256),
        description=wanted.described(
            pipeline.description, source, pipeline.sha256, lock=lock, build=build
        ),
        display_name=wanted.display_name_of(source),
        tags=wanted.tags_of(
            workspace.project, source, pipeline.sha256, lock=lock, build=build, marks=marks
        ),
        mark=mark,
    )


def lock_hash(lock: Lock) -> str:
    """64 hex over a lock's images: equal for equal ones, however long they took."""
    images = {name: image.reference for name, image in lock.components.items()}
    return hashlib.sha256(msgspec.json.encode(images, order="sorted")).hexdigest()
