"""Stage `plan`: which images there are, what they are made of, and which are missing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from ci import built, dividing, forecast, lint
from ci.bases import behind, resolve, users
from ci.console import counted
from ci.dividing import Division
from ci.forcing import Force, forced
from ci.workspace import Workspace
from ci_tools import durations, local, storage
from ci_tools.components import discovery, keys, scaling, shards
from ci_tools.components.discovery import Component
from ci_tools.components.hashing import Hashing
from ci_tools.documents import Lock, Plan, PlannedComponent
from ci_tools.errors import MissingInputError
from ci_tools.images import bases
from ci_tools.images.registry import Registry
from ci_tools.printable import printable

FILE = "plan.json"
REFRESH = "'python -m ci bases refresh'"


def plan(
    workspace: Workspace,
    *,
    drift: bool = True,
    division: Division | None = None,
    timings: Sequence[Path] = (),
    jobs: int | None = None,
    force: Force | None = None,
) -> Plan:
    """Find the components, compute their keys, and ask the registry which it has.

    A dry run asks nobody: every image's state is then "unknown", and a key
    whose base has no recorded digest is provisional.

    drift: say which locked bases have moved since; that is asked while the keys
    are computed, and no registry that is away can fail the plan.
    division: give every component a shard; None builds the plan on one agent.
    timings: locks whose builds tell what to expect, the most trusted first.
    jobs: images at once on an agent, as `build` will be told.
    force: what is built again though the registry has it; see `ci.forcing`.

    Writes plan.json, and first what hadolint says of the Dockerfiles. Raises what
    discovery, keys, templates, bases, `lint` and the registry raise, and
    MissingInputError for a lock of `timings`.
    """
    known = [durations.of_lock(storage.read(path, Lock, made_by="build")) for path in timings]
    # Contexts are hashed and git looks for changes while Dockerfiles are parsed.
    paths = discovery.contexts(
        workspace.repository, workspace.config, workspace.project, workspace.files
    )
    with Hashing(paths) as begun, ThreadPoolExecutor(max_workers=3) as pool:
        pool.submit(lambda: workspace.source)
        components = workspace.components
        forces = forced(force, components)
        linting = pool.submit(lint.lint, workspace)
        used_by: dict[str, list[str]] = {name: [] for name in components}
        for template in workspace.templates:
            for name in template.components:
                used_by[name].append(template.path)
        for line in remarks(components):
            workspace.console.event(line)
        locked = bases.locked(workspace.declared_in)
        pinned = _bases(workspace, locked)
        watched = {
            reference: digest
            for reference, digest in locked.items()
            if pinned.get(reference) == bases.pinned(reference, digest)  # no stand-in
        }
        asked = drift and not workspace.dry_run
        observed = pool.submit(bases.observe, watched, workspace.home) if asked else None
        planned = _planned(workspace, used_by, pinned, begun, forces)
    for line in drift_lines(workspace, observed.result()) if observed else ():
        workspace.console.event(line)
    lint.tell(workspace, linting.result())
    return _finished(workspace, planned, known, division, jobs)


def _planned(
    workspace: Workspace,
    used_by: Mapping[str, list[str]],
    pinned: Mapping[str, str],
    begun: Hashing,
    forces: Mapping[str, str],
) -> list[PlannedComponent]:
    components = workspace.components
    computed = keys.compute(
        workspace.repository,
        components,
        {reference: image.partition("@")[2] for reference, image in pinned.items()},
        begun,
        forces,
    )
    planned = [
        PlannedComponent(
            name=name,
            dockerfile=component.dockerfile,
            context=component.context,
            key=computed[name][0],
            provisional=computed[name][1],
            forced=forces.get(name, ""),
            parents=sorted(set(component.parents.values())),
            bases={reference: pinned.get(reference) for reference in component.bases},
            templates=used_by[name],
            target=component.target,
            platforms=list(component.platforms),
            test_target=component.test_target,
            repository=workspace.repository_of(name),
            reason="a dry run asks no registry" if workspace.dry_run else "",
        )
        for name, component in components.items()
    ]
    registry = None if workspace.dry_run else Registry.of(workspace.registry)
    if registry is not None:
        ask(registry, planned)
    if workspace.branch_apart is not None:
        # What main has, the branch uses; what it lacks, the branch has for itself.
        own = [component for component in planned if component.digest is None]
        for component in own:
            component.repository = workspace.repository_of(component.name, apart=True)
        if registry is not None:
            ask(registry, own)
    return planned


def _finished(
    workspace: Workspace,
    planned: list[PlannedComponent],
    known: Sequence[Mapping[str, float]],
    division: Division | None,
    jobs: int | None,
) -> Plan:
    """The plan with what to expect of each component, and its shard; written."""
    last: dict[str, float] = {}
    with suppress(MissingInputError):  # none, or of another version: an estimate less
        last = durations.of_lock(workspace.read(built.FILE, Lock, made_by="build"))
    sources = [*known, last, durations.stored(workspace.home, workspace.project)]
    unknown = {one.name for one in planned if one.state == "missing"}.difference(*sources)
    if unknown and division is not None and not workspace.dry_run:
        from ci import earlier  # only an agent that remembers nothing needs it

        sources.append(earlier.took(workspace))
    seconds = durations.expected([component.name for component in planned], sources)
    for component in planned:
        there = component.state == "built"
        component.expected = 0.0 if there else round(seconds[component.name], 3)
    result = Plan(
        project=workspace.project,
        environment=workspace.environment_name,
        source=workspace.source,
        components=planned,
    )
    if division is not None:
        at_once = jobs_at_once(workspace, jobs)
        divided = dividing.divided(workspace, planned, division, at_once)
        result.shards = divided.agents
        assigned = shards.assign(planned, divided.agents, at_once, divided.first)
        for component in planned:
            component.shard = assigned[component.name]
    workspace.write(FILE, result)
    workspace.planned = result
    return result


def plan_id(plan: Plan) -> str:
    """What a plan is of: 64 hex over project, environment, commit and keys.

    Locks of shards carry it, so that `merge` joins only what belongs together.
    When or where it was made, what is built and who builds what do not count.
    """
    keys_ = sorted((component.name, component.key) for component in plan.components)
    identity = (plan.project, plan.environment, plan.source.commit, keys_)
    return hashlib.sha256(msgspec.json.encode(identity)).hexdigest()


def jobs_at_once(workspace: Workspace, asked: int | None) -> int:
    """Images at once: as asked, as ci.yaml says, or two more than processors.

    Two more, because an image that is exported or pushed waits for the engine and
    the registry; benchmarks/results.md has what that gains.
    """
    return asked or workspace.config.build.jobs or (os.cpu_count() or 2) + 2


def remarks(components: Mapping[str, Component]) -> list[str]:
    """What of the components is in no key though it looks so, a line each."""
    said: list[str] = []
    for component in components.values():
        for name in component.unused_args:
            said.append(
                f"{component.name}: no ARG of {component.dockerfile} is called '{name}': "
                "the build argument of ci.yaml is left out"
            )
        for url in component.remotes:
            said.append(
                f"{component.name}: {component.dockerfile} adds {url}, whose content is in no key: "
                "give ADD a --checksum, or a git URL its whole commit"
            )
    return said


def lines(result: Plan, jobs: int, costs: scaling.Costs) -> list[str]:
    """The plan for people: a line a component, a line a shard, and how long it takes."""
    width = max((len(component.name) for component in result.components), default=0)
    listed = [
        f"{component.name:<{width}}  {component.key[:12]}{'~' if component.provisional else ' '}  "
        f"{component.state:<7}  {printable(component.dockerfile)}"
        + (f"  (from {', '.join(component.parents)})" if component.parents else "")
        + (f"  forced by {printable(component.forced)}" if component.forced else "")
        for component in result.components
    ]
    return [
        *listed,
        *forecast.shard_lines(result, jobs),
        *forecast.division(result, jobs, costs),
        forecast.summary(result, jobs),
    ]


def drift_lines(workspace: Workspace, observed: bases.Observed) -> list[str]:
    """Which bases have moved, how long ago, and who is behind, a line each."""
    direct = users(workspace.components)
    said: list[str] = []
    for reference, digest, created in observed.drifts:
        if digest is None:
            said.append(f"{reference} is no longer in its registry; {bases.FILE} still holds it")
            continue
        number = len(behind(workspace.components, direct[reference]))
        said.append(
            f"{reference} has moved{_age(created)}: {counted(number, 'component')} "
            f"{'is' if number == 1 else 'are'} behind; {REFRESH} takes the new one"
        )
    return said + observed.problems


def _age(created: datetime | None) -> str:
    """When the new image was made. Reproducible builds say 1970: that is no age."""
    if created is None or created.year < 2001:
        return ""
    days = max((datetime.now(timezone.utc) - created).days, 0)
    return f" (to an image of {counted(days, 'day')} ago)" if days else " (to an image of today)"


def _bases(workspace: Workspace, locked: Mapping[str, str]) -> dict[str, str]:
    """External reference -> image by digest, as far as known."""
    wanted = list(users(workspace.components))
    if workspace.dry_run:
        return bases.known(wanted, locked, workspace.home if workspace.embedded else None)
    found = bases.known(wanted, locked, None)
    if workspace.embedded:
        for reference in wanted:
            with workspace.console.working(reference, "looking for a stand-in"):
                made = local.substitute(reference, workspace.registry.host, workspace.home)
            if made is not None:
                found[reference] = made.image
                workspace.console.warn(made.note)
    missing = [reference for reference in wanted if reference not in found]
    if missing:
        with workspace.console.working(bases.FILE, f"asking for {', '.join(missing)}"):
            for reference, digest in resolve(workspace.components, missing).items():
                found[reference] = bases.pinned(reference, digest)
        workspace.console.event(
            f"not in {bases.FILE}: {', '.join(missing)}: run {REFRESH} and commit it"
        )
    return found


def ask(registry: Registry, planned: Sequence[PlannedComponent]) -> None:
    """Fill in what the registry has of each key, all at once. Raises RegistryError."""
    digests = registry.digests([(component.repository, component.key) for component in planned])
    for component in planned:
        component.digest = digests[component.repository, component.key]
        component.state = "built" if component.digest else "missing"
        component.reason = "" if component.digest else "the registry has no image of this key"
