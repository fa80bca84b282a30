"""Kubeflow as a real API server (v2beta1), through `kfp.Client`.

What the SDK's own helpers get wrong for CI is done here: look-ups with a
namespace, idempotent uploads, runs of a named version only, and a waiter that
knows every state.

v2beta1 offers no way to read a run's output parameters, metrics or artefacts:
task details hold ids of a metadata store that the API does not serve. `outputs`,
`metrics` and `artifacts` of a run are therefore empty here.
"""

from __future__ import annotations

import threading
from pathlib import Path

from ci_tools import config
from ci_tools.documents import Json, Run, Upload
from ci_tools.kubeflow import api
from ci_tools.kubeflow.progress import Watch, nobody
from ci_tools.kubeflow.runs import Runs
from ci_tools.kubeflow.versions import Versions


class KubeflowServer:
    """Satisfies `ci_tools.kubeflow.Kubeflow`.

    token:    bearer token, "" for none.
    poll:     seconds between two looks at a run: at first, and at most.
    patience: seconds that the server may be away before a call is given up.
    leave_runs: a run goes on when we are interrupted, instead of being cancelled.
    """

    def __init__(
        self,
        settings: config.KubeflowServer,
        *,
        token: str = "",
        poll: tuple[float, float] = (1.0, 15.0),
        patience: float = 60.0,
        leave_runs: bool = False,
    ) -> None:
        self._settings, self._token = settings, token
        self._poll, self._patience, self._leave_runs = poll, patience, leave_runs
        self._connection: api.Api | None = None
        self._connecting = threading.Lock()  # several tests launch at once

    @property
    def _api(self) -> api.Api:
        with self._connecting:
            if self._connection is None:
                self._connection = api.connect(self._settings, self._token, self._patience)
            return self._connection

    def upload(
        self, name: str, ir_path: Path, *, sha256: str, version: str, description: str
    ) -> Upload:
        """See `Kubeflow.upload`."""
        return Versions(self._settings, self._api).upload(
            name, ir_path, sha256=sha256, version=version, description=description
        )

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
        """See `Kubeflow.launch`. Interrupted, it lets go of the run before it ends."""
        one = Versions(self._settings, self._api).spec(pipeline, upload)
        runs = Runs(
            self._settings,
            self._api,
            self._poll,
            patience=self._patience,
            leave=self._leave_runs,
        )
        return runs.launch(
            pipeline,
            upload,
            one,
            parameters=parameters,
            job_name=job_name,
            timeout=timeout,
            log=log,
            watch=watch,
        )
