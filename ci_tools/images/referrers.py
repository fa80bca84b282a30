"""Files attached to an image in its registry, found by the image's digest.

Each is an OCI artifact whose `subject` is the image. A registry with the
referrers API (ECR, Harbor, zot) lists them; for others (distribution 2.8) an
index under the tag `sha256-<hex of the digest>` is the list, and who attaches
keeps it. Which one it is, is found out once for each `Registry`.

A list is a claim by whoever may push: what it names is believed only after the
manifest itself says that it is of this type and refers to this image.

Source: OCI distribution specification 1.1, "Listing Referrers", "Pushing
Manifests with Subject", "Referrers Tag Schema".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from urllib.parse import quote

from ci_tools.errors import RegistryError
from ci_tools.images import artifacts, bounded, manifests, referrers_tag, upload
from ci_tools.images.artifacts import Artifact, Attached, Descriptor
from ci_tools.images.attempts import persistently
from ci_tools.images.registry import Registry
from ci_tools.images.transient import transient
from ci_tools.images.transport import said

__all__ = ["Attached", "attach", "attached", "fetch"]

LARGEST_BLOB = 64 << 20  # bytes
_LAYERS, _PAGES, _DELETED = 16, 100, 20  # more is a fault or an attack
_ATTEMPTS = 6


def attach(
    registry: Registry,
    repository: str,
    subject: str,
    *,
    artifact_type: str,
    files: Mapping[str, bytes],
    annotations: Mapping[str, str],
    replaces: Callable[[Attached], bool] = lambda _: False,
) -> str:
    """Attach files to an image; the digest of the artifact's manifest.

    subject:     digest of the image's (or index's) manifest, which is there.
    files:       media type -> content, in that order.
    annotations: with `org.opencontainers.image.created`, whose value is the
                 caller's: nothing else in the manifest depends on the time, so
                 that the same files are the same artifact and written once.
    replaces:    which artifacts of the same type and image are out of date. They
                 are taken out of the list and deleted, where we may.

    Raises RegistryError, also where the registry does not take such manifests;
    CredentialsError.
    """
    _check(subject)
    if len(files) > _LAYERS or any(len(one) > LARGEST_BLOB for one in files.values()):
        raise RegistryError(
            f"what is to be attached to {registry.host}/{repository}@{subject} is too large",
            f"Attach at most {_LAYERS} files of {LARGEST_BLOB >> 20} MiB",
        )
    content = artifacts.manifest(
        _described(registry, repository, subject), artifact_type, files, annotations
    )
    ours = artifacts.entry(content)
    before = attached(registry, repository, subject, artifact_type)
    if any(one.digest == ours.digest for one in before) and upload.there(
        registry, repository, "manifests", ours.digest
    ):
        return ours.digest
    persistently(
        lambda: _push(registry, repository, content, [*files.values(), artifacts.NOTHING]),
        attempts=_ATTEMPTS,
        told=lambda _: None,
    )
    if registry.lists_referrers:
        old = [one for one in before if one.digest != ours.digest and replaces(one)]
    else:
        old = referrers_tag.put(registry, repository, subject, ours, replaces)
    _forget(registry, repository, subject, old, replaces)
    return ours.digest


def attached(
    registry: Registry, repository: str, subject: str, artifact_type: str | None
) -> list[Attached]:
    """What is attached to an image, as its list claims, newest first: one request.

    artifact_type: None for all of any type.

    Raises RegistryError, CredentialsError.
    """
    _check(subject)
    found = None
    if registry.lists_referrers is not False:
        found = _from_api(registry, repository, subject, artifact_type)
    if found is None:
        index = referrers_tag.content(registry, repository, subject)
        # "… and the tag schema does not return a valid image index, the client SHOULD
        # assume there are no referrers".
        found = (artifacts.listed(index) if index is not None else None) or []
    unique = {one.digest: one for one in found if artifact_type in (None, one.artifact_type)}
    return sorted(unique.values(), key=lambda one: one.age, reverse=True)


def fetch(
    registry: Registry,
    repository: str,
    subject: str,
    one: Attached,
    *,
    only: Collection[str] | None = None,
) -> dict[str, bytes] | None:
    """The files of an attached artifact: media type -> content, each of its digest.

    only: which media types are wanted; None for all. One request, and one a file.

    None where it is not to be believed: gone, of another image or type, with
    other content than its digests say, or larger than LARGEST_BLOB.
    Raises RegistryError where the registry does not answer, CredentialsError.
    """
    artifact = _verified(registry, repository, subject, one)
    if artifact is None:
        return None
    layers = [layer for layer in artifact.layers if layer.media_type != artifacts.EMPTY]
    if len(layers) > _LAYERS or len({layer.media_type for layer in layers}) < len(layers):
        return None
    files = {}
    for layer in layers:
        if only is not None and layer.media_type not in only:
            continue
        content = _blob(registry, repository, layer)
        if content is None:
            return None
        files[layer.media_type] = content
    return files


def _check(subject: str) -> None:
    if not artifacts.is_digest(subject):
        raise RegistryError(
            f"'{subject}' is no sha256 digest, so that nothing can be attached to it",
            "Name the image by the digest of its manifest",
        )


def _verified(registry: Registry, repository: str, subject: str, one: Attached) -> Artifact | None:
    """The artifact, if it is of the type that the list says and refers to the image."""
    if not artifacts.is_digest(one.digest):
        return None
    path = f"/v2/{repository}/manifests/{one.digest}"
    content = bounded.got(registry, path, artifacts.MANIFEST, manifests.LARGEST)
    if content is None or artifacts.digest_of(content) != one.digest:
        return None
    artifact = artifacts.read(content)
    if artifact is None or artifact.artifact_type != one.artifact_type:
        return None
    return artifact if artifact.subject.digest == subject else None


def _blob(registry: Registry, repository: str, layer: Descriptor) -> bytes | None:
    if not artifacts.is_digest(layer.digest) or not 0 <= layer.size <= LARGEST_BLOB:
        return None
    content = bounded.got(registry, f"/v2/{repository}/blobs/{layer.digest}", "*/*", layer.size)
    if content is None or len(content) != layer.size:
        return None
    return content if artifacts.digest_of(content) == layer.digest else None


def _described(registry: Registry, repository: str, subject: str) -> Descriptor:
    """The image, as an artifact names it."""
    name = f"{registry.host}/{repository}@{subject}"
    path = f"/v2/{repository}/manifests/{subject}"
    held = registry.http.ask(
        "GET", path, headers={"Accept": manifests.ACCEPTED}, limit=manifests.LARGEST
    )
    if held.status_code == 404:
        raise RegistryError(f"there is no {name} to attach anything to", "Build it again")
    content = bounded.judged(registry, held, path).content
    if artifacts.digest_of(content) != subject:
        raise RegistryError(
            f"{registry.host} answered for {repository}@{subject} with other content",
            "Check the registry and any proxy before it",
        )
    kind = held.headers.get("Content-Type", artifacts.MANIFEST).partition(";")[0].strip()
    return Descriptor(media_type=kind, digest=subject, size=len(content))


def _push(registry: Registry, repository: str, content: bytes, blobs: list[bytes]) -> None:
    for one in blobs:
        upload.blob(registry, repository, one)
    answer = upload.attachment(registry, repository, content, artifacts.MANIFEST)
    if answer.status_code in (401, 403):
        raise upload.refused(registry, repository, answer)
    if not answer.ok:
        why = said(answer)
        raise RegistryError(
            f"{registry.host}/{repository} takes no artifact that refers to an image ({why})",
            "Use a registry that takes manifests of OCI 1.1 (with 'subject' and 'artifactType')",
            again=transient(why),
        )
    if answer.headers.get("OCI-Subject"):
        registry.lists_referrers = True


def _from_api(
    registry: Registry, repository: str, subject: str, artifact_type: str | None
) -> list[Attached] | None:
    """What the registry lists, of that type if it can filter; None where it lists nothing ever."""
    first = f"/v2/{repository}/referrers/{subject}"
    if artifact_type is not None:
        first += f"?artifactType={quote(artifact_type, safe='')}"
    found: list[Attached] = []
    path, seen = first, set[str]()
    while path and path not in seen and len(seen) < _PAGES:
        seen.add(path)
        answer = registry.http.ask(
            "GET", path, headers={"Accept": artifacts.INDEX}, limit=referrers_tag.LARGEST
        )
        if path == first and answer.status_code in (404, 405):
            # With the API a 404 can only mean that there is no such repository.
            if "NAME_UNKNOWN" not in said(answer) and registry.lists_referrers is None:
                registry.lists_referrers = False
            return None
        listed = artifacts.listed(bounded.judged(registry, answer, path).content)
        if listed is None:
            raise RegistryError(
                f"{registry.host} answers for what is attached to {repository}@{subject} "
                "with no list",
                "Check the registry and any proxy before it",
            )
        registry.lists_referrers = True
        found += listed
        path = bounded.next_page(path, answer)
    return found


def _forget(
    registry: Registry,
    repository: str,
    subject: str,
    old: list[Attached],
    replaces: Callable[[Attached], bool],
) -> None:
    """Delete what is out of date, as far as we may.

    What its own manifest tells counts here, not the list: an entry may name an
    image, or tell another date than the artifact does.
    """
    for one in old[:_DELETED]:
        artifact = _verified(registry, repository, subject, one)
        if artifact is None or not replaces(artifacts.told(one.digest, artifact)):
            continue
        if not upload.delete(registry, repository, one.digest):
            return  # what is refused once is refused the next time
