"""K3: API calls for uploading 20 pipelines again, against the fake API server.

Calls are counted, nothing is timed. The peer is the SDK's own way of putting a
pipeline there under a commit's name: `get_pipeline_id`, then `upload_pipeline`
or `upload_pipeline_version`, which know no namespace.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from measure import Table, at_most
from shared import Bench

from ci_tools import config
from ci_tools.documents import Source
from ci_tools.kubeflow import ir, version_name
from ci_tools.kubeflow.server import KubeflowServer
from ci_tools.kubeflow.wanted import Wanted
from tests.fakes.kubeflow import FakeKubeflow, serve

PIPELINES = 20
ONE_PIPELINE = """\
components: {{comp-go: {{executorLabel: exec-go}}}}
deploymentSpec: {{executors: {{exec-go: {{container: {{image: "r/go@sha256:{digest}"}}}}}}}}
pipelineInfo: {{name: p-{number}}}
root: {{dag: {{tasks: {{go: {{componentRef: {{name: comp-go}}}}}}}}}}
schemaVersion: 2.1.0
"""
Upload = Callable[[FakeKubeflow, Sequence[Path], str], None]


def run(bench: Bench) -> Table:
    table = Table(f"K3: API calls to upload {PIPELINES} pipelines (fake API server)")
    paths = [bench.scratch / f"k3-{number}.yaml" for number in range(PIPELINES)]
    first, second = "1" * 40, "2" * 40  # commits
    sides: dict[str, dict[str, tuple[int, int]]] = {}
    for side, upload in {"ours": ours, "sdk": sdk}.items():
        with serve(FakeKubeflow(page_size=200)) as fake:
            write(paths, "a")
            sides[side] = {"new": asked(fake, upload, paths, first)}
            sides[side]["one"] = asked(fake, upload, paths[:1], second)
            sides[side]["all"] = asked(fake, upload, paths, second[:-1] + "3")
            write(paths[:1], "b")
            sides[side]["changed"] = asked(fake, upload, paths, second[:-1] + "4")
    titles = {
        "new": "all new",
        "all": "all unchanged, another commit",
        "changed": "one of them changed, another commit",
    }
    for what, title in titles.items():
        (mine, my_versions), (theirs, their_versions) = sides["ours"][what], sides["sdk"][what]
        row = f"{title}: calls (new versions)"
        peer = f"{theirs} ({their_versions})"
        table.add(row, f"{mine} ({my_versions})", peer, f"{mine / theirs:.2f}", None)
    growth = {
        side: (calls["all"][0] - calls["one"][0]) / (PIPELINES - 1) for side, calls in sides.items()
    }
    table.add(
        "one more unchanged pipeline: calls",
        f"{growth['ours']:.2f}",
        f"{growth['sdk']:.2f}",
        f"{growth['ours'] / growth['sdk']:.2f}",
        at_most(1),
        growth["ours"],
    )
    fixed = sides["ours"]["one"][0] - growth["ours"]
    table.notes.append(
        f"Ours makes {fixed:.0f} calls more, however many pipelines there are: the connection's, "
        "and one that finds up to 40 pipelines by their names."
    )
    return table


def asked(
    fake: FakeKubeflow, upload: Upload, paths: Sequence[Path], commit: str
) -> tuple[int, int]:
    """Calls that an upload by a new process makes, and the versions that it adds."""
    calls, versions = len(fake.requests), len(fake.versions)
    upload(fake, paths, commit)
    return len(fake.requests) - calls, len(fake.versions) - versions


def ours(fake: FakeKubeflow, paths: Sequence[Path], commit: str) -> None:
    server = KubeflowServer(config.KubeflowServer(endpoint=fake.endpoint, namespace="team"))
    wanted = []
    for path in paths:
        sha256 = ir.canonical_sha256(ir.load(path))
        version = version_name(Source(commit=commit), sha256)
        wanted.append(Wanted(path.stem, path, sha256, version))
    server.upload_all(wanted)


def sdk(fake: FakeKubeflow, paths: Sequence[Path], commit: str) -> None:
    import kfp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client = kfp.Client(host=fake.endpoint)
    for path in paths:
        identity = client.get_pipeline_id(path.stem)
        if identity is None:
            client.upload_pipeline(str(path), path.stem)
        else:
            client.upload_pipeline_version(str(path), commit[:12] + commit[-1], identity)


def write(paths: Sequence[Path], content: str) -> None:
    for number, path in enumerate(paths):
        path.write_text(ONE_PIPELINE.format(number=number, digest=content * 64))
