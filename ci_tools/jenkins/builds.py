"""Jobs, the parameters that they know, and what their builds are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ci_tools.config_errors import did_you_mean
from ci_tools.errors import CIError, ConfigError, JenkinsError
from ci_tools.jenkins import address
from ci_tools.jenkins.refusals import NotThere

if TYPE_CHECKING:
    from ci_tools.jenkins.connection import Connection

_BUILD = "number,url,queueId,building,result,timestamp,duration,displayName,description"
_ACTIONS = "actions[parameters[name,value],causes[userId,shortDescription]]"
_JOB = (
    "_class,fullName,buildable,lastBuild[number],jobs[name],"
    "property[parameterDefinitions[name,defaultParameterValue[value]]]"
)
NOT_ENDED = "RUNNING"


class Job(NamedTuple):
    """path: in URLs. parameters: name -> default; empty where none are known.
    built: whether it ever was: before, Jenkins has not read the Jenkinsfile.
    """

    name: str
    path: str
    parameters: dict[str, object]
    built: bool


class Stage(msgspec.Struct, kw_only=True):
    """seconds: of its run, without what it waited for people."""

    name: str
    status: str
    seconds: float


class Build(msgspec.Struct, kw_only=True):
    """A build as it is shown. result: RUNNING until it ends, then Jenkins' word.

    started: seconds since 1970. seconds: that it took, or takes until now.
    stages:  where the controller has the stage-view plugin.
    """

    job: str
    number: int
    url: str
    result: str
    name: str
    description: str | None
    started: float
    seconds: float
    parameters: dict[str, str]
    causes: list[str]
    queue_item: int
    stages: list[Stage] = []

    @property
    def ended(self) -> bool:
        return self.result != NOT_ENDED


class Action(msgspec.Struct):
    """One of `actions`; Jenkins puts null and {} among them."""

    parameters: list[dict[str, Any]] = []
    causes: list[dict[str, Any]] = []


class _Default(msgspec.Struct):
    value: object = None


class _Parameter(msgspec.Struct):
    name: str | None = None
    defaultParameterValue: _Default | None = None


class _Property(msgspec.Struct):
    parameterDefinitions: list[_Parameter] | None = None


class _Job(msgspec.Struct):
    kind: str = msgspec.field(name="_class", default="")
    fullName: str = ""
    buildable: bool | None = None
    lastBuild: dict[str, Any] | None = None
    jobs: list[dict[str, Any]] = []
    property: list[_Property | None] = []


class Told(msgspec.Struct):
    """A build as Jenkins tells it."""

    number: int
    url: str = ""
    queueId: int = -1
    building: bool = False
    result: str | None = None
    timestamp: int = 0
    duration: int = 0
    displayName: str | None = None
    description: str | None = None
    actions: list[Action | None] = []


class _Builds(msgspec.Struct):
    builds: list[Told] = []


class _Stage(msgspec.Struct):
    name: str = ""
    status: str = ""
    durationMillis: int = 0
    pauseDurationMillis: int = 0


class _Stages(msgspec.Struct):
    stages: list[_Stage] = []


def find(connection: Connection, name: str, branch: str | None, *, chosen: bool = False) -> Job:
    """The job `name`, or the one of a branch in it where it has a job a branch.

    branch: None where nobody knows one. chosen: a person named the branch, so that it
    may not be passed over.

    Raises ConfigError for a job that builds nothing by itself and for a branch that has
    no job; NotThere, and others as `Connection.jenkins_request`.
    """
    path = address.job_path(name)
    told = _asked(connection, name, path)
    if "MultiBranchProject" not in told.kind:
        if told.buildable is None:
            below = ", ".join(sorted(str(job.get("name")) for job in told.jobs)[:10])
            raise ConfigError(
                f"'{name}' is a folder of Jenkins, and builds nothing",
                f"Name a job in it: {below or 'there is none that we may see'}",
            )
        if chosen:
            raise ConfigError(
                f"'{name}' is one job, and has none for branch '{branch}'",
                "Leave out --branch, or name a multibranch job",
            )
        return _known(name, path, told)
    if branch is None:
        raise ConfigError(
            f"'{name}' has a job for each branch, and no branch is known here",
            "Name it with --branch, or run this inside the repository",
        )
    there = [str(job.get("name")) for job in told.jobs]
    full = f"{name.strip('/')}/{address.branch_job(branch)}"
    try:
        below_path = address.job_path(full)
        return _known(full, below_path, _asked(connection, full, below_path))
    except NotThere as error:
        raise ConfigError(
            f"Jenkins' job '{name}' has none for branch '{branch}', or we may not see it",
            did_you_mean(address.branch_job(branch), there)
            or "Push the branch and let Jenkins scan its repository ('Scan Multibranch "
            "Pipeline Now'), or name another with --branch",
        ) from error


def _asked(connection: Connection, name: str, path: str) -> _Job:
    try:
        return connection.document(f"{path}/api/json", _Job, tree=_JOB)
    except NotThere as error:
        raise NotThere(
            f"Jenkins at {connection.url} has no job '{name}', or no permission to see it is ours",
            "Check its full name, with its folders, and the permissions of the token's user",
        ) from error


def _known(name: str, path: str, told: _Job) -> Job:
    if told.buildable is False:
        raise JenkinsError(
            f"Jenkins does not build '{name}': it is disabled, or its branch is gone",
            "Enable it in Jenkins, or name another branch",
        )
    parameters = {
        one.name: one.defaultParameterValue.value if one.defaultParameterValue else None
        for holder in told.property
        for one in (holder.parameterDefinitions if holder else None) or []
        if one.name
    }
    return Job(name, path, parameters, told.lastBuild is not None)


def look(connection: Connection, job: Job, number: int | None) -> Build:
    """A build, the newest where no number is given. Raises NotThere and others."""
    what = "lastBuild" if number is None else str(number)
    try:
        told = connection.document(f"{job.path}/{what}/api/json", Told, tree=f"{_BUILD},{_ACTIONS}")
    except NotThere as error:
        raise not_there(job, number) from error
    return shown(connection, job, told)


def not_there(job: Job, number: int | None) -> NotThere:
    which = "no build yet" if number is None else f"no build {number}"
    return NotThere(
        f"Jenkins' job '{job.name}' has {which}, or we may not see it",
        "'ci jenkins status' shows the newest one; Jenkins deletes old ones",
    )


def shown(connection: Connection, job: Job, told: Told) -> Build:
    ended = told.result is not None and not told.building
    return Build(
        job=job.name,
        number=told.number,
        # Ours, not the controller's: that may have another name, or none.
        url=connection.at(f"{job.path}/{told.number}/"),
        result=str(told.result) if ended else NOT_ENDED,
        name=told.displayName or f"#{told.number}",
        description=told.description,
        started=told.timestamp / 1000,
        seconds=told.duration / 1000,
        parameters=given(told.actions),
        causes=[
            str(cause.get("shortDescription"))
            for action in told.actions
            if action
            for cause in action.causes
            if cause.get("shortDescription")
        ],
        queue_item=told.queueId,
    )


def recent(connection: Connection, job: Job) -> list[Told]:
    """The newest builds, the newest first."""
    tree = f"builds[{_BUILD},{_ACTIONS}]{{0,50}}"
    return connection.document(f"{job.path}/api/json", _Builds, tree=tree).builds


def given(actions: list[Action | None]) -> dict[str, str]:
    """The parameters that a build or a queue item was given, as texts."""
    return {
        str(one.get("name")): text(one.get("value"))
        for action in actions
        if action
        for one in action.parameters
    }


def by(actions: list[Action | None]) -> set[str]:
    """Who caused it, in lower case: Jenkins' names of users have none."""
    return {
        str(cause["userId"]).lower()
        for action in actions
        if action
        for cause in action.causes
        if cause.get("userId")
    }


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def stages(connection: Connection, job: Job, number: int) -> list[Stage]:
    """The stages that the build has come to; none without the stage-view plugin."""
    try:
        told = connection.document(f"{job.path}/{number}/wfapi/describe", _Stages)
    except CIError:  # an embellishment
        return []
    return [
        Stage(
            name=one.name,
            status=one.status,
            seconds=max(0, one.durationMillis - one.pauseDurationMillis) / 1000,
        )
        for one in told.stages
    ]


def stop(connection: Connection, job: Job, number: int) -> None:
    """Ask a build to end. It may take its time; one that has ended stays as it is."""
    connection.post(f"{job.path}/{number}/stop")
