"""Jobs' configurations on a controller, and what `jenkins setup` looks at beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import requests
import tenacity

from ci_tools.errors import CredentialsError
from ci_tools.jenkins import bindings, plugins
from ci_tools.jenkins.address import job_path
from ci_tools.jenkins.plugins import Installed
from ci_tools.jenkins.refusals import NotThere

if TYPE_CHECKING:
    from ci_tools.jenkins.connection import Connection

FOLDER = "com.cloudbees.hudson.plugins.folder.Folder"
_FOLDER_XML = f"<?xml version='1.0' encoding='UTF-8'?>\n<{FOLDER}/>\n"
_ENDED = re.compile(r"^Finished: ([A-Z_]+)\s*\Z", re.MULTILINE)
T = TypeVar("T")
_PAUSE = 1.0  # seconds between two looks at a scan's log


@dataclass(frozen=True)
class Agents:
    """nodes: how many agents have the label. clouds: how many may start one.
    offline: none of the nodes is there right now.
    """

    nodes: int
    clouds: int
    offline: bool


@dataclass(frozen=True)
class Scan:
    """result: as Jenkins calls it; "" where it had not ended, or its log is unreadable.
    log: its text.
    """

    result: str
    log: str


class Jobs:
    """Paths are the names of the folders and of the item: ("team", "clinical-ml").

    Every method raises what Connection raises: CredentialsError, JenkinsError.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def url(self, path: Sequence[str]) -> str:
        return self._connection.at(f"{job_path('/'.join(path))}/")

    def kind(self, path: Sequence[str]) -> str | None:
        """The class of what is called so; None where nothing is, or we may not see it."""
        try:
            told = self._connection.document(
                f"{job_path('/'.join(path))}/api/json", dict[str, Any], tree="name"
            )
        except NotThere:
            return None
        return str(told.get("_class", ""))

    def config(self, path: Sequence[str]) -> str | None:
        """The configuration; None where there is no such item."""
        try:
            answer = self._connection.get(f"{job_path('/'.join(path))}/config.xml")
        except NotThere:
            return None
        return answer.content.decode("utf-8", "replace")

    def create_folder(self, path: Sequence[str]) -> None:
        self.create(path, _FOLDER_XML)

    def create(self, path: Sequence[str], xml: str) -> None:
        """Raises Unanswered where nobody knows whether it was done."""
        *folders, name = path
        where = f"{job_path('/'.join(folders))}/" if folders else ""
        self._posted(f"{where}createItem", xml, name=name)

    def update(self, path: Sequence[str], xml: str) -> None:
        """Raises Unanswered where nobody knows whether it was done."""
        self._posted(f"{job_path('/'.join(path))}/config.xml", xml)

    def scan(self, path: Sequence[str], seconds: float, before: str = "") -> Scan:
        """Have a multibranch job look for branches, and wait for its end.

        seconds: as long; 0 does not wait. before: its log before the change, which
        makes it scan by itself.
        """
        self._connection.post(f"{job_path('/'.join(path))}/build", {"delay": "0"})
        if not seconds:
            return Scan("", "")

        def look() -> Scan:
            log = self.scan_log(path)
            if log == before:
                return Scan("", "")
            ended = _ENDED.search(log)
            return Scan(ended[1] if ended else "", log)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda scan: not scan.result),
            stop=tenacity.stop_after_delay(seconds),
            wait=tenacity.wait_fixed(_PAUSE),
            retry_error_callback=_last,
        )
        return retrying(look)

    def scan_log(self, path: Sequence[str]) -> str:
        """The text of the last scan; "" where there was none, or we may not read it."""
        return (
            _seen(
                lambda: self._connection.get(
                    f"{job_path('/'.join(path))}/indexing/consoleText"
                ).content.decode("utf-8", "replace")
            )
            or ""
        )

    # What the job needs; None where we may not look ------------------------------------

    def plugins(self) -> dict[str, Installed] | None:
        return _seen(
            lambda: plugins.installed(
                self._connection.document("pluginManager/api/json", Any, depth="1")
            )
        )

    def credentials(self, folder: Sequence[str]) -> dict[str, str] | None:
        """Id -> kind, of those that are kept in a folder; of the system where it is ()."""
        where = f"{job_path('/'.join(folder))}/" if folder else ""
        return _seen(
            lambda: bindings.stored(
                self._connection.document(f"{where}credentials/api/json", Any, depth="3")
            )
        )

    def agents(self, label: str) -> Agents | None:
        def look() -> Agents:
            told = self._connection.document(
                f"label/{quote(label, safe='')}/api/json",
                dict[str, Any],
                tree="nodes[nodeName],clouds[name],offline",
            )
            nodes, clouds = told.get("nodes"), told.get("clouds")
            return Agents(
                nodes=len(nodes) if isinstance(nodes, list) else 0,
                clouds=len(clouds) if isinstance(clouds, list) else 0,
                offline=told.get("offline") is True,
            )

        return _seen(look)

    def _posted(self, path: str, xml: str, **query: str) -> None:
        self._connection.jenkins_request(
            requests.Request(
                "POST",
                self._connection.at(path),
                params=query,
                data=xml.encode(),
                headers={"Content-Type": "application/xml; charset=utf-8"},
            )
        )


def _seen(look: Callable[[], T]) -> T | None:
    """What a look gives; None where it is forbidden, or where there is no such page for
    who may not see it."""
    try:
        return look()
    except (CredentialsError, NotThere):
        return None


def _last(state: tenacity.RetryCallState) -> Scan:
    """What was seen last, when there is no more time."""
    if state.outcome is None:
        raise AssertionError("tenacity looks at least once")
    scan: Scan = state.outcome.result()
    return scan


def why_failed(log: str) -> str:
    """The line of a scan's log that tells why it failed, or the last one before its end."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("ERROR:", "FATAL:", "stderr:"))]
    rest = [line for line in lines if not line.startswith("Finished:")]
    return (told or rest or [""])[-1 if not told else 0][:300]
