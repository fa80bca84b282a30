"""The embedded Kubeflow's pipelines: a directory each, a file and its record a version.

The API server's rules hold: a version never changes, names are looked up the
same way, and ids are uuid5 of the names, the same on any machine.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ci_tools import storage
from ci_tools.documents import Document, Upload
from ci_tools.errors import MissingInputError, UploadConflictError, WriteError
from ci_tools.kubeflow import branches, ir, names
from ci_tools.kubeflow.branches import Mark
from ci_tools.kubeflow.known import Known, KnownVersion, Schedule
from ci_tools.kubeflow.wanted import Wanted

_LOOKED_AT = 5  # versions of one content
_NAMESPACE = uuid.UUID("5e0c5a1d-6d0f-4a7e-9a53-0a4f0d3e6c11")  # of our uuid5 ids


class Version(Document, kw_only=True):
    """<version>.json beside <version>.yaml. mark: of the pipeline, as in all its versions."""

    pipeline_id: str
    version_id: str
    sha256: str
    description: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    created: str = ""
    mark: Mark | None = None


class Catalogue:
    """Satisfies `ci_tools.kubeflow.known.Inventory`. directory: need not exist."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str, version: str) -> Path:
        """Where a version's IR is. Raises ConfigError for what is no name."""
        names.check_names(name, version)
        return self._directory / name / f"{version}.yaml"

    def upload(self, wanted: Wanted) -> Upload:
        """See `Kubeflow.upload`."""
        wanted.checked()
        versions = self._versions(wanted.name)
        if versions:
            branches.check(wanted.name, _mark(versions), wanted.mark)
        name = self._same(versions, wanted) or wanted.version
        path = self.path(wanted.name, name)
        known = versions.get(name)
        if known is not None and known.sha256 != wanted.sha256:
            raise UploadConflictError(
                f"the catalogue holds another pipeline as '{wanted.name}' version '{name}'",
                "Commit the change, so that it gets a version name of its own",
            )
        version = known or Version(
            pipeline_id=_id(wanted.name),
            version_id=_id(f"{wanted.name}/{name}"),
            sha256=wanted.sha256,
            description=wanted.description,
            display_name=wanted.display_name,
            tags=dict(wanted.tags),
            created=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            mark=wanted.mark,
        )
        if known is None or not _holds(path, wanted.sha256):
            # The spec first: a version exists once its .json does. One that was
            # damaged is put back.
            storage.write_bytes(path, wanted.ir_path.read_bytes())
        if known is None:
            storage.write(_record(path), version)
        return Upload(
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            version=name,
            sha256=version.sha256,
            created=known is None,
            unchanged=known is not None,
            url=path.as_uri(),
            pipeline=wanted.name,
            display_name=version.display_name,
            description=version.description,
            tags=version.tags,
        )

    def pipelines(self) -> list[Known]:
        """See `Inventory.pipelines`."""
        found = []
        for directory in sorted(self._directory.glob("[!.]*/")):
            if versions := self._versions(directory.name):
                found.append(Known(_id(directory.name), directory.name, _mark(versions)))
        return found

    def latest(self, pipeline_id: str) -> KnownVersion | None:
        """See `Inventory.latest`."""
        return next(iter(self.versions(pipeline_id, "")), None)

    def versions(self, pipeline_id: str, ending: str) -> list[KnownVersion]:
        """See `Inventory.versions`."""
        versions = self._versions(self._name(pipeline_id) or "")
        names = sorted(versions, key=lambda it: (versions[it].created, it), reverse=True)
        found = []
        for name in names:
            one = versions[name]
            created = f"{one.created[:19]}Z" if one.created else ""
            found.append(KnownVersion(one.version_id, name, one.tags, created))
        return [one for one in found if one.name.endswith(ending)][:_LOOKED_AT]

    def schedules(self) -> list[Schedule]:
        """See `Inventory.schedules`. There are none on this machine."""
        return []

    def delete(self, known: Known) -> None:
        """See `Inventory.delete`. Raises WriteError."""
        directory = self._directory / known.name
        aside = self._directory / f".deleted-{uuid.uuid4()}"  # whole or not at all
        try:
            directory.rename(aside)
            shutil.rmtree(aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise WriteError(
                f"{directory} could not be deleted ({error.strerror})", "Mend the permissions"
            ) from error

    def delete_version(self, pipeline_id: str, version_id: str) -> None:
        """See `Inventory.delete_version`. Raises WriteError."""
        name = self._name(pipeline_id) or ""
        for version, one in self._versions(name).items():
            if one.version_id != version_id:
                continue
            path = self.path(name, version)
            try:  # the record first, which is what makes it a version
                _record(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            except OSError as error:
                raise WriteError(
                    f"{path} could not be deleted ({error.strerror})", "Mend the permissions"
                ) from error

    def _name(self, pipeline_id: str) -> str | None:
        names = (one.name for one in self.pipelines() if one.pipeline_id == pipeline_id)
        return next(names, None)

    def _versions(self, name: str) -> dict[str, Version]:
        found: dict[str, Version] = {}
        if not name:
            return found
        for path in (self._directory / name).glob("[!.]*.json"):
            version = storage.read_if_there(path, Version, made_by="upload")
            if version is not None:
                found[path.name.removesuffix(".json")] = version
        return found

    def _same(self, versions: Mapping[str, Version], wanted: Wanted) -> str | None:
        """The version that is this very pipeline: of the wanted name, else the newest."""
        ending = names.ending(wanted.sha256)
        equal = [
            name
            for name, version in versions.items()
            if name.endswith(ending) and version.sha256 == wanted.sha256
        ]
        if wanted.version in equal:
            return wanted.version
        return max(equal, key=lambda name: (versions[name].created, name), default=None)


def _mark(versions: Mapping[str, Version]) -> Mark | None:
    return min(versions.values(), key=lambda version: version.created).mark


def _holds(path: Path, sha256: str) -> bool:
    try:
        return ir.canonical_sha256(ir.load(path)) == sha256
    except MissingInputError:
        return False


def _record(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".yaml") + ".json")


def _id(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))
