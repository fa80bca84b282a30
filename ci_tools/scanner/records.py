"""Scan records beside their image in the registry, where any agent finds them.

A record is an artifact that refers to the image: the record, and the SBOM that a
newer database is matched with. Its annotations tell what is needed to choose one
without fetching any.
"""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec

from ci_tools import typed
from ci_tools.documents.base import SCHEMA, timestamp
from ci_tools.documents.scan import ScanRecord
from ci_tools.images import artifacts, referrers
from ci_tools.images.artifacts import Attached
from ci_tools.images.registry import Registry

TYPE = "application/vnd.kfp-ci.scan.v1+json"  # of the artifact, and of the record in it
SBOM = "application/vnd.cyclonedx+json"
DATABASE = "vnd.kfp-ci.scan.database"
TRIVY = "vnd.kfp-ci.scan.trivy"
MATCHED = "vnd.kfp-ci.scan.matched"
VERSION = "vnd.kfp-ci.scan.schema"

_TRIED = 3  # whoever fills a list with rubbish costs a scan, not a thousand requests
_NEVER = datetime.min.replace(tzinfo=timezone.utc)


class Kept(msgspec.Struct, kw_only=True, frozen=True):
    """A record that an image has. digest: of the artifact. created: when it was published."""

    record: ScanRecord
    digest: str
    created: datetime | None
    registry: Registry
    repository: str
    subject: str

    def sbom(self) -> bytes | None:
        """The CycloneDX SBOM: two requests, and megabytes.

        None where it has gone or is damaged: then the image itself is to be scanned.
        Raises RegistryError, CredentialsError.
        """
        one = Attached(digest=self.digest, artifact_type=TYPE, annotations={}, created=None)
        files = referrers.fetch(self.registry, self.repository, self.subject, one, only=(SBOM,))
        return (files or {}).get(SBOM)


def publish(
    registry: Registry,
    repository: str,
    subject: str,
    record: ScanRecord,
    sbom: bytes,
    *,
    now: datetime | None = None,
) -> str:
    """Put a record beside its image; the digest of the artifact.

    subject: digest of the manifest of the image of that platform. now: replaced in tests.

    The same record is not written again, also when the SBOM has another time in
    it. Records of an older or the same database go: the list of an image that is
    scanned each day stays as short as it was.

    Raises RegistryError, CredentialsError.
    """
    held = newest(registry, repository, subject)
    if held is not None and held.record == record and held.sbom() is not None:
        return held.digest
    created = timestamp(now)
    annotations = {
        artifacts.CREATED: created,
        TRIVY: record.trivy,
        MATCHED: record.matched,
        DATABASE: record.database or "",
        VERSION: str(record.schema),
    }
    return referrers.attach(
        registry,
        repository,
        subject,
        artifact_type=TYPE,
        files={TYPE: msgspec.json.encode(record), SBOM: sbom},
        annotations=annotations,
        replaces=lambda one: (
            one.annotations.get(VERSION) == str(record.schema)
            and _age(one)[:2] <= (_moment(record.database), _moment(created))
        ),
    )


def newest(registry: Registry, repository: str, subject: str) -> Kept | None:
    """The record of the newest database, of those the last published; None where
    there is none that can be read: the image is to be scanned.

    Three requests. The record tells nothing of which image it is of that a
    stranger could not write: whoever may push to the repository is trusted, and
    `record.image` is to be compared with the image's config.

    Raises RegistryError where the registry does not answer, CredentialsError.
    """
    found = referrers.attached(registry, repository, subject, TYPE)
    known = [one for one in found if one.annotations.get(VERSION) in (None, str(SCHEMA))]
    for one in sorted(known, key=_age, reverse=True)[:_TRIED]:
        files = referrers.fetch(registry, repository, subject, one, only=(TYPE,))
        record = _read((files or {}).get(TYPE, b""))
        if record is not None:
            return Kept(
                record=record,
                digest=one.digest,
                created=one.created,
                registry=registry,
                repository=repository,
                subject=subject,
            )
    return None


def _read(content: bytes) -> ScanRecord | None:
    try:
        record = typed.decode(content, ScanRecord)
    except msgspec.MsgspecError:
        return None
    return record if record.schema == SCHEMA else None


def _age(one: Attached) -> tuple[datetime, datetime, str]:
    return _moment(one.annotations.get(DATABASE)), *one.age


def _moment(text: str | None) -> datetime:
    return artifacts.moment(text) or _NEVER
