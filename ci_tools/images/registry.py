"""The image registry: what it holds, by digest.

Requests and their authentication (token, basic, docker's credential store) are
oras-py's; what is asked and what the answers mean is here.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ci_tools import config
from ci_tools.components.references import split
from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images.ecr import Ecr

if TYPE_CHECKING:
    import requests

_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_AT_ONCE = 16


class Patience(NamedTuple):
    """How long to wait for a registry, in seconds, and how often to ask again."""

    connect: float = 5
    read: float = 30
    retries: int = 3


_DEFAULT = Patience()


class Image(NamedTuple):
    """An image in a registry.

    config: digest of its config ("" for an index). size: compressed bytes.
    """

    digest: str
    config: str
    size: int


class Registry:
    """One registry, asked over HTTP. Safe to use from several threads.

    Raises RegistryError when it does not answer or refuses, CredentialsError
    when it wants others.
    """

    def __init__(
        self, host: str, *, plain_http: bool = False, patience: Patience = _DEFAULT
    ) -> None:
        self.host = host
        self._patience = patience
        self._plain_http = plain_http or _loopback(host)
        self._thread = threading.local()
        self._ecr = Ecr(host) if Ecr.is_host(host) else None
        self._credentials: tuple[str, str] | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, declared: config.Registry) -> Registry:
        """The registry that an environment names."""
        return cls(declared.host, plain_http=declared.plain_http)

    def ping(self) -> None:
        """Ask for /v2/. Raises as the class says."""
        self._request("GET", "/v2/")

    def image(self, repository: str, reference: str) -> Image | None:
        """The image that a tag or digest names, or None if there is none.

        The digest is computed over the manifest's bytes, not taken from a
        header: a proxy that answers with something else is caught.
        """
        found = self._manifest(repository, reference)
        if found is None:
            return None
        digest, manifest = found
        layers = sum(layer.size for layer in manifest.layers)
        config = manifest.config.digest if manifest.config else ""
        return Image(digest, config, layers + (manifest.config.size if manifest.config else 0))

    def _manifest(self, repository: str, reference: str) -> tuple[str, _Manifest] | None:
        response = self._request("GET", f"/v2/{repository}/manifests/{reference}")
        if response is None:
            return None
        digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise RegistryError(
                f"{self.host} answered for {repository}@{reference} with other content ({digest})",
                "Check the registry and any proxy before it",
            )
        try:
            return digest, msgspec.json.decode(response.content, type=_Manifest)
        except msgspec.MsgspecError as error:
            raise RegistryError(
                f"{self.host} answered for {repository}:{reference} with no manifest ({error})",
                "Check the registry and any proxy before it",
            ) from error

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest of a tag (of the index, where it is one), or None."""
        response = self._request("HEAD", f"/v2/{repository}/manifests/{reference}")
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
        if self._ecr is not None:
            return self._ecr.digests(wanted)
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
        response = self._request("GET", f"/v2/{repository}/blobs/{found[1].config.digest}")
        if response is None:
            return None
        try:
            created = msgspec.json.decode(response.content, type=_Config).created
        except msgspec.MsgspecError:
            return None  # any artefact may stand behind a tag; only an image has a date
        if created is not None and created.tzinfo is None:
            created = created.replace(tzinfo=timezone.utc)
        return created

    def credentials(self) -> tuple[str, str] | None:
        """User and password for this registry where we know how to get them (ECR)."""
        if self._ecr is None:
            return None
        with self._lock:
            if self._credentials is None:
                self._credentials = self._ecr.credentials()
            return self._credentials

    def ensure_repository(self, name: str) -> None:
        """Make a repository where the registry does not do so by itself (ECR)."""
        if self._ecr is not None:
            self._ecr.ensure_repository(name)

    def _request(self, method: str, path: str) -> requests.Response | None:
        """The answer, or None for 404."""
        import requests
        from oras.auth import AuthenticationException

        url = f"{'http' if self._plain_http else 'https'}://{self.host}{path}"
        try:
            client = self._client()
            # Without oras-py's own decorator, which tries a refused connection and an
            # HTTP 500 again for two minutes; the session retries what is worth it.
            ask = type(client).do_request.__wrapped__
            response = ask(client, url, method, headers={"Accept": _MANIFESTS})
        # oras-py's words for a challenge that it has no answer to
        except (ValueError, AuthenticationException) as error:
            raise self._refused("without credentials we know of") from error
        except requests.RequestException as error:
            raise RegistryError(
                f"the registry {self.host} does not answer ({_reason(error)})",
                "Start it ('python -m ci local up' for the embedded one) or check the network",
            ) from error
        if response.status_code == 404 and path != "/v2/":
            return None
        if response.status_code in (401, 403):
            raise self._refused(f"HTTP {response.status_code}")
        if not response.ok:
            raise RegistryError(
                f"the registry {self.host} answers HTTP {response.status_code} to {path}",
                "Look into the registry's log",
            )
        return response  # type: ignore[no-any-return]

    def _refused(self, why: str) -> CredentialsError:
        return CredentialsError(
            f"the registry {self.host} refuses us ({why})", f"Log in: docker login {self.host}"
        )

    def _client(self) -> Any:
        """oras-py's session is not made for threads: each gets its own."""
        client = getattr(self._thread, "client", None)
        if client is None:
            from oras.provider import Registry as Oras
            from requests.adapters import HTTPAdapter
            from urllib3.util import Retry

            client = Oras(hostname=self.host, insecure=self._plain_http, tls_verify=True)
            client.auth.load_configs(client.get_container(f"{self.host}/any"))
            retry = Retry(
                total=self._patience.retries,
                connect=min(2, self._patience.retries),
                backoff_factor=0.2,
                status_forcelist=(502, 503, 504),
            )
            for scheme in ("http://", "https://"):
                client.session.mount(scheme, HTTPAdapter(max_retries=retry))
            client.session.request = _with_timeout(client.session.request, self._patience)
            known = self.credentials()
            if known is not None:
                token = base64.b64encode(":".join(known).encode()).decode()
                client.session.headers["Authorization"] = f"Basic {token}"
            self._thread.client = client
        return client


def of(reference: str, patience: Patience = _DEFAULT) -> tuple[Registry, str, str]:
    """The registry, path and tag-or-digest of any reference, with Docker's defaults."""
    parts = split(split(reference).canonical)
    host = "registry-1.docker.io" if parts.registry == "docker.io" else parts.registry
    return Registry(host, patience=patience), parts.path, parts.digest or parts.tag


class _Descriptor(msgspec.Struct):
    digest: str
    size: int = 0


class _Manifest(msgspec.Struct):
    """An image manifest, or an index: then there are manifests and no config."""

    config: _Descriptor | None = None
    layers: list[_Descriptor] = []
    manifests: list[_Entry] = []


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""


class _Entry(msgspec.Struct):
    digest: str
    platform: _Platform = msgspec.field(default_factory=_Platform)


class _Config(msgspec.Struct):
    created: datetime | None = None


def _loopback(host: str) -> bool:
    """Docker's rule: registries on 127.0.0.0/8, ::1 and localhost speak plain HTTP."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _with_timeout(request: Any, patience: Patience) -> Any:
    def timed(method: str, url: str, **options: Any) -> Any:
        options.setdefault("timeout", (patience.connect, patience.read))
        return request(method, url, **options)

    return timed


def _reason(error: BaseException) -> str:
    """The innermost cause: what a person wants to read of requests' nested errors."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        return _reason(inner)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
