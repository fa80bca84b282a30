"""What the sections of `ci.yaml` are made of."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=100)]
SecretId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]
Seconds = Annotated[int, Meta(gt=0)]
Parameter = str | int | float | bool | list[Any] | dict[str, Any] | None


class Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping in which an unknown key is an error."""
