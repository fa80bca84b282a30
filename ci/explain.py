"""Why a key is not the one of an earlier lock, and what a merge would rebuild.

Both compare this work tree with an images.lock.json: no engine, no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ci import built
from ci.console import counted
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.components import changes, keys
from ci_tools.components.changes import Change
from ci_tools.components.discovery import Component
from ci_tools.config_errors import name_one
from ci_tools.documents import Lock, Plan
from ci_tools.errors import ConfigError
from ci_tools.images import bases

_SHOWN = 3  # reasons on a line of `plan --against`; `explain` gives all


class Difference(msgspec.Struct, kw_only=True):
    """One component's key now and in the lock.

    state:   "new" when the lock does not hold the component.
    before:  its key there, None where it is new. after: its key here.
    changes: why they differ; empty when they are equal.
    note:    what `changes` cannot say, or "".
    """

    name: str
    state: Literal["unchanged", "changed", "new"]
    before: str | None
    after: str
    changes: list[Change] = []
    note: str = ""


class Explanation(msgspec.Struct, kw_only=True):
    """A component's difference, with those of every ancestor behind it.

    assumed: bases without a known digest, taken as the lock has them.
    """

    against: str
    component: Difference
    parents: dict[str, Difference] = {}
    assumed: list[str] = []


class Rebuild(msgspec.Struct, kw_only=True):
    """state: as in the plan; "built" when the registry has the new key already."""

    name: str
    reasons: list[str]
    state: str


class Against(msgspec.Struct, kw_only=True):
    """What a merge into the tree of a lock would rebuild, by name."""

    lock: str
    rebuild: list[Rebuild]
    new: list[str]
    removed: list[str]
    unchanged: int
    assumed: list[str] = []


def explain(workspace: Workspace, name: str, lock: Path | None = None) -> Explanation:
    """Which file, argument, base or parent gives a component another key than a lock's.

    lock: an images.lock.json; by default the one of this build directory.

    Raises ConfigError for an unknown name, naming the nearest;
    MissingInputError for a lock that is not there; what discovery and keys raise.
    """
    lock = lock or workspace.build / built.FILE
    earlier = storage.read(lock, Lock, made_by="build")
    if name not in workspace.components:
        raise _unknown(name, workspace.components, earlier)
    lineage = {one: workspace.components[one] for one in _lineage(name, workspace.components)}
    wanted = sorted({reference for one in lineage.values() for reference in one.bases})
    images = bases.known(
        wanted,
        bases.locked(workspace.declared_in),
        workspace.home if workspace.embedded else None,
    )
    known = {reference: image.partition("@")[2] for reference, image in images.items()}
    assumed = _agreed(wanted, known, earlier)
    comparison = _Comparison(workspace.repository, lineage, known | assumed, earlier)
    explained = comparison.behind(name)
    return Explanation(
        against=workspace.shown(lock),
        component=explained.pop(name),
        parents=explained,
        assumed=sorted(assumed),
    )


def against(workspace: Workspace, plan: Plan, lock: Path) -> Against:
    """What of a plan has another key than a lock, and the reasons.

    Raises MissingInputError for a lock that is not there.
    """
    earlier = storage.read(lock, Lock, made_by="build")
    wanted = {reference: image for one in plan.components for reference, image in one.bases.items()}
    known = {reference: image.partition("@")[2] for reference, image in wanted.items() if image}
    assumed = _agreed(wanted, known, earlier)
    planned = {one.name: one.key for one in plan.components}
    comparison = _Comparison(
        workspace.repository,
        workspace.components,
        known | assumed,
        earlier,
        None if assumed else planned,  # an assumption gives other keys
        {one.name: one.forced for one in plan.components},
    )
    states = {one.name: one.state for one in plan.components}
    differences = [comparison.of(name) for name in sorted(planned)]
    return Against(
        lock=workspace.shown(lock),
        rebuild=[
            Rebuild(
                name=one.name,
                reasons=[*map(str, one.changes), *([one.note] if one.note else [])],
                state=states[one.name],
            )
            for one in differences
            if one.state == "changed" or one.name in earlier.failed
        ],
        new=[
            one.name for one in differences if one.state == "new" and one.name not in earlier.failed
        ],
        removed=sorted({*earlier.components, *earlier.failed} - set(planned)),
        unchanged=sum(one.state == "unchanged" for one in differences),
        assumed=sorted(assumed),
    )


def lines(explanation: Explanation) -> list[str]:
    """An explanation for people: the component, then each parent that made it differ."""
    said: list[str] = []
    for one in (explanation.component, *explanation.parents.values()):
        if one.state == "unchanged":
            what = "nothing changed"
        elif one.state == "new":
            what = f"not in {explanation.against}"
        else:
            what = f"{(one.before or '')[:12]} → {one.after[:12]}"
        said.append(f"{one.name}: {what}")
        said += [f"  {change}" for change in one.changes]
        said += [f"  {one.note}"] if one.note else []
    return said + _assumptions(explanation.assumed)


def against_lines(result: Against) -> list[str]:
    """What would be rebuilt, a line each, and the counts."""
    said = [f"against {result.lock}:"]
    for one in result.rebuild:
        more = len(one.reasons) - _SHOWN
        reasons = "; ".join(one.reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        there = " (the registry has it)" if one.state == "built" else ""
        said.append(f"  rebuild  {one.name}{there}: {reasons}")
    said += [f"  new      {name}" for name in result.new]
    said += [f"  removed  {name}" for name in result.removed]
    said.append(f"  {counted(result.unchanged, 'component')} unchanged")
    return said + _assumptions(result.assumed)


class _Comparison:
    """Components as they are against those of a lock."""

    def __init__(
        self,
        repository: Path,
        components: Mapping[str, Component],
        digests: Mapping[str, str],
        lock: Lock,
        computed: Mapping[str, str] | None = None,
        forced: Mapping[str, str] | None = None,
    ) -> None:
        self._repository = repository
        self._components = components
        self._digests = digests
        self._lock = lock
        self._forced = forced or {}
        self._keys = computed or {
            name: key
            for name, (key, _) in keys.compute(
                repository, components, digests, forced=self._forced
            ).items()
        }

    def of(self, name: str) -> Difference:
        earlier, now = self._lock.components.get(name), self._keys[name]
        if earlier is None:
            failed = self._lock.failed.get(name)
            note = f"it failed there in step '{failed.step}'" if failed else ""
            return Difference(name=name, state="new", before=None, after=now, note=note)
        if earlier.key == now:
            return Difference(name=name, state="unchanged", before=now, after=now)
        result = Difference(name=name, state="changed", before=earlier.key, after=now)
        if earlier.ingredients is None:
            result.note = "the lock does not say what the key was made of"
            return result
        component = self._components[name]
        forced = self._forced.get(name, "")
        made_of = keys.ingredients(self._repository, component, self._keys, self._digests, forced)
        result.changes = changes.between(
            earlier.ingredients,
            changes.recorded(made_of),
            dockerfile=component.dockerfile,
            context=component.context,
        )
        if not result.changes:
            result.note = "the change is finer than what the lock records"
        return result

    def behind(self, name: str) -> dict[str, Difference]:
        """The component, and every ancestor through which a change reached it."""
        found = {name: self.of(name)}
        waiting = [name]
        for one in waiting:
            parents = self._components[one].parents
            for change in found[one].changes:
                parent = parents.get(change.name) if change.kind == "parent" else None
                if parent is None or change.how != "changed" or parent in found:
                    continue
                found[parent] = self.of(parent)
                if found[parent].state == "unchanged":
                    found[parent].note = f"the lock has it, but {one} there is built on another"
                waiting.append(parent)
        return found


def _lineage(name: str, components: Mapping[str, Component]) -> list[str]:
    """A component and all its ancestors; a circle is for `keys` to refuse."""
    found = [name]
    for one in found:
        parents = sorted(set(components[one].parents.values()))
        found += [parent for parent in parents if parent not in found]
    return found


def _agreed(wanted: Iterable[str], known: Mapping[str, str], lock: Lock) -> dict[str, str]:
    """Digests of the bases that nobody knows here, where the lock names just one."""
    seen: dict[str, set[str]] = {}
    for image in lock.components.values():
        for reference, digest in (image.ingredients.bases if image.ingredients else {}).items():
            if digest:
                seen.setdefault(reference, set()).add(digest)
    return {
        reference: next(iter(seen[reference]))
        for reference in wanted
        if reference not in known and len(seen.get(reference, ())) == 1
    }


def _assumptions(assumed: Iterable[str]) -> list[str]:
    return [f"assumed: {reference} as in the lock ({bases.FILE} lacks it)" for reference in assumed]


def _unknown(name: str, components: Mapping[str, Component], lock: Lock) -> ConfigError:
    gone = " any more, though the lock has it" if name in lock.components else ""
    return ConfigError(f"there is no component '{name}'{gone}", name_one(name, components))
