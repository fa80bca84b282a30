"""Whether a release may go into an environment. Pure: facts in, refusals out.

All refusals are told at once: who is called at night mends them in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ci_tools.config import Promotion
from ci_tools.documents import Action, Release

_SHOWN = 5


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """Today's verdict on one image, by the policy of the environment that it goes to."""

    component: str
    status: str
    reason: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a release whose bytes are those of its name.

    signature:  "" where an allowed key signed the whole of it, else why not.
    project:    that the environment is of; "" where ci.yaml names none.
    on_branch:  the allowed branch that its commit is on; "" for none.
    branch_problem: why nobody can tell that now, "" where one can. on_branch is then the one
                that it was on when somebody could.
    verified:   how it was verified in `after`; "" for not at all.
    scans:      of every image. unscanned: image -> why it has no verdict.
    allow_incomplete: of the environment.
    by, approvals: who promotes, and who approved.
    promoted_before: whether the environment ran it once (a roll-back).
    unproven: why a record that says so of either environment is not believed, a clause.
    signs: whether records of the environment are signed, so that one that is believed is
                proof of what passed this gate before.
    """

    release: Release
    signature: str
    project: str = ""
    on_branch: str = ""
    branch_problem: str = ""
    verified: str = ""
    scans: Sequence[Scanned] = ()
    unscanned: Mapping[str, str] = {}
    allow_incomplete: bool = False
    by: str = ""
    approvals: Sequence[str] = ()
    promoted_before: bool = False
    unproven: str = ""
    signs: bool = False

    @property
    def believed(self) -> bool:
        """Whether to look at what the release names: nobody signs one with problems."""
        return not self.signature and not self.release.problems


class Judged(msgspec.Struct, kw_only=True):
    """refusals: why it may not. warnings: what would be one, were it no roll-back."""

    refusals: list[str]
    warnings: list[str]


def judge(facts: Facts, settings: Promotion, action: Action) -> Judged:
    """Why a release may not go into an environment with these settings.

    A roll-back goes to what the environment ran before: it need not be verified
    elsewhere again, and what its scan says today is a warning, since what is left
    behind is known to be worse. So is that nobody can tell its branch, where it was on one
    before, or a signed record says that it ran: then it was on one when it came.
    """
    warnings: list[str] = []
    release = facts.release
    refusals = [facts.signature] if facts.signature else []
    refusals += [f"the release says of itself: {problem}" for problem in release.problems]
    if facts.project and release.project != facts.project:
        refusals.append(f"it is a release of '{release.project}', not of '{facts.project}'")
    if release.source.commit is None:
        refusals.append("it comes from no commit")
    elif release.source.dirty:
        refusals.append("it was made of a work tree with changes that are in no commit")
    elif facts.branch_problem:
        before = facts.on_branch or (facts.promoted_before and facts.signs)
        (warnings if action == "rollback" and before else refusals).append(
            f"nobody can tell which branch commit {release.source.commit[:12]} is on "
            f"({facts.branch_problem})"
        )
    elif not facts.on_branch:
        refusals.append(
            f"its commit {release.source.commit[:12]} is on none of the branches "
            f"{', '.join(settings.branches)}"
        )
    if action == "rollback":
        if facts.unproven:
            refusals.append(f"the record that it ran here is not believed: {facts.unproven}")
        elif not facts.promoted_before:
            refusals.append("the environment never ran it, so that there is nothing to go back to")
    elif settings.after is not None and not facts.verified:
        why = f" (the record of that is not believed: {facts.unproven})" if facts.unproven else ""
        refusals.append(f"it was not verified in '{settings.after}'{why}")
    refusals += _approvals(facts, settings)
    scans = _scans(facts)
    if action == "rollback":
        return Judged(refusals=refusals, warnings=warnings + scans)
    return Judged(refusals=refusals + scans, warnings=[])


def approvers(facts: Facts) -> list[str]:
    """Who counts: each once, and not who promotes."""
    own = facts.by.strip().casefold()
    found = {name.strip().casefold(): name.strip() for name in facts.approvals if name.strip()}
    found.pop(own, None)
    return sorted(found.values())


def _approvals(facts: Facts, settings: Promotion) -> list[str]:
    given = approvers(facts)
    if len(given) >= settings.approvals:
        return []
    own = " (one's own does not count)" if len(given) < len(facts.approvals) else ""
    return [
        f"{settings.approvals} approvals are needed, {len(given)} given"
        f"{': ' + ', '.join(given) if given else ''}{own}"
    ]


def _scans(facts: Facts) -> list[str]:
    """What today's scans say, a sentence for each image that does not pass."""
    if not facts.believed:
        return []  # nobody looked at what an unsigned release names
    told: dict[str, str] = {}
    for one in facts.scans:
        if one.status == "pass" or (one.status == "incomplete" and facts.allow_incomplete):
            continue
        told.setdefault(
            one.component, f"image '{one.component}' does not pass today's scan ({one.reason})"
        )
    for component, why in sorted(facts.unscanned.items()):
        told.setdefault(component, f"image '{component}' cannot be scanned today ({why})")
    known = {one.component for one in facts.scans} | set(facts.unscanned)
    for component in sorted(set(facts.release.images) - known):
        told[component] = f"image '{component}' was not scanned today"
    return [told[component] for component in sorted(told)]


def verified_in(release: Release, environment: str) -> str:
    """How the release itself, whose signature covers this, says that it was verified
    there; "" where it does not.

    Every servable has a revision that passed its smoke test, every pipeline was uploaded,
    and each training run passed.
    """
    if release.environment != environment:
        return ""
    if any(one.revision is None for one in release.servables.values()):
        return ""
    if any(one.version_id is None for one in release.pipelines.values()):
        return ""
    if any(run.state != "SUCCEEDED" or run.unmet for run in release.runs):
        return ""
    return f"by the build that released it in '{environment}'"


def sentence(refusals: Sequence[str]) -> str:
    """All of them, a line each."""
    return "".join(f"\n  - {one}" for one in refusals)
