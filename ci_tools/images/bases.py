"""External base images: which digest a reference stands for.

`bases.lock` in the repository (reference -> digest, YAML) is where a moved base
is a reviewable change, and what lets a key be computed without a network. What
it does not name is asked of its registry; the embedded environment may have made
a stand-in where no public registry answers, which never enters `bases.lock`.
"""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import yaml
from msgspec import Meta

from ci_tools import config, local, storage, yaml_safe
from ci_tools.components.references import DIGEST, split
from ci_tools.errors import CIError, ConfigError, CredentialsError, RegistryError
from ci_tools.images import registry
from ci_tools.local import state

FILE = "bases.lock"
HEADER = (
    "# What the external base images stand for: reference -> digest.",
    "# Made by 'python -m ci bases refresh'; commit it, and review what it changes.",
)
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]

_AT_ONCE = 8
_PATIENCE = registry.Patience(connect=2, read=5, retries=0)  # nobody waits for a hint
_SILENCE_KEPT_SECONDS = 3600.0
# How YAML ends a line; str.splitlines knows more ends, and would count otherwise.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class Move(msgspec.Struct, kw_only=True, frozen=True):
    """A reference that stood for `before` and stands for `after` now."""

    before: str
    after: str


class Refresh(msgspec.Struct, kw_only=True, frozen=True):
    """A new bases.lock, and how it differs from the old: reference -> digest."""

    locked: dict[str, str]
    moved: dict[str, Move]
    new: dict[str, str]
    dropped: dict[str, str]


class Drift(NamedTuple):
    """What a registry says of a locked base today.

    digest: None when the registry has no such image any more.
    created: when today's image was made, where it says so.
    """

    reference: str
    digest: str | None
    created: datetime | None = None


class Observed(NamedTuple):
    """Bases that stand for something else than what is locked, and, a sentence
    each, what could not be found out."""

    drifts: list[Drift]
    problems: list[str]


def locked(repository: Path) -> dict[str, str]:
    """bases.lock: reference -> digest; empty when there is none.

    Raises ConfigError when it is damaged.
    """
    path = repository / FILE
    if not os.path.lexists(path):
        return {}
    try:
        return config.parse(path, dict[str, Digest])
    except ConfigError as error:
        raise ConfigError(
            error.what, f"Take {FILE} as it was committed, or remove it: 'bases refresh' makes it"
        ) from error


def known(
    references: Iterable[str], locked: Mapping[str, str], home: Path | None
) -> dict[str, str]:
    """Reference -> image by digest, without a network, for those that have one.

    home: state of the embedded environment, whose stand-ins come first as long
    as no public registry was found to answer; None leaves them out.

    Raises LocalEnvironmentError for damaged state of the embedded environment.
    """
    stand_ins = _stand_ins(home) if home is not None else {}
    found: dict[str, str] = {}
    for reference in references:
        digest = split(reference).digest or locked.get(reference)
        if reference in stand_ins:
            found[reference] = stand_ins[reference]
        elif digest:
            found[reference] = pinned(reference, digest)
    return found


def lockable(references: Iterable[str]) -> list[str]:
    """Those that need a line in bases.lock, sorted: one by digest says it itself."""
    return sorted({reference for reference in references if not split(reference).digest})


def chosen(named: Sequence[str], lockable: Sequence[str]) -> list[str]:
    """The references to refresh: all, or those named.

    Raises ConfigError, with the nearest, for one that is no base here.
    """
    for reference in named:
        if reference not in lockable:
            near = difflib.get_close_matches(reference, lockable, n=1, cutoff=0.4)
            raise ConfigError(
                f"no component builds on the external image '{reference}' by tag",
                f"Did you mean '{near[0]}'"
                if near
                else f"Name one of: {', '.join(lockable) or '(there are none)'}",
            )
    return sorted(set(named)) if named else list(lockable)


def resolve(references: Collection[str]) -> dict[str, str]:
    """Reference -> digest of today, all registries asked at once.

    Raises RegistryError or CredentialsError, naming the reference.
    """

    def ask(reference: str) -> str:
        where, path, tag = registry.of(reference)
        try:
            digest = where.digest(path, tag)
        except (RegistryError, CredentialsError) as error:
            raise type(error)(
                f"the base image {reference} could not be looked up: {error.what}", error.todo
            ) from error
        if digest is None:
            raise RegistryError(
                f"the base image {reference} is not in its registry", "Mend the FROM line"
            )
        if not DIGEST.match(digest):
            raise RegistryError(
                f"{where.host} answered for {reference} with no digest ({digest[:80]!r})",
                "Check the registry and any proxy before it",
            )
        return digest

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return dict(zip(references, pool.map(ask, references), strict=True))


