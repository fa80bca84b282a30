"""Pipelines and their versions on an API server: made once, found again, never changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from ci_tools import config
from ci_tools.documents import Upload
from ci_tools.errors import (
    FloatingScheduleError,
    KubeflowError,
    MissingInputError,
    UploadConflictError,
)
from ci_tools.kubeflow import api, branches, ir, names
from ci_tools.kubeflow.inventory import ServerInventory, filtered
from ci_tools.kubeflow.known import Known
from ci_tools.kubeflow.wanted import Wanted

_AT_ONCE = 8
_LOOKED_AT = 5  # versions
T = TypeVar("T")
R = TypeVar("R")


class _Task(NamedTuple):
    """A pipeline that is wanted, and what of it is there."""

    wanted: Wanted
    parsed: ir.Ir
    known: Known | None
    version: Any = None  # of this very IR


class Versions:
    """The pipelines of one namespace, through an open connection."""

    def __init__(self, settings: config.KubeflowServer, connection: api.Api) -> None:
        self._settings, self._api = settings, connection
        self._inventory = ServerInventory(settings, connection)

    def upload_all(self, wanted: Sequence[Wanted]) -> list[Upload]:
        """See `Kubeflow.upload_all`.

        One call finds the pipelines, one more a pipeline its version. Only when
        something is new are the schedules asked for, before anything is changed.
        """
        parsed = [one.checked() for one in wanted]
        known = self._inventory.named(sorted({one.name for one in wanted}))
        tasks = [
            _Task(one, its, known.get(one.name)) for one, its in zip(wanted, parsed, strict=True)
        ]
        for task in tasks:
            if task.known:
                branches.check(task.known.name, task.known.mark, task.wanted.mark)
        tasks = _each(self._found, tasks)
        followed = self._followed(tasks)
        return _each(lambda task: self._uploaded(task, followed), tasks)

    def spec(self, pipeline: str, upload: Upload) -> ir.Ir:
        """What the server would run. Raises KubeflowError unless it is what was uploaded."""
        found = self._api.ask(
            self._api.pipelines.pipeline_service_get_pipeline_version_with_http_info,
            upload.pipeline_id,
            upload.version_id,
        )
        one = ir.from_server(found.pipeline_spec, f"{pipeline} version {upload.version}")
        if ir.canonical_sha256(one) != upload.sha256:
            raise KubeflowError(
                f"Kubeflow's version '{upload.version}' of '{pipeline}' is not what was uploaded",
                "Run the 'upload' stage again",
            )
        return one

    def _found(self, task: _Task) -> _Task:
        """With the version that is this very pipeline: of the wanted name, else the newest.

        Only a few are looked at, for each brings its spec along, and builds that
        looked for nothing may have left one a commit.
        Where schedules may follow the latest version, only that one counts: after
        a revert they would else go on with what was reverted.
        """
        if task.known is None:
            return task
        wanted, pipeline_id = task.wanted, task.known.pipeline_id
        ending = names.ending(wanted.sha256)
        some = {"key": "name", "operation": "IS_SUBSTRING", "string_value": ending}
        if self._settings.allow_floating_schedules and not _aside(wanted):
            versions = self._inventory.newest(pipeline_id)
        else:
            versions = self._inventory.newest(pipeline_id, _LOOKED_AT, filter=filtered(some))
        equal = None
        for version in versions:
            # The name says so; the spec, which comes with the listing, proves it.
            if _name(version).endswith(ending) and _is(version, wanted.sha256):
                if _name(version) == wanted.version:
                    return task._replace(version=version)
                equal = equal or version
        return task._replace(version=equal)

    def _followed(self, tasks: Sequence[_Task]) -> dict[str, list[str]]:
        """Pipeline id -> the schedules that would run its new version from now on.

        A branch's or a person's pipelines are nobody's production. Raises FloatingScheduleError
        unless the settings allow such schedules.
        """
        changing = {
            task.known.pipeline_id: task.known.name
            for task in tasks
            if task.known and task.version is None and not _aside(task.wanted)
        }
        followed: dict[str, list[str]] = {}
        for schedule in self._inventory.schedules() if changing else []:
            if schedule.pipeline_id in changing and not schedule.version_id:
                followed.setdefault(schedule.pipeline_id, []).append(schedule.name)
        if followed and not self._settings.allow_floating_schedules:
            told = "; ".join(
                f"'{changing[pipeline]}' is run by {', '.join(map(repr, schedules))}"
                for pipeline, schedules in sorted(followed.items())
            )
            raise FloatingScheduleError(
                f"schedules would run the new version at once, because they name none ({told})",
                "Make them anew with a version, disable them, or set "
                "'kubeflow.allow_floating_schedules: true'; nothing was uploaded",
            )
        return followed

    def _uploaded(self, task: _Task, followed: dict[str, list[str]]) -> Upload:
        wanted, version = task.wanted, task.version
        pipeline_id = task.known.pipeline_id if task.known else self._made(task)
        created = False
        if version is None:
            version, created = self._version(pipeline_id, wanted)
        version_id = api.identity(version, "pipeline_version_id")
        return Upload(
            pipeline_id=pipeline_id,
            version_id=version_id,
            version=_name(version),
            sha256=wanted.sha256,
            created=created,
            unchanged=task.version is not None,
            url=api.page(self._settings, f"pipelines/details/{pipeline_id}/version/{version_id}"),
            pipeline=wanted.name,
            display_name=str(version.display_name or ""),
            description=str(version.description or ""),
            tags=dict(version.tags or {}),
            followed_by=followed.get(pipeline_id, []) if created else [],
        )

    def _made(self, task: _Task) -> str:
        """The id of the pipeline, which is created, empty, unless somebody else was faster.

        The SDK's way is a first version that bears the pipeline's name.
        """
        name, where = task.wanted.name, self._inventory.where
        description = branches.written(ir.description(task.parsed), task.wanted.mark)
        create = self._api.pipelines.pipeline_service_create_pipeline_with_http_info
        body = {"name": name, "display_name": name, "description": description, **where}
        try:
            return api.identity(self._api.ask(create, body), "pipeline_id")
        except api.Conflict:
            lookup = self._api.pipelines.pipeline_service_get_pipeline_by_name_with_http_info
            found = self._api.ask(lookup, name, **where)
            branches.check(name, branches.read(found.description), task.wanted.mark)
            return api.identity(found, "pipeline_id")

    def _version(self, pipeline_id: str, wanted: Wanted) -> tuple[Any, bool]:
        """The version, and whether it was made. What the SDK's own method hides is given too."""
        optional = {
            "display_name": wanted.display_name,
            "description": wanted.description,
            "tags": json.dumps(dict(wanted.tags)) if wanted.tags else "",
        }
        try:
            made = self._api.ask(
                self._api.uploads.upload_pipeline_version_with_http_info,
                str(wanted.ir_path),
                name=wanted.version,
                pipelineid=pipeline_id,
                **{key: value for key, value in optional.items() if value},
            )
        except api.Conflict:
            return self._same_version(pipeline_id, wanted), False
        return made, True

    def _same_version(self, pipeline_id: str, wanted: Wanted) -> Any:
        """The version of that name. Raises UploadConflictError if it is another pipeline.

        The parsed specs are compared: the server writes YAML anew.
        """
        some = {"key": "name", "operation": "EQUALS", "string_value": wanted.version}
        for found in self._inventory.newest(pipeline_id, 1, filter=filtered(some)):
            if _name(found) == wanted.version and _is(found, wanted.sha256):
                return found
        raise UploadConflictError(
            f"Kubeflow holds another pipeline as '{wanted.name}' version '{wanted.version}'",
            "Commit the change, so that it gets a version name of its own",
        )


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The results in order. Once one fails, what has not begun is left undone."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _aside(wanted: Wanted) -> bool:
    return wanted.mark is not None and wanted.mark.aside


def _name(version: Any) -> str:
    return str(version.name or version.display_name)  # older servers know only the latter


def _is(version: Any, sha256: str) -> bool:
    try:
        one = ir.from_server(version.pipeline_spec, _name(version))
    except MissingInputError:
        return False  # the server could not read its own
    return ir.canonical_sha256(one) == sha256
