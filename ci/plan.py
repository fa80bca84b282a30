"""Stage `plan`: which images there are, what they are made of, and which are missing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ci.workspace import Workspace
from ci_tools import git
from ci_tools.components import keys, templates
from ci_tools.components.templates import Template
from ci_tools.documents import Plan, PlannedComponent
from ci_tools.images import bases
from ci_tools.images.registry import Registry

FILE = "plan.json"


def plan(workspace: Workspace) -> Plan:
    """Find the components, compute their keys, and ask the registry which it has.

    A dry run asks nobody: every image's state is then "unknown", and a key
    whose base has no recorded digest is provisional.

    Writes plan.json. Raises what discovery, keys, templates, bases and the
    registry raise.
    """
    components = workspace.components
    found = find_templates(workspace)
    used_by = {
        name: [template.path for template in found if name in template.components]
        for name in components
    }
    pinned = _bases(workspace)
    computed = keys.compute(
        workspace.repository,
        components,
        {reference: image.partition("@")[2] for reference, image in pinned.items()},
    )
    planned = [
        PlannedComponent(
            name=name,
            dockerfile=component.dockerfile,
            context=component.context,
            key=computed[name][0],
            provisional=computed[name][1],
            parents=sorted(set(component.parents.values())),
            bases={reference: pinned.get(reference) for reference in component.bases},
            templates=used_by[name],
            target=component.target,
            test_target=component.test_target,
            repository=workspace.repository_of(name),
            reason="a dry run asks no registry" if workspace.dry_run else "",
        )
        for name, component in components.items()
    ]
    if not workspace.dry_run:
        ask(Registry.of(workspace.registry), planned)
    result = Plan(
        project=workspace.project,
        environment=workspace.environment_name,
        source=workspace.source,
        components=planned,
    )
    workspace.write(FILE, result)
    return result


def find_templates(workspace: Workspace) -> list[Template]:
    """The component templates of the repository. Raises TemplateError."""
    pipelines = workspace.config.pipelines
    return templates.find(
        workspace.repository,
        git.files(workspace.repository),
        pipelines.templates,
        workspace.components,
        workspace.project,
        pipelines.allow_images,
    )


def lines(result: Plan) -> list[str]:
    """The plan for people, a line a component."""
    width = max((len(component.name) for component in result.components), default=0)
    return [
        f"{component.name:<{width}}  {component.key[:12]}{'~' if component.provisional else ' '}  "
        f"{component.state:<7}  {component.dockerfile}"
        + (f"  (from {', '.join(component.parents)})" if component.parents else "")
        for component in result.components
    ]


def _bases(workspace: Workspace) -> dict[str, str]:
    """External reference -> image by digest, as far as known."""
    wanted = sorted({ref for component in workspace.components.values() for ref in component.bases})
    home = workspace.home if workspace.embedded else None
    known = bases.known(wanted, workspace.repository, home)
    if workspace.dry_run:
        return known
    host = workspace.registry.host if workspace.embedded else None
    for reference in wanted:
        if reference not in known or host is not None:
            with workspace.console.working(reference, "resolving the base image"):
                resolved = bases.resolve(reference, known.get(reference), home, host)
            known[reference] = resolved.image
            if resolved.note:
                workspace.console.warn(resolved.note)
    return known


def ask(registry: Registry, planned: Sequence[PlannedComponent]) -> None:
    """Fill in what the registry has of each key, all at once. Raises RegistryError."""

    def fill_in(component: PlannedComponent) -> None:
        component.digest = registry.digest(component.repository, component.key)
        component.state = "built" if component.digest else "missing"
        component.reason = "" if component.digest else "the registry has no image of this key"

    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(fill_in, planned))
