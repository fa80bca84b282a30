"""From a request to a build's number, through the queue.

A request is answered with a queue item. An item lives until some minutes after it
has left the queue, and not through a restart; its number is found in the build then,
too. Numbers of items only grow, so that what came after a moment has higher ones than
all before: that is how a request whose answer was lost is found again. Jenkins lets a
request carry no mark of its own: parameters that the job does not declare are dropped,
and a cause's text needs a token of the job.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ci_tools.errors import JenkinsError, JenkinsQueueError
from ci_tools.jenkins import address, builds
from ci_tools.jenkins.builds import Action, Job
from ci_tools.jenkins.refusals import BadRequestError, NotThere, Unanswered

if TYPE_CHECKING:
    from ci_tools.jenkins.connection import Connection

POLL = (0.5, 5.0)  # seconds between two looks, at first and at most
_LOOKS = 4  # at the queue and the builds, before something is held to be in neither
_ID = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9.]+")  # a reason may count seconds down
_TREE = (
    "id,why,stuck,cancelled,executable[number],task[url],"
    "actions[parameters[name,value],causes[userId]]"
)


class Request(NamedTuple):
    """What Jenkins made of a request. item: None where only the build was found.
    joined: an equal request waited already, and Jenkins made one of the two.
    """

    item: int | None
    number: int | None = None
    joined: bool = False


class _Item(msgspec.Struct):
    id: int
    why: str | None = None
    stuck: bool = False
    cancelled: bool = False
    executable: dict[str, Any] | None = None
    task: dict[str, Any] | None = None
    actions: list[Action | None] = []


class _Queue(msgspec.Struct):
    items: list[_Item] = []


def request(
    connection: Connection,
    job: Job,
    parameters: Mapping[str, str],
    told: Callable[[str], None],
    *,
    poll: tuple[float, float] | None = None,
) -> Request:
    """Ask for a build; what became of that.

    parameters: all of them known to the job; the others get their defaults.

    Raises JenkinsError where Jenkins takes no build of this job now, where the answer
    was lost and nothing came of the request, and where several builds may be ours.
    """
    newest = _newest(connection, job)
    page = "buildWithParameters" if job.parameters else "build"
    try:
        answer = connection.post(f"{job.path}/{page}", parameters)
    except Unanswered as error:
        told(f"{error.what}; looking whether the request arrived")
        return _searched(connection, job, parameters, newest, poll or POLL)
    except BadRequestError as error:
        raise JenkinsError(
            f"Jenkins takes no such build of '{job.name}' ({error.what})",
            "A choice may be none of the parameter's, or the Jenkinsfile has changed: compare "
            "with 'Build with Parameters' in Jenkins",
        ) from error
    item = _number(answer.headers.get("Location", ""))
    if answer.status_code != 201 or item is None:
        raise JenkinsQueueError(
            f"Jenkins put no build of '{job.name}' into its queue ({answer.status_code})",
            "It may be shutting down, or a plugin decides against it: look there",
        )
    return Request(item, joined=item <= newest)


def wait(
    connection: Connection,
    job: Job,
    item: int,
    told: Callable[[str], None],
    *,
    patience: float,
    poll: tuple[float, float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """The number of the build that an item became.

    told: is given why it waits, whenever that changes. patience: seconds.

    Raises JenkinsQueueError for an item that was cancelled, that has vanished and left
    no build, or that waits after `patience`: it stays in the queue then.
    """
    first, longest = poll or POLL
    deadline, pause, why, missed = clock() + patience, first, "", 0
    while True:
        try:
            seen = connection.document(f"queue/item/{item}/api/json", _Item, tree=_TREE)
        except NotThere:
            if (number := _of_item(connection, job, item)) is not None:
                return number
            missed += 1
            if missed >= _LOOKS:
                raise JenkinsQueueError(
                    f"queue item {item} is gone, and '{job.name}' has no build of it",
                    "Somebody cancelled it, or a restart lost it: ask for the build anew",
                ) from None
        else:
            missed = 0
            if seen.cancelled:
                raise JenkinsQueueError(
                    f"queue item {item} of '{job.name}' was cancelled before it became a build",
                    "Ask who did it, or ask for the build anew",
                )
            if seen.executable and isinstance(seen.executable.get("number"), int):
                return int(seen.executable["number"])
            now = (seen.why or "") + (" (stuck)" if seen.stuck else "")
            if now and _NUMBER.sub("", now) != _NUMBER.sub("", why):
                told(f"in the queue: {connection.hidden(now)}")
            why = now
        left = deadline - clock()
        if left <= 0:
            raise JenkinsQueueError(
                f"queue item {item} of '{job.name}' still waits after {patience:.0f} s"
                + (f": {connection.hidden(why)}" if why else ""),
                "It stays in the queue; wait longer with --queue-timeout, or cancel it in Jenkins",
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)


def cancel(connection: Connection, job: Job, item: int) -> int | None:
    """Take an item out of the queue; the number of its build where it has left already.

    Raises JenkinsError where it is in the queue and stays there.
    """
    refused: JenkinsError | None = None
    try:
        connection.post("queue/cancelItem", {"id": str(item)})
    except JenkinsError as error:  # 404, 500 or nothing of one that has left, by the version
        refused = error
    number = _of_item(connection, job, item)
    if number is None and refused:
        raise refused
    return number


def _number(location: str) -> int | None:
    """The item's number. Of the address nothing else is used: its host may be any."""
    parts = [part for part in location.split("?")[0].split("/") if part]
    if len(parts) < 3 or parts[-3:-1] != ["queue", "item"] or not _ID.fullmatch(parts[-1]):
        return None
    return int(parts[-1])


