"""The locks that CI publishes, and which of them the work tree before us is to use.

CI puts the lock of every commit that it built whole and clean where its images
are. Whoever launches a pipeline from a laptop takes the lock of his own commit,
else of where it left main, so that what he runs is what CI built, by digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools import config, git, typed
from ci_tools.components import keys
from ci_tools.components.discovery import Component
from ci_tools.components.references import DIGEST, valid_name
from ci_tools.config import Config
from ci_tools.documents import SCHEMA, Lock
from ci_tools.errors import CIError, ConfigError, MissingInputError, NoPublishedLockError
from ci_tools.images import bases, moving, shelf
from ci_tools.images.registry import Registry

LOCAL = "local"
_SHORT = 12


class Place(NamedTuple):
    """An environment whose CI publishes locks."""

    environment: str
    registry: config.Registry


class Found(NamedTuple):
    """A lock, and why it is the one. commit: of which it is. why: for people."""

    lock: Lock
    commit: str
    why: str
    place: Place


@dataclass(frozen=True)
class Repository:
    """A repository as far as resolving an image needs to know it."""

    root: Path
    config: Config
    project: str


def opened(root: Path) -> Repository:
    """Raises ConfigError for a ci.yaml that is not valid."""
    read = config.load(root)
    return Repository(root, read, read.project or valid_name(git.default_name(root)) or "project")


def tag_of(lock_of: str, environment: str) -> str:
    """The tag of a commit's lock. An environment has its own, though two may share a
    registry: what one's scan gate lets pass another's may not."""
    return moving.tag_of(f"{lock_of}-{environment}")


def unpublishable(lock: Lock) -> str:
    """Why a lock stands for no commit, "" where it does."""
    if lock.source.commit is None:
        return "it comes from no commit"
    if lock.source.dirty:
        return "the work tree had changes that are in no commit"
    if lock.failed:
        return f"images failed ({', '.join(sorted(lock.failed))})"
    if lock.shard:
        return f"it is of shard {lock.shard} only"
    if not lock.components:
        return "it holds no image"
    return ""


def publish(
    settings: config.Registry, lock: Lock, *, apart: bool, registry: Registry | None = None
) -> str:
    """Put the lock of a commit where laptops find it; where that is.

    apart: among those of branches. Published again, the last one counts.

    Raises ConfigError for a lock that stands for no commit; RegistryError,
    CredentialsError.
    """
    why = unpublishable(lock)
    if why or lock.source.commit is None:
        raise ConfigError(f"a lock is not published: {why}", "Commit, and build all images")
    where = shelf.of(settings, lock.project, apart=apart, registry=registry)
    tag = tag_of(lock.source.commit, lock.environment)
    where.put(tag, msgspec.json.encode(lock, order="sorted"))
    return f"{where}:{tag}"


def find(repository: Repository, environment: str, home: Path, asked: str | None = None) -> Found:
    """The lock to use: of HEAD, else of its merge base with main; or of the commit asked for.

    environment: whose images. On `local` those of this machine's own registry, if
    it is up, then of the first environment of ci.yaml that has one.
    home: of the embedded environment. asked: a commit, as git understands it.

    Raises NoPublishedLockError, naming the commits and where they were looked for;
    ConfigError for a commit that git does not know; MissingInputError for a lock
    that is not what its place says; RegistryError, CredentialsError where a place
    cannot be asked and no other has it.
    """
    search = _Search(repository, _places(repository, environment, home))
    if asked is not None:
        commit = git.commit_of(repository.root, asked)
        if commit is None:
            raise ConfigError(
                f"git knows no commit '{asked}' here", "Fetch it, or name another with --commit"
            )
        found = search.of(commit, f"commit {commit[:_SHORT]}", apart=True)
        if found is None:
            raise search.failed()
        return found
    head = git.commit_of(repository.root)
    if head is None:
        raise NoPublishedLockError(
            f"{repository.root} is at no commit, so that CI has built nothing of it",
            "Commit and push it, and let CI build it",
        )
    found = search.of(head, f"this commit ({head[:_SHORT]})", apart=True)
    if found is not None:
        return found
    base = git.merge_base(repository.root, search.mains)
    if base.commit is None:
        raise search.failed(base.problem, base.todo)
    if base.commit == head:
        raise search.failed(f"it is in {base.main} itself")
    # What a branch writes must not stand for main's.
    why = f"the merge base with {base.main} ({base.commit[:_SHORT]})"
    found = search.of(base.commit, why, apart=False)
    if found is None:
        raise search.failed()
    return found


def changed(
    repository: Repository,
    components: Mapping[str, Component],
    lock: Lock,
) -> list[str]:
    """The components whose image in the lock is not what their sources here make, sorted.

    Those that the lock does not hold are among them. Keys are compared, which tell
    of a changed parent or base too. Asks nobody. Raises what keys raise.
    """
    now = keys_now(repository, components, lock)
    held = {name: image.key for name, image in lock.components.items()}
    return sorted(name for name, key in now.items() if held.get(name) != key)


def keys_now(
    repository: Repository, components: Mapping[str, Component], lock: Lock
) -> dict[str, str]:
    """Component -> the key of its sources here, on the bases that CI would take.

    What was built again by force for this lock is of these sources all the same.
    """
    forced = {
        name: image.ingredients.forced
        for name, image in lock.components.items()
        if image.ingredients is not None
    }
    digests = {
        reference: image.partition("@")[2]
        for reference, image in bases_of(repository, components, lock).items()
    }
    computed = keys.compute(repository.root, components, digests, forced=forced)
    return {name: key for name, (key, _) in computed.items()}


def bases_of(
    repository: Repository, components: Mapping[str, Component], lock: Lock
) -> dict[str, str]:
    """External reference -> image by digest: as bases.lock says, else as the lock was
    built. On `local` the lock comes first, for there images may stand on stand-ins."""
    recorded = {
        reference: image
        for one in lock.components.values()
        for reference, image in one.bases.items()
        if image
    }
    wanted = {reference for one in components.values() for reference in one.bases}
    known = bases.known(wanted, bases.locked(repository.root), None)
    return known | recorded if lock.environment == LOCAL else recorded | known


def _places(repository: Repository, environment: str, home: Path) -> list[Place]:
    """Where to look, in order. Raises ConfigError where there is nowhere."""
    declared = repository.config.environment(environment).registry
    if environment != LOCAL:
        if declared is None:
            raise ConfigError(
                f"environment '{environment}' names no registry",
                f"Add environments.{environment}.registry to ci.yaml",
            )
        return [Place(environment, declared)]
    own = declared or embedded(home)
    places = [Place(LOCAL, own)] if own is not None else []
    for name, other in repository.config.environments.items():
        if name != LOCAL and other.registry is not None:
            return [*places, Place(name, other.registry)]
    if not places:
        raise NoPublishedLockError(
            "no environment of ci.yaml has a registry that CI publishes to, and the local one "
            "is not up",
            "Declare one under 'environments:', or build here: 'python -m ci plan' and "
            "'python -m ci build'",
        )
    return places


def embedded(home: Path) -> config.Registry | None:
    """The registry of this machine's embedded environment, where it is up."""
    from ci_tools import local

    if not home.is_dir():
        return None
    for part in local.status(home):
        if part.part == "registry" and part.state == "running":
            return config.Registry(host=part.address, plain_http=True)
    return None


