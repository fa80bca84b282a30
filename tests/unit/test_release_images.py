"""What is attested of an image: once by a key, and such that it travels with the image."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import msgspec
import pytest

from ci_tools import documents as d
from ci_tools.images import referrers
from ci_tools.images.registry import Registry
from ci_tools.release import attest, images, signing
from tests.fakes.registry import FakeRegistry, serve
from tests.fakes.releases import COMMIT, Pen, made

PATH = "ml/train"
SBOM = b'{\n  "bomFormat": "CycloneDX",\n  "components": []\n}'


@pytest.fixture(params=[True, False], ids=["api", "tag"])
def fake(request: pytest.FixtureRequest) -> FakeRegistry:
    return FakeRegistry(api=request.param)


@pytest.fixture
def registry(fake: FakeRegistry) -> Iterator[Registry]:
    with serve(fake) as host:
        yield Registry(host)


def _attached(registry: Registry, digest: str, kind: str) -> list[dict[str, object]]:
    found = []
    for one in referrers.attached(registry, PATH, digest, images.TYPE):
        if one.annotations["dev.sigstore.bundle.predicateType"] != kind:
            continue
        files = referrers.fetch(registry, PATH, digest, one)
        assert files
        found.append(json.loads(files[images.TYPE]))
    return found


def test_an_attestation_is_a_sigstore_bundle_about_the_image(
    fake: FakeRegistry, registry: Registry
) -> None:
    pen, digest = Pen(), fake.image()
    raw = msgspec.Raw(SBOM)
    assert images.attach(registry, PATH, digest, pen, images.CYCLONEDX, raw)
    (read,) = _attached(registry, digest, images.CYCLONEDX)
    assert read["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = base64.b64encode(bytes.fromhex(pen.key.id)).decode()
    assert read["verificationMaterial"] == {"publicKey": {"hint": hint}}
    envelope = read["dsseEnvelope"]
    assert isinstance(envelope, dict)
    assert [set(one) for one in envelope["signatures"]] == [{"sig"}]
    payload, ids, _ = signing.opened(json.dumps(envelope).encode(), [pen.key])
    assert ids == {pen.key.id}
    stated = json.loads(payload)
    assert stated["subject"] == [
        {"name": f"{registry.host}/{PATH}", "digest": {"sha256": digest[7:]}}
    ]
    assert SBOM in payload  # as the scan left it, to the byte: its hash is in the release
    assert attest.is_about(payload, digest, images.CYCLONEDX)


def test_the_same_key_attests_once_and_another_beside_it(
    fake: FakeRegistry, registry: Registry
) -> None:
    one, other, digest = Pen("ecdsa"), Pen(), fake.image()

    def attach(pen: Pen, kind: str) -> bool:
        return images.attach(registry, PATH, digest, pen, kind, {"some": "thing"})

    assert attach(one, attest.PROVENANCE)
    assert not attach(one, attest.PROVENANCE)
    assert attach(one, images.CYCLONEDX)
    assert attach(other, attest.PROVENANCE)
    assert not attach(other, attest.PROVENANCE)
    assert len(_attached(registry, digest, attest.PROVENANCE)) == 2


def test_an_attestation_of_another_image_does_not_count(
    fake: FakeRegistry, registry: Registry
) -> None:
    """Somebody attaches to an image what our key said of another one."""
    pen, one, other = Pen(), fake.image("one"), fake.image("other")
    images.attach(registry, PATH, other, pen, attest.PROVENANCE, {})
    (stolen,) = _attached(registry, other, attest.PROVENANCE)
    referrers.attach(
        registry,
        PATH,
        one,
        artifact_type=images.TYPE,
        files={images.TYPE: json.dumps(stolen).encode()},
        annotations={"dev.sigstore.bundle.predicateType": attest.PROVENANCE},
    )
    assert images.attach(registry, PATH, one, pen, attest.PROVENANCE, {})


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"[1]", b"[" * 9999, b'{"dsseEnvelope":3}'])
def test_rubbish_beside_an_image_hinders_nobody(
    fake: FakeRegistry, registry: Registry, rubbish: bytes
) -> None:
    pen, digest = Pen(), fake.image()
    referrers.attach(
        registry,
        PATH,
        digest,
        artifact_type=images.TYPE,
        files={images.TYPE: rubbish},
        annotations={"dev.sigstore.bundle.predicateType": attest.PROVENANCE},
    )
    assert images.attach(registry, PATH, digest, pen, attest.PROVENANCE, {})
    assert not images.attach(registry, PATH, digest, pen, attest.PROVENANCE, {})


def test_the_provenance_of_an_image_says_what_it_is_built_on() -> None:
    release = made().release
    child = d.ReleasedImage(
        reference=f"host/ml/child@sha256:{'9' * 64}", digest=f"sha256:{'9' * 64}", key="key",
        verdict=release.images["train"].verdict, tests="passed", parents=["train"],
        bases={"debian:12": None},
    )  # fmt: skip
    release.images["child"] = child
    predicate = images.provenance(release, child)
    build = predicate["buildDefinition"]
    assert build["internalParameters"] == {"key": "key"}
    assert build["resolvedDependencies"] == [
        {"uri": f"git+https://git.example/ml@{COMMIT}", "digest": {"gitCommit": COMMIT}},
        {"uri": "oci://host/ml/train", "digest": {"sha256": "a" * 64}},
    ]
    assert predicate["runDetails"]["builder"]["id"]
