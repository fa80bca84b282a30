"""How long an image is expected to take: from the builds that really made it.

Only an estimate hangs on this: the order of work, the shards and a forecast.
So nothing here fails a stage: a damaged store is a new start, and one that
cannot be written forgets.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec

from ci_tools import storage, typed
from ci_tools.documents import Lock
from ci_tools.errors import WriteError

FILE = "durations.json"
# Where nothing at all is known; this project's own images take 55 to 180, cold.
DEFAULT_SECONDS = 60.0
KEPT = 5000  # components; those built least recently go first
_NEWEST = 0.5  # weight of the last build in the smoothed value
_VERSION = 1

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Duration(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """last, smoothed: seconds. at: when it was recorded (Unix seconds)."""

    last: Seconds
    smoothed: Seconds
    at: float


class Durations(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """durations.json of a machine: `project/component` -> what its builds took."""

    version: int = _VERSION
    components: dict[str, Duration] = {}


def expected(names: Iterable[str], sources: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Component -> seconds, for every name.

    sources: component -> seconds, the most trusted first. What no source knows
    takes the median of all that is known, DEFAULT_SECONDS where nothing is.
    """
    known: dict[str, float] = {}
    for source in sources:
        known = {**source, **known}
    otherwise = median(known.values()) if known else DEFAULT_SECONDS
    return {name: known.get(name, otherwise) for name in names}


def of_lock(lock: Lock) -> dict[str, float]:
    """Component -> seconds of the build that made it, where the lock tells.

    An image that was found in the registry took no build, and tells only when
    its timings were kept. Locks of before `timings` tell the seconds of a build.
    """
    told: dict[str, float] = {}
    for name, image in lock.components.items():
        if image.timings:
            told[name] = sum(image.timings.values())
        elif image.built and image.seconds > 0:
            told[name] = image.seconds
    return told


def stored(home: Path, project: str) -> dict[str, float]:
    """Component -> smoothed seconds of its builds on this machine."""
    prefix = f"{project}/"
    return {
        name.removeprefix(prefix): duration.smoothed
        for name, duration in load(home).components.items()
        if name.startswith(prefix)
    }


def record(home: Path, lock: Lock) -> None:
    """Remember what the images that this lock's build made took.

    Of two builds that record at the same moment, one may be forgotten.
    """
    made = {name: image for name, image in lock.components.items() if image.built}
    took = of_lock(msgspec.structs.replace(lock, components=made))
    if not took:
        return
    durations = load(home)
    for name, seconds in took.items():
        key = f"{lock.project}/{name}"
        before = durations.components.get(key)
        smoothed = before.smoothed if before else seconds
        durations.components[key] = Duration(
            last=round(seconds, 3),
            smoothed=round(_NEWEST * seconds + (1 - _NEWEST) * smoothed, 3),
            at=round(time.time(), 3),
        )
    newest = sorted(durations.components.items(), key=lambda item: (-item[1].at, item[0]))
    durations.components = dict(newest[:KEPT])
    with contextlib.suppress(WriteError):  # an estimate is not worth a failed build
        storage.write_bytes(home / FILE, storage.encode(durations))


def load(home: Path) -> Durations:
    """The store; empty where it is missing, damaged or of another version."""
    try:
        durations = typed.decode((home / FILE).read_bytes(), Durations)
    except (OSError, msgspec.MsgspecError):
        return Durations()
    return durations if durations.version == _VERSION else Durations()
