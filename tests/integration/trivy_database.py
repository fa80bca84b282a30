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
from typing import Any, Union

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


def publish(
    registry: str, repository: str, *, updated: str, advisories: Mapping[str, Mapping[str, str]]
) -> str:
    """Push a database of Debian 12 to `registry`; the name for `scan.database`.

    updated:    when the database was made, RFC 3339.
    advisories: package -> CVE -> version that mends it.
    """
    source = "debian 12"
    known: Tree = {
        source: {
            package: {
                cve: json.dumps({"FixedVersion": fixed}).encode() for cve, fixed in found.items()
            }
            for package, found in advisories.items()
        },
        "data-source": {source: json.dumps({"ID": "debian", "Name": "a test's"}).encode()},
        "vulnerability": {
            cve: json.dumps({"Title": "planted", "Severity": "CRITICAL"}).encode()
            for found in advisories.values()
            for cve in found
        },
    }
    metadata = {
        "Version": _SCHEMA,
        "UpdatedAt": updated,
        "NextUpdate": updated,  # at once out of date: the next run asks again
        "DownloadedAt": updated,
    }
    layer = _archive({"trivy.db": bolt(known), "metadata.json": json.dumps(metadata).encode()})
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


def _archive(files: Mapping[str, bytes]) -> bytes:
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
