"""What a signature of a release states: in-toto's Statement v1, with SLSA's provenance v1.

Pure. Sources: in-toto attestation framework, spec/v1/statement.md; SLSA v1.0,
"Provenance" (slsa.dev/spec/v1.0/provenance).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ci_tools.documents import Release
from ci_tools.release import canonical
from ci_tools.release.bundle import CONTENT, Bundle

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:kfp-ci:release:v1"
_NOWHERE = "urn:kfp-ci:no-ci-server"
Statement = dict[str, Any]


def statement(bundle: Bundle) -> bytes:
    """The statement about a release, as canonical JSON: equal for equal releases.

    Its subjects are all there is of it: the images by digest, the files, the task
    definitions that were deployed, and release.json itself.
    """
    subjects = [{"name": n, "digest": {"sha256": d}} for n, d in sorted(subjects_of(bundle))]
    return encoded(subjects, PROVENANCE, provenance(bundle.release))


def encoded(subjects: list[dict[str, Any]], kind: str, predicate: Mapping[str, Any]) -> bytes:
    """A statement as canonical JSON."""
    return canonical.encode(
        {
            "_type": STATEMENT,
            "subject": subjects,
            "predicateType": kind,
            "predicate": dict(predicate),
        }
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
    materials: list[Statement] = []
    if source.commit:
        materials.append(
            {
                "uri": f"{repository or release.project}@{source.commit}",
                "digest": {"gitCommit": source.commit},
            }
        )
    bases = {
        (reference, digest.rpartition("@")[2])
        for image in release.images.values()
        for reference, digest in image.bases.items()
        if digest
    }
    materials += [
        {"uri": f"oci://{reference}", "digest": {"sha256": digest.removeprefix("sha256:")}}
        for reference, digest in sorted(bases)
    ]
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
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {"id": release.builder or _NOWHERE, "version": release.tools},
            "metadata": metadata,
        },
    }


def differences(payload: bytes, bundle: Bundle) -> list[str]:
    """How a statement, whose signature was verified, is not about this release: a clause each."""
    try:
        made = json.loads(payload)
        subjects = {(one["name"], one["digest"]["sha256"]) for one in made["subject"]}
        count = len(made["subject"])
        kinds = (made["_type"], made["predicateType"])
        stated = made["predicate"]["buildDefinition"]["externalParameters"]
        told = {name: stated[name] for name in ("repository", "commit")}
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
    return found
