"""What the prediction service runs: status, history, logs, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import msgspec

from ci import deploy as deploying
from ci.console import table
from ci.workspace import Workspace
from ci_tools.config_errors import name_one
from ci_tools.documents import Revision
from ci_tools.errors import ConfigError
from ci_tools.local import stand_in
from ci_tools.serving import aws
from ci_tools.serving import logs as writing
from ci_tools.serving import status as state
from ci_tools.serving.declaration import Servable
from ci_tools.serving.revisions import Known
from ci_tools.serving.status import Status

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class States(msgspec.Struct, kw_only=True):
    services: list[Status]


class Histories(msgspec.Struct, kw_only=True):
    """Service -> its revisions, newest first. runs: service -> ARN of what it runs."""

    services: dict[str, list[Known]]
    runs: dict[str, str]


def status(workspace: Workspace, name: str | None) -> States:
    """How the services are now: one, or all of the repository.

    Raises ConfigError for one that is not declared, CredentialsError, ServiceError.
    """
    services = deploying.prediction_services(workspace)
    return States(services=[services.status(one.service) for one in _some(workspace, name)])


def status_lines(states: States) -> list[str]:
    return [line for one in states.services for line in state.lines(one)]


def history(workspace: Workspace, name: str | None) -> Histories:
    """The revisions that are still registered. Raises as `status` does."""
    services = deploying.prediction_services(workspace)
    found = Histories(services={}, runs={})
    for servable in _some(workspace, name):
        found.services[servable.service] = services.history(servable.service)
        now = services.current(servable.service)
        if now is not None:
            found.runs[servable.service] = now.task_definition
    return found


def history_lines(histories: Histories) -> list[str]:
    """A table for each service; `*` is what runs."""
    told: list[str] = []
    for service, known in histories.services.items():
        if not known:
            told.append(f"{service}: no revision is registered")
            continue
        rows = [("", "REVISION", "VERIFIED", "COMMIT", "RELEASE", "IMAGE")]
        rows += [
            (
                "*" if one.task_definition == histories.runs.get(service) else "",
                one.task_definition.rpartition("/")[2],
                f"{one.verified or 'never'}{', rolled back' if one.rolled_back else ''}",
                one.commit[:12],
                one.release[:20],
                one.image.rpartition("@")[2][:19],
            )
            for one in known
        ]
        told += table(rows)
    return told


def rollback(workspace: Workspace, name: str | None, to: str | None) -> Revision:
    """Let an older revision serve again, proven as any other.

    Raises what PredictionServices.rollback raises, and ConfigError.
    """
    servable = _one(workspace, name)
    services = deploying.prediction_services(workspace)
    console = workspace.console
    with console.live(), console.working(servable.service, "going back"):
        return services.rollback(servable, to, on_event=console.event)


def rollback_dry_run(workspace: Workspace, name: str | None, to: str | None) -> list[str]:
    """What a roll-back would do. Asks nobody, so it knows no revision by number."""
    servable = _one(workspace, name)
    target = to or "the revision that was verified last before the one that runs"
    cluster = workspace.service_settings().cluster
    return [
        f"service '{servable.service}' in cluster '{cluster}': back to {target}",
        *(f"  smoke test: {t.method} {t.path} -> {t.status}" for t in servable.smoke_tests),
    ]


def logs(
    workspace: Workspace,
    name: str | None,
    since: str,
    pattern: str | None,
    container: str | None,
    *,
    follow: bool,
) -> Iterator[writing.Line]:
    """What the containers of a service wrote, oldest first.

    since: how far back, as `90s`, `10m`, `2h` or `1d`. pattern: CloudWatch's
    filter pattern; of a stand-in's containers a part of the line.
    Raises ConfigError, CredentialsError, ServiceError, EngineError.
    """
    servable = _one(workspace, name)
    settings = workspace.service_settings()
    began = datetime.now(timezone.utc) - _ago(since)
    if settings.endpoint_url is not None:
        port = urlsplit(settings.endpoint_url).port or 0
        fetch = writing.engine(
            stand_in.label(workspace.home, port),
            servable.service,
            pattern=pattern,
            container=container,
        )
    else:
        fetch = writing.cloudwatch(
            settings,
            aws.Clients(settings),
            servable.log_group,
            pattern=pattern,
            container=container,
        )
    return writing.tail(fetch, began, follow=follow)


def _some(workspace: Workspace, name: str | None) -> list[Servable]:
    return [_one(workspace, name)] if name else list(workspace.servables.values())


def _one(workspace: Workspace, name: str | None) -> Servable:
    """The servable of that service's name; the only one, where none is named."""
    by_name = {servable.service: servable for servable in workspace.servables.values()}
    if name is None and len(by_name) == 1:
        return next(iter(by_name.values()))
    if name is None:
        raise ConfigError(
            "which service is not said" if by_name else "this repository declares no servable",
            f"Name one of: {', '.join(by_name) or '(none)'}",
        )
    if name not in by_name:
        raise ConfigError(
            f"this repository declares no service '{name[:200]}'",
            name_one(name, by_name),
        )
    return by_name[name]


def _ago(since: str) -> timedelta:
    # So many digits that it is a moment of our calendar.
    if re.fullmatch(r"[0-9]{1,6}[smh]|[0-9]{1,4}d", since) is None:
        raise ConfigError(f"'{since[:50]}' is no time span", "Write 90s, 10m, 2h or 1d")
    return timedelta(**{_UNITS[since[-1]]: int(since[:-1])})
