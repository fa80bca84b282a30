"""Kubeflow as a real API server (v2beta1), through `kfp.Client`.

What the SDK's own helpers get wrong for CI is done here: look-ups with a
namespace, idempotent uploads, runs of a named version only, and a waiter that
knows every state.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ci_tools import config
from ci_tools.documents import Json, Run, Upload
from ci_tools.kubeflow import api, auth, evidence
from ci_tools.kubeflow.inventory import ServerInventory
from ci_tools.kubeflow.progress import Announce, Watch, nobody, unannounced
from ci_tools.kubeflow.runs import Runs
from ci_tools.kubeflow.versions import Versions
from ci_tools.kubeflow.wanted import Wanted


class KubeflowServer:
    """Satisfies `ci_tools.kubeflow.Kubeflow`.

    credentials: who asks; by default what the settings declare.
    poll:        seconds between two looks at a run: at first, and at most.
    patience:    seconds that the server may be away before a call is given up.
    leave_runs:  a run goes on when we are interrupted, instead of being cancelled.
    """

    def __init__(
        self,
        settings: config.KubeflowServer,
        *,
        credentials: auth.Credentials | None = None,
        poll: tuple[float, float] = (1.0, 15.0),
        patience: float = 60.0,
        leave_runs: bool = False,
    ) -> None:
        self._settings, self._credentials = settings, credentials or auth.chosen(settings)
        self._poll, self._patience, self._leave_runs = poll, patience, leave_runs
        self._connection: api.Api | None = None
        self._connecting = threading.Lock()  # several tests launch at once

    @property
    def _api(self) -> api.Api:
        with self._connecting:
            if self._connection is None:
                self._connection = api.connect(self._settings, self._credentials, self._patience)
            return self._connection

    def upload(self, wanted: Wanted) -> Upload:
        """See `Kubeflow.upload`."""
        return self.upload_all([wanted])[0]

    def upload_all(self, wanted: Sequence[Wanted]) -> list[Upload]:
        """See `Kubeflow.upload_all`."""
        if not wanted:
            return []
        return Versions(self._settings, self._api).upload_all(wanted)

    def inventory(self) -> ServerInventory:
        """See `Kubeflow.inventory`."""
        return ServerInventory(self._settings, self._api)

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
        """See `Kubeflow.launch`. Interrupted, it lets go of the run before it ends."""
        one = Versions(self._settings, self._api).spec(pipeline, upload)
        runs = Runs(
            self._settings,
            self._api,
            self._poll,
            patience=self._patience,
            leave=self._leave_runs,
            outcome=evidence.outcome,
            logs=partial(evidence.logs, namespace=self._settings.namespace or ""),
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
            announce=announce,
        )