def refresh(before: Mapping[str, str], today: Mapping[str, str], keep: Collection[str]) -> Refresh:
    """The new content of bases.lock. today: what was asked. keep: who may stay."""
    after = {**{r: digest for r, digest in before.items() if r in keep}, **today}
    return Refresh(
        locked=dict(sorted(after.items())),
        moved={
            reference: Move(before=before[reference], after=digest)
            for reference, digest in sorted(today.items())
            if before.get(reference, digest) != digest
        },
        new={r: digest for r, digest in sorted(today.items()) if r not in before},
        dropped={r: digest for r, digest in sorted(before.items()) if r not in after},
    )


def write(repository: Path, locked: Mapping[str, str]) -> bool:
    """Write bases.lock, with the comments it had; whether that changed anything.

    Raises WriteError, and ConfigError for one that is there but not UTF-8.
    """
    path = repository / FILE
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE} cannot be read ({error})", "Mend or delete it") from error
    after = render(locked, before or "")
    if after == before or (before is None and not locked):
        return False
    storage.write_bytes(path, after.encode())
    return True


def render(locked: Mapping[str, str], before: str = "") -> str:
    """The text of bases.lock, sorted. before: the old text, for its comments."""
    comments, tail = _comments(before)
    text = [*HEADER]
    for reference, digest in sorted(locked.items()):
        above, beside = comments.get(reference, ([], ""))
        entry = yaml.safe_dump({reference: digest}, width=10_000, allow_unicode=True).rstrip()
        text += [*above, f"{entry}  {beside}".rstrip()]
    return "\n".join([*text, *tail]) + "\n"


def observe(locked: Mapping[str, str], home: Path) -> Observed:
    """Ask which locked bases have moved since, briefly, all at once.

    home: where it is remembered, for an hour, which registries do not answer:
    those are not asked again. A registry's failure is a sentence, never an error.

    Raises LocalEnvironmentError for damaged state in `home`.
    """
    silent = _silent(home)
    asked = [reference for reference in locked if _host(reference) not in silent]

    def ask(reference: str) -> Drift | RegistryError | CredentialsError | None:
        where, path, tag = registry.of(reference, _PATIENCE)
        try:
            digest = where.digest(path, tag)
            if digest == locked[reference]:
                return None
            return Drift(reference, digest, where.created(path, digest) if digest else None)
        except (RegistryError, CredentialsError) as error:
            return error

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = list(zip(asked, pool.map(ask, asked), strict=True))
    # One registry that is away is one problem, however many bases it holds.
    failures = {_host(r): a for r, a in answers if isinstance(a, CIError)}
    problems = [f"it is not known whether bases moved: {e.what}" for e in failures.values()]
    away = [host for host, error in failures.items() if isinstance(error, RegistryError)]
    if away:
        try:
            _remember_silence(home, away)
        except CIError as error:
            problems.append(error.what)
    return Observed([answer for _, answer in answers if isinstance(answer, Drift)], problems)


def pinned(reference: str, digest: str) -> str:
    """The image by digest."""
    parts = split(split(reference).canonical)
    return f"{parts.repository}@{digest}"


def _stand_ins(home: Path) -> dict[str, str]:
    probe = state.load(home).probes.get("public")
    return {} if probe is not None and probe.reachable else local.recorded(home)


def _host(reference: str) -> str:
    return split(split(reference).canonical).registry


def _silent(home: Path) -> set[str]:
    """Registries that did not answer within the last hour, Docker Hub by the
    embedded environment's own probe too."""
    now = time.time()
    return {
        "docker.io" if name == "public" else name.removeprefix("registry ")
        for name, probe in state.load(home).probes.items()
        if not probe.reachable and 0 <= now - probe.asked < _SILENCE_KEPT_SECONDS
    }


def _remember_silence(home: Path, hosts: Iterable[str]) -> None:
    with state.locked(home):
        remembered = state.load(home)
        for host in hosts:
            remembered.probes[f"registry {host}"] = state.Probe(reachable=False, asked=time.time())
        state.save(home, remembered)


def _comments(text: str) -> tuple[dict[str, tuple[list[str], str]], list[str]]:
    """Reference -> comment lines above it and the comment beside it; those at the end."""
    node = yaml_safe.compose(text)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    lines = _LINE_END.split(text)
    found: dict[str, tuple[list[str], str]] = {}
    after = 0
    for key, value in pairs:
        end = value.end_mark
        beside = lines[end.line][end.column :].strip() if end.line < len(lines) else ""
        above = _own_comments(lines[after : key.start_mark.line])
        found[key.value] = (above, beside if beside.startswith("#") else "")
        after = end.line + 1
    return found, _own_comments(lines[after:])


def _own_comments(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.lstrip().startswith("#") and line not in HEADER]
