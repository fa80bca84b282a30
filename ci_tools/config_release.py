"""What of an environment is about releases: who signs them, where they go, whom to believe."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ci_tools.config_base import Name, Section

Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Signing(Section):
    """How releases, images and records of promotions are signed. The private key is never
    in the repository.

    key: file of a private key (Ed25519 or ECDSA P-256; PEM, or as `cosign
    generate-key-pair` writes it), or a key of AWS KMS: `awskms:` and its id, alias
    or ARN.
    key_env: name of the variable that holds that file's path instead, as Jenkins'
    credentials give it.
    passphrase_env: name of the variable that holds the key's passphrase.
    cosign: sign with the program `cosign` instead of by ourselves.
    """

    key: Annotated[str, Meta(min_length=1)] | None = None
    key_env: Variable | None = None
    passphrase_env: Variable | None = None
    cosign: bool = False

    def __post_init__(self) -> None:
        if (self.key is None) == (self.key_env is None):
            raise ValueError("signing has either key or key_env")


class Promotion(Section):
    """What an environment takes.

    keys: files of the public keys (PEM) that may have signed a release, or a record of
    a promotion where the environment signs them, relative to the repository.
    after: the environment that a release must have been verified in before, and
    whose registry it comes from; without one it need not have been, anywhere.
    branches: patterns of origin's branches, on one of which its commit must be.
    approvals: how many people, other than who promotes, must have approved.
    """

    keys: list[Annotated[str, Meta(min_length=1)]] = []
    after: Name | None = None
    branches: Annotated[tuple[str, ...], Meta(min_length=1)] = ("main", "master")
    approvals: Annotated[int, Meta(ge=0, le=20)] = 0
