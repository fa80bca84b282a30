"""Stage `upload`: compiled pipelines become versions in Kubeflow, once."""

from __future__ import annotations

from ci import compile as compiling
from ci.workspace import Workspace
from ci_tools import kubeflow
from ci_tools.documents import Compiled, Uploads
from ci_tools.errors import MissingInputError
from ci_tools.kubeflow import ir

FILE = "uploads.json"


def upload(workspace: Workspace) -> Uploads:
    """Upload every compiled pipeline; one that is there already stays as it is.

    Reads pipelines.json and the IR files; writes uploads.json. Raises
    MissingInputError, also when an IR file is not the one that was proven;
    KubeflowError, CredentialsError, UploadConflictError.
    """
    compiled = workspace.read(compiling.FILE, Compiled, made_by="compile")
    client = kubeflow.connect(workspace.environment, workspace.home)
    uploads = Uploads(environment=workspace.environment_name, pipelines={})
    for name, pipeline in compiled.pipelines.items():
        path = workspace.build / pipeline.path
        if ir.canonical_sha256(ir.load(path)) != pipeline.sha256:
            raise MissingInputError(
                f"{path} is not what was compiled and proven", "Run 'python -m ci compile' again"
            )
        version = kubeflow.version_name(workspace.source, pipeline.sha256)
        with workspace.console.working(name, "uploading"):
            uploads.pipelines[name] = client.upload(
                name,
                path,
                sha256=pipeline.sha256,
                version=version,
                description=pipeline.description,
            )
        done = "uploaded" if uploads.pipelines[name].created else "already there"
        workspace.console.event(f"{name}: {done} as {version}")
    workspace.write(FILE, uploads)
    return uploads


def dry_run(workspace: Workspace) -> list[str]:
    """What `upload` would do, a line each; compiles, asks nobody."""
    compiled = compiling.dry_run(workspace)
    return [
        f"{name}: would be uploaded with {len(pipeline.components)} components "
        f"({', '.join(pipeline.components)}) from {pipeline.source}"
        for name, pipeline in compiled.pipelines.items()
    ]
