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
from collections.abc import Sequence
from pathlib import Path

from ci_tools import config
from ci_tools.documents import Json, Run, Upload
from ci_tools.kubeflow import api, auth
from ci_tools.kubeflow.inventory import ServerInventory
from ci_tools.kubeflow.progress import Watch, nobody
from ci_tools.kubeflow.runs import Runs
from ci_tools.kubeflow.versions import Versions
from ci_tools.kubeflow.wanted import Wanted


class KubeflowServer:
    """Satisfies `ci_tools.kubeflow.Kubeflow`.

    credentials: who asks; by default what the settings declare.
    poll:        seconds between two looks at a run: at first, and at most.
    patience:    seconds that the server may be away before a call is given up.
    """

    def __init__(
        self,
        settings: config.KubeflowServer,
        *,
        credentials: auth.Credentials | None = None,
        poll: tuple[float, float] = (1.0, 15.0),
        patience: float = 60.0,
    ) -> None:
        self._settings, self._credentials = settings, credentials or auth.chosen(settings)
        self._poll, self._patience = poll, patience
        self._connection: api.Api | None = None
        self._connecting = threading.Lock()

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
    ) -> Run:
        """See `Kubeflow.launch`. Interrupted, it terminates the run before it ends."""
        one = Versions(self._settings, self._api).spec(pipeline, upload)
        return Runs(self._settings, self._api, self._poll).launch(
            pipeline,
            upload,
            one,
            parameters=parameters,
            job_name=job_name,
            timeout=timeout,
            log=log,
            watch=watch,
        )
