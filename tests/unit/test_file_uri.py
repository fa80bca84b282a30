"""Which artefacts are files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci_tools.file_uri import path_of


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a%20b/model", Path("/a b/model")),
        ("FILE:///a", Path("/a")),
        ("s3://bucket/a", None),
        ("/a", None),
        ("", None),
        ("http://[", None),
        ("file://[a", None),
    ],
)
def test_a_file_of_this_machine(uri: str, path: Path | None) -> None:
    assert path_of(uri) == path
