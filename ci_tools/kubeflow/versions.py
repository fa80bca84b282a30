"""Pipelines and their versions on an API server: made once, found again, never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ci_tools import config
from ci_tools.documents import Upload
from ci_tools.errors import KubeflowError, UploadConflictError
from ci_tools.kubeflow import api, check_names, ir

_SIZE_LIMIT = 32 << 20  # bytes that the server takes


class Versions:
    """The pipelines of one namespace, through an open connection."""

    def __init__(self, settings: config.KubeflowServer, connection: api.Api) -> None:
        self._settings, self._api = settings, connection

    def upload(
        self, name: str, ir_path: Path, *, sha256: str, version: str, description: str
    ) -> Upload:
        """See `Kubeflow.upload`.

        The pipeline is created empty and then gets the version, instead of the
        SDK's way of a first version that bears the pipeline's name.
        """
        check_names(name, version)
        one = ir.load(ir_path)
        if ir.canonical_sha256(one) != sha256:
            raise KubeflowError(
                f"{ir_path} changed since it was compiled", "Run the 'compile' stage again"
            )
        if ir_path.stat().st_size > _SIZE_LIMIT:
            raise KubeflowError(
                f"{ir_path} is larger than the 32 MB that Kubeflow takes", "Split the pipeline"
            )
        pipeline_id = self._pipeline_id(name, ir.description(one))
        created = True
        try:
            found = self._api.ask(
                self._api.uploads.upload_pipeline_version_with_http_info,
                str(ir_path),
                name=version,
                pipelineid=pipeline_id,
                description=description,
            )
        except api.Conflict:
            found, created = self._same_version(name, pipeline_id, version, sha256), False
        version_id = str(found.pipeline_version_id)
        return Upload(
            pipeline_id=pipeline_id,
            version_id=version_id,
            version=version,
            sha256=sha256,
            created=created,
            url=api.page(self._settings, f"pipelines/details/{pipeline_id}/version/{version_id}"),
        )

    def spec(self, pipeline: str, upload: Upload) -> ir.Ir:
        """What the server would run. Raises KubeflowError unless it is what was uploaded."""
        found = self._api.ask(
            self._api.pipelines.pipeline_service_get_pipeline_version_with_http_info,
            upload.pipeline_id,
            upload.version_id,
        )
        one = ir.from_server(found.pipeline_spec, f"{pipeline} version {upload.version}")
        if ir.canonical_sha256(one) != upload.sha256:
            raise KubeflowError(
                f"Kubeflow's version '{upload.version}' of '{pipeline}' is not what was uploaded",
                "Run the 'upload' stage again",
            )
        return one

    def _pipeline_id(self, name: str, description: str) -> str:
        """The pipeline's id in our namespace; it is created if it is not there."""
        lookup = self._api.pipelines.pipeline_service_get_pipeline_by_name_with_http_info
        create = self._api.pipelines.pipeline_service_create_pipeline_with_http_info
        where = {"namespace": self._settings.namespace} if self._settings.namespace else {}
        try:
            return api.identity(self._api.ask(lookup, name, **where), "pipeline_id")
        except api.NotFound:
            pass
        body = {"name": name, "display_name": name, "description": description, **where}
        try:
            return api.identity(self._api.ask(create, body), "pipeline_id")
        except api.Conflict:  # somebody else was faster
            return api.identity(self._api.ask(lookup, name, **where), "pipeline_id")

    def _same_version(self, name: str, pipeline_id: str, version: str, sha256: str) -> Any:
        """The version of that name. Raises UploadConflictError if it is another pipeline.

        The parsed specs are compared: the server writes YAML anew.
        """
        listing = self._api.pipelines.pipeline_service_list_pipeline_versions_with_http_info
        for found in self._api.pages(listing, "pipeline_versions", pipeline_id):
            if version in (found.name, found.display_name):
                theirs = ir.from_server(found.pipeline_spec, f"{name} version {version}")
                if ir.canonical_sha256(theirs) == sha256:
                    return found
                break
        raise UploadConflictError(
            f"Kubeflow holds another pipeline as '{name}' version '{version}'",
            "Commit the change, so that it gets a version name of its own",
        )
