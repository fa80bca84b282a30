"""Connections of the real client to a fake server, for the tests of who we are to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci_tools import config
from ci_tools.errors import CredentialsError
from ci_tools.kubeflow import api, auth, ir
from ci_tools.kubeflow.server import KubeflowServer
from ci_tools.kubeflow.wanted import Wanted
from tests.fakes.kubeflow import FakeKubeflow

HEALTH = "/apis/v2beta1/healthz"
HTML = {"kind": "text/html; charset=UTF-8"}


def declared(fake: FakeKubeflow, **keywords: Any) -> config.KubeflowServer:
    return config.KubeflowServer(endpoint=fake.endpoint, **keywords)


def connected(fake: FakeKubeflow, **keywords: Any) -> api.Api:
    one = declared(fake, **keywords)
    return api.connect(one, auth.chosen(one), patience=2)


def refused(fake: FakeKubeflow, **keywords: Any) -> str:
    with pytest.raises(CredentialsError) as caught:
        connected(fake, **keywords)
    return str(caught.value)


def login(**keywords: Any) -> dict[str, Any]:
    return {
        "dex": config.DexLogin(user_env="DEX_USER", password_env="DEX_PASSWORD", **keywords),
    }


class Recorder:
    """A gate that lets everything through and keeps the headers."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.headers.append(headers)


def uploaded(kubeflow: KubeflowServer, folder: Path) -> Any:
    path = folder / "demo.yaml"
    path.write_text(
        json.dumps(
            {
                "components": {},
                "deploymentSpec": {"executors": {}},
                "pipelineInfo": {"name": "demo"},
                "root": {"dag": {"tasks": {}}},
                "schemaVersion": "2.1.0",
                "sdkVersion": "kfp-2.17.0",
            }
        )
    )
    sha256 = ir.canonical_sha256(ir.load(path))
    return kubeflow.upload(Wanted("demo", path, sha256, "v1"))
