"""Kubeflow Pipelines: compile, upload, run; a server or this machine's engine.

Imports little: the process that compiles is one of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ci_tools.kubeflow.names import PIPELINE_NAME_LIMIT as PIPELINE_NAME_LIMIT
from ci_tools.kubeflow.names import VERSION_NAME_LIMIT as VERSION_NAME_LIMIT
from ci_tools.kubeflow.names import check_names as check_names
from ci_tools.kubeflow.names import version_name as version_name
from ci_tools.kubeflow.progress import Announce, Watch, nobody, unannounced

if TYPE_CHECKING:
    from ci_tools.config import Environment
    from ci_tools.documents import Json, Run, Upload
    from ci_tools.kubeflow.known import Inventory
    from ci_tools.kubeflow.wanted import Wanted


class Kubeflow(Protocol):
    """What the stages need of Kubeflow, the same on a server and embedded."""

    def upload(self, wanted: Wanted) -> Upload:
        """Make this version be there; a second time changes nothing. See `upload_all`."""

    def upload_all(self, wanted: Sequence[Wanted]) -> list[Upload]:
        """Make these versions be there, several at once; the results in their order.

        Where a version of the pipeline is this very IR, nothing is uploaded and
        that one is named: of the same name if there is one, else the newest.

        Raises UploadConflictError when a version or pipeline of that name is
        another's, FloatingScheduleError when a schedule would take a new version,
        ConfigError, KubeflowError or CredentialsError when Kubeflow does not take it.
        """

    def inventory(self) -> Inventory:
        """What is there, and a way to delete it."""

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
        announce: Announce = unannounced,
    ) -> Run:
        """Run exactly the uploaded version and wait for its end.

        timeout: seconds, after which the run is stopped (state TIMEOUT).
        log:     the file that the run's story is written to, as it happens.
        watch:   is told how far the tasks are.
        announce: is told of the run, with its link, before it is waited for.

        A failed run is returned, not raised: its state tells. Raises
        ConfigError for wrong parameters, before anything starts,
        InterruptedRunError once this process is stopping, and KubeflowError,
        CredentialsError or EngineError when what would run it cannot be reached.
        """


def connect(environment: Environment, home: Path, *, leave_runs: bool = False) -> Kubeflow:
    """The Kubeflow of an environment; embedded where it names no server.

    home: directory for the catalogue and artefacts of the embedded one.
    leave_runs: a server's runs go on when we are interrupted, instead of being cancelled.
    Asks nobody yet. Raises ConfigError when a certificate's file is not there.
    """
    server = environment.kubeflow
    if server is None:
        from ci_tools.kubeflow.embedded import EmbeddedKubeflow

        return EmbeddedKubeflow(home)
    from ci_tools.kubeflow import tls
    from ci_tools.kubeflow.server import KubeflowServer

    tls.files(server)
    return KubeflowServer(server, leave_runs=leave_runs)
