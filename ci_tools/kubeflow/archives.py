"""Files that kfp embeds into a component: the same ones make the same archive.

kfp packs what `embedded_artifact_path` and a notebook name with the clock, the files'
times and their owner, so that each compilation and each checkout is another pipeline:
uploaded and tested again, although nothing changed.
"""

from __future__ import annotations

import gzip
import tarfile
from functools import partial
from types import SimpleNamespace
from typing import Any

_RUNS = 0o100  # its owner may execute it


def make_equal() -> None:
    """Let kfp, in this process, pack what a file is and not when and by whom it was
    written. Its own modules stay as they are for everybody else."""
    from kfp.dsl import component_factory

    component_factory.gzip = SimpleNamespace(compress=partial(gzip.compress, mtime=0))
    component_factory.tarfile = SimpleNamespace(open=_Plain.open)


class _Plain(tarfile.TarFile):
    def add(self, name: Any, arcname: Any = None, recursive: bool = True, **_: Any) -> None:
        super().add(name, arcname, recursive, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without what a checkout, a umask or a Python that ran there would decide."""
    if "__pycache__" in member.name.split("/"):
        return None
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & _RUNS else 0o644
    return member
