"""What a build's page in Jenkins says of it: a name and some short lines. Pure.

Jenkins shows a description with whatever markup formatter it was given, which may be
HTML, and names of pipelines, tests and branches come from whoever pushes: what HTML
acts upon does not get there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ci_tools.documents import (
    Deployed,
    Lock,
    Plan,
    Promotion,
    Release,
    Training,
    Uploads,
)
from ci_tools.printable import printable

_MARKUP = str.maketrans(dict.fromkeys("<>&\"'`", "_"))
_NAMES = 5  # named of several
_NAME, _LINE, _LINES = 60, 240, 12  # characters, characters and lines at most
_SHARD = re.compile(r"shard [0-9]+/[0-9]+")
_SHORT = 7
# What a line is of, in their order; what is damaged now need not be so later, and a shard
# tells only what failed, until there is a whole lock.
_LABELS = (
    "damaged", "plan", "images", "tests", "scans", "pipelines", "training", "services", "release",
    "promotion",
)  # fmt: skip


class Known(msgspec.Struct, kw_only=True):
    """What the stages left so far; None of a stage that was not there yet.

    shards:  locks of shards. damaged: files that are there and cannot be read.
    """

    plan: Plan | None = None
    lock: Lock | None = None
    shards: list[Lock] = []
    uploads: Uploads | None = None
    training: Training | None = None
    deployed: Deployed | None = None
    release: Release | None = None
    promotion: Promotion | None = None
    damaged: list[str] = []


def name(number: str, commit: str | None) -> str:
    """`#42 1a2b3c4`. number: of the build, as Jenkins' variable has it, "" for none."""
    parts = [f"#{number}"] if re.fullmatch(r"[0-9]{1,10}", number) else []
    return " ".join([*parts, harmless(commit[:_SHORT])] if commit else [*parts, "no commit"])


def lines(known: Known, before: str = "") -> list[str]:
    """At most a line for each stage that has come to something.

    before: the description until now. Of stages whose files are not at hand its lines
    stay, for each stage runs on an agent of its own.
    """
    told = {label: harmless(text) for label, text in _told(known)}
    for line in before.splitlines():
        label, colon, text = line.partition(": ")
        if colon and (label in _LABELS[1:] or _SHARD.fullmatch(label)):
            told.setdefault(label, harmless(text))
    if "images" in told:
        told = {one: text for one, text in told.items() if one != "plan" and one in _LABELS}
    order = [*_LABELS[:2], *sorted(set(told) - set(_LABELS), key=_number), *_LABELS[2:]]
    return [f"{label}: {told[label]}" for label in order if label in told][:_LINES]


def harmless(text: str) -> str:
    """Text of a line, which neither HTML nor a terminal acts upon."""
    text = printable(text).translate(_MARKUP)
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"


def _told(known: Known) -> Iterator[tuple[str, str]]:
    if known.damaged:
        yield "damaged", _named(known.damaged)
    if known.plan is not None:
        yield "plan", _plan(known.plan)
    for part in known.shards:
        if part.failed:
            yield f"shard {part.shard}", f"failed: {_failures(part)}"
    if known.lock is not None:
        yield from _images(known.lock)
    if known.uploads is not None:
        every = known.uploads.pipelines
        new = [one for one in every if every[one].created]
        yield "pipelines", _counts({"uploaded": new}, {"unchanged": len(every) - len(new)})
    if known.training is not None:
        runs = known.training.runs
        counts = {
            "passed": sum(run.passed and not run.unchanged for run in runs),
            "unchanged": sum(run.passed and run.unchanged for run in runs),
        }
        failed = [run.label for run in runs if not run.passed]
        yield "training", _counts({}, counts, {"failed": failed})
    if known.deployed is not None:
        yield "services", _services(known.deployed)
    if known.release is not None:
        problems = len(known.release.problems)
        why = f"; not to be promoted, {problems} reasons" if problems > 1 else ""
        why = "; not to be promoted, 1 reason" if problems == 1 else why
        yield "release", _cut(known.release.name) + why
    if known.promotion is not None:
        yield "promotion", _promotion(known.promotion)


def _plan(plan: Plan) -> str:
    missing = [one.name for one in plan.components if one.state != "built"]
    divided = f" in {plan.shards} shards" if plan.shards > 1 else ""
    forced = [one.name for one in plan.components if one.forced]
    told = f"{len(missing)} of {len(plan.components)} images to build{divided}"
    return told + (f"; forced: {_named(forced)}" if forced else "")


def _images(lock: Lock) -> Iterator[tuple[str, str]]:
    images = lock.components
    built = [one for one, image in images.items() if image.built]
    forced = [n for n, one in images.items() if one.ingredients and one.ingredients.forced]
    counts = {"from the registry": len(images) - len(built)}
    failed = [_failures(lock)] if lock.failed else []
    yield "images", _counts({"built": built}, counts, {"failed": failed, "forced": forced})
    tested = sum(image.tests == "passed" for image in images.values())
    untested = [one for one, failure in lock.failed.items() if failure.step == "test"]
    if tested or untested:
        yield "tests", _counts({}, {"images passed theirs": tested}, {"failed": untested})
    verdicts = {
        status: sum(image.verdict.status == status for image in images.values())
        for status in ("pass", "incomplete", "fail")
    }
    refused = [one for one, failure in lock.failed.items() if failure.step == "scan"]
    yield "scans", _counts({}, verdicts, {"refused": refused})


def _failures(lock: Lock) -> str:
    return _named([f"{_cut(one)} ({failure.step})" for one, failure in sorted(lock.failed.items())])


def _services(deployed: Deployed) -> str:
    there = [
        f"{_cut(one.service)} at {_cut((one.task_definition or '-').rpartition('/')[2])}"
        + ("" if one.changed else " (unchanged)")
        for one in deployed.services.values()
    ]
    failed = [one.service for one in deployed.failed.values()]
    parts = [_named(there)] if there else []
    return "; ".join([*parts, *([f"failed: {_named(failed)}"] if failed else [])]) or "none"


def _promotion(promotion: Promotion) -> str:
    verb = "" if promotion.action == "promote" else ", a roll-back"
    by = f", approved by {_named(promotion.approvals)}" if promotion.approvals else ""
    where = _cut(promotion.environment)
    return f"{_cut(promotion.release)} to {where}{verb}, {promotion.outcome}{by}"


def _counts(
    named: Mapping[str, Sequence[str]],
    counted: Mapping[str, int],
    after: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """`2 built (a, b), 3 from the registry; failed: c`, without what there is none of."""
    parts = [f"{len(names)} {what} ({_named(names)})" for what, names in named.items() if names]
    parts += [f"{number} {what}" for what, number in counted.items() if number]
    tail = [f"{what}: {_named(names)}" for what, names in (after or {}).items() if names]
    return "; ".join([*([", ".join(parts)] if parts else []), *tail]) or "none"


def _named(names: Iterable[str]) -> str:
    every = [_cut(one) for one in names]
    more = f" and {len(every) - _NAMES} more" if len(every) > _NAMES else ""
    return ", ".join(every[:_NAMES]) + more


def _cut(text: str) -> str:
    return text if len(text) <= _NAME else text[: _NAME - 1] + "…"


def _number(label: str) -> tuple[int, ...]:
    return tuple(int(one) for one in label.removeprefix("shard ").split("/"))
