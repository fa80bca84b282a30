"""TLS to a Kubeflow server: which certificates, and what is wrong with them."""

from __future__ import annotations

import ssl

from ci_tools import config
from ci_tools.errors import KubeflowError


def context(settings: config.KubeflowServer) -> ssl.SSLContext:
    """Trusts `ca_bundle`, or the roots that kfp itself trusts."""
    import certifi

    return ssl.create_default_context(cafile=settings.ca_bundle or certifi.where())


def explained(settings: config.KubeflowServer, error: Exception) -> KubeflowError:
    """The sentence for a handshake that failed."""
    text = " ".join(str(error).split())
    return KubeflowError(
        f"no TLS connection to Kubeflow at {settings.endpoint} ({text})",
        "Give the certificate authority's bundle as 'kubeflow.ca_bundle' in ci.yaml",
    )
