"""Releases in a real registry, judged by `cosign`, `skopeo` and `openssl`, which know
nothing of us. What is tampered with is refused by them and by us alike."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci_tools.config import Signing
from ci_tools.errors import CIError, ReleaseSignatureError, ToolError
from ci_tools.images import artifacts, copying, upload
from ci_tools.images.copying import Place
from ci_tools.images.registry import Registry
from ci_tools.release import attest, bundle, images, keygen, keys, signing, store
from ci_tools.release.bundle import Bundle
from tests.fakes.releases import COMMIT, made
from tests.integration import registries

pytestmark = pytest.mark.integration

PATH = "ml/releases"
SECRET = "correct horse battery"
SBOM = b'{\n "bomFormat": "CycloneDX",\n "specVersion": "1.6",\n "components": []\n}'
# Without a transparency log there is nothing to trust but the key.
ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
_CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def registry(host: str) -> Registry:
    return Registry(host)


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSPHRASE", SECRET)


@pytest.fixture(params=["ed25519", "ecdsa", "cosign"])
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> signing.Signer:
    """Signs with a key of our making, or of cosign's and by it. Its public key: `key.pub`."""
    path = tmp_path / "key"
    if request.param != "cosign":
        keygen.generate(path, "PASSPHRASE", request.param)
        return signing.signer(Signing(key="key", passphrase_env="PASSPHRASE"), tmp_path)
    subprocess.run(
        ["cosign", "generate-key-pair", "--output-key-prefix", path],
        check=True,
        capture_output=True,
        env={**os.environ, "COSIGN_PASSWORD": SECRET},
    )
    settings = Signing(key="key.key", passphrase_env="PASSPHRASE", cosign=True)
    return signing.signer(settings, tmp_path)


def image(registry: Registry, repository: str, layer: bytes) -> str:
    """Push an image of one layer; its digest."""
    kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar")
    config, content = (
        artifacts.described(kind, data) for kind, data in zip(kinds, (_CONFIG, layer), strict=True)
    )
    for data in (_CONFIG, layer):
        upload.blob(registry, repository, data)
    whole = {
        "schemaVersion": 2,
        "mediaType": artifacts.MANIFEST,
        "config": config,
        "layers": [content],
    }
    manifest = msgspec.json.encode(whole)
    digest = artifacts.digest_of(manifest)
    assert upload.manifest(registry, repository, digest, manifest, artifacts.MANIFEST).ok
    return digest


