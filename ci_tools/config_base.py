"""What the sections of `ci.yaml` are made of."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=100)]
SecretId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]
Seconds = Annotated[int, Meta(gt=0)]
Parameter = str | int | float | bool | list[Any] | dict[str, Any] | None


class Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping in which an unknown key is an error."""


def check_address(key: str, address: str) -> None:
    """Raises ValueError, without the address where it may hold a password."""
    try:
        place = urlsplit(address)
        known = place.scheme in ("http", "https") and place.hostname and place.port != 0
    except ValueError:
        known = False
    if not known or not address.isprintable() or " " in address:
        raise ValueError(f"{key} is not the address of a server (https://HOST or http://HOST)")
    if place.username is not None or place.password is not None:
        raise ValueError(f"{key} holds a user or a password: declare where they are instead")
    if place.query or place.fragment:
        raise ValueError(f"{key} is a page's address: leave out what begins with '?' or '#'")
