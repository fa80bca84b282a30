"""The image registry: what it holds, by digest.

Requests and their authentication (token, basic, docker's credential store) are
oras-py's; what is asked and what the answers mean is here.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import threading
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
_TIMEOUT = (5, 30)  # connect, read: seconds


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

    def __init__(self, host: str, *, plain_http: bool = False) -> None:
        self.host = host
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
            manifest = msgspec.json.decode(response.content, type=_Manifest)
        except msgspec.MsgspecError as error:
            raise RegistryError(
                f"{self.host} answered for {repository}:{reference} with no manifest ({error})",
                "Check the registry and any proxy before it",
            ) from error
        layers = sum(layer.size for layer in manifest.layers)
        config = manifest.config.digest if manifest.config else ""
        return Image(digest, config, layers + (manifest.config.size if manifest.config else 0))

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
            retry = Retry(total=3, connect=2, backoff_factor=0.2, status_forcelist=(502, 503, 504))
            for scheme in ("http://", "https://"):
                client.session.mount(scheme, HTTPAdapter(max_retries=retry))
            client.session.request = _with_timeout(client.session.request)
            known = self.credentials()
            if known is not None:
                token = base64.b64encode(":".join(known).encode()).decode()
                client.session.headers["Authorization"] = f"Basic {token}"
            self._thread.client = client
        return client


def of(reference: str) -> tuple[Registry, str, str]:
    """The registry, path and tag-or-digest of any reference, with Docker's defaults."""
    parts = split(split(reference).canonical)
    host = "registry-1.docker.io" if parts.registry == "docker.io" else parts.registry
    return Registry(host), parts.path, parts.digest or parts.tag


class _Descriptor(msgspec.Struct):
    digest: str
    size: int = 0


class _Manifest(msgspec.Struct):
    """An image manifest; of an index only the fact that it has no config."""

    config: _Descriptor | None = None
    layers: list[_Descriptor] = []


def _loopback(host: str) -> bool:
    """Docker's rule: registries on 127.0.0.0/8, ::1 and localhost speak plain HTTP."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _with_timeout(request: Any) -> Any:
    def timed(method: str, url: str, **options: Any) -> Any:
        options.setdefault("timeout", _TIMEOUT)
        return request(method, url, **options)

    return timed


def _reason(error: BaseException) -> str:
    """The innermost cause: what a person wants to read of requests' nested errors."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        return _reason(inner)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
