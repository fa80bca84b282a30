"""Repositories for tests of the scan gate: images of a few kilobytes with packages that
Trivy finds, a policy, and a database that is nobody else's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from tests.integration import trivy_database
from tests.integration.repositories import Machine, Repository, Spy, component

DEBIAN = "FROM scratch\nCOPY os-release debian_version /etc/\nCOPY status /var/lib/dpkg/status\n"
# In two parts, so that a scan of this repository does not find them here.
KEY_ID = "AKIA" + "Q3EGRT5XKLMNV7WZ"
SECRET = "kX8vPz2QmN4rT6wY9bD1" + "fH3jL5sA7cE0gU2iO4pR"
CREDENTIALS = f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"

OLD = "2026-01-01T00:00:00Z"
LATER = "2199-01-01T00:00:00Z"  # when the next database is out: no test waits for it
AGELESS = {"database_days": 36500}
CVE = "CVE-2099-0001"
DEV = {"KFP_CI_ENVIRONMENT": "dev"}


def debian(package: str = "planted", version: str = "1.0-1") -> dict[str, str | bytes]:
    """The files of an image that says it is Debian 12 with one package."""
    return {
        "os-release": 'ID=debian\nVERSION_ID="12"\n',
        "debian_version": "12.5\n",
        "status": (
            f"Package: {package}\nStatus: install ok installed\nArchitecture: amd64\n"
            f"Maintainer: a test <test@example.com>\nVersion: {version}\nDescription: planted\n"
        ),
    }


def with_package(
    name: str, package: str = "planted", version: str = "1.0-1"
) -> dict[str, str | bytes]:
    """A component whose image is Debian 12 with one package."""
    return component(name, DEBIAN, **debian(package, version))


def python(package: str, version: str) -> str:
    """The METADATA of an installed Python package."""
    return f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"


def gated(
    machine: Machine, path: Path, files: dict[str, Any], policy: dict[str, Any], **database: Any
) -> Repository:
    """A repository with a policy in its own file and a database that is nobody else's.

    dev is another environment on the same registry, that an incomplete scan stops.
    """
    name = f"db-{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if database:
        trivy_database.publish(
            machine.registry,
            name,
            **{"updated": OLD, "next_update": LATER, "advisories": {}, **database},
        )
    return machine.repository(
        path,
        {**files, "scan-policy.yaml": yaml.safe_dump({**AGELESS, **policy})},
        scan={"database": f"{machine.registry}/{name}"},
        environments={"dev": {"registry": {"host": machine.registry}}},
    )


def spied(repository: Repository, spy: Spy) -> dict[str, str]:
    return {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}


def trivy(spy: Spy, *commands: str) -> list[str]:
    """Calls of Trivy's subcommands, of all but the version where none is named."""
    calls = [call.split() for call in spy.calls if call.startswith("trivy ")]
    return [" ".join(call) for call in calls if not commands or call[1] in commands]


def standings(repository: Repository) -> dict[str, set[tuple[str, str]]]:
    """Component -> (id, standing) of its findings, as scan.json has them."""
    return {
        image["component"]: {(one["finding"]["id"], one["standing"]) for one in image["findings"]}
        for image in repository.read("reports/scan.json")["images"]
    }


def keys(repository: Repository) -> dict[str, str]:
    return {one["name"]: one["key"] for one in repository.read("plan.json")["components"]}
