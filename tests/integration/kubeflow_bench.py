"""Pipelines of tiny container steps, compiled by kfp and run by the embedded Kubeflow."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools.documents import Run
from ci_tools.kubeflow import containers, ir
from ci_tools.kubeflow.embedded import EmbeddedKubeflow
from ci_tools.kubeflow.progress import Watch, nobody
from ci_tools.kubeflow.wanted import Wanted
from tests.integration.repositories import image_names

_APPLETS = "sh cat echo sleep id env mkdir dirname printf false sed touch ls wc rm dd sort".split()


def image(engine: Any, repository: str, changes: list[str]) -> Iterator[str]:
    """A static busybox by digest, in the registry and not on the engine."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("/bin/busybox (package busybox-static) is not installed")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("bin", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    engine.api.import_image_from_data(
        layer.getvalue(), repository=repository, tag="t", changes=changes or None
    )
    for line in engine.api.push(repository, tag="t", stream=True, decode=True):
        assert "error" not in line, line
    (reference,) = [
        it
        for it in engine.images.get(f"{repository}:t").attrs["RepoDigests"]
        if it.startswith(repository)
    ]
    engine.images.remove(f"{repository}:t", force=True)
    yield reference
    for name in image_names(f"{repository}@"):
        engine.images.remove(name, force=True)


_HEADER = """\
from kfp import components, dsl
IMAGE = {image!r}

def step(name, script, inputs="", outputs="", extra=""):
    return components.load_component_from_text(f'''
name: {{name}}
inputs: [{{inputs}}]
outputs: [{{outputs}}]
implementation:
  container:
    image: {{IMAGE}}
    command: [sh, -c, {{script!r}}{{extra}}]
''')

"""


def wanted(path: Path, version: str) -> Wanted:
    return Wanted("it", path, ir.canonical_sha256(ir.load(path)), version)


class Bench:
    """Compiles a pipeline with kfp's own compiler, uploads and runs it."""

    def __init__(self, directory: Path, engine: Any, parallel: int | None = None) -> None:
        self.directory, self.engine = directory, engine
        self.kubeflow = EmbeddedKubeflow(directory / "home", parallel=parallel)
        self.log = directory / "logs" / "run.log"

    def compile(self, image: str, body: str) -> Path:
        source = self.directory / "source.py"
        source.write_text(
            _HEADER.format(image=image)
            + body
            + "\nfrom kfp import compiler\ncompiler.Compiler().compile(it, 'it.yaml')\n"
        )
        subprocess.run([sys.executable, source], cwd=self.directory, check=True)
        return self.directory / "it.yaml"

    def run(
        self,
        image: str,
        body: str,
        timeout: float = 600,
        watch: Watch = nobody,
        **parameters: Any,
    ) -> Run:
        path = self.compile(image, body)
        version = f"v1.{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
        upload = self.kubeflow.upload(wanted(path, version))
        run = self.kubeflow.launch(
            "it",
            upload,
            parameters=parameters,
            job_name="test",
            timeout=timeout,
            log=self.log,
            watch=watch,
        )
        assert self.left_behind(run.run_id) == []
        return run

    def left_behind(self, run_id: str) -> list[Any]:
        return list(
            self.engine.containers.list(
                all=True, filters={"label": f"{containers.LABEL}={run_id}"}, ignore_removed=True
            )
        )

    def workspace(self) -> Path:
        """`/kfp-workspace` of the only run so far."""
        (found,) = (self.directory / "home" / "artifacts").glob("*/.workspace")
        return found
