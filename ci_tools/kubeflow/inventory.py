"""Pipelines and schedules that an API server holds, read whole and with the namespace."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from ci_tools import config
from ci_tools.kubeflow import api, branches
from ci_tools.kubeflow.known import Known, KnownVersion, Schedule

_LOOKED_AT = 5  # versions of one content: builds may have left one a commit
_NAMES_AT_ONCE = 40  # so that a URL stays below the 8 KB that proxies take


class ServerInventory:
    """Satisfies `ci_tools.kubeflow.known.Inventory`."""

    def __init__(self, settings: config.KubeflowServer, connection: api.Api) -> None:
        self._settings, self._api = settings, connection

    @property
    def where(self) -> dict[str, str]:
        """The namespace of the pipelines; shared ones are in none."""
        namespace = None if self._settings.shared else self._settings.namespace
        return {"namespace": namespace} if namespace else {}

    def pipelines(self) -> list[Known]:
        """See `Inventory.pipelines`."""
        return list(self._listed())

    def named(self, names: Sequence[str]) -> dict[str, Known]:
        """The pipelines of these names that are there; one call for 40 of them."""
        found = {}
        for first in range(0, len(names), _NAMES_AT_ONCE):
            chunk = list(names[first : first + _NAMES_AT_ONCE])
            some = {"key": "name", "operation": "IN", "string_values": {"values": chunk}}
            for known in self._listed(filter=filtered(some)):
                if known.name in chunk:  # the server's database may ignore case
                    found[known.name] = known
        return found

    def latest(self, pipeline_id: str) -> KnownVersion | None:
        """See `Inventory.latest`."""
        for it in self.newest(pipeline_id):
            return _version(it)
        return None

    def versions(self, pipeline_id: str, ending: str) -> list[KnownVersion]:
        """See `Inventory.versions`."""
        some = {"key": "name", "operation": "IS_SUBSTRING", "string_value": ending}
        found = map(_version, self.newest(pipeline_id, _LOOKED_AT, filter=filtered(some)))
        return [one for one in found if one.name.endswith(ending)]

    def newest(self, pipeline_id: str, most: int = 1, **keywords: Any) -> list[Any]:
        """The versions that were created last, as the server tells them; one call."""
        listing = self._api.pipelines.pipeline_service_list_pipeline_versions_with_http_info
        page = self._api.ask(
            listing, pipeline_id, page_size=most, sort_by="created_at desc", **keywords
        )
        return list(page.pipeline_versions or [])

    def schedules(self) -> list[Schedule]:
        """See `Inventory.schedules`. Those of our namespace, also for shared pipelines."""
        listing = self._api.schedules.recurring_run_service_list_recurring_runs_with_http_info
        namespace = self._settings.namespace
        where = {"namespace": namespace} if namespace else {}
        found = []
        for it in self._api.pages(listing, "recurring_runs", **where):
            reference = it.pipeline_version_reference
            if it.status == "DISABLED" or reference is None or not reference.pipeline_id:
                continue
            found.append(
                Schedule(
                    name=str(it.display_name or it.recurring_run_id),
                    pipeline_id=str(reference.pipeline_id),
                    version_id=str(reference.pipeline_version_id or ""),
                )
            )
        return found

    def delete(self, known: Known) -> None:
        """See `Inventory.delete`."""
        deletion = self._api.pipelines.pipeline_service_delete_pipeline_with_http_info
        with contextlib.suppress(api.NotFound):  # somebody else was faster
            # Without cascade a pipeline that has versions is refused.
            self._api.ask(deletion, known.pipeline_id, cascade=True)

    def delete_version(self, pipeline_id: str, version_id: str) -> None:
        """See `Inventory.delete_version`."""
        deletion = self._api.pipelines.pipeline_service_delete_pipeline_version_with_http_info
        with contextlib.suppress(api.NotFound):
            self._api.ask(deletion, pipeline_id, version_id)

    def _listed(self, **keywords: Any) -> Iterator[Known]:
        listing = self._api.pipelines.pipeline_service_list_pipelines_with_http_info
        for it in self._api.pages(listing, "pipelines", **self.where, **keywords):
            yield Known(
                pipeline_id=api.identity(it, "pipeline_id"),
                name=str(it.name or it.display_name),  # older servers know only the latter
                mark=branches.read(it.description),
            )


def filtered(*predicates: dict[str, Any]) -> str:
    """A `filter` of a listing. Values must hold no `%` nor `+`: the server decodes twice.

    Source: kubeflow/pipelines, backend/api/v2beta1/filter.proto and
    backend/src/apiserver/server/list_request_util.go.
    """
    return json.dumps({"predicates": list(predicates)}, separators=(",", ":"))


def _version(it: Any) -> KnownVersion:
    return KnownVersion(
        version_id=str(it.pipeline_version_id),
        name=str(it.name or it.display_name),
        tags=dict(it.tags or {}),
        created=_time(it.created_at),
    )


def _time(value: datetime | None) -> str:
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if value else ""
