"""A new key pair for signing releases."""

from __future__ import annotations

import os
from pathlib import Path

from ci_tools import storage
from ci_tools.errors import ConfigError, CredentialsError
from ci_tools.release import keys
from ci_tools.release.keys import Key

_SHORTEST = 8  # characters of a passphrase


def generate(path: Path, passphrase_env: str, kind: str) -> Key:
    """Write a private key, encrypted and readable by us alone, and beside it the public
    one (`.pub`); the public one.

    passphrase_env: the variable that holds the passphrase. kind: "ed25519", or "ecdsa"
    on P-256. Raises CredentialsError where there is no passphrase, ConfigError where
    there is such a file, WriteError.
    """
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    passphrase = os.environ.get(passphrase_env, "")
    if len(passphrase) < _SHORTEST:
        raise CredentialsError(
            f"the variable {passphrase_env} holds no passphrase of {_SHORTEST} characters or more",
            f"Set it without writing it down, as in: read -rs {passphrase_env}; "
            f"export {passphrase_env}",
        )
    public = path.with_name(f"{path.name}.pub")
    for one in (path, public):
        if one.exists():
            raise ConfigError(f"{one} is there already", "Take another name; nobody wants it lost")
    private = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else ec.generate_private_key(ec.SECP256R1())
    )
    content = private.private_bytes(
        forms.Encoding.PEM,
        forms.PrivateFormat.PKCS8,
        forms.BestAvailableEncryption(passphrase.encode()),
    )
    key = keys.of(private.public_key(), public.name)
    storage.write_bytes(path, content, mode=0o600)
    storage.write_bytes(public, key.pem)
    return key
