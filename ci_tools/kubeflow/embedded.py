"""Kubeflow on this machine: a catalogue of versions, and runs on its engine.

The rules are the API server's (names, uniqueness, a version never changes), so
that what works here works there. Nothing of a server is imitated beyond that:
one user, one namespace, no experiments, no cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from ci_tools.documents import Artifact, Json, Run, Upload
from ci_tools.errors import EngineError, KubeflowError, WriteError
from ci_tools.kubeflow import arguments, child, containers, events, ir
from ci_tools.kubeflow.catalogue import Catalogue
from ci_tools.kubeflow.progress import Announce, Watch, nobody, unannounced
from ci_tools.kubeflow.runlog import RunLog
from ci_tools.kubeflow.wanted import Wanted

_CHUNK = 1 << 20
_STOPPED = frozenset({-2, -9, -15, 130, 143})


class EmbeddedKubeflow:
    """Satisfies `ci_tools.kubeflow.Kubeflow`.

    home:     where everything is kept.
    parallel: steps of a run that run at once; by default as many as there are
              processors, and two at least, for branches can wait for each other.
    """

    def __init__(self, home: Path, *, parallel: int | None = None) -> None:
        self._home = home.absolute()
        self._catalogue = Catalogue(self._home / "catalogue")
        self._parallel = parallel or max(2, os.cpu_count() or 1)

    def upload(self, wanted: Wanted) -> Upload:
        """See `Kubeflow.upload`."""
        return self._catalogue.upload(wanted)

    def upload_all(self, wanted: Sequence[Wanted]) -> list[Upload]:
        """See `Kubeflow.upload_all`."""
        return [self._catalogue.upload(one) for one in wanted]

    def inventory(self) -> Catalogue:
        """See `Kubeflow.inventory`."""
        return self._catalogue

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
        """See `Kubeflow.launch`. What runs is the catalogue's copy, not the build's.

        `watch` is called from a thread of its own.
        """
        path = self._catalogue.path(upload.pipeline or pipeline, upload.version)
        one = ir.load(path)
        if ir.canonical_sha256(one) != upload.sha256:
            raise KubeflowError(
                f"the catalogue's {path} is not what was uploaded", "Run the 'upload' stage again"
            )
        declared = ir.parameters(one)
        given = arguments.checked(pipeline, declared, parameters)
        effective = arguments.with_defaults(declared, given)
        run_id = str(uuid.uuid4())
        root = self._home / "artifacts" / run_id
        try:
            root.mkdir(parents=True)
        except OSError as error:
            raise WriteError(
                f"{root} could not be made ({error.strerror})",
                "Free some disk space or mend the permissions, then run the stage again",
            ) from error
        RunLog(log).tell(f"run {run_id} ({job_name}) of {pipeline} version {upload.version}")
        request = {
            "ir_path": str(path),
            "run_id": run_id,
            "root": str(root),
            "cluster": str(self._home / "cluster"),
            "arguments": effective,
            "user": f"{os.getuid()}:{os.getgid()}",
            "parallel": self._parallel,
            "log": str(log.absolute()),
        }
        run = Run(
            pipeline=pipeline,
            run_id=run_id,
            version_id=upload.version_id,
            state="FAILED",
            parameters=effective,
            url=root.as_uri(),
            log=str(log),
        )
        announce(run)
        # An earlier run's task logs would be taken for this one's.
        shutil.rmtree(log.with_suffix(".tasks"), ignore_errors=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="kfp-ci-run-") as directory:
            told = Path(directory, "events")
            try:
                with events.following(told, watch):
                    finished, answer = child.ask(
                        "run", {**request, "events": str(told)}, timeout=timeout
                    )
            finally:
                containers.remove_all(run_id)  # a killed child could not
        run.seconds = round(time.monotonic() - started, 3)
        if answer is not None:
            if "engine" in answer:
                raise EngineError(
                    f"no Docker engine answers ({answer['engine']})", "Start Docker", log=log
                )
            if "refused" in answer:
                raise KubeflowError(
                    f"pipeline '{pipeline}' cannot be run on this machine ({answer['refused']})",
                    "Change the pipeline, or run it on a cluster",
                    log=log,
                )
            run.state, run.message = answer["state"], answer["message"]
            run.outputs, run.metrics = answer["outputs"], answer["metrics"]
            run.artifacts = {name: _artifact(it) for name, it in answer["artifacts"].items()}
        elif finished.returncode is None:
            run.state, run.message = "TIMEOUT", f"stopped after {timeout:.0f} seconds"
        elif finished.returncode in _STOPPED:
            run.state, run.message = "CANCELED", "stopped from outside"
        else:
            raise KubeflowError(
                f"the process that runs '{pipeline}' broke (exit code {finished.returncode})",
                "Read the log; this is a defect of this tool or of kfp",
                log=log,
            )
        return run


def _artifact(found: dict[str, str]) -> Artifact:
    """The artefact as it lies on this machine; None for a directory's or a missing file's hash."""
    path = Path(found["path"])
    if not path.is_absolute():  # an importer's remote URI
        return Artifact(uri=found["path"], type=found["type"])
    return Artifact(
        uri=path.as_uri(), type=found["type"], sha256=_sha256(path) if path.is_file() else None
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
