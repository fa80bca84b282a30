"""How long a plan will take, in words. Estimates: see `ci_tools.durations`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ci.console import counted
from ci_tools.components import scaling, shards
from ci_tools.documents import Plan, PlannedComponent


def summary(plan: Plan, jobs: int) -> str:
    """`6 to build, about 1 min 40 s with 2 at once`; of shards, the slowest counts."""
    missing = [component for component in plan.components if component.state != "built"]
    if not plan.components:
        return "no file here is called Dockerfile or Dockerfile.NAME: there is no component"
    if not missing:
        return "nothing needs building"
    assigned = shards.assigned(plan)
    seconds = shards.slowest(plan.components, assigned, jobs)
    divided = f" in {counted(plan.shards, 'shard')}" if plan.shards > 1 else ""
    return f"{_work(missing, seconds)}{divided}{_together(missing, jobs)}"


def shard_lines(plan: Plan, jobs: int) -> list[str]:
    """A line a shard: how much, how long, and what is to be built there."""
    if all(component.shard is None for component in plan.components):
        return []
    told: list[str] = []
    parts = shards.apart(plan.components, shards.assigned(plan))
    for number in range(0 if shards.FIRST in parts else 1, plan.shards + 1):
        mine = parts.get(number, [])
        missing = [component for component in mine if component.state != "built"]
        said = []
        if missing:
            seconds = shards.wall(mine, jobs)
            said.append(_work(missing, seconds) + _together(missing, jobs))
        if len(mine) > len(missing):
            said.append(f"{len(mine) - len(missing)} already built")
        name = f"shard {number}/{plan.shards}" + (", first" if number == shards.FIRST else "")
        line = f"{name}: {', '.join(said) or 'empty'}"
        told.append(f"{line}: {', '.join(one.name for one in missing)}" if missing else line)
    idle = plan.shards - len(parts.keys() - {shards.FIRST})
    if idle:
        told.append(f"{counted(idle, 'shard')} too many: --shards {plan.shards - idle} would do")
    return told


def division(plan: Plan, jobs: int, costs: scaling.Costs) -> list[str]:
    """`3 shards: 3 min 30 s expected on 3 agents, 9 min 20 s on one; critical path 3 min`;
    nothing of a plan that is not divided, or without work."""
    missing = [component for component in plan.components if component.state != "built"]
    if not missing or any(component.shard is None for component in plan.components):
        return []
    assigned = shards.assigned(plan)
    agents = len(shards.needed(plan)) or 1
    expected = scaling.expected(plan.components, assigned, agents=agents, jobs=jobs, costs=costs)
    bound = scaling.floor(plan.components, agents=1, jobs=jobs)
    unsure = any(component.state == "unknown" for component in missing)
    about = f"{'at most ' if unsure else ''}{spoken(expected)} expected"
    told = f"{counted(plan.shards, 'shard')}: {about}"
    if agents > 1:
        told += f" on {agents} agents, {spoken(bound.seconds)} on one"
    else:
        told += f" on one agent, and another is ready after {spoken(costs.agent)}"
    return [f"{told}; critical path {spoken(bound.chain)}"]


def spoken(seconds: float) -> str:
    """`40 s`, `1 min 40 s`, `2 h 5 min`: rounded up, to what matters."""
    whole = max(math.ceil(round(seconds, 3)), 1)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(math.ceil(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _work(missing: Sequence[PlannedComponent], seconds: float) -> str:
    unsure = any(component.state == "unknown" for component in missing)
    return f"{'at most ' if unsure else ''}{len(missing)} to build, about {spoken(seconds)}"


def _together(missing: Sequence[PlannedComponent], jobs: int) -> str:
    return f" with {jobs} at once" if jobs > 1 and len(missing) > 1 else ""
