"""Public keys: which there are, and what they tell of a signature.

A key's id is the sha256 of its DER form, which anybody can compute:

    openssl pkey -pubin -in release.pub -outform DER | sha256sum

Ed25519, ECDSA on P-256 and RSA (PKCS #1 v1.5, SHA-256) are what `cosign` verifies
with the same key. Other curves it hashes otherwise than everybody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools.errors import ConfigError

_SCHEMES = {"ed25519": "ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "rsa-pkcs1v15-sha256"}


@dataclass(frozen=True)
class Key:
    """A public key. id: 64 hex. pem: what it is. name: the file, for people."""

    id: str
    pem: bytes
    name: str = ""

    @property
    def sslib(self) -> Any:
        """The same as securesystemslib's Key."""
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

        public = load_pem_public_key(self.pem)
        return SSlibKey.from_crypto(public, self.id, scheme_of(public))

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the key's owner signed this message."""
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature  # type: ignore[attr-defined]

        try:
            self.sslib.verify_signature(Signature(self.id, signature.hex()), message)
        except UnverifiedSignatureError:
            return False
        return True


def of(public: Any, name: str = "") -> Key:
    """The key of one of `cryptography`. Raises ConfigError for a kind that is not taken."""
    from cryptography.hazmat.primitives import serialization as forms

    scheme_of(public, name)
    form = forms.PublicFormat.SubjectPublicKeyInfo
    der = public.public_bytes(forms.Encoding.DER, form)
    pem = public.public_bytes(forms.Encoding.PEM, form)
    return Key(hashlib.sha256(der).hexdigest(), pem, name)


def scheme_of(public: Any, name: str = "the key") -> str:
    """securesystemslib's name for how such a key signs. Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(public, ed25519.Ed25519PublicKey):
        return _SCHEMES["ed25519"]
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return _SCHEMES["ecdsa"]
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2048:
        return _SCHEMES["rsa"]
    raise ConfigError(
        f"{name} is of a kind that is not taken",
        "Use Ed25519, ECDSA on P-256, or RSA of 2048 bits at least",
    )


def load(path: Path) -> Key:
    """A public key from its PEM file. Raises ConfigError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"the public key {path} cannot be read ({error.strerror})", "Mend its path in ci.yaml"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # Not what is in it: somebody may have named the private one.
        raise ConfigError(
            f"{path} is no public key in PEM", "Name the file that begins with BEGIN PUBLIC KEY"
        ) from error
    return of(public, path.name)


def load_all(paths: Sequence[str | Path], root: Path) -> list[Key]:
    """The keys of these files, relative to `root`, each once. Raises ConfigError."""
    found = {key.id: key for key in (load(root / path) for path in paths)}
    return list(found.values())
