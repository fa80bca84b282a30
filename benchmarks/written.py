"""Images written straight into a registry, as a push would leave them.

No engine is asked, so that images of gigabytes leave nothing in its store and cache.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from shared import Bench, call

from ci_tools.images import upload
from ci_tools.images.artifacts import digest_of
from ci_tools.images.registry import Registry
from ci_tools.local import debian

_IMAGE = "application/vnd.oci.image"
# With git the base has what a base of data scientists has: 235 MB, 120 packages.
_RECIPE, _MORE = debian.Recipe("python", "bookworm", "3.11"), ["git", "gcc"]


class Layer(NamedTuple):
    """content: a tar, compressed. diff_id: the digest of that tar."""

    content: bytes
    diff_id: str


class Base(NamedTuple):
    """packages: names of source packages, as Debian's advisories have them."""

    layer: Layer
    size: int
    packages: tuple[str, ...]


def layer(files: Mapping[str, bytes], level: int = 6) -> Layer:
    """A layer of files. level: of gzip; 1 for what does not shrink anyway."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return _compressed(stream.getvalue(), level)


@functools.cache
def base(bench: Bench) -> Base:
    """Debian 12 with Python, made of its packages once a session."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "base.tar"
        command = [
            f"{word},{','.join(_MORE)}" if word.startswith("--include=") else word
            for word in debian.bootstrap_command(_RECIPE, file)
        ]
        call(command, bench.scratch, {**os.environ, "SOURCE_DATE_EPOCH": "1686355200"})
        tar = file.read_bytes()
        with tarfile.open(file) as opened:
            status = opened.extractfile("./var/lib/dpkg/status")
            if status is None:
                raise SystemExit("the base has no list of its packages")
            told = status.read().decode()
    return Base(_compressed(tar, 6), len(tar), _sources(told))


def push(host: str, repository: str, tag: str, layers: Sequence[Layer]) -> str:
    """An image in the registry; its reference by digest."""
    registry = Registry(host)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        "history": [{"created_by": f"COPY {number}"} for number, _ in enumerate(layers)],
    }
    blobs = [json.dumps(config).encode(), *(one.content for one in layers)]
    kinds = [f"{_IMAGE}.config.v1+json", *[f"{_IMAGE}.layer.v1.tar+gzip"] * len(layers)]
    for blob in blobs:
        upload.blob(registry, repository, blob)
    described = [
        {"mediaType": kind, "digest": digest_of(blob), "size": len(blob)}
        for kind, blob in zip(kinds, blobs, strict=True)
    ]
    kind = f"{_IMAGE}.manifest.v1+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": described[1:]}
    ).encode()
    answer = upload.manifest(registry, repository, tag, manifest, kind)
    if not answer.ok:
        raise SystemExit(f"{host}/{repository}:{tag} was refused ({answer.status_code})")
    return f"{host}/{repository}@{digest_of(manifest)}"


def _compressed(tar: bytes, level: int) -> Layer:
    diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    return Layer(gzip.compress(tar, compresslevel=level, mtime=0), diff_id)


def _sources(status: str) -> tuple[str, ...]:
    names = set()
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if name := fields.get("Source", fields.get("Package")):
            names.add(name.partition(" ")[0])
    return tuple(sorted(names))
