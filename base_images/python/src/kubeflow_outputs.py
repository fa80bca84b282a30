"""Tell Kubeflow what a component's output artifacts are.

A template passes `--executor-input` with `{{$}}`, which Kubeflow replaces with a
kfp `ExecutorInput` message (pipeline_spec.proto) in JSON. It names the file in
which a container may answer with an `ExecutorOutput` message. That answer is
needed twice over: it is the only way to give an artifact metadata, such as a
metric's value, and `kfp.local` (2.17) knows no artifact of a container without
it, where a cluster takes all that the template declares.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--executor-input`, which may be left out to run without Kubeflow."""
    parser.add_argument("--executor-input", help="what Kubeflow puts in place of {{$}}")


def record(
    executor_input: str | None, metadata: Mapping[str, Mapping[str, object]] | None = None
) -> None:
    """Write the executor output for every declared artifact, if Kubeflow asked.

    metadata: artifact -> its metadata, as JSON values.
    Raises KeyError for metadata of an artifact that the template does not declare.
    """
    if executor_input is None:
        return
    outputs = json.loads(executor_input)["outputs"]
    described = {}
    for name, listed in outputs.get("artifacts", {}).items():
        (artifact,) = listed["artifacts"]
        described[name] = {key: artifact[key] for key in ("name", "uri") if key in artifact}
    for name, values in (metadata or {}).items():
        described[name]["metadata"] = dict(values)
    answer = {"artifacts": {name: {"artifacts": [item]} for name, item in described.items()}}
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(answer))
