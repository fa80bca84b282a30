"""What people saw in their logs, and whether trying again would have helped them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.images.transient import transient

RESET = (
    "failed to solve: failed to copy: failed to do request: Put "
    '"https://cr.example.com/v2/blobhere": write tcp 172.17.0.2:48736->109.107.38.167:443: '
    "write: connection reset by peer"
)

AGAIN = {
    "moby/buildkit#2713": RESET,
    "docker/buildx#298": (
        "failed to solve: rpc error: code = Unknown desc = failed to copy: read tcp "
        "172.17.0.2:47038->173.194.214.128:443: read: connection reset by peer"
    ),
    "docker/buildx#367": (
        "failed to solve: rpc error: code = Unknown desc = failed to copy: failed to do "
        "request: Put "
        "https://registry-1.docker.io/v2/a/b/blobs/uploads/x?_state=X&digest=sha256%3AX: "
        "write tcp 172.17.0.3:41240->52.1.121.53:443: use of closed network connection"
    ),
    "docker/buildx#2139": (
        "ERROR: failed to solve: failed to do request: Post "
        '"https://111111111111.dkr.ecr.cn-north-1.amazonaws.com.cn/v2/a/b/blobs/uploads/": '
        "EOF"
    ),
    "docker/build-push-action#251": (
        "failed to solve: rpc error: code = Unknown desc = failed commit on ref "
        '"layer-sha256:7965e1fc3104": failed to do request: Put '
        "ghcr.io/v2/a/b/blobs/upload/x: read tcp 172.17.0.2:58002->140.82.113.33:443: read: "
        "connection timed out"
    ),
    "docker/build-push-action#498": (
        "error: failed to copy: failed to do request: Put "
        '"https://ghcr.io/v2/a/blobs/upload/x?digest=sha256...": write tcp '
        "172.17.0.2:54206->140.82.114.33:443: write: broken pipe"
    ),
    "docker/build-push-action#761": (
        "ERROR: failed to solve: failed to push ghcr.io/a/b:latest: failed to copy: io: "
        "read/write on closed pipe"
    ),
    "docker/buildx#2750": (
        "ERROR: failed to solve: dart:stable: failed to resolve source metadata for "
        "docker.io/library/dart:stable: failed to copy: httpReadSeeker: failed open: failed "
        "to do request: Get "
        '"https://registry-1.docker.io/v2/library/dart/manifests/sha256:b58becb694605": '
        "net/http: TLS handshake timeout"
    ),
    "docker/hub-feedback#1195": (
        "Error response from daemon: Get "
        "https://registry-1.docker.io/v2/library/ubuntu/manifests/latest: net/http: TLS "
        "handshake timeout."
    ),
    "docker/for-win#5983": (
        "Get https://registry:5000/v2/: net/http: request canceled while waiting for "
        "connection (Client.Timeout exceeded while awaiting headers)"
    ),
    "moby/buildkit#4327": ("ERROR: failed to solve: DeadlineExceeded: context deadline exceeded"),
    "docker-library/docker#192": "received unexpected HTTP status: 503 Service Unavailable",
    "moby/moby#17506": "Received unexpected HTTP status: 500 Internal Server Error",
    "docker/hub-feedback#1306": "received unexpected HTTP status: 500 Server Error",
    "moby/buildkit#2043": (
        "unexpected status from PUT request to https://r.example.com/v2/a/manifests/b: 504 "
        "Gateway Timeout"
    ),
    "terraform-provider-terrifi#50": (
        "toomanyrequests: retry-after: 985.86µs, allowed: 44000/minute"
    ),
    "docker/hub-feedback#2023": "Too Many Requests (HAP429)",
    "distribution/distribution#1930": "blob upload unknown",
    "distribution: BLOB_UPLOAD_INVALID": "blob upload invalid",
    "moby/moby#36823": "unknown blob",
    "moby/buildkit#3856": (
        'failed to push r/a: failed commit on ref "layer-sha256:5fc8839f3cb4": unexpected '
        "commit digest sha256:e58168ce66f4, expected sha256:5fc8839f3cb4: failed precondition"
    ),
    "oras-project/oras#303": (
        'failed commit on ref "abc": unexpected commit size 219714896, expected 246893452: '
        "failed precondition"
    ),
    "sjednac/sbt-ecr#20": (
        "denied: Your Authorization Token has expired. Please run 'aws ecr get-login' to "
        "fetch a new one."
    ),
    "ecs-bg-external-controller#13": (
        "denied: Your authorization token has expired. Reauthenticate and try again."
    ),
    "a registry that starts": (
        'Get "http://127.0.0.1:5100/v2/": dial tcp 127.0.0.1:5100: connect: connection refused'
    ),
    "go: io.ErrUnexpectedEOF": "unexpected EOF",
    "moby/moby: a name server that is away": (
        "dial tcp: lookup r.example.com on 127.0.0.53:53: read udp "
        "127.0.0.1:49023->127.0.0.53:53: i/o timeout"
    ),
    "go: net/http2": (
        "failed to copy: http2: server sent GOAWAY and closed the connection; "
        "LastStreamID=1999, ErrCode=NO_ERROR"
    ),
    "docker-py wraps what the engine says": (
        "500 Server Error for http+docker://localhost/v1.45/images/create?tag=1&fromImage=a: "
        'Internal Server Error ("Get "https://registry-1.docker.io/v2/": net/http: TLS '
        'handshake timeout")'
    ),
    "a name that means something else": (
        "failed to push r/certificate-service:v1: failed to do request: Post "
        '"https://r/v2/certificate-service/blobs/uploads/": EOF'
    ),
}

NEVER = {
    "ZhangYuanhan-AI/...#9": (
        "denied: User: arn:aws:iam::871259748386:root is not authorized to perform: "
        "ecr:InitiateLayerUpload on resource: arn:aws:ecr:us-west-2:692230297653:repository/a"
    ),
    "kciter/aws-ecr-action#1": "no basic auth credentials",
    "moby/buildkit#3776": (
        "ERROR: tag invalid: The image tag '1' already exists in the 'a' repository and "
        "cannot be overwritten because the repository is immutable."
    ),
    "docker/build-push-action#238": (
        "failed to solve: rpc error: code = Unknown desc = unexpected status: 403 Forbidden"
    ),
    "docker/buildx#327": "unexpected status: 401 Unauthorized",
    "docker/buildx#196": (
        "failed to solve: rpc error: code = Unknown desc = failed commit on ref "
        '"config-sha256:bed2be5d8b85": unexpected status: 404 Not Found'
    ),
    "medic/cht-core#9685": (
        "ERROR: failed to solve: failed to push 1.dkr.ecr.eu-west-2.amazonaws.com/a:b: "
        "unexpected status from HEAD request to "
        "https://1.dkr.ecr.eu-west-2.amazonaws.com/v2/a/blobs/sha256:268db4a4b80f: 403 "
        "Forbidden"
    ),
    "aws-actions/amazon-ecr-login#202": (
        "name unknown: The repository with name 'a' does not exist in the registry with id '1'"
    ),
    "zhaarey/wrapper#33": (
        "ERROR: failed to solve: builder: failed to resolve source metadata for "
        "docker.io/library/builder:latest: pull access denied, repository does not exist or "
        "may require authorization: server message: insufficient_scope: authorization failed"
    ),
    "docker/build-push-action#1349": (
        "ERROR: failed to solve: failed to push r/a:b: failed to authorize: failed to fetch "
        'anonymous token: Get "https://r/v2/token": tls: failed to verify certificate: x509: '
        "certificate signed by unknown authority"
    ),
    "a registry without TLS": (
        'failed to do request: Head "https://10.0.0.1:5000/v2/a/manifests/b": http: server '
        "gave HTTP response to HTTPS client"
    ),
    "moby: an image that is not there": (
        "manifest for a:b not found: manifest unknown: manifest unknown"
    ),
    "buildkit: a base that is not there": (
        "ERROR: failed to solve: a:b: docker.io/library/a:b: not found"
    ),
    "docker/build-push-action#993": (
        "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading "
        "from server: EOF"
    ),
    "no engine": (
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the "
        "docker daemon running?"
    ),
    "a full disk": (
        "failed to copy: write /var/lib/docker/tmp/x: no space left on device: unexpected EOF"
    ),
    "we stopped it": "ERROR: failed to solve: Canceled: context canceled",
    "a step": (
        'ERROR: failed to solve: process "/bin/sh -c pip install x" did not complete '
        "successfully: exit code: 1"
    ),
    "a step of an older BuildKit": (
        "failed to solve: rpc error: code = Unknown desc = executor failed running [/bin/sh "
        "-c curl https://x]: exit code: 56"
    ),
    "a step of the classic builder": (
        "The command '/bin/sh -c apt-get update' returned a non-zero code: 100"
    ),
    "docker-py's own status": (
        "500 Server Error for http+docker://localhost/v1.45/images/a/push: Internal Server "
        'Error ("Get "https://r/v2/": tls: failed to verify certificate: x509: unknown '
        'authority")'
    ),
    "a digest with the digits": "pushing sha256:5005030429 to r/a:502",
    "nothing": "",
    "a tag that means something else": (
        'failed to push r/a: Put "https://r/v2/a/manifests/502": nothing known'
    ),
}


@pytest.mark.parametrize("source", AGAIN)
def test_it_may_pass_by_itself(source: str) -> None:
    assert transient(AGAIN[source])


@pytest.mark.parametrize("source", NEVER)
def test_it_stays_as_it_is(source: str) -> None:
    assert not transient(NEVER[source])


def test_the_verdict_of_a_build_decides_and_not_what_steps_print() -> None:
    step = "#7 1.1 curl: (56) Recv failure: connection reset by peer\n#7 2.0 404 not found\n"
    failed = f'{step}------\nERROR: failed to solve: process "/bin/sh -c curl" did not complete '
    assert not transient(f"{failed}successfully: exit code: 56\n")
    assert transient(f"{step}#9 pushing layers\n------\nERROR: {RESET}\n")
    retried = f"#9 error: {RESET}\n#9 retrying in 1s\n"
    assert not transient(f"{retried}ERROR: failed to solve: unexpected status: 403 Forbidden\n")


@given(st.text(), st.text())
def test_a_failed_step_is_never_tried_again(before: str, after: str) -> None:
    step = f'process "{before}" did not complete successfully: exit code: 1'.replace("\n", " ")
    assert not transient(f"{after}\nERROR: failed to solve: {step}")
