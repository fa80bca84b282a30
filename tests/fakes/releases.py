"""Releases, keys and a registry for tests."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ci_tools import documents as d
from ci_tools.release import bundle, keys
from ci_tools.release.bundle import Bundle
from ci_tools.release.keys import Key

COMMIT = "c" * 40
IR = b"root: {}\n"
SERVABLE = b"service: svc\n"


def release(**changes: Any) -> d.Release:
    """A sound release of one image, one pipeline and one servable, without a name."""
    image = f"host/ml/train@sha256:{'a' * 64}"
    whole: dict[str, Any] = {
        "name": "",
        "project": "ml",
        "environment": "dev",
        "source": d.Source(commit=COMMIT, branch="main"),
        "repository": "https://git.example/ml",
        "images": {
            "train": d.ReleasedImage(
                reference=image,
                digest=f"sha256:{'a' * 64}",
                key="k",
                verdict=d.Verdict(status="pass", trivy="1", database="d", policy="p"),
                tests="passed",
                bases={"python:3.12": f"docker.io/library/python@sha256:{'b' * 64}"},
            )
        },
        "pipelines": {
            "training": d.ReleasedPipeline(
                sha256="e" * 64, file="pipelines/training.yaml", components=["train"]
            )
        },
        "servables": {
            "train": d.ReleasedServable(
                service="svc",
                file="servables/train.yaml",
                image=image,
                task_definition_sha256="f" * 64,
            )
        },
    }
    return d.Release(**(whole | changes))


def made(**changes: Any) -> Bundle:
    return bundle.of(
        release(**changes), {"pipelines/training.yaml": IR, "servables/train.yaml": SERVABLE}
    )


class Pen:
    """A signer that knows nothing of ours but what a key is: `cryptography` alone."""

    def __init__(self, kind: str = "ed25519") -> None:
        self.private: Any = {
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
        }[kind]()
        self.kind = kind
        self.key: Key = keys.of(self.private.public_key(), kind)

    def sign(self, message: bytes) -> bytes:
        if self.kind == "ed25519":
            return bytes(self.private.sign(message))
        if self.kind == "ecdsa":
            return bytes(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
        return bytes(self.private.sign(message, padding.PKCS1v15(), hashes.SHA256()))
