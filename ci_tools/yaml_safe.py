"""YAML as data only: the safe loader, in C where PyYAML was built with it."""

from __future__ import annotations

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]


def load(text: str) -> object:
    """Parse one YAML document. Raises yaml.YAMLError; never builds objects."""
    return yaml.load(text, Loader=SafeLoader)


def load_all(text: str) -> list[object]:
    """Parse a stream of YAML documents. Raises yaml.YAMLError."""
    return list(yaml.load_all(text, Loader=SafeLoader))


def compose(text: str) -> yaml.Node | None:
    """The node tree of one document, with the position of every node in `text`."""
    return yaml.compose(text, Loader=SafeLoader)
