"""A vulnerability database of a test's own, as Trivy fetches it from a registry.

Trivy's database is one file of bbolt, a B+ tree in pages, packed as an OCI
artifact. What a few buckets need of that format is written here; Trivy itself
judges whether it is right, for it reads the file with bbolt.
(Layout: page.go, bucket.go and meta.go of go.etcd.io/bbolt.)
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

Tree = Mapping[str, Union[bytes, "Tree"]]

_PAGE = 4096
_HEADER = struct.Struct("<QHHI")  # id, flags, count, overflow
_ELEMENT = struct.Struct("<IIII")  # flags, position, key size, value size
_BUCKET = struct.Struct("<QQ")  # root page, sequence
_META = struct.Struct("<IIIIQQQQQ")  # magic ... transaction
_LEAF, _META_PAGE, _FREELIST = 0x02, 0x04, 0x10
_IS_BUCKET = 1
_SCHEMA = 2  # of trivy-db, and the tag it is looked for under


def bolt(tree: Tree) -> bytes:
    """A bbolt file that holds a tree of buckets, each in one leaf page."""
    pages: dict[int, bytes] = {2: _page(2, _FREELIST, 0, b"")}
    next_page = 3

    def bucket(content: Tree) -> int:
        nonlocal next_page
        elements = []
        for name in sorted(content, key=str.encode):
            value = content[name]
            if isinstance(value, bytes):
                elements.append((0, name.encode(), value))
            else:
                elements.append((_IS_BUCKET, name.encode(), _BUCKET.pack(bucket(value), 0)))
        heads, body = b"", b""
        for index, (flags, key, value) in enumerate(elements):
            # The position counts from the element's own head.
            position = (len(elements) - index) * _ELEMENT.size + len(body)
            heads += _ELEMENT.pack(flags, position, len(key), len(value))
            body += key + value
        number = next_page
        pages[number] = _page(number, _LEAF, len(elements), heads + body)
        next_page += len(pages[number]) // _PAGE
        return number

    root = bucket(tree)
    for number in (0, 1):
        meta = _META.pack(0xED0CDAED, 2, _PAGE, 0, root, 0, 2, next_page, number)
        pages[number] = _page(number, _META_PAGE, 0, meta + struct.pack("<Q", _fnv64a(meta)))
    return b"".join(pages[number] for number in sorted(pages))


class Detail(NamedTuple):
    """What the database says of a vulnerability, wherever it occurs."""

    severity: str = "CRITICAL"
    title: str = "planted"


Advisories = Mapping[str, Mapping[str, str]]  # package -> CVE -> version that mends it, or ""

DEBIAN = "debian 12"
PYTHON = "pip::a test's"  # of a language any source counts whose name begins so


def publish(
    registry: str,
    repository: str,
    *,
    updated: str,
    advisories: Advisories,
    python: Advisories | None = None,
    details: Mapping[str, Detail] | None = None,
    next_update: str | None = None,
) -> str:
    """Push a database of Debian 12 and Python to `registry`; the name for `scan.database`.

    updated:     when the database was made, RFC 3339.
    advisories:  of Debian's packages. python: of Python's.
    details:     CVE -> what is known of it; what is not given is critical.
    next_update: without it the database is at once out of date: the next run that is
                 no sooner than an hour after it was fetched asks again.
    """
    held = {DEBIAN: advisories, PYTHON: python or {}}
    sources = {
        DEBIAN: {"ID": "debian", "Name": "a test's"},
        PYTHON: {"ID": "ghsa", "Name": "a test's"},
    }
    known: dict[str, bytes | Tree] = {
        source: {
            package: {cve: _advisory(source, fixed) for cve, fixed in found.items()}
            for package, found in packages.items()
        }
        for source, packages in held.items()
        if packages or source == DEBIAN
    }
    cves = {cve for packages in held.values() for found in packages.values() for cve in found}
    every = {cve: (details or {}).get(cve, Detail()) for cve in cves}
    known["data-source"] = {
        source: json.dumps(about).encode() for source, about in sources.items() if source in known
    }
    known["vulnerability"] = {
        cve: json.dumps({"Title": one.title, "Severity": one.severity}).encode()
        for cve, one in every.items()
    }
    metadata = {
        "Version": _SCHEMA,
        "UpdatedAt": updated,
        "NextUpdate": next_update or updated,
        "DownloadedAt": updated,
    }
    files = {"trivy.db": bolt(known), "metadata.json": json.dumps(metadata).encode()}
    return publish_layer(registry, repository, archive(files))


def _advisory(source: str, fixed: str) -> bytes:
    """A distribution names the version that mends it, a language those that have it."""
    if source == DEBIAN:
        return json.dumps({"FixedVersion": fixed}).encode()
    ranges = {"VulnerableVersions": [f"<{fixed}" if fixed else ">=0"]}
    return json.dumps({**ranges, **({"PatchedVersions": [fixed]} if fixed else {})}).encode()


def publish_layer(registry: str, repository: str, layer: bytes) -> str:
    """Push whatever bytes as a vulnerability database; the name for `scan.database`."""
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _blob(
                registry, repository, "application/vnd.aquasec.trivy.config.v1+json", b"{}"
            ),
            "layers": [
                _blob(
                    registry,
                    repository,
                    "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
                    layer,
                    title="db.tar.gz",
                )
            ],
        }
    ).encode()
    _send(
        f"http://{registry}/v2/{repository}/manifests/{_SCHEMA}",
        "PUT",
        manifest,
        "application/vnd.oci.image.manifest.v1+json",
    )
    return f"{registry}/{repository}"


def _page(number: int, flags: int, count: int, content: bytes) -> bytes:
    size = -(-(_HEADER.size + len(content)) // _PAGE)
    head = _HEADER.pack(number, flags, count, size - 1)
    return (head + content).ljust(size * _PAGE, b"\0")


def _fnv64a(data: bytes) -> int:
    """bbolt's checksum of a meta page."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def archive(files: Mapping[str, bytes]) -> bytes:
    """Files as the database's layer holds them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(stream.getvalue())


def _blob(
    registry: str, repository: str, kind: str, data: bytes, *, title: str | None = None
) -> dict[str, Any]:
    """Upload a blob as the distribution specification has it; its descriptor."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    started = _send(f"http://{registry}/v2/{repository}/blobs/uploads/", "POST", b"")
    place = started["Location"]
    url = place if place.startswith("http") else f"http://{registry}{place}"
    joint = "&" if "?" in url else "?"
    _send(f"{url}{joint}digest={digest}", "PUT", data)
    described: dict[str, Any] = {"mediaType": kind, "digest": digest, "size": len(data)}
    if title is not None:
        described["annotations"] = {"org.opencontainers.image.title": title}
    return described


def _send(
    url: str, method: str, data: bytes, kind: str = "application/octet-stream"
) -> Mapping[str, str]:
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(answer.headers)
