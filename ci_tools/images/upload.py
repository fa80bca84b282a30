"""Small content into a registry: blobs and manifests. Images are pushed by the engine
or by BuildKit.

Source: OCI distribution specification 1.1, "Push" and "Content Management".
"""

from __future__ import annotations

import contextlib
from urllib.parse import quote

from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images import manifests
from ci_tools.images.artifacts import digest_of
from ci_tools.images.direct import Answer
from ci_tools.images.ecr_repository import ATTACHED
from ci_tools.images.registry import TAG_TAKEN, Registry
from ci_tools.images.transient import transient
from ci_tools.images.transport import said

_WORDS = 1 << 16  # more than a registry says of what it did


def there(registry: Registry, repository: str, kind: str, digest: str) -> bool:
    """Whether a repository holds it. kind: "blobs" or "manifests".

    Raises RegistryError, CredentialsError.
    """
    path = f"/v2/{repository}/{kind}/{digest}"
    headers = {"Accept": manifests.ACCEPTED}
    return registry.http.get(path, method="HEAD", headers=headers) is not None


def blob(registry: Registry, repository: str, content: bytes, *, new: bool = False) -> None:
    """Push content that is not there yet.

    new: it hardly can be, and is pushed without asking. What a process has seen there is
    not asked for again. Raises RegistryError, CredentialsError.
    """
    digest = digest_of(content)
    if (repository, digest) in registry.held:
        return
    if new or not there(registry, repository, "blobs", digest):
        _push(registry, repository, content, digest)
    registry.held.add((repository, digest))


def _push(registry: Registry, repository: str, content: bytes, digest: str) -> None:
    begun = registry.http.ask("POST", f"/v2/{repository}/blobs/uploads/", limit=_WORDS)
    location = begun.headers.get("Location", "")
    if begun.status_code != 202 or not location:
        raise refused(registry, repository, begun)
    mark = "&" if "?" in location else "?"
    answer = registry.http.ask(
        "PUT",
        f"{location}{mark}digest={quote(digest, safe='')}",
        headers={"Content-Type": "application/octet-stream"},
        data=content,
        limit=_WORDS,
    )
    # A PUT that the transport repeats is refused if the first was done after all.
    if answer.status_code != 201 and not there(registry, repository, "blobs", digest):
        raise refused(registry, repository, answer)


def manifest(
    registry: Registry, repository: str, reference: str, content: bytes, media_type: str
) -> Answer:
    """The registry's answer to a manifest, whatever it is. reference: digest or tag.

    Raises RegistryError, CredentialsError where there is none.
    """
    return registry.http.ask(
        "PUT",
        f"/v2/{repository}/manifests/{reference}",
        headers={"Content-Type": media_type},
        data=content,
        limit=_WORDS,
    )


def attachment(registry: Registry, repository: str, content: bytes, media_type: str) -> Answer:
    """The registry's answer to a manifest that refers to another one.

    On ECR it gets a tag of its own, since rules about untagged images need not spare it
    (`ecr_repository.lifecycle_policy`). Raises as `manifest` does.
    """
    digest = digest_of(content)
    if registry.ecr is not None:
        tag = f"{ATTACHED}{digest.removeprefix('sha256:')}"
        answer = manifest(registry, repository, tag, content, media_type)
        if answer.status_code not in TAG_TAKEN or not there(
            registry, repository, "manifests", digest
        ):
            return answer  # else: put there meanwhile, under an immutable tag
    return manifest(registry, repository, digest, content, media_type)


def delete(registry: Registry, repository: str, digest: str) -> bool:
    """Delete a manifest, where we may and the registry can; whether it is gone."""
    with contextlib.suppress(RegistryError, CredentialsError):
        path = f"/v2/{repository}/manifests/{digest}"
        answer = registry.http.ask("DELETE", path, limit=_WORDS)
        return answer.ok or answer.status_code == 404
    return False


def refused(
    registry: Registry,
    repository: str,
    answer: Answer,
    kind: type[RegistryError] | type[PushError] = RegistryError,
) -> RegistryError | PushError | CredentialsError:
    """The error for a push that was not taken. `again` where that may pass by itself."""
    name, why = f"{registry.host}/{repository}", said(answer)
    if answer.status_code in (401, 403):
        return CredentialsError(
            f"{name} refuses our push ({why})",
            f"Log in with an account that may push: docker login {registry.host}"
            if registry.ecr is None
            else registry.ecr.may_push(repository),
        )
    return kind(
        f"{name} takes no push ({why})", "Look into the registry's log", again=transient(why)
    )
