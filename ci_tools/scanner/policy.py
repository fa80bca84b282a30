"""What counts against an image: `scan-policy.yaml`, or the same under `scan:` in ci.yaml.

A file of its own can be given an owner of its own, such as the security team.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ci_tools.documents import Finding
from ci_tools.documents.scan import KINDS, Kind, Severity
from ci_tools.errors import ConfigError

FILE = "scan-policy.yaml"
_RULES = 2  # raise it when `gate` judges differently: old verdicts then expire

Severities = tuple[Severity, ...]
Said = Annotated[str, Meta(min_length=1)]


class _Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Counting(_Section):
    """Severities that count, by class. What is empty is not looked for, but for
    vulnerabilities; a secret counts whatever this says. Looking for
    misconfigurations takes Trivy seconds an image."""

    vulnerability: Severities = ("HIGH", "CRITICAL")
    misconfiguration: Severities = ()
    license: Severities = ()


class Override(_Section):
    """What an environment sees otherwise; what is not given stays."""

    severities: Counting | None = None
    ignore_unfixed: bool | None = None


class Waiver(_Section):
    """A finding that somebody answers for until a day.

    id: of a vulnerability, check or licence; a secret cannot be waived.
    package, component: only there; without them everywhere.
    owner: who answers for it. expires: from this day on it holds no more.
    """

    id: Said
    reason: Said
    owner: Said
    expires: date
    package: Said | None = None
    component: Said | None = None

    def matches(self, finding: Finding, component: str) -> bool:
        return (
            finding.kind != "secret"
            and finding.id == self.id
            and self.package in (None, finding.package)
            and self.component in (None, component)
        )


class Policy(_Section):
    """What counts against an image. A secret in one always does.

    ignore_unfixed: a vulnerability that nobody has mended yet does not count.
    environments: what is otherwise in one of them.
    vex: files in the repository that say which vulnerabilities do not matter here
    (OpenVEX, CycloneDX or CSAF).
    database_days: a vulnerability database older than that is as good as none.
    """

    severities: Counting = msgspec.field(default_factory=Counting)
    ignore_unfixed: bool = True
    environments: dict[str, Override] = {}
    waivers: list[Waiver] = []
    vex: list[Said] = []
    database_days: Annotated[int, Meta(ge=1, le=36_500)] = 7


@dataclass(frozen=True)
class Active:
    """The policy of one environment, ready to judge by.

    kinds:   what must be looked for, so that a record serves every environment.
    vex:     the documents, as absolute paths; vex_hash: over their content, or "".
    """

    counts: Mapping[Kind, frozenset[Severity]]
    ignore_unfixed: bool
    waivers: Sequence[Waiver]
    database_days: int
    kinds: tuple[Kind, ...]
    vex: tuple[Path, ...] = ()
    vex_hash: str = ""

    @property
    def hash(self) -> str:
        """What a verdict depends on besides image, Trivy and database: 64 hex."""
        rules = {
            "rules": _RULES,
            "counts": {kind: sorted(severities) for kind, severities in self.counts.items()},
            "ignore_unfixed": self.ignore_unfixed,
            "waivers": sorted(msgspec.json.encode(one, order="sorted") for one in self.waivers),
            "database_days": self.database_days,
            "vex": self.vex_hash,
        }
        return hashlib.sha256(msgspec.json.encode(rules, order="deterministic")).hexdigest()


def active(policy: Policy, environment: str, repository: Path) -> Active:
    """The policy as it holds in an environment.

    repository: where the VEX documents are. Raises ConfigError for one that is
    outside of it or cannot be read.
    """
    own = policy.environments.get(environment, Override())
    severities = own.severities or policy.severities
    looked_for = [policy.severities, *(o.severities for o in policy.environments.values())]
    paths = tuple(_inside(repository, name) for name in policy.vex)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(_content(path, repository)).digest())
    return Active(
        counts={
            "vulnerability": frozenset(severities.vulnerability),
            "misconfiguration": frozenset(severities.misconfiguration),
            "license": frozenset(severities.license),
        },
        ignore_unfixed=(
            policy.ignore_unfixed if own.ignore_unfixed is None else own.ignore_unfixed
        ),
        waivers=tuple(policy.waivers),
        database_days=policy.database_days,
        kinds=tuple(
            kind
            for kind in KINDS
            if kind in ("vulnerability", "secret")
            or any(one is not None and getattr(one, kind) for one in looked_for)
        ),
        vex=paths,
        vex_hash=digest.hexdigest() if paths else "",
    )


def _inside(repository: Path, name: str) -> Path:
    root = repository.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ConfigError(
            f"the VEX document '{name}' is outside the repository", "Name a file inside it"
        )
    return path


def _content(path: Path, repository: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the VEX document '{path.relative_to(repository.resolve())}' "
            f"cannot be read ({error.strerror})",
            "Mend 'vex' of the scan policy",
        ) from error
