"""Who we are to Kubeflow: through the real `kfp.Client`, against fake servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ci_tools import config
from ci_tools.kubeflow import api, auth
from tests.fakes.kubeflow import FakeKubeflow, serve


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow()) as served:
        yield served


def connected(fake: FakeKubeflow, **settings: Any) -> api.Api:
    declared = config.KubeflowServer(endpoint=fake.endpoint, **settings)
    return api.connect(declared, auth.chosen(declared), patience=2)


# requests that no generated class knows ---------------------------------------------


@pytest.mark.parametrize("origin", [False, True])
def test_raw_answers_every_status(fake: FakeKubeflow, origin: bool) -> None:
    raw = connected(fake).raw
    prefix = "/apis/v2beta1"
    good = raw("GET", f"{prefix}/healthz", origin=origin)
    assert (good.status, good.headers["content-type"]) == (200, "application/json")
    assert b"fake" in good.body
    missing = raw("GET", f"{prefix}/runs/no-such-run", origin=origin)
    assert (missing.status, b"not found" in missing.body) == (404, True)


def test_raw_sends_headers_and_body(fake: FakeKubeflow) -> None:
    answer = connected(fake).raw(
        "POST",
        "/apis/v2beta1/experiments",
        headers={"Content-Type": "application/json"},
        body=b'{"display_name": "one"}',
    )
    assert answer.status == 200
    assert [it["display_name"] for it in fake.experiments.values()] == ["one"]


def test_raw_is_of_this_host_only(fake: FakeKubeflow) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        connected(fake).raw("GET", "http://elsewhere/")
    with pytest.raises(ValueError, match="absolute path"):
        connected(fake).raw("GET", "@elsewhere/", origin=True)


def test_raw_says_when_the_server_is_away(fake: FakeKubeflow) -> None:
    connection = connected(fake)
    fake.failing = 1
    with pytest.raises(api.Away, match="503"):
        connection.raw("GET", "/apis/v2beta1/healthz")
