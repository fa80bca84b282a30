"""Who signs: a key in a file, one in AWS KMS, or the program `cosign`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

from ci_tools import aws, process, storage
from ci_tools.config_release import Signing
from ci_tools.errors import ConfigError, CredentialsError, ReleaseError, ToolError
from ci_tools.release import keys
from ci_tools.release.keys import Key

KMS = "awskms:"
_SIGSTORE = b"SIGSTORE PRIVATE KEY"  # COSIGN too in its older files
_COSIGN_SECONDS = 60.0
# What KMS calls the schemes of `keys`, for a digest that we made.
_ALGORITHMS = {
    "ecdsa-sha2-nistp256": "ECDSA_SHA_256",
    "rsa-pkcs1v15-sha256": "RSASSA_PKCS1_V1_5_SHA_256",
}


class Signer(Protocol):
    """Signs messages. key: the public half."""

    @property
    def key(self) -> Key: ...

    def sign(self, message: bytes) -> bytes:
        """The signature. Raises CredentialsError, ReleaseError, ToolError."""


def signer(settings: Signing, root: Path) -> Signer:
    """Who signs by these settings. root: what a relative path of a key is relative to.

    Raises ConfigError for a key that cannot be read or is of a kind that is not
    taken, CredentialsError for a passphrase that is missing or wrong, and what AWS
    KMS and cosign raise.
    """
    key = settings.key
    if settings.key_env is not None:
        key = os.environ.get(settings.key_env)
        if not key:
            raise CredentialsError(
                f"the variable {settings.key_env}, which names the signing key, is not set",
                "Bind the key's file to it, as Jenkins does with credentials",
            )
    if key is None:
        raise AssertionError("Signing has a key or a variable that names it")
    passphrase = None
    if settings.passphrase_env is not None:
        passphrase = os.environ.get(settings.passphrase_env)
        if passphrase is None:
            raise CredentialsError(
                f"the variable {settings.passphrase_env}, which holds the signing key's "
                "passphrase, is not set",
                "Bind the passphrase to it, as Jenkins does with credentials",
            )
    if settings.cosign:
        return CosignSigner(_of_cosign(key, root), passphrase)
    if key.startswith(KMS):
        return KmsSigner(key.removeprefix(KMS).lstrip("/"))
    return FileSigner(root / key, passphrase)


class FileSigner:
    """A private key in a PEM file. Raises ConfigError, CredentialsError."""

    def __init__(self, path: Path, passphrase: str | None) -> None:
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

        private = _private(path, passphrase)
        self.key = keys.of(private.public_key(), path.name)
        self._signer = CryptoSigner(private, self.key.sslib)

    def sign(self, message: bytes) -> bytes:
        return bytes.fromhex(self._signer.sign(message).signature)


class KmsSigner:
    """A key that never leaves AWS KMS; it is sent a hash.

    id: id, ARN or alias. Needs kms:GetPublicKey and kms:Sign. An ARN's region is the
    key's; otherwise AWS_REGION is. Not securesystemslib's, which takes only the
    latter, and PSS for RSA, which cosign does not verify.
    """

    def __init__(self, id: str) -> None:
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        arn = id.split(":")
        self._id, self._what = id, f"the signing key {KMS}{id}"
        self._client = aws.client("kms", arn[3] if len(arn) > 5 and arn[0] == "arn" else None)
        with aws.translated(self._what, "kms:GetPublicKey with it", ReleaseError):
            answer = self._client.get_public_key(KeyId=id)
        public = load_der_public_key(answer["PublicKey"])
        self.key = keys.of(public, f"{KMS}{id}")
        scheme = keys.scheme_of(public)
        if scheme not in _ALGORITHMS:
            raise ConfigError(f"{self._what} is of a kind that is not taken", "Use ECC_NIST_P256")
        self._algorithm = _ALGORITHMS[scheme]

    def sign(self, message: bytes) -> bytes:
        with aws.translated(self._what, "kms:Sign with it", ReleaseError):
            answer = self._client.sign(
                KeyId=self._id,
                Message=hashlib.sha256(message).digest(),
                MessageType="DIGEST",
                SigningAlgorithm=self._algorithm,
            )
        return bytes(answer["Signature"])


class CosignSigner:
    """The program, with any key that it knows. Nothing goes to a transparency log.

    key: a path, or a URI of cosign's. passphrase: given to it as COSIGN_PASSWORD.
    Raises ToolError where it is missing or does not do it.
    """

    def __init__(self, key: str, passphrase: str | None) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self._program = process.which(
            "cosign", todo="Install cosign, or leave out signing.cosign in ci.yaml"
        )
        self._key, self._passphrase = key, passphrase or ""
        with tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch:
            path = Path(scratch) / "public.pem"
            self._run("public-key", "--outfile", os.fspath(path))
            self.key = keys.of(load_pem_public_key(path.read_bytes()), Path(key).name)

    def sign(self, message: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch:
            text, made = Path(scratch) / "message", Path(scratch) / "signature"
            storage.write_bytes(text, message)
            self._run(
                "sign-blob",
                "--yes",
                "--tlog-upload=false",
                "--output-signature",
                os.fspath(made),
                os.fspath(text),
            )
            try:
                return base64.b64decode(made.read_bytes(), validate=True)
            except (OSError, binascii.Error) as error:
                raise self._failed(f"it wrote no signature: {error}") from error

    def _run(self, verb: str, *arguments: str) -> None:
        done = process.run(
            [self._program, verb, "--key", self._key, *arguments],
            timeout=_COSIGN_SECONDS,
            env={"COSIGN_PASSWORD": self._passphrase},
            secrets=[self._passphrase] if self._passphrase else [],
        )
        if not done.ok:
            raise self._failed(done.tail(1) or f"{verb} came to no end")

    def _failed(self, why: str) -> ToolError:
        return ToolError(
            f"cosign does not sign with {self._key} ({why})",
            "See that the key and the passphrase's variable in ci.yaml are right",
        )


def _of_cosign(key: str, root: Path) -> str:
    if "://" in key:
        return key
    if key.startswith(KMS):  # an ARN or alias after `awskms:///`, as cosign wants it
        return f"{KMS}///{key.removeprefix(KMS)}"
    return os.fspath(root / key)


def _private(path: Path, passphrase: str | None) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the signing key {path} cannot be read ({error.strerror})",
            "Mend 'signing' in ci.yaml, or have the agent give the file",
        ) from error
    if _SIGSTORE in content:
        raise ConfigError(
            f"the signing key {path} is encrypted as only cosign does it",
            "Add 'cosign: true' to 'signing' in ci.yaml",
        )
    try:
        return load_pem_private_key(content, passphrase.encode() if passphrase else None)
    except TypeError as error:  # one with a passphrase and none given, or the other way round
        raise CredentialsError(
            f"the signing key {path} "
            + ("has no passphrase" if passphrase else "wants a passphrase"),
            "Mend signing.passphrase_env in ci.yaml",
        ) from error
    except (ValueError, UnsupportedAlgorithm):
        # Not what the library says: it may quote from the file.
        if b"ENCRYPTED" in content and passphrase:
            raise CredentialsError(
                f"the signing key {path} does not open with its passphrase",
                "Mend the variable that signing.passphrase_env in ci.yaml names",
            ) from None
        raise ConfigError(
            f"{path} is no private key in PEM", "Make one: python -m ci releases keygen"
        ) from None
