"""Where directories of a repository really are."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class Folders:
    """The directories of one repository. Each is asked for once."""

    def __init__(self, repository: Path) -> None:
        self.repository = str(repository)
        self._root = os.path.realpath(repository)
        self._known = {"": self._root}

    def relative(self, folder: str) -> str | None:
        """The real path of a directory, `.` for the root; None for what is none, or
        is not in the repository."""
        try:
            real = self._real(folder)
        except OSError:
            return None
        if real == self._root:
            return "."
        inside = real.startswith(f"{self._root}/") and os.path.isdir(real)  # noqa: PTH112
        return real[len(self._root) + 1 :] if inside else None

    def _real(self, folder: str) -> str:
        """Raises OSError for what is not there."""
        if folder not in self._known:
            above, _, name = folder.rpartition("/")
            if name in ("", ".", "..") or folder.startswith("/"):
                real = os.path.realpath(os.path.join(self._root, folder), strict=True)  # noqa: PTH118
            else:
                real = f"{self._real(above)}/{name}"
                if stat.S_ISLNK(os.lstat(real).st_mode):
                    real = os.path.realpath(real, strict=True)
            self._known[folder] = real
        return self._known[folder]