class _Search:
    """Looks for locks in places, and remembers where it did."""

    def __init__(self, repository: Repository, places: list[Place]) -> None:
        self._repository, self._places = repository, places
        self._missed: list[str] = []
        self._looked: dict[str, None] = {}
        self._refused: CIError | None = None

    @property
    def mains(self) -> tuple[str, ...]:
        """The patterns of main's name, of the first place that says."""
        said = [one.registry.branches for one in self._places if one.registry.branches]
        return said[0].main if said else config.Branches().main

    def of(self, commit: str, why: str, *, apart: bool) -> Found | None:
        """A commit's lock. apart: whether one will do that a branch wrote."""
        for place in self._places:
            tag = tag_of(commit, place.environment)
            for own in (False, True) if apart and place.registry.branches else (False,):
                where = shelf.of(place.registry, self._repository.project, apart=own)
                self._looked.setdefault(str(where))
                try:
                    content = where.get(tag)
                except CIError as error:
                    self._refused = self._refused or error
                    continue
                if content is not None:
                    lock = _checked(content, f"{where}:{tag}", self._repository, place, commit)
                    return Found(lock, commit, why, place)
        self._missed.append(why)
        return None

    def failed(self, problem: str = "", todo: str = "") -> CIError:
        """Why nothing was found. todo: what helps against the problem."""
        if self._refused is not None:  # it may well be there
            return self._refused
        push = "push this commit and let CI build it, or name one that it built with --commit"
        return NoPublishedLockError(
            f"CI has published no lock of {', nor of '.join(self._missed)}"
            + (f", and {problem}" if problem else "")
            + f" (looked in {', '.join(self._looked)})",
            f"{todo}; or {push}" if todo else push[0].upper() + push[1:],
        )


def _checked(content: bytes, name: str, repository: Repository, place: Place, commit: str) -> Lock:
    """The lock, if it is of this project, commit and environment. Raises MissingInputError."""
    todo = f"Build commit {commit[:_SHORT]} again, and look who else writes there"
    try:
        if typed.decode(content, _Version).schema != SCHEMA:
            raise MissingInputError(
                f"{name} is of another schema version than this tool reads ({SCHEMA})",
                "Use the version of this tool that CI uses",
            )
        lock = typed.decode(content, Lock)
    except msgspec.MsgspecError as error:
        raise MissingInputError(f"{name} is no lock ({error})", todo) from error
    differs = {
        f"of project '{lock.project}', not of '{repository.project}'": (
            lock.project != repository.project
        ),
        f"of commit {lock.source.commit}": lock.source.commit != commit,
        f"of environment '{lock.environment}'": lock.environment != place.environment,
        f"of no use: {unpublishable(lock)}": bool(unpublishable(lock)),
    }
    for what, different in differs.items():
        if different:
            raise MissingInputError(f"{name} is {what}", todo)
    homes = [
        f"{place.registry.host}/{place.registry.repository(lock.project, '', apart=apart)}"
        for apart in (False, True)
    ]
    for component, image in lock.components.items():
        own = {f"{home}{component}" for home in homes}
        if image.repository not in own or not DIGEST.match(image.digest):
            raise MissingInputError(
                f"{name} says that '{component}' is {image.reference}, "
                "which is no image of this project",
                todo,
            )
    return lock


class _Version(msgspec.Struct):
    schema: int
