"""What Trivy found, and what a policy makes of it.

A `ScanRecord` holds facts of one image and no opinion: it lies beside the image
in the registry, for any agent, and outlives every change of policy. A
`ScanReport` is the outcome of one run of `build`, for people and their tools.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Source
from ci_tools.documents.images import Verdict

Kind = Literal["vulnerability", "secret", "misconfiguration", "license"]
KINDS: tuple[Kind, ...] = ("vulnerability", "secret", "misconfiguration", "license")
Severity = Literal["UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"]
SEVERITIES: tuple[Severity, ...] = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")
Standing = Literal["counts", "below", "unfixed", "waived", "not affected"]


class Finding(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One thing that Trivy found in one image. Never holds a secret itself.

    id:        CVE or advisory, rule of a secret, check, or name of a licence.
    package, installed, fixed: of a vulnerability (fixed: "" if nobody mended it
               yet; else the versions that do, with commas) or licence.
    target:    the file it is in, or the list of packages ("debian 12.5", "Python").
    line:      in a secret's file, 0 where there is none.
    layer:     diff id of the layer that brought it, "" where that is not known.
    vex:       why a VEX document says that it does not matter here, "" for none.
    """

    kind: Kind
    id: str
    severity: Severity = "UNKNOWN"
    title: str = ""
    package: str = ""
    installed: str = ""
    fixed: str = ""
    target: str = ""
    line: int = 0
    purl: str = ""
    layer: str = ""
    url: str = ""
    vex: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes it the same finding in another build of the component."""
        where = "" if self.package else self.target
        return (self.kind, self.id, self.package, where)


class Layer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One layer of an image, the lowest first. created_by: as its history says."""

    diff_id: str
    created_by: str = ""


class ScanRecord(Document, kw_only=True):
    """All that was found in one image of one platform, whatever any policy counts.

    image:    digest of the image's config, which Trivy calls its id.
    trivy:    version that looked into the image.
    matched:  version that matched its packages with the database.
    kinds:    what was looked for.
    database: date of the vulnerability database; None where none could be had, and
              then "vulnerability" is not among the kinds.
    checks:   digest of the bundle of misconfiguration checks, "" for the built-in one.
    vex:      hash over the VEX documents that were regarded, "" for none.
    lacking:  what could not be looked into, in words, so that its packages are not
              all known; nothing can be concluded from its SBOM then.
    """

    image: str
    platform: str = ""
    trivy: str
    matched: str
    kinds: list[Kind]
    database: str | None
    checks: str = ""
    vex: str = ""
    lacking: list[str] = []
    layers: list[Layer] = []
    findings: list[Finding] = []


# A report has ten thousands, in no cycle: Python need not look for one in each of them.
class Judged(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A finding and where it stands under the policy.

    standing: "counts" against the image; "below" the severities that count;
              "unfixed" where only what can be mended counts; "waived" by a waiver
              or "not affected" by VEX.
    why:      the waiver's reason and owner, or the VEX document's words.
    until:    the day from which the waiver does not hold any more (YYYY-MM-DD).
    """

    finding: Finding
    standing: Standing
    why: str = ""
    until: str = ""


class ScannedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One component's image, of one platform, in a report.

    reference:  by digest; "" where it was refused and so has none in the registry.
    dockerfile: path in the repository.
    lines:      diff id of a layer -> line of the Dockerfile that made it; of a base's
                layers the line of its FROM.
    bases:      diff id of a layer -> name, as in FROM, of the image that it came with,
                for layers that this component's Dockerfile did not make.
    parents:    siblings among those names.
    pipelines, services: that run it, in a report of what is live.
    """

    component: str
    platform: str = ""
    reference: str = ""
    dockerfile: str = ""
    verdict: Verdict
    findings: list[Judged] = []
    lines: dict[str, int] = {}
    bases: dict[str, str] = {}
    parents: list[str] = []
    pipelines: list[str] = []
    services: list[str] = []


class Remark(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What hadolint says of a line of a Dockerfile. gates: whether it fails the plan."""

    dockerfile: str
    line: int
    column: int = 1
    code: str
    level: Literal["error", "warning", "info", "style"]
    message: str
    gates: bool = False


class LintReport(Document, kw_only=True):
    """reports/dockerfiles.json: what the last `plan` was told of all Dockerfiles.

    problem: why they are not all linted, "" where they are.
    """

    remarks: list[Remark] = []
    problem: str = ""


class WaiverNote(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A waiver that is to be looked at."""

    problem: Literal["expired", "unused", "expires soon"]
    id: str
    package: str = ""
    component: str = ""
    owner: str = ""
    expires: str = ""


class ScanReport(Document, kw_only=True):
    """reports/scan.json: every image of one run, whatever became of it.

    created: when it was written. database: of this run, None where there was none.
    """

    project: str
    environment: str
    source: Source
    created: str
    trivy: str
    database: str | None
    policy: str
    images: list[ScannedImage] = []
    waivers: list[WaiverNote] = []
    dockerfiles: list[Remark] = []
