"""TLS to a Kubeflow server: which certificates, and what is wrong with them."""

from __future__ import annotations

import ssl
from pathlib import Path

from ci_tools import config
from ci_tools.errors import ConfigError, KubeflowError
from ci_tools.kubeflow import declared

_BUNDLE = "Give the bundle of the authority that signed it as 'kubeflow.ca_bundle' in ci.yaml"
_CLIENT = "Give a certificate that it trusts as 'kubeflow.client_certificate' and 'client_key'"
# By OpenSSL's numbers (X509_V_ERR_*), which do not change with its wording.
_VERIFY = {
    9: ("its certificate is not valid yet", "Check this machine's clock, then the certificate"),
    10: ("its certificate has expired", "Ask who runs it to renew the certificate"),
    18: ("its certificate signs itself and is not in the bundle", _BUNDLE),
    19: ("an unknown authority signed its certificate", _BUNDLE),
    20: ("an unknown authority signed its certificate", _BUNDLE),
    21: ("an unknown authority signed its certificate", _BUNDLE),
    62: (
        "its certificate is for another host name",
        "Write the name that the certificate is for in 'kubeflow.endpoint' in ci.yaml",
    ),
    64: (
        "its certificate is not for this IP address",
        "Write the name that the certificate is for in 'kubeflow.endpoint' in ci.yaml",
    ),
}
# What the server says of our certificate, and what comes from no TLS server at all.
_ALERTS = {
    "CERTIFICATE_REQUIRED": ("it demands a client certificate", _CLIENT),
    "HANDSHAKE_FAILURE": (
        "it ended the handshake, as servers do that demand a client certificate",
        _CLIENT,
    ),
    "ALERT_CERTIFICATE_EXPIRED": ("our client certificate has expired", _CLIENT),
    "ALERT_UNKNOWN_CA": ("it does not know who signed our client certificate", _CLIENT),
    "ALERT_BAD_CERTIFICATE": ("it refuses our client certificate", _CLIENT),
    "ALERT_CERTIFICATE_REVOKED": ("our client certificate was revoked", _CLIENT),
    "WRONG_VERSION_NUMBER": (
        "it does not speak TLS there",
        "Begin 'kubeflow.endpoint' in ci.yaml with http://, or give the port of https",
    ),
}


def files(settings: config.KubeflowServer) -> tuple[str, tuple[str, str] | str | None]:
    """The CA bundle, and our certificate with its key, as requests takes them.

    Without `ca_bundle` the roots that kfp itself trusts. Raises ConfigError for
    files that are not there.
    """
    import certifi

    bundle = certifi.where()
    if settings.ca_bundle is not None:
        bundle = str(declared.existing("ca_bundle", settings.ca_bundle))
    if settings.client_certificate is None:
        return bundle, None
    certificate = str(declared.existing("client_certificate", settings.client_certificate))
    if settings.client_key is None:
        return bundle, certificate
    return bundle, (certificate, str(declared.existing("client_key", settings.client_key)))


def context(settings: config.KubeflowServer) -> ssl.SSLContext:
    """What a connection trusts and shows. Raises ConfigError for files of no use."""
    bundle, own = files(settings)
    try:
        made = ssl.create_default_context(cafile=bundle)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"kubeflow.ca_bundle '{bundle}' holds no certificates ({_short(error)})",
            "Give the path of a PEM bundle in ci.yaml",
        ) from error
    if own is not None:
        certificate, key = (own, None) if isinstance(own, str) else own
        _show(made, certificate, key)
    return made


def _show(made: ssl.SSLContext, certificate: str, key: str | None) -> None:
    encrypted = False

    def no_passphrase() -> str:
        nonlocal encrypted
        encrypted = True  # without a callback OpenSSL asks at the terminal, and waits
        return ""

    try:
        made.load_cert_chain(certificate, key, password=no_passphrase)
    except (ssl.SSLError, OSError) as error:
        name = Path(key or certificate)
        raise ConfigError(
            f"the client key '{name}' is encrypted"
            if encrypted
            else f"the client certificate '{certificate}' and its key do not fit ({_short(error)})",
            "Give PEM files of a certificate and its own unencrypted key as "
            "'kubeflow.client_certificate' and 'client_key' in ci.yaml",
        ) from error


def explained(settings: config.KubeflowServer, error: BaseException) -> KubeflowError | None:
    """The sentence for a handshake that failed; None for an error that is not of ssl.

    error: of ssl, or what urllib3 or requests made of it.
    """
    cause = _inside(error, (ssl.SSLError,))
    if cause is None:
        return None
    what, todo = _short(cause), "Ask who runs it which TLS it speaks"
    if isinstance(cause, ssl.SSLCertVerificationError):
        what, todo = _VERIFY.get(cause.verify_code, (cause.verify_message, _BUNDLE))
    else:
        what, todo = next((it for alert, it in _ALERTS.items() if alert in what), (what, todo))
    return KubeflowError(f"no TLS connection to Kubeflow at {settings.endpoint}: {what}", todo)


def ended(settings: config.KubeflowServer, error: BaseException) -> str:
    """What it may mean that the server hung up; "" when it did not.

    In TLS 1.3 a server sees our certificate when we already send our request, and
    its alert may be lost with the connection.
    """
    kinds = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError)
    if not settings.endpoint.startswith("https:") or not _inside(error, kinds):
        return ""
    wish = "refuse ours" if settings.client_certificate else "demand one"
    return f"it hung up, as servers do that know client certificates and {wish}"


def _inside(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """The first error of these kinds in what urllib3 and requests wrapped around it."""
    if isinstance(error, kinds):
        return error
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException) and (found := _inside(inner, kinds)):
            return found
    return None


def _short(error: BaseException) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[:200]