def cosign(verb: str, *arguments: str | Path) -> bool:
    """Whether cosign is content. Nothing is asked on the internet."""
    done = subprocess.run(
        ["cosign", verb, "--insecure-ignore-tlog=true", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tuf" not in done.stderr.lower(), done.stderr
    return done.returncode == 0


def believed(public: Path, envelope: bytes, content: bytes, folder: Path) -> bool:
    """cosign's judgement of a release's signature, for one of the files that it is about."""
    (folder / "envelope").write_bytes(envelope)
    (folder / "content").write_bytes(content)
    return cosign(
        "verify-blob-attestation", "--key", public, "--type", "slsaprovenance1",
        "--signature", folder / "envelope", folder / "content",
    )  # fmt: skip


# -- the release -----------------------------------------------------------------------


def test_cosign_believes_a_release_of_ours(
    registry: Registry, signer: signing.Signer, tmp_path: Path
) -> None:
    public = tmp_path / "key.pub"
    public.write_bytes(signer.key.pem)
    one = signing.sign(made(build=signer.key.id), signer)
    store.publish(registry, PATH, one)
    found = store.find(registry, PATH, one.release.name)
    assert signing.verify(found, [keys.load(public)]) == [signer.key.id]
    for content in (found.content, *found.files.values()):
        assert believed(public, found.envelopes[0], content, tmp_path)


def _subjects(change: Callable[[list[Any]], object]) -> Callable[[Bundle], Bundle]:
    def changed(one: Bundle) -> Bundle:
        envelope = json.loads(one.envelopes[0])
        stated = json.loads(base64.b64decode(envelope["payload"]))
        change(stated["subject"])
        envelope["payload"] = base64.b64encode(json.dumps(stated).encode()).decode()
        return Bundle(one.content, one.files, [json.dumps(envelope).encode()])

    return changed


TAMPERED: dict[str, Callable[[Bundle], Bundle]] = {
    "one byte": lambda one: Bundle(one.content.replace(b"main", b"nain"), one.files, one.envelopes),
    "one digest": lambda one: Bundle(
        one.content.replace(b"a" * 64, b"a" * 63 + b"b"), one.files, one.envelopes
    ),
    "an extra subject": _subjects(
        lambda all: all.append({"name": "x", "digest": {"sha256": "0" * 64}})
    ),
    "a missing subject": _subjects(
        lambda all: all.remove(next(one for one in all if one["name"] == "host/ml/train"))
    ),
    "another digest of a subject": _subjects(lambda all: all[0]["digest"].update(sha256="0" * 64)),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_refused_by_cosign_and_by_us(
    signer: signing.Signer, tmp_path: Path, how: str
) -> None:
    public = tmp_path / "key.pub"
    public.write_bytes(signer.key.pem)
    one = signing.sign(made(), signer)
    assert believed(public, one.envelopes[0], one.content, tmp_path)
    odd = TAMPERED[how](one)
    assert not believed(public, odd.envelopes[0], odd.content, tmp_path)
    with pytest.raises(ReleaseSignatureError):
        signing.verify(odd, [signer.key])


def test_another_key_is_refused_by_cosign_and_by_us(signer: signing.Signer, tmp_path: Path) -> None:
    other = keygen.generate(tmp_path / "other", "PASSPHRASE", "ecdsa")
    one = signing.sign(made(), signer)
    assert not believed(tmp_path / "other.pub", one.envelopes[0], one.content, tmp_path)
    with pytest.raises(ReleaseSignatureError):
        signing.verify(one, [other])


def test_skopeo_finds_every_byte_of_it(registry: Registry, tmp_path: Path) -> None:
    one = made(build="skopeo")
    digest = store.publish(registry, PATH, one)
    for tag in (one.release.name, COMMIT):
        folder = tmp_path / tag
        reference = f"docker://{registry.host}/{PATH}:{tag}"
        subprocess.run(
            ["skopeo", "copy", "--src-tls-verify=false", reference, f"dir:{folder}"],
            check=True,
            capture_output=True,
        )
        manifest = (folder / "manifest.json").read_bytes()
        assert artifacts.digest_of(manifest) == digest
        for layer in json.loads(manifest)["layers"]:
            name = layer["annotations"]["org.opencontainers.image.title"]
            content = (folder / layer["digest"].removeprefix("sha256:")).read_bytes()
            assert content == (one.content if name == bundle.CONTENT else one.files[name])


# -- its images ------------------------------------------------------------------------


def attested(public: Path, kind: str, reference: str, folder: Path) -> bool:
    (folder / "root.json").write_text(ROOT)
    return cosign(
        "verify-attestation", "--key", public, "--new-bundle-format",
        "--trusted-root", folder / "root.json", "--type", kind, reference,
    )  # fmt: skip


def test_cosign_believes_what_is_attested_of_an_image(
    registry: Registry, signer: signing.Signer, tmp_path: Path
) -> None:
    public = tmp_path / "key.pub"
    public.write_bytes(signer.key.pem)
    keygen.generate(tmp_path / "other", "PASSPHRASE", "ed25519")
    repository = f"ml/{signer.key.id[:12]}"
    one, other = (image(registry, repository, layer) for layer in (b"one", b"other"))
    release = made().release
    predicate = images.provenance(release, release.images["train"])
    images.attach(registry, repository, one, signer, attest.PROVENANCE, predicate)
    images.attach(registry, repository, one, signer, images.CYCLONEDX, msgspec.Raw(SBOM))
    reference = f"{registry.host}/{repository}@"
    for kind in ("slsaprovenance1", "cyclonedx"):
        assert attested(public, kind, f"{reference}{one}", tmp_path)
        assert not attested(tmp_path / "other.pub", kind, f"{reference}{one}", tmp_path)
        assert not attested(public, kind, f"{reference}{other}", tmp_path)
    assert not attested(public, "spdxjson", f"{reference}{one}", tmp_path)
    assert not images.attach(registry, repository, one, signer, attest.PROVENANCE, predicate)


def test_what_is_attested_is_believed_where_the_image_was_copied_to(
    registry: Registry, signer: signing.Signer, tmp_path: Path
) -> None:
    """The image and the list of what refers to it, byte for byte; cosign is the judge."""
    public = tmp_path / "key.pub"
    public.write_bytes(signer.key.pem)
    digest = image(registry, "ml/here", signer.key.id.encode())
    images.attach(registry, "ml/here", digest, signer, images.CYCLONEDX, msgspec.Raw(SBOM))
    with registries.registry(tmp_path / "there") as there:
        for reference in (digest, artifacts.tag(digest)):
            copying.copy(
                Place(registry, "ml/here", reference), Place(Registry(there), "ml/there", reference)
            )
        assert attested(public, "cyclonedx", f"{there}/ml/there@{digest}", tmp_path)
        # That it was said of the image in another repository does not matter: the digest does.
        assert not images.attach(
            Registry(there), "ml/there", digest, signer, images.CYCLONEDX, msgspec.Raw(SBOM)
        )


# -- cosign as the signer --------------------------------------------------------------


def test_cosign_s_passphrase_is_in_no_command_and_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(
        ["cosign", "generate-key-pair", "--output-key-prefix", tmp_path / "key"],
        check=True,
        capture_output=True,
        env={**os.environ, "COSIGN_PASSWORD": SECRET},
    )
    seen: list[str] = []
    real = subprocess.Popen.__init__

    def started(self: Any, command: Any, *rest: Any, **more: Any) -> None:
        seen.append(" ".join(map(str, command)))
        real(self, command, *rest, **more)

    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    settings = Signing(key="key.key", passphrase_env="PASSPHRASE", cosign=True)
    assert signing.sign(made(), signing.signer(settings, tmp_path)).envelopes
    assert len(seen) == 2
    assert SECRET not in "".join(seen)
    monkeypatch.setenv("PASSPHRASE", "not it at all")
    with pytest.raises(ToolError) as caught:
        signing.signer(settings, tmp_path)
    assert "not it at all" not in str(caught.value)
    with pytest.raises(CIError):
        signing.signer(Signing(key="absent", cosign=True), tmp_path)


def test_the_hash_of_an_sbom_in_a_release_is_of_what_is_attested(
    registry: Registry, tmp_path: Path
) -> None:
    """cosign tells the predicate; its bytes are those whose hash the release names."""
    keygen.generate(tmp_path / "key", "PASSPHRASE", "ed25519")
    signer = signing.signer(Signing(key="key", passphrase_env="PASSPHRASE"), tmp_path)
    digest = image(registry, "ml/sbom", b"sbom")
    images.attach(registry, "ml/sbom", digest, signer, images.CYCLONEDX, msgspec.Raw(SBOM))
    (tmp_path / "root.json").write_text(ROOT)
    told = subprocess.run(
        ["cosign", "verify-attestation", "--insecure-ignore-tlog=true", "--new-bundle-format",
         "--trusted-root", tmp_path / "root.json", "--key", tmp_path / "key.pub",
         "--type", "cyclonedx", f"{registry.host}/ml/sbom@{digest}"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    payload = base64.b64decode(json.loads(told)["payload"])
    predicate = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])["predicate"]
    assert hashlib.sha256(bytes(predicate)).digest() == hashlib.sha256(SBOM).digest()
