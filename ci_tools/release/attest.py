"""What a signature of a release states: in-toto's Statement v1, with SLSA's provenance v1.

Pure. Sources: in-toto attestation framework, spec/v1/statement.md; SLSA v1.0,
"Provenance" (slsa.dev/spec/v1.0/provenance).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from ci_tools.documents import Release
from ci_tools.release.bundle import CONTENT, Bundle

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:kfp-ci:release:v1"
_NOWHERE = "urn:kfp-ci:no-ci-server"
Statement = dict[str, Any]


def statement(bundle: Bundle) -> bytes:
    """The statement about a release, as JSON: equal for equal releases.

    Its subjects are all there is of it: the images by digest, the files, the task
    definitions that were deployed, and release.json itself.
    """
    subjects = [{"name": n, "digest": {"sha256": d}} for n, d in sorted(subjects_of(bundle))]
    return encoded(subjects, PROVENANCE, provenance(bundle.release))


def encoded(
    subjects: list[dict[str, Any]], kind: str, predicate: Mapping[str, Any] | msgspec.Raw
) -> bytes:
    """A statement as JSON with sorted keys. predicate: or JSON, to be taken as it is."""
    return msgspec.json.encode(
        {
            "_type": STATEMENT,
            "subject": subjects,
            "predicateType": kind,
            "predicate": predicate,
        },
        order="sorted",
    )


def subjects_of(bundle: Bundle) -> set[tuple[str, str]]:
    """Name and sha256 of everything that a release binds."""
    release = bundle.release
    found = {(CONTENT, bundle.sha256), *release.files.items()}
    for image in release.images.values():
        repository, _, digest = image.reference.rpartition("@sha256:")
        found.add((repository, digest))
    found |= {
        (f"task-definitions/{name}", servable.task_definition_sha256)
        for name, servable in release.servables.items()
        if servable.task_definition_sha256
    }
    return found


def provenance(release: Release) -> Statement:
    """The predicate: from what, by whom and how it was built."""
    source = release.source
    repository = f"git+{release.repository}" if "://" in release.repository else release.repository
    origins: list[Statement] = []
    if source.commit:
        origins.append(
            {
                "uri": f"{repository or release.project}@{source.commit}",
                "digest": {"gitCommit": source.commit},
            }
        )
    bases = {
        name: digest for image in release.images.values() for name, digest in image.bases.items()
    }
    metadata = {"invocationId": release.build} if release.build else {}
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {
                "repository": release.repository,
                "commit": source.commit or "",
                "branch": source.branch or "",
                "project": release.project,
                "environment": release.environment,
            },
            "internalParameters": {"plan": release.plan, "lock": release.lock},
            "resolvedDependencies": origins + materials(bases),
        },
        "runDetails": {
            "builder": {"id": release.builder or _NOWHERE, "version": release.tools},
            "metadata": metadata,
        },
    }


def materials(images: Mapping[str, str | None]) -> list[Statement]:
    """Images that something is built on, as SLSA wants them. images: reference -> digest,
    alone or after a name; what has none is left out."""
    digests = {
        name.partition("@")[0]: (digest or "").rpartition("@")[2].removeprefix("sha256:")
        for name, digest in images.items()
    }
    return [
        {"uri": f"oci://{name}", "digest": {"sha256": digest}}
        for name, digest in sorted(digests.items())
        if digest
    ]


def is_about(payload: bytes, digest: str, kind: str) -> bool:
    """Whether a statement, whose signature was verified, is of that kind and about that
    digest alone."""
    try:
        made = json.loads(payload)
        told = [one["digest"]["sha256"] for one in made["subject"]]
        return bool(made["predicateType"] == kind and told == [digest.removeprefix("sha256:")])
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def differences(payload: bytes, bundle: Bundle) -> list[str]:
    """How a statement, whose signature was verified, is not about this release: a clause each."""
    try:
        made = json.loads(payload)
        subjects = {(one["name"], one["digest"]["sha256"]) for one in made["subject"]}
        count = len(made["subject"])
        kinds = (made["_type"], made["predicateType"])
        stated = made["predicate"]["buildDefinition"]["externalParameters"]
        told = {name: stated[name] for name in ("repository", "commit")}
        builder = made["predicate"]["runDetails"]["builder"]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ["it is no statement about a build"]
    release, expected = bundle.release, subjects_of(bundle)
    found = []
    if kinds != (STATEMENT, PROVENANCE):
        found.append("it is a statement of another kind")
    for words, names in (
        ("says nothing of", expected - subjects),
        ("speaks of", subjects - expected),
    ):
        if names:
            found.append(f"it {words} {', '.join(sorted({str(n)[:100] for n, _ in names})[:5])}")
    if count != len(subjects):
        found.append("it names a subject twice")
    if told != {"repository": release.repository, "commit": release.source.commit or ""}:
        found.append("it is of another repository or commit")
    if builder != (release.builder or _NOWHERE):
        found.append("it is of another builder")
    return found
