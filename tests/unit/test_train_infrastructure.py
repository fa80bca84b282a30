"""Whose doing a failed task is. The texts are real, from the threads beside them.

k8s: kubernetes/kubernetes, argo: argoproj/argo-workflows, kfp: kubeflow/pipelines.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.kubeflow.infrastructure import reason

OURS = [
    "pod deleted",  # argo #2901, #9880
    "Pod was terminated due to imminent node shutdown",  # kfp #8381
    "Pod was terminated in response to imminent node shutdown.",  # k8s #104798
    "Node is shutting, evicting pods",  # k8s #102820
    "Pod Node is in progress of shutting down, not admitting any new pods",  # k8s #102840
    "The node was low on resource: ephemeral-storage. Container wait was using 60Ki, "
    "which exceeds its request of 0. ",  # argo #8526
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 312Ki. "
    "Container main was using 6304044Ki, request is 0, has larger consumption of memory. ",
    "Pod was rejected: The node had condition: [DiskPressure]. ",  # argo #12572
    "Pod Node didn't have enough resource: pods",  # argo #9748
    "Preempted in order to admit critical pod",  # k8s pkg/kubelet/preemption/preemption.go
    "Node gke-pool-1 which was running pod train-1 is unresponsive",  # k8s pkg/util/node/node.go
    'Error (exit code 1): Post "https://10.0.0.1:443/apis/argoproj.io/v1alpha1/namespaces/'
    'me/workflowtaskresults": dial tcp 10.0.0.1:443: i/o timeout',  # kubeflow/kubeflow #7161
    "etcdserver: request timed out",  # argo util/errors/errors.go
    'ImagePullBackOff: Back-off pulling image "r/a@sha256:0": ErrImagePull: failed to pull and '
    'unpack image "r/a@sha256:0": failed to resolve reference "r/a@sha256:0": failed to do '
    'request: Head "https://r/v2/a/manifests/sha256:0": dial tcp 199.96.61.1:443: connect: '
    "connection timed out",  # apecloud/kubeblocks #9169
    'Failed to pull image "busybox": rpc error: code = Unknown desc = Error response from '
    "daemon: Get https://registry-1.docker.io/v2/: net/http: TLS handshake timeout",  # k8s #107340
]

LAUNCHER = [
    "F0221 07:45:04.241460      18 main.go:49] failed to execute component: unable to produce "
    'MLMD artifact for output "metrics": rpc error: code = Unavailable desc = error reading '
    "from server: read tcp 10.197.0.233:37640->10.198.43.0:8080: read: connection reset by peer",
    "F0925 14:28:11.058914      42 main.go:49] failed to execute component: failed to create "
    'task: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while '
    'dialing: dial tcp 10.96.183.202:8887: connect: connection refused"',
    "F0614 17:22:43.063393      18 main.go:74] KFP driver: driver.RootDAG(pipelineName=p, "
    'runID=8aa7dfc3, runtimeConfig, componentSpec) failed: Failed PutContext(name="8aa7dfc3", '
    'type="system.PipelineRun", typeid=16): rpc error: code = Unavailable desc = error reading '
    "from server: EOF",
]  # kfp #11660, #11252, #7893

THEIRS = [
    "",
    "Error (exit code 1)",
    "Error (exit code 137)",  # argo #3374: a lost spot node, or a step that takes too much
    "OOMKilled (exit code 137)",  # argo #8456
    "main: Error (exit code 3)",
    "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
    'Container main exceeded its local ephemeral storage limit "1Gi". ',
    'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ',
    "Step exceeded its deadline",
    'ImagePullBackOff: Back-off pulling image "preprocess:1"',  # kubeflow/examples #856
    'ErrImagePull: failed to pull and unpack image "r/a:1": failed to resolve reference "r/a:1": '
    "r/a:1: not found",
    "ErrImagePull: pull access denied for r/a, repository does not exist: unauthorized",
    "child 'enroll-server-zd4mr-3808326199' failed",
    "ValueError: connection refused by the data base",
]


@pytest.mark.parametrize("message", OURS)
def test_the_infrastructure(message: str) -> None:
    assert reason(message)


@pytest.mark.parametrize("line", LAUNCHER)
def test_kubeflows_own_launcher_and_driver(line: str) -> None:
    log = ["I0221 07:45:04.1 18 main.go:40] starting", line, "Error: exit status 1"]
    assert reason("Error (exit code 1)", log) == "Kubeflow's own services did not answer it"


@pytest.mark.parametrize("message", THEIRS)
def test_a_step_of_the_user(message: str) -> None:
    assert reason(message) is None


@pytest.mark.parametrize(
    "line",
    [
        "F0221 07:45:04.241460 18 main.go:49] failed to execute component: exit status 1",
        "rpc error: code = Unavailable desc = the user's own database is away",
        "print: F0221 07:45:04.241460 18 main.go:49] failed to execute component: "
        "rpc error: code = Unavailable",
        "pod deleted",  # what a step prints is not what the cluster says
        "The node was low on resource: memory",
    ],
)
def test_what_a_step_prints_does_not_excuse_it(line: str) -> None:
    assert reason("Error (exit code 1)", [line]) is None


def test_a_step_that_took_too_much_is_not_excused_by_its_node() -> None:
    assert reason("OOMKilled (exit code 137); The node was low on resource: memory.") is None


@given(st.integers(0, 255), st.text(max_size=30))
def test_no_exit_code_is_the_infrastructures(code: int, output: str) -> None:
    assert reason(f"Error (exit code {code})", [output]) is None
