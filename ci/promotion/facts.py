"""What the gate is told of a release: signatures, branches, records and today's scan."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ci import live
from ci.promotion.target import Target
from ci_tools import git
from ci_tools.documents import Action, Release
from ci_tools.errors import CIError, ReleaseSignatureError, ToolError
from ci_tools.promotion import gate, signed
from ci_tools.promotion.gate import Facts, Scanned
from ci_tools.release import keys, signing
from ci_tools.release.bundle import Bundle
from ci_tools.release.keys import Key

SCANS = Path("reports") / "promote"


def gathered(
    target: Target,
    bundle: Bundle,
    action: Action,
    *,
    by: str,
    approvals: Sequence[str],
    look_only: bool = False,
) -> Facts:
    """All facts, however bad one is: refusals are told at once.

    look_only: leave nothing behind in a registry, not even what a scan found.
    A roll-back asks nothing of the environment that the release came from: images are
    looked at where they ran.

    Raises ReleaseSignatureError where the bytes are no release at all, so that nothing
    in them is to be believed; ConfigError, RegistryError, CredentialsError.
    """
    release = bundle.release  # held to its name, its files and what was asked for
    workspace, settings = target.workspace, target.settings
    allowed = keys.load_all(settings.keys, workspace.repository)
    signature = ""
    with ThreadPoolExecutor(max_workers=1) as pool:
        branch = pool.submit(_branch, target, release, action)  # git asks while we do
        try:
            signing.verify(bundle, allowed)
        except ReleaseSignatureError as error:
            if not release.problems:  # which are refusals of their own
                signature = error.what
        # What an unsigned release names is not looked for anywhere.
        here = target.relocated(release) if action == "rollback" else release
        unsigned = signature or release.problems
        scans, unscanned = ([], {}) if unsigned else _scans(target, here, publish=not look_only)
    on_branch, branch_problem = branch.result()
    verified, promoted_before, unproven = _proven(target, release, action, allowed)
    return Facts(
        release=release,
        signature=signature,
        project=workspace.project,
        on_branch=on_branch,
        branch_problem=branch_problem,
        verified=verified,
        scans=scans,
        unscanned=unscanned,
        allow_incomplete=workspace.environment.allow_incomplete_scan,
        by=by,
        approvals=approvals,
        promoted_before=promoted_before,
        unproven=unproven,
        signs=target.signs,
    )


def _branch(target: Target, release: Release, action: Action) -> tuple[str, str]:
    """The branch that its commit is on, and why origin does not tell: then, for a roll-back,
    the branch is the one that it was on when this clone last asked."""
    commit = release.source.commit
    if commit is None or release.source.dirty:
        return "", ""
    where = target.workspace.repository, commit, target.settings.branches
    try:
        return git.branch_of(*where), ""
    except ToolError as error:
        known = git.branch_known(*where) if action == "rollback" else ""
        return known, f"{error.what}: {error.todo[:1].lower()}{error.todo[1:]}"


def _proven(
    target: Target, release: Release, action: Action, allowed: Sequence[Key]
) -> tuple[str, bool, str]:
    """How it was verified where it must have been, whether this environment ran it, and
    why a record of that is not believed. allowed: keys that may have signed one."""
    if action == "rollback":
        ran, unproven = _ran(target, release, allowed)
        return "", ran, unproven
    after = target.settings.after
    if after is None:
        return "", False, ""
    told = gate.verified_in(release, after)
    if told or target.source is None:
        return told, False, ""
    ran, unproven = _ran(target.source, release, allowed)
    return f"promoted to '{after}' before" if ran else "", False, unproven


def _ran(target: Target, release: Release, allowed: Sequence[Key]) -> tuple[bool, str]:
    """Whether an environment was brought to it, and all of it was verified there; or else
    why the records that say so are not believed, "" where there are none."""
    why = ""
    for kept in target.records.walked():  # to the first: older ones may be gone
        if kept.record.outcome != "done" or kept.record.release != release.name:
            continue
        if not target.signs:
            target.workspace.console.event(
                f"'{target.name}' ran it, says a record that nobody signed "
                f"(environments.{target.name}.signing is not set)"
            )
            return True, ""
        found = signed.problem(kept.content, target.records.signature(kept), allowed)
        if not found:
            return True, ""
        why = why or found
    return False, why


def _scans(
    target: Target, release: Release, *, publish: bool
) -> tuple[list[Scanned], dict[str, str]]:
    """Today's verdict on each image, and why some have none."""
    workspace = target.workspace
    try:
        with workspace.console.working("scan", f"{len(release.images)} images"):
            report, problems = live.judged(
                workspace, [release], folder=SCANS, publish=publish, brief=True
            )
    except CIError as error:
        return [], dict.fromkeys(release.images, error.what)
    scans = [
        Scanned(component=one.component, status=one.verdict.status, reason=one.verdict.reason)
        for one in report.images
    ]
    names = {image.reference: name for name, image in release.images.items()}
    return scans, {names[reference]: error.what for reference, error in problems.items()}
