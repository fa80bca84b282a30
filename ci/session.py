"""What all images of one run share: the registry, the scanner, and a builder
where something is to be built."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

from ci import built
from ci.request import cache_repository
from ci.workspace import Workspace
from ci_tools import process, storage
from ci_tools.components import changes, keys, shards
from ci_tools.documents import Ingredients, Lock, PlannedComponent, ScannedImage, ScanRecord
from ci_tools.errors import BuildError, CIError
from ci_tools.images import builders, login
from ci_tools.images.builders import Builder
from ci_tools.images.registry import Registry
from ci_tools.scanner import gate
from ci_tools.scanner.databases import Sources
from ci_tools.scanner.trivy import Trivy

_CLOSE_SECONDS = 1.0


class Found(NamedTuple):
    """What a report says of an image of one platform, and what that is made from."""

    image: ScannedImage
    record: ScanRecord


@dataclass
class Session:
    """builder: None while nobody needs one.

    keys, bases: component -> key, and external reference -> digest.
    forced:      component -> what forces it to be built again, as the plan says.
    parents:     component -> image by digest, of those that other shards hold.
    env:         variables by which docker finds the registry's credentials.
    aside:       for what nobody waits for until the lock.
    quarantine:  whether images that the scan refuses are kept apart to be looked at.
    old_scans:   whether what an older Trivy found in an image will do.
    halted:      set when nothing more is to be begun (`--fail-fast`).
    over:        set when nobody waits for anything more: what then goes wrong is not told.
    day:         on which waivers are looked at, the same for all images.
    scans:       component -> what a report says of its image.
    """

    workspace: Workspace
    registry: Registry
    trivy: Trivy
    previous: Lock | None
    keys: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    forced: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    builder: Builder | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    halted: threading.Event = field(default_factory=threading.Event)
    aside: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)
    quarantine: bool = False
    over: bool = False
    old_scans: bool = False
    day: date = field(default_factory=gate.today)
    scans: dict[str, list[Found]] = field(default_factory=dict)
    _behind: list[Future[object]] = field(default_factory=list)

    def behind(self, action: Callable[..., object], *arguments: object) -> None:
        """Have something done with this session that nothing but the end waits for."""
        self._behind.append(self.aside.submit(action, self, *arguments))

    def settle(self) -> None:
        """Wait for all of that, and raise what went wrong."""
        while self._behind:
            self._behind.pop().result()

    def ingredients(self, name: str) -> Ingredients:
        """What a component's key is made of, as the lock keeps it.

        Raises BuildError where the files are not those of the key any more.
        """
        workspace = self.workspace
        component = workspace.components[name]
        made_of = keys.ingredients(
            workspace.repository, component, self.keys, self.bases, self.forced.get(name, "")
        )
        if keys.key_of(made_of) != self.keys[name]:
            raise BuildError(
                f"the files of component '{name}' were changed while it was built",
                "Run 'python -m ci plan' and the build again",
            )
        return changes.recorded(made_of)


def begun(workspace: Workspace, shard: tuple[int, int] | None) -> Session:
    """A session that has asked nobody yet. Raises ToolError, ConfigError."""
    _ = workspace.scan_policy  # a wrong one is told before anything is built
    declared = workspace.config.scan
    sources = Sources(declared.database, declared.java_database, declared.checks)
    trivy = Trivy(workspace.home / "trivy", sources)
    # A tenth of a second that keys are computed in meanwhile.
    threading.Thread(target=trivy.learn_version, daemon=True).start()
    return Session(
        workspace=workspace,
        registry=Registry.of(workspace.registry),
        trivy=trivy,
        previous=_previous(workspace, shard),
    )


def _previous(workspace: Workspace, shard: tuple[int, int] | None) -> Lock | None:
    """The lock of the last run; of a shard's own, or of the whole."""
    found = None
    for name in dict.fromkeys((shards.file_of(shard, built.FILE), built.FILE)):
        found = found or storage.read_if_there(workspace.build / name, Lock, made_by="build")
    return found


@contextmanager
def connected(session: Session, missing: Sequence[PlannedComponent]) -> Iterator[None]:
    """Give the session a builder, if anything is missing.

    It is asked before the first long build whether a push would be taken.
    Raises EngineError, PushError, CredentialsError, RegistryError.
    """
    if not missing:
        yield
        return
    workspace, registry = session.workspace, session.registry
    tested = any(workspace.components[one.name].test for one in missing)
    with tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch:
        with ThreadPoolExecutor(max_workers=1) as pool:
            asked = pool.submit(registry.preflight, {one.repository for one in missing})
            session.builder = builders.in_use(registry, needs_engine=tested)
        for line in asked.result():
            workspace.console.event(line)
        _prepare_cache(session)
        with login.client_environment(registry, Path(scratch)) as session.env:
            try:
                yield
            finally:
                _close(session.builder)


def _prepare_cache(session: Session) -> None:
    cache = cache_repository(session.workspace)
    if cache is None or session.builder is None:
        return
    if session.builder.exports_cache:
        session.registry.ensure_repository(cache, mutable=True)
    else:
        session.workspace.console.event(
            "layers are read from the registry but not kept there: the engine's own image "
            "store cannot (containerd's, or another builder, can)"
        )


def fetch_database(session: Session) -> None:
    """Bring the vulnerability database up to date, and tell where that fails."""
    try:
        problem = session.trivy.databases.vulnerabilities.problem
    except CIError:
        return  # the first scan meets it again, and tells
    if problem and not session.over:
        session.workspace.console.event(problem)


def _close(builder: Builder | None) -> None:
    """Let the builder forget what was only for this run; an engine that does not
    answer must not keep us when we were told to stop."""
    if builder is not None:
        closing = threading.Thread(target=builder.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS if process.stopping() else None)
