"""What the registry keeps of training tests, where any agent finds it.

`reports/training:<tag>` below the project, in two kinds:

- a run that passed, under a hash of what ran and what was expected of it: while
  neither changes, the test need not run again
- main's last passed run of each test, which others are compared with

Branches that are kept apart keep theirs apart too: they read what main's builds
wrote, and main believes no branch. Nothing of it fails a build.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ci.workspace import Workspace
from ci_tools import typed
from ci_tools.config import Branches
from ci_tools.config_training import Expect
from ci_tools.documents import SCHEMA, Baseline, Document, Json, Passed, Run, timestamp
from ci_tools.errors import CIError
from ci_tools.images import moving
from ci_tools.images.registry import Registry

_HOME = "reports/training"  # below the project's; no component's path has so many parts
PASSED = "application/vnd.kfp-ci.training-passed.v1+json"
BASELINE = "application/vnd.kfp-ci.training-baseline.v1+json"
D = TypeVar("D", bound=Document)
T = TypeVar("T")


def key(environment: str, pipeline: str, sha256: str, parameters: Json, expect: Expect) -> str:
    """What a verdict is kept under: 64 hex over all that it depends on.

    sha256: of the IR, which holds the digest of every component's image.
    """
    content = {
        "environment": environment,
        "pipeline": pipeline,
        "sha256": sha256,
        "parameters": parameters,
        "expect": msgspec.to_builtins(expect),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def of_main(workspace: Workspace) -> bool:
    """Whether this is a build of main, as `registry.branches.main` says.

    Not a pull request, whatever its branch is called, nor a work tree with
    changes, whose run nobody could have again.
    """
    source, patterns = workspace.source, (workspace.registry.branches or Branches()).main
    if source.branch is None or source.dirty or os.environ.get("CHANGE_ID"):
        return False
    return any(fnmatch.fnmatchcase(source.branch, pattern) for pattern in patterns)


class Records:
    """Safe to use from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._registry = Registry.of(workspace.registry)
        self._main = workspace.repository_of(_HOME)
        self._own = workspace.repository_of(_HOME, apart=workspace.branch_apart is not None)
        self._lock = threading.Lock()

    def passed(self, key: str) -> Passed | None:
        """A run that passed, kept under this key; None where there is none to be had."""
        for repository in dict.fromkeys((self._own, self._main)):
            found, _ = self._get(repository, f"passed-{key}", PASSED, Passed)
            if found is not None and found.run.passed:
                return found
        return None

    def keep(self, key: str, run: Run) -> None:
        """Let others know that this run passed."""
        kept = msgspec.structs.replace(run, log="", attempts=[])  # files of this machine
        content = Passed(run=kept, created=timestamp(), commit=self._workspace.source.commit)
        self._put(self._own, f"passed-{key}", PASSED, content)

    def baseline(self, pipeline: str, test: str) -> tuple[Baseline | None, str]:
        """main's last passed run of a test; or None, and why there is none."""
        tag = self._baseline_tag(pipeline, test)
        found, problem = self._get(self._main, tag, BASELINE, Baseline)
        if found is None:
            return None, problem or "main has no passed run of this test yet"
        return found, ""

    def become_baseline(self, run: Run) -> None:
        """Let this run of main be what others are compared with from now on."""
        content = Baseline(
            environment=self._workspace.environment_name,
            pipeline=run.pipeline,
            test=run.test,
            run_id=run.run_id,
            sha256=run.sha256,
            created=timestamp(),
            commit=self._workspace.source.commit,
            url=run.url,
            parameters=run.parameters,
            metrics=run.metrics,
            seconds=run.seconds,
        )
        self._put(self._main, self._baseline_tag(run.pipeline, run.test), BASELINE, content)

    def _baseline_tag(self, pipeline: str, test: str) -> str:
        # No part of it can hold a '/', so that no two tests have one tag.
        return moving.tag_of(f"main/{self._workspace.environment_name}/{pipeline}/{test}")

    def _get(self, repository: str, tag: str, kind: str, type_: type[D]) -> tuple[D | None, str]:
        """What is there, if it can be read; and else why not, or "" where nothing is there."""
        raw, problem = self._try(lambda: moving.get(self._registry, repository, tag, kind))
        if raw is None:
            return None, problem
        try:
            found = typed.decode(raw, type_)
        except msgspec.MsgspecError:
            found = None
        if found is None or found.schema != SCHEMA:
            return None, "what the registry keeps of it is of another version of this tool"
        return found, ""

    def _put(self, repository: str, tag: str, kind: str, content: Document) -> None:
        raw = msgspec.json.encode(content)
        with self._lock:  # the first makes the repository
            self._try(lambda: moving.put(self._registry, repository, tag, kind, raw))

    def _try(self, action: Callable[[], T]) -> tuple[T | None, str]:
        try:
            return action(), ""
        except CIError as error:
            self._workspace.console.warn(
                f"the registry does not tell or keep what training tests came to: {error.what}"
            )
            return None, f"the registry could not be asked: {error.what}"