def _plain(value: str) -> str:
    """A value as it can be compared: Jenkins trims some, and ends lines as forms do."""
    return value.replace("\r\n", "\n").strip()


def _newest(connection: Connection, job: Job) -> int:
    """The highest number of an item so far, as far as we can see; 0 where we see none."""
    waiting = [item.id for item in _waiting(connection, job)]
    return max([0, *waiting, *(build.queueId for build in builds.recent(connection, job))])


def _waiting(connection: Connection, job: Job) -> list[_Item]:
    queue = connection.document("queue/api/json", _Queue, tree=f"items[{_TREE}]")
    return [it for it in queue.items if address.is_job(str((it.task or {}).get("url")), job.path)]


def _of_item(connection: Connection, job: Job, item: int) -> int | None:
    """The build that an item became, from the build's own record."""
    for build in builds.recent(connection, job):
        if build.queueId == item:
            return build.number
    return None


def _searched(
    connection: Connection,
    job: Job,
    parameters: Mapping[str, str],
    newest: int,
    poll: tuple[float, float],
) -> Request:
    """The request whose answer was lost, in the queue or among the builds."""

    def ours(actions: list[Action | None]) -> bool:
        who, with_what = builds.by(actions), builds.given(actions)
        mine = not who or not connection.user or connection.user.lower() in who
        # A default of None is a password's, which is told to nobody.
        defaults = {n: builds.text(v) for n, v in job.parameters.items() if v is not None}
        return mine and all(
            _plain(with_what.get(name, value)) == _plain(value)
            for name, value in {**defaults, **parameters}.items()
        )

    for look in range(_LOOKS):
        if look:
            time.sleep(poll[0])
        # The queue first: an item that leaves it meanwhile is among the builds then.
        items = [it for it in _waiting(connection, job) if ours(it.actions)]
        made = [
            it for it in builds.recent(connection, job) if it.queueId > newest and ours(it.actions)
        ]
        new = {it.queueId: it.number for it in made}
        waiting = {it.id for it in items if it.id > newest} - set(new)
        if len(new) + len(waiting) > 1:
            several = [f"build {it}" for it in new.values()] + [f"item {it}" for it in waiting]
            raise JenkinsError(
                f"the answer to the build request was lost, and {' and '.join(several)} of "
                f"'{job.name}' may be ours",
                "Look at them in Jenkins, then 'ci jenkins logs NUMBER --follow'; nothing was "
                "asked for twice",
            )
        if new:
            ((item, number),) = new.items()
            return Request(item, number)
        if waiting:
            return Request(waiting.pop())
        if items:  # an equal one that waited before: Jenkins makes one of the two
            return Request(items[0].id, joined=True)
    raise JenkinsError(
        f"the answer to the build request was lost, and '{job.name}' has neither a queue item "
        "nor a build of it",
        "Look once more with 'ci jenkins status', then ask for the build anew",
    )
