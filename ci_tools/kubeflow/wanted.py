"""What an upload asks for, and what the version then tells of itself. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ci_tools.documents import Source
from ci_tools.errors import ConfigError, KubeflowError
from ci_tools.kubeflow import ir
from ci_tools.kubeflow.branches import Mark
from ci_tools.kubeflow.names import check_names

# Source: kubeflow/pipelines, backend/src/apiserver/model/pipeline_tags.go, in characters.
TAG_LIMIT = 63
TAGS = 20
_SIZE_LIMIT = 32 << 20  # bytes that the server takes
_DIGEST = 32  # digits of a hash in a tag, where 64 do not fit
_DESCRIPTION = 600  # characters of the pipeline's own: all of it travels in a URL
_DISPLAY_NAME = 127


class Wanted(NamedTuple):
    """One pipeline that is to be in Kubeflow.

    name:    in Kubeflow, see `branches.name_of`.
    sha256:  `ir.canonical_sha256` of the file.
    version: its name; one that ends with `names.ending(sha256)` is found again
             under any commit.
    description, display_name, tags: of the version.
    mark:    of the pipeline, if it is made.
    """

    name: str
    ir_path: Path
    sha256: str
    version: str
    description: str = ""
    display_name: str = ""
    tags: Mapping[str, str] = {}
    mark: Mark | None = None

    def checked(self) -> ir.Ir:
        """The IR. Raises ConfigError for a name or tags that Kubeflow does not
        take, MissingInputError and KubeflowError for a file that it does not."""
        check_names(self.name, self.version)
        check_tags(self.tags)
        one = ir.load(self.ir_path)
        if ir.canonical_sha256(one) != self.sha256:
            raise KubeflowError(
                f"{self.ir_path} changed since it was compiled", "Run the 'compile' stage again"
            )
        if self.ir_path.stat().st_size > _SIZE_LIMIT:
            raise KubeflowError(
                f"{self.ir_path} is larger than the 32 MB that Kubeflow takes", "Split the pipeline"
            )
        return one


def tags_of(
    project: str, source: Source, sha256: str, *, lock: str, build: str, marks: Mapping[str, str]
) -> dict[str, str]:
    """The tags of a version, each within what the server takes; empty ones are left out.

    lock, sha256: 64 hex, of which 32 are kept.
    build: address of the build; left out where it is too long to be a tag.
    marks: further ones.
    """
    found = {
        "project": project,
        "commit": source.commit or "",
        "branch": source.branch or "",
        "dirty": "true" if source.dirty else "",
        "ir": sha256[:_DIGEST],
        "lock": lock[:_DIGEST],
        "build": build if fitted(build) == build else "",
        **marks,
    }
    return {key: fitted(value) for key, value in found.items() if value}


def fitted(value: str) -> str:
    """A value as a tag: itself if it fits, else what can be read of it and a hash.

    Printable ASCII only: not every database behind the API server takes more.
    """
    readable = re.sub(r"[^ -~]", "-", value)
    if readable == value and len(value) <= TAG_LIMIT:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable[: TAG_LIMIT - 9]}-{digest}"


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises ConfigError for tags that the server refuses."""
    wrong = [
        key
        for key, value in tags.items()
        if not key or "." in key or len(key) > TAG_LIMIT or len(value) > TAG_LIMIT
    ]
    if wrong or len(tags) > TAGS:
        raise ConfigError(
            f"Kubeflow does not take the tags of a version ({', '.join(wrong) or len(tags)})",
            f"Use at most {TAGS} with keys and values of at most {TAG_LIMIT} characters, "
            "and no '.' in a key",
        )


def described(description: str, source: Source, sha256: str, *, lock: str, build: str) -> str:
    """A version's description: the pipeline's own, then where it comes from, in full."""
    commit = source.commit or "no commit"
    lines = [
        f"commit {commit}"
        + (f" of {fitted(source.branch)}" if source.branch else "")
        + (" with changes that are in no commit" if source.dirty else ""),
        f"build {build}" if build else "",
        f"IR sha256 {sha256}",
        f"images.lock.json {lock}" if lock else "",
    ]
    own = description.strip()
    if len(own) > _DESCRIPTION:
        own = own[:_DESCRIPTION].rstrip() + " ..."
    told = "\n".join(line for line in lines if line)
    return f"{own}\n\n{told}" if own else told


def display_name_of(source: Source) -> str:
    """What the user interface calls a version; "" (its name) outside git."""
    if not source.commit:
        return ""
    branch = f" ({fitted(source.branch)})" if source.branch else ""
    return f"{source.commit[:12]}{'-dirty' if source.dirty else ''}{branch}"[:_DISPLAY_NAME]
