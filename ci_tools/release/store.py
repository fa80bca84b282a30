"""Releases in a registry, beside the images that they name.

    ml/releases:release-<64 hex>   by its name, for ever
    ml/releases:<commit>           the newest of a commit

Each is one OCI artifact, whose manifest is the same for the same release; its
signatures refer to it, as those of images do. Whatever breaks off on the way is seen
by nobody: content comes first, then the manifest, then the signatures, then the
commit's tag and last the name's, so that a name stands for a release that is whole.

Source: OCI image specification 1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from ci_tools import typed
from ci_tools.documents import Release
from ci_tools.errors import RegistryError, ReleaseNotFoundError, ReleaseSignatureError
from ci_tools.images import artifacts, bounded, manifests, referrers, tags, upload
from ci_tools.images.registry import Registry
from ci_tools.release import bundle as bundles
from ci_tools.release.bundle import Bundle

TYPE = "application/vnd.kfp-ci.release.v1+json"  # of the artifact, and of release.json in it
FILE = "application/vnd.kfp-ci.release.file.v1"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
TITLE = "org.opencontainers.image.title"  # so that any tool gives the files their names
_LAYERS, _SIGNATURES = 1000, 32  # more is a fault or an attack
_AT_ONCE = 8
_NO_TIME = "1970-01-01T00:00:00+00:00"
_SHOWN = 12  # of a signature's digest, in its tag
_SHORTEST = 7  # characters that a name or a commit is abbreviated to


def manifest(bundle: Bundle) -> bytes:
    """The manifest of a release: the same for the same one, whoever signed it."""
    layers = [_layer(TYPE, bundles.CONTENT, bundle.content)]
    layers += [_layer(FILE, name, data) for name, data in sorted(bundle.files.items())]
    return msgspec.json.encode(
        artifacts.Manifest(
            artifact_type=TYPE,
            config=artifacts.described(artifacts.EMPTY, artifacts.NOTHING),
            layers=layers,
        )
    )


def publish(registry: Registry, repository: str, bundle: Bundle) -> str:
    """Put a release where others find it; the digest of its manifest.

    The same one again changes nothing, but for signatures that it did not have. Its
    commit names it from now on, unless it has changes that are in no commit.

    Raises RegistryError, also where its name stands for something else already;
    CredentialsError, ReleaseSignatureError for a bundle that is no release.
    """
    release = bundle.release
    content = manifest(bundle)
    digest = artifacts.digest_of(content)
    registry.ensure_repository(repository, mutable=True)
    held = registry.digest(repository, release.name)
    if held not in (None, digest):
        raise RegistryError(
            f"{registry.host}/{repository}:{release.name} is something else already ({held})",
            "Find out who put it there; a release is never replaced",
        )
    if held is None:
        blobs = {artifacts.NOTHING, bundle.content, *bundle.files.values()}
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            list(pool.map(lambda one: upload.blob(registry, repository, one), sorted(blobs)))
        _put(registry, repository, digest, content)
    for envelope in bundle.envelopes:
        _sign(registry, repository, digest, release, envelope)
    if held is None:
        if release.source.commit and not release.source.dirty:
            _put(registry, repository, release.source.commit, content)
        _put(registry, repository, release.name, content)
    return digest


def find(registry: Registry, repository: str, what: str) -> Bundle:
    """A release by its name, its commit (the newest of it) or the digest of its manifest.

    what: name and commit may be abbreviated to seven characters of the hash, as long
    as they are one's alone. Nothing is read of it yet: see `Bundle.release`.

    Raises ReleaseNotFoundError, ReleaseSignatureError where the registry holds other
    bytes than it says, RegistryError, CredentialsError.
    """
    wanted = what if artifacts.is_digest(what) else _tag(registry, repository, what)
    path = f"/v2/{repository}/manifests/{wanted}"
    content = bounded.got(registry, path, artifacts.MANIFEST, manifests.LARGEST)
    if content is None:
        raise _unknown(registry, repository, what)
    digest = artifacts.digest_of(content)
    if artifacts.is_digest(wanted) and digest != wanted:
        raise _damaged(f"{registry.host}/{repository}@{wanted} is not what its digest says")
    layers = _layers(f"{registry.host}/{repository}:{wanted}", content)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        blobs = pool.map(lambda one: _blob(registry, repository, one), layers.values())
        files = dict(zip(layers, blobs, strict=True))
    return Bundle(
        content=files.pop(bundles.CONTENT),
        files=files,
        envelopes=_envelopes(registry, repository, digest),
        wanted="" if artifacts.is_digest(wanted) else wanted,
    )


def names(registry: Registry, repository: str) -> list[str]:
    """The names of all releases there, sorted. Raises RegistryError, CredentialsError."""
    return [one for one in tags.listed(registry, repository) if bundles.is_name(one)]


def _sign(
    registry: Registry, repository: str, digest: str, release: Release, envelope: bytes
) -> None:
    """Let a signature refer to a release, once. The same one is the same artifact, whenever
    it is published: all that it tells of time is when the commit was made.

    It gets a tag that begins as the release's: rules about untagged images, as ECR has
    them, do not say that they spare what refers to another one
    (github.com/aws/containers-roadmap, issue 2613).
    """
    own = referrers.attach(
        registry,
        repository,
        digest,
        artifact_type=ENVELOPE,
        files={ENVELOPE: envelope},
        annotations={artifacts.CREATED: release.committed or _NO_TIME},
    )
    tag = f"{release.name}.{own.removeprefix('sha256:')[:_SHOWN]}"
    if registry.digest(repository, tag) != own:
        registry.tag(repository, own, tag)


def _tag(registry: Registry, repository: str, what: str) -> str:
    if bundles.is_name(what) or bundles.is_commit(what):
        return what
    if len(what.removeprefix("release-")) < _SHORTEST:
        raise _unknown(registry, repository, what)
    found = [
        tag
        for tag in tags.listed(registry, repository)
        if tag.startswith(what) and (bundles.is_name(tag) or bundles.is_commit(tag))
    ]
    if len(found) > 1:
        raise ReleaseNotFoundError(
            f"'{what[:80]}' may be any of {', '.join(found[:5])}", "Write more of it"
        )
    if not found:
        raise _unknown(registry, repository, what)
    return found[0]


def _layers(name: str, content: bytes) -> dict[str, artifacts.Descriptor]:
    """File name -> where its bytes are. Raises ReleaseSignatureError."""
    try:
        read = typed.decode(content, artifacts.Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(f"{name} is no manifest of a release ({error})") from error
    found = {one.annotations.get(TITLE, ""): one for one in read.layers}
    if (
        read.artifact_type != TYPE
        or len(found) != len(read.layers)
        or len(found) > _LAYERS
        or bundles.CONTENT not in found
        or any(not artifacts.is_digest(one.digest) for one in read.layers)
        or any(not 0 <= one.size <= bundles.LARGEST for one in read.layers)
    ):
        raise _damaged(f"{name} is no release")
    return found


def _blob(registry: Registry, repository: str, layer: artifacts.Descriptor) -> bytes:
    path = f"/v2/{repository}/blobs/{layer.digest}"
    content = bounded.got(registry, path, "*/*", layer.size)
    if content is None or artifacts.digest_of(content) != layer.digest:
        what = "is gone" if content is None else "is not what its digest says"
        raise _damaged(f"{registry.host}/{repository}@{layer.digest} {what}")
    return content


def _envelopes(registry: Registry, repository: str, digest: str) -> list[bytes]:
    """The signatures that refer to a release, the oldest first; what is none is left out."""
    found = []
    listed = referrers.attached(registry, repository, digest, ENVELOPE)
    for one in reversed(listed[:_SIGNATURES]):
        files = referrers.fetch(registry, repository, digest, one, only=(ENVELOPE,))
        if files and ENVELOPE in files:
            found.append(files[ENVELOPE])
    return found


def _layer(kind: str, name: str, content: bytes) -> artifacts.Descriptor:
    plain = artifacts.described(kind, content)
    return msgspec.structs.replace(plain, annotations={TITLE: name})


def _put(registry: Registry, repository: str, reference: str, content: bytes) -> None:
    answer = upload.manifest(registry, repository, reference, content, artifacts.MANIFEST)
    if not answer.ok:
        raise upload.refused(registry, repository, answer)


def _unknown(registry: Registry, repository: str, what: str) -> ReleaseNotFoundError:
    return ReleaseNotFoundError(
        f"there is no release '{what[:80]}' in {registry.host}/{repository}",
        "Name one of 'python -m ci releases list --env ENV', or the commit that it was made of",
    )


def _damaged(what: str) -> ReleaseSignatureError:
    return ReleaseSignatureError(
        what, "Check the registry and who may push there, and publish the release again"
    )
