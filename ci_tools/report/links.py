"""Addresses from reports of others, which are not to be trusted."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_URI = re.compile(r"[!#-;=?-Z_a-z~\[\]]+")  # RFC 3986, and nothing that ends an attribute


def web(url: str) -> str:
    """The address where it is one on the web that a person may be led to, else ""."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    good = _URI.fullmatch(url) and parts.scheme in ("http", "https") and parts.netloc
    return url if good else ""
