"""The image registry: what it holds, by digest.

What is asked and what the answers mean is here; `transport` asks, `ecr` knows
what Amazon's registry wants beyond the protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import msgspec

from ci_tools import config, typed
from ci_tools.components.references import split
from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images import manifests, preflight, transport
from ci_tools.images.direct import Patience
from ci_tools.images.ecr import Ecr
from ci_tools.images.manifests import Image, Manifest
from ci_tools.images.transport import Known, Transport, said

__all__ = ["Image", "Patience", "Registry", "of"]

_AT_ONCE = 16
TAG_TAKEN = (400, 409, 412)  # the answers of registries whose tags are immutable


class Registry:
    """One registry, asked over HTTP. Safe to use from several threads.

    Raises RegistryError when it does not answer or refuses, CredentialsError
    when it wants others.
    """

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool = False,
        patience: Patience = transport.DEFAULT,
        ecr: config.Ecr | None = None,
    ) -> None:
        """ecr: how repositories are made, where the host is Amazon's."""
        self.host = host
        self.plain_http = plain_http or transport.loopback(host)
        self.ecr = Ecr(host, ecr) if Ecr.is_host(host) else None
        self.lists_referrers: bool | None = None  # None until `referrers` has found out
        self.held: set[tuple[str, str]] = set()  # repository and digest of blobs seen there
        self._http = Transport(
            host,
            plain_http=plain_http,
            patience=patience,
            credentials=lambda: self.credentials(),
            renew=lambda refused: self.renew(refused),
        )

    @classmethod
    def of(cls, declared: config.Registry) -> Registry:
        """The registry that an environment names."""
        return cls(declared.host, plain_http=declared.plain_http, ecr=declared.ecr)

    @property
    def http(self) -> Transport:
        """For modules that ask what only they understand."""
        return self._http

    def ping(self) -> None:
        """Ask for /v2/. Raises as the class says."""
        if self._http.get("/v2/") is None:
            raise RegistryError(
                f"{self.host} is no registry (HTTP 404 for /v2/)", "Check its address in ci.yaml"
            )

    def preflight(self, repositories: Collection[str]) -> list[str]:
        """Prove, before hours of building, that each repository takes a push.

        Makes those that are missing on ECR; no bytes move.

        Returns sentences for people: what was made, and what is not as it
        should be though it hinders nothing. Raises CredentialsError,
        RegistryError or PushError, naming the repository.
        """
        return preflight.check(self._http, self.ecr, repositories)

    def image(self, repository: str, reference: str) -> Image | None:
        """The image that a tag or digest names, or None if there is none.

        The digest is computed over the manifest's bytes, not taken from a
        header: a proxy that answers with something else is caught.
        """
        found = self._manifest(repository, reference)
        return None if found is None else found[1].image(found[0])

    def images(self, repository: str, reference: str) -> dict[str, Image]:
        """Platform (`linux/amd64`, normalised) -> image; empty if there is none.

        An index tells its images, less BuildKit's attestations; a plain
        manifest is one image, whose config tells its platform.
        """
        found = self._manifest(repository, reference)
        if found is None:
            return {}
        digest, manifest = found
        if manifest.config is not None:
            content = self._blob(repository, manifest.config.digest)
            try:
                platform = typed.decode(content or b"{}", manifests.Platform)
            except msgspec.MsgspecError:
                platform = manifests.Platform()  # an artefact, and no image
            name = manifests.normalised(platform) or "unknown"
            return {name: manifest.image(digest)}
        images = {}
        for entry in manifest.manifests:
            image = self.image(repository, entry.digest) if entry.runs else None
            if image is not None:
                images[manifests.normalised(entry.platform)] = image
        return images

    def tag(self, repository: str, digest: str, tag: str) -> str:
        """Give an image that is there one more tag; no bytes of it move.

        Returns the digest that the tag names afterwards: another than `digest`
        where tags are immutable and this one was taken.
        Raises PushError, RegistryError, CredentialsError.
        """
        path = f"/v2/{repository}/manifests"
        name = f"{self.host}/{repository}:{tag}"
        held = self._http.get(f"{path}/{digest}", headers={"Accept": manifests.ACCEPTED})
        if held is None:
            raise PushError(f"{self.host}/{repository} holds no {digest} to tag", "Build it again")
        kind = held.headers.get("Content-Type", manifests.MANIFEST)
        headers = {"Content-Type": kind}
        answer = self._http.ask("PUT", f"{path}/{tag}", headers=headers, data=held.content)
        if answer.status_code in (401, 403):
            todo = (
                f"Log in with an account that may push: docker login {self.host}"
                if self.ecr is None
                else self.ecr.may_push(repository)
            )
            raise CredentialsError(f"{name} may not be tagged by us ({said(answer)})", todo)
        now = self.digest(repository, tag) if answer.ok else None
        if answer.status_code in TAG_TAKEN:
            # An immutable tag: distribution's TAG_INVALID is ECR's answer too, even for the
            # very same digest (aws/containers-roadmap#2380); Harbor's is a 412.
            now = self.digest(repository, tag)
        if now is None:
            raise PushError(f"{name} could not be tagged ({said(answer)})", "Try again")
        return now

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest of a tag (of the index, where it is one), or None."""
        response = self._http.get(
            f"/v2/{repository}/manifests/{reference}",
            method="HEAD",
            headers={"Accept": manifests.ACCEPTED},
        )
        if response is None:
            return None
        digest = response.headers.get("Docker-Content-Digest")
        if digest:
            return str(digest)
        image = self.image(repository, reference)
        return image.digest if image else None

    def digests(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
        """The digest of each (repository, tag), or None, asked all at once.

        ECR is asked through its own interface: an unknown repository has no image.
        """
        if self.ecr is not None:
            return self.ecr.digests(wanted)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(lambda one: self.digest(*one), wanted), strict=True))

    def created(
        self, repository: str, reference: str, platform: tuple[str, str] = ("linux", "amd64")
    ) -> datetime | None:
        """When an image was made, as its config says; None where it does not.

        platform: which image of an index is asked.
        """
        found = self._manifest(repository, reference)
        if found is not None and found[1].manifests:
            own = [
                one.digest
                for one in found[1].manifests
                if (one.platform.os, one.platform.architecture) == platform
            ]
            found = self._manifest(repository, own[0]) if own else None
        if found is None or found[1].config is None:
            return None
        content = self._blob(repository, found[1].config.digest)
        if content is None:
            return None
        try:
            created = typed.decode(content, manifests.Config).created
        except msgspec.MsgspecError:
            return None  # any artefact may stand behind a tag; only an image has a date
        if created is not None and created.tzinfo is None:
            created = created.replace(tzinfo=timezone.utc)
        return created

    def credentials(self) -> Known | None:
        """User and password for this registry where we know how to get them (ECR).

        They are good for half an hour at least: ask again rather than keep them.
        """
        return None if self.ecr is None else self.ecr.credentials()

    def renew(self, refused: Known) -> Known | None:
        """Other credentials than those, which the registry refused; None if there are none."""
        return None if self.ecr is None else self.ecr.renew(refused)

    def ensure_repository(self, name: str, *, mutable: bool = False) -> None:
        """Make a repository where the registry does not do so by itself (ECR)."""
        if self.ecr is not None:
            self.ecr.ensure_repository(name, mutable=mutable)

    def _manifest(self, repository: str, reference: str) -> tuple[str, Manifest] | None:
        response = self._http.get(
            f"/v2/{repository}/manifests/{reference}", headers={"Accept": manifests.ACCEPTED}
        )
        if response is None:
            return None
        digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise RegistryError(
                f"{self.host} answered for {repository}@{reference} with other content ({digest})",
                "Check the registry and any proxy before it",
            )
        try:
            return digest, typed.decode(response.content, Manifest)
        except msgspec.MsgspecError as error:
            raise RegistryError(
                f"{self.host} answered for {repository}:{reference} with no manifest ({error})",
                "Check the registry and any proxy before it",
            ) from error

    def _blob(self, repository: str, digest: str) -> bytes | None:
        response = self._http.get(f"/v2/{repository}/blobs/{digest}")
        return None if response is None else response.content


def of(reference: str, patience: Patience = transport.DEFAULT) -> tuple[Registry, str, str]:
    """The registry, path and tag-or-digest of any reference, with Docker's defaults."""
    parts = split(split(reference).canonical)
    host = "registry-1.docker.io" if parts.registry == "docker.io" else parts.registry
    return Registry(host, patience=patience), parts.path, parts.digest or parts.tag
