"""Kubeflow Pipelines: compile, upload, run; a server or this machine's engine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

from ci_tools.config import Environment
from ci_tools.documents import Json, Run, Source, Upload
from ci_tools.errors import ConfigError
from ci_tools.kubeflow.progress import Watch, nobody

VERSION_NAME_LIMIT = 127  # of the API server, in characters
PIPELINE_NAME_LIMIT = 128
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Kubeflow(Protocol):
    """What the stages need of Kubeflow, the same on a server and embedded."""

    def upload(
        self, name: str, ir_path: Path, *, sha256: str, version: str, description: str
    ) -> Upload:
        """Make `version` of pipeline `name` be this IR; a second time changes nothing.

        sha256: `ir.canonical_sha256` of the file.

        Raises UploadConflictError when the version exists with another spec,
        KubeflowError or CredentialsError when Kubeflow does not take it.
        """

    def launch(
        self,
        pipeline: str,
        upload: Upload,
        *,
        parameters: Json,
        job_name: str,
        timeout: float,
        log: Path,
        watch: Watch = nobody,
    ) -> Run:
        """Run exactly the uploaded version and wait for its end.

        timeout: seconds, after which the run is stopped (state TIMEOUT).
        log:     the file that the run's story is written to, as it happens.
        watch:   is told how far the tasks are.

        A failed run is returned, not raised: its state tells. Raises
        ConfigError for wrong parameters, before anything starts,
        InterruptedRunError once this process is stopping, and KubeflowError,
        CredentialsError or EngineError when what would run it cannot be reached.
        """


def connect(environment: Environment, home: Path, *, leave_runs: bool = False) -> Kubeflow:
    """The Kubeflow of an environment; embedded where it names no server.

    home: directory for the catalogue and artefacts of the embedded one.
    leave_runs: a server's runs go on when we are interrupted, instead of being cancelled.
    Asks nobody yet. Raises ConfigError when the CA bundle is not there.
    """
    server = environment.kubeflow
    if server is None:
        from ci_tools.kubeflow.embedded import EmbeddedKubeflow

        return EmbeddedKubeflow(home)
    if server.ca_bundle is not None and not Path(server.ca_bundle).is_file():
        raise ConfigError(
            f"kubeflow.ca_bundle '{server.ca_bundle}' is not a file",
            "Give the path of a PEM bundle in ci.yaml",
        )
    from ci_tools.kubeflow.server import KubeflowServer

    return KubeflowServer(server, token=os.environ.get(server.token_env, ""), leave_runs=leave_runs)


def version_name(source: Source, sha256: str) -> str:
    """A version's name: where it comes from and what it is.

    The hash makes it true even of a dirty tree or outside git: one name can
    never stand for two pipelines.
    """
    commit = source.commit[:12] if source.commit else "local"
    return f"{commit}{'-dirty' if source.dirty else ''}-{sha256[:16]}"[:VERSION_NAME_LIMIT]


def check_names(pipeline: str, version: str) -> None:
    """Raises ConfigError for a name that the server would refuse, or that is a path."""
    for word, limit, kind in (
        (pipeline, PIPELINE_NAME_LIMIT, "pipeline"),
        (version, VERSION_NAME_LIMIT, "version"),
    ):
        if not _SAFE.fullmatch(word) or len(word) > limit:
            raise ConfigError(
                f"'{word}' is not a {kind} name",
                f"Use at most {limit} letters, digits, '.', '_' and '-'",
            )
