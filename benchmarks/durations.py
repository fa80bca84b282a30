"""Recorded durations for the simulation: of a real lock, or of a distribution.

python benchmarks/durations.py LOCK WHAT     what the builds of an images.lock.json took
python benchmarks/durations.py N             made up, N components, as `made_up` says

Prints the JSON that is kept in benchmarks/data/.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

MADE_UP = (
    "made up: build seconds lognormal, median 60, sigma 0.8, 8 to 900; every fifth has tests, "
    "3 to 40 s; scan 2 to 12 s; push 1 to 15 s; three in ten stand on an earlier component, "
    "in chains of at most 4"
)


def of_lock(lock: dict[str, Any], what: str) -> dict[str, Any]:
    """Of every component that the lock has timings of."""
    return {
        "what": what,
        "components": {
            name: {
                "parents": image["parents"],
                "build": image["timings"]["build"],
                "check": round(sum(image["timings"].get(s, 0.0) for s in ("test", "scan")), 3),
                "push": image["timings"]["push"],
            }
            for name, image in lock["components"].items()
            if image["timings"]
        },
    }


def made_up(number: int) -> dict[str, Any]:
    """MADE_UP; the same for the same number."""
    chance = random.Random(number)  # noqa: S311 - no secret
    components: dict[str, Any] = {}
    depth: dict[str, int] = {}
    for n in range(number):
        name = f"c{n:03}"
        parents = []
        if n and chance.random() < 0.3:
            above = chance.choice(list(components))
            if depth[above] < 3:
                parents = [above]
        depth[name] = 1 + depth[parents[0]] if parents else 0
        build = min(max(chance.lognormvariate(math.log(60), 0.8), 8.0), 900.0)
        tests = chance.uniform(3, 40) if chance.random() < 0.2 else 0.0
        components[name] = {
            "parents": parents,
            "build": round(build, 1),
            "check": round(tests + chance.uniform(2, 12), 1),
            "push": round(chance.uniform(1, 15), 1),
        }
    return {"what": MADE_UP, "components": components}


def main() -> None:
    if len(sys.argv) == 2:
        print(told(made_up(int(sys.argv[1]))))
    else:
        print(told(of_lock(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])))


def told(recorded: dict[str, Any]) -> str:
    """JSON, a line a component."""
    lines = (f"  {json.dumps(n)}: {json.dumps(one)}" for n, one in recorded["components"].items())
    what = json.dumps(recorded["what"])
    return f'{{"what": {what}, "components": {{\n' + ",\n".join(lines) + "\n}}"


if __name__ == "__main__":
    main()
