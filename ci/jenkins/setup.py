"""`jenkins setup`: the multibranch job of this repository, made or brought up to date.

All that is missing is told at once, before anything is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element

import msgspec

from ci.jenkins import ready, target
from ci.workspace import Workspace
from ci_tools import config
from ci_tools.config_jenkins import Jenkins, names
from ci_tools.errors import CIError, ConfigError, JenkinsError, JenkinsSetupError
from ci_tools.jenkins import job_change, job_xml
from ci_tools.printable import printable

if TYPE_CHECKING:
    from ci.jenkins.ready import Seen
    from ci_tools.jenkins.job_xml import Job
    from ci_tools.jenkins.jobs import Jobs

_SCAN_SECONDS = 120.0


class SetUp(msgspec.Struct, kw_only=True):
    """What became of the job, or would.

    folders: that were made. difference: a unified diff of the configuration, line by
    line. problems: for which nothing was changed. notes: what a person may want to know.
    scan: how the first look for branches ended; "" where none was waited for.
    """

    job: str
    url: str
    action: Literal["created", "updated", "unchanged", "none"]
    dry_run: bool = False
    folders: list[str] = []
    difference: list[str] = []
    problems: list[str] = []
    notes: list[str] = []
    scan: str = ""


def job(workspace: Workspace, name: str | None, only: tuple[str, ...] = ()) -> Job:
    """The job as it is declared. name, only: instead of the declared. Raises ConfigError."""
    settings = workspace.config.jenkins
    if only:
        config.convert({"only": list(only)}, Jenkins, name="--only", schema=config.FILE)
        settings = msgspec.structs.replace(settings, only=list(only))
    if name:
        try:
            names(name)
        except ValueError as error:
            raise ConfigError(printable(str(error)), "Write it with its folders: team/ml") from None
        settings = msgspec.structs.replace(settings, job=name)
    return job_xml.job(settings, workspace.project, workspace.origin)


def setup(
    workspace: Workspace,
    *,
    url: str | None = None,
    name: str | None = None,
    only: tuple[str, ...] = (),
    adopt: bool = False,
    bound: str = "",
    seconds: float = _SCAN_SECONDS,
) -> SetUp:
    """Make the job, or change what is declared of it; nothing where all is as declared.

    name, only: instead of those of ci.yaml. adopt: also a job that we did not make.
    bound: ids of the credentials that the controller's KFP_CI_CREDENTIALS names.
    seconds: to wait for the scan after a change.

    Raises ConfigError, CredentialsError, JenkinsError; what is missing, and in a dry run
    everything, is in the result: see `raise_problems`.
    """
    from ci_tools.jenkins.jobs import Jobs

    wanted = job(workspace, name, only)
    jobs = Jobs(target.connect(workspace, url))
    with workspace.console.working(wanted.name, "looking at Jenkins"):
        seen = ready.looked(jobs, wanted, workspace.config.jenkins.agents, adopt=adopt, bound=bound)
    declared = job_xml.declared(wanted)
    after = declared if seen.existing is None else job_change.changed(seen.existing, declared)
    result = SetUp(
        job=wanted.name,
        url=jobs.url(wanted.path),
        action="created" if seen.existing is None else "unchanged",
        dry_run=workspace.dry_run,
        folders=["/".join(wanted.path[:it]) for it in range(seen.folders + 1, len(wanted.path))],
        difference=job_change.difference(seen.existing, after),
        problems=seen.problems,
        notes=seen.notes,
    )
    if seen.existing is not None and result.difference:
        result.action = "updated"
    if result.problems:
        result.action = "none"
    if workspace.dry_run or result.action in ("none", "unchanged"):
        return result
    with workspace.console.working(wanted.name, "being set up"):
        _change(jobs, wanted, seen, after, result, seconds)
    return result


def lines(result: SetUp) -> list[str]:
    """For people."""
    verbs = {
        "created": "made",
        "updated": "changed",
        "unchanged": "as declared",
        "none": "not changed",
    }
    would = {"created": "would be made", "updated": "would be changed"}
    said = (would if result.dry_run else verbs).get(result.action, verbs[result.action])
    told = [
        f"folder {it}: {'would be made' if result.dry_run else 'made'}" for it in result.folders
    ]
    if result.action == "none":
        told = []
    told.append(f"job {result.job}: {said}  {result.url}")
    if result.dry_run or result.action == "updated":
        told += result.difference
    if result.scan:
        told.append(f"scan of its branches: {result.scan}")
    return [*told, *(f"note: {note}" for note in result.notes)]


def raise_problems(result: SetUp) -> None:
    """Raises JenkinsSetupError for what is missing, all at once."""
    if result.problems:
        several = len(result.problems) > 1
        listed = "".join(f"\n  {problem}" for problem in result.problems)
        raise JenkinsSetupError(
            f"Jenkins is not ready for job '{result.job}'; nothing was changed:{listed}",
            "Mend these, then run it again" if several else "Mend it, then run it again",
        )


def _change(
    jobs: Jobs, wanted: Job, seen: Seen, after: Element, result: SetUp, seconds: float
) -> None:
    """Make folders and job, see that Jenkins kept it, and how its first scan went."""
    from ci_tools.jenkins.refusals import Unanswered

    before = jobs.scan_log(wanted.path) if seen.existing is not None else ""
    lost: CIError | None = None
    for depth in range(seen.folders + 1, len(wanted.path)):
        try:
            jobs.create_folder(wanted.path[:depth])
        except Unanswered:
            if jobs.kind(wanted.path[:depth]) is None:
                raise
    try:
        if seen.existing is None:
            jobs.create(wanted.path, job_xml.written(after))
        else:
            jobs.update(wanted.path, job_xml.written(after))
    except Unanswered as error:
        lost = error  # it may have been done: that is looked at now
    _prove_kept(jobs, wanted, lost)
    if after.findtext("disabled") == "true":
        return
    scan = jobs.scan(wanted.path, seconds, before)
    result.scan = scan.result
    if scan.result in ("", "SUCCESS"):
        if seconds and not scan.result:
            result.notes.append(
                f"the scan of its branches was not over after {seconds:.0f} s, or is hidden"
            )
        return
    from ci_tools.jenkins.jobs import why_failed

    raise JenkinsSetupError(
        f"job '{wanted.name}' is there, and the scan of its branches ended with "
        f"{printable(scan.result)}: {printable(why_failed(scan.log))}",
        f"Mend jenkins.remote or jenkins.credentials; the log is at {result.url}indexing/console",
    )


def _prove_kept(jobs: Jobs, wanted: Job, lost: CIError | None) -> None:
    """Raises JenkinsSetupError for what Jenkins did not keep, and `lost` for nothing at all."""
    text = jobs.config(wanted.path)
    if text is None:
        raise lost or JenkinsError(
            f"job '{wanted.name}' was made and cannot be read",
            "Ask who runs Jenkins for the permission Job/ExtendedRead",
        )
    kept = job_change.parsed(text)
    missing = job_change.difference(kept, job_change.changed(kept, job_xml.declared(wanted)))
    if missing and lost:
        raise lost
    if missing:
        listed = "".join(f"\n  {line}" for line in missing)
        raise JenkinsSetupError(
            f"Jenkins did not keep all that is declared of job '{wanted.name}':{listed}",
            "Look whether the plugins are up to date, and into Jenkins' log",
        )
