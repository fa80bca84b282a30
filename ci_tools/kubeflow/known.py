"""What Kubeflow knows: its pipelines, their versions, its schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ci_tools.kubeflow.branches import Mark


class Known(NamedTuple):
    """A pipeline. mark: None where this tool did not make it, or long ago."""

    pipeline_id: str
    name: str
    mark: Mark | None


class KnownVersion(NamedTuple):
    """A version. created: RFC 3339, UTC, in seconds."""

    version_id: str
    name: str
    tags: Mapping[str, str]
    created: str


class Schedule(NamedTuple):
    """A recurring run that is enabled and names a pipeline.

    version_id: "" where each of its runs takes the latest version.
    """

    name: str
    pipeline_id: str
    version_id: str


class Inventory(Protocol):
    """The pipelines of one namespace. Every method raises KubeflowError and CredentialsError."""

    def pipelines(self) -> list[Known]:
        """All of them, whoever made them."""

    def latest(self, pipeline_id: str) -> KnownVersion | None:
        """The version that was created last; None without any."""

    def versions(self, pipeline_id: str, ending: str) -> list[KnownVersion]:
        """The newest versions whose names end so, newest first; five at most."""

    def schedules(self) -> list[Schedule]:
        """The schedules that are enabled."""

    def delete(self, known: Known) -> None:
        """Delete a pipeline and its versions; nothing happens where it is gone."""

    def delete_version(self, pipeline_id: str, version_id: str) -> None:
        """Delete one version; nothing happens where it is gone."""
