"""Whether a task failed for a reason of the infrastructure, which may pass. Pure.

What is recognised is what the kubelet, Argo's controller and Kubeflow's own driver
and launcher say of a pod that they lost, from their sources and from what people
reported to their projects; the tests hold the texts with where they come from.
Whatever is not recognised is the pipeline's own failure: a second run of it would
hide a defect, or cost hours to fail alike. So are an exit code alone (137 may be
a lost node, and is more often a step that takes too much memory), a container that
was OOMKilled, and a step that exceeds its own limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ci_tools.images.transient import transient

# The step's own limits, though the kubelet evicts the pod for them too.
_OWN = re.compile(
    r"""
      OOMKilled
    | exceeded\ its\ local\ ephemeral\ storage\ limit
    | ephemeral\ local\ storage\ usage\ exceeds
    | usage\ of\ EmptyDir\ volume\ .*\ exceeds
    | DeadlineExceeded | active\ on\ the\ node\ longer\ than\ the\ specified\ deadline
    | step\ exceeded\ (?:its|workflow)\ deadline
    """,
    re.I | re.X,
)

_LOST = (
    ("its pod was deleted", re.compile(r"\bpod deleted\b", re.I)),
    (
        "its node was shut down",
        re.compile(
            r"""
              imminent\ node\ shutdown | in\ response\ to\ node\ shutdown
            | node\ is\ shutting | node\ is\ in\ progress\ of\ shutting\ down | \bNodeShutdown\b
            """,
            re.I | re.X,
        ),
    ),
    (
        "its node ran short of memory or disk",
        re.compile(r"the node was low on resource|the node had condition: \[", re.I),
    ),
    (
        "it was preempted",
        re.compile(r"preempted (?:in order to admit|by)|PreemptionByScheduler|preempting: ", re.I),
    ),
    (
        "its node was lost",
        re.compile(
            r"""
              \bNodeLost\b | which\ was\ running\ pod\ \S+\ is\ unresponsive
            | DeletionByTaintManager | DeletionByPodGC | no\ longer\ bound\ to\ any\ node
            """,
            re.I | re.X,
        ),
    ),
    (
        "its node did not admit it",
        re.compile(
            r"node didn't have enough (?:resource|capacity)|UnexpectedAdmissionError"
            r"|\bOutOf(?:cpu|memory|pods|ephemeral-storage)\b",
            re.I,
        ),
    ),
    ("its pod was evicted", re.compile(r"\bEvicted\b|\bEvictionByEvictionAPI\b")),
    (
        "Argo could not reach the cluster's API",
        re.compile(
            r"/apis/argoproj\.io/\S+:\ (?:dial\ tcp|net/http:|read\ tcp|EOF|http2:|context\ dead)"
            r"|etcdserver:\ (?:leader\ changed|request\ timed\ out|too\ many\ requests)",
            re.X,
        ),
    ),
)
_PULL = re.compile(r"ErrImagePull|ImagePullBackOff|failed to pull (?:and unpack )?image", re.I)

# klog's header, then what only Kubeflow's launcher and driver say. The launcher speaks
# of the step's own failure in the same way: "... exit status 1".
_OURS = re.compile(
    r"^[EF]\d{4} [\d:.]+\s+\d+ main\.go:\d+\] "
    r"(?:failed to execute component|KFP driver): (?P<why>.*)"
)
_AWAY = re.compile(r"rpc error: code = (?:Unavailable|DeadlineExceeded)\b")


def reason(message: str, lines: Sequence[str] = ()) -> str | None:
    """Why a task failed, if that was the infrastructure's doing, in words; or None.

    message: what the cluster says of it (Argo's node message, the pod's reason).
    lines:   the last lines of its log, where the launcher's own words are looked for.
    """
    if _OWN.search(message):
        return None
    for words, pattern in _LOST:
        if pattern.search(message):
            return words
    if _PULL.search(message) and transient(message):
        return "its image could not be pulled just then"
    for line in lines:
        said = _OURS.match(line)
        if said and _AWAY.search(said["why"]):
            return "Kubeflow's own services did not answer it"
    return None
