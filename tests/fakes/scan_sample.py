"""A scan report as a project of some age has it, and that of the build before.

`python -m tests.fakes.scan_sample FOLDER` writes all its reports there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from ci_tools.documents import (
    Finding,
    Judged,
    Remark,
    ScannedImage,
    ScanReport,
    Source,
    Verdict,
    WaiverNote,
)
from ci_tools.documents.scan import Severity, Standing

PYTHON = "python:3.11-slim-bookworm"
SIBLING = "clinical/ml-base"
BOTTOM, SHARED, OWN = ("sha256:" + digit * 64 for digit in "123")
POLICY = "9" * 64


def deb(cve: str, severity: Severity, package: str, have: str, fixed: str, title: str) -> Finding:
    return Finding(
        kind="vulnerability",
        id=cve,
        severity=severity,
        title=title,
        package=package,
        installed=have,
        fixed=fixed,
        target="debian 12.5",
        purl=f"pkg:deb/debian/{package}@{have}?distro=debian-12.5",
        layer=BOTTOM,
        url=f"https://avd.aquasec.com/nvd/{cve.lower()}",
    )


def pip(
    cve: str, severity: Severity, package: str, have: str, fixed: str, title: str, layer: str = OWN
) -> Finding:
    return Finding(
        kind="vulnerability",
        id=cve,
        severity=severity,
        title=title,
        package=package,
        installed=have,
        fixed=fixed,
        target="Python",
        purl=f"pkg:pypi/{package}@{have}",
        layer=layer,
        url=f"https://avd.aquasec.com/nvd/{cve.lower()}",
    )


def counts(*findings: Finding) -> list[Judged]:
    return [Judged(finding=one, standing="counts") for one in findings]


def stands(standing: Standing, *findings: Finding, why: str = "", until: str = "") -> list[Judged]:
    return [Judged(finding=one, standing=standing, why=why, until=until) for one in findings]


OPENSSL = [
    deb("CVE-2024-5535", "CRITICAL", "libssl3", "3.0.11-1~deb12u2", "3.0.14-1~deb12u1",
        "openssl: SSL_select_next_proto buffer overread"),
    deb("CVE-2024-6119", "HIGH", "libssl3", "3.0.11-1~deb12u2", "3.0.14-1~deb12u2",
        "openssl: Possible denial of service in X.509 name checks"),
    deb("CVE-2025-9230", "HIGH", "libssl3", "3.0.11-1~deb12u2", "3.0.17-1~deb12u3",
        "openssl: Out-of-bounds read & write in RFC 3211 KEK unwrap"),
]  # fmt: skip
SYSTEM = [
    *OPENSSL,
    deb("CVE-2024-45491", "CRITICAL", "libexpat1", "2.5.0-1", "2.5.0-1+deb12u1",
        "libexpat: Integer overflow or wraparound"),
    deb("CVE-2024-45492", "CRITICAL", "libexpat1", "2.5.0-1", "2.5.0-1+deb12u1",
        "libexpat: integer overflow in nextScaffoldPart"),
    deb("CVE-2024-2961", "HIGH", "libc6", "2.36-9+deb12u4", "2.36-9+deb12u6",
        "glibc: out of bounds write in iconv may lead to remote code execution"),
]  # fmt: skip
ZLIB = deb("CVE-2023-45853", "CRITICAL", "zlib1g", "1:1.2.13.dfsg-1", "",
           "zlib: integer overflow and heap-based buffer overflow")  # fmt: skip
PERL = deb("CVE-2023-31484", "HIGH", "perl-base", "5.36.0-7+deb12u1", "",
           "perl: CPAN.pm does not verify TLS certificates")  # fmt: skip
MINOR = [
    deb(f"CVE-2022-{number}", "LOW", "coreutils", "9.1-1", "", "coreutils: a small thing")
    for number in range(1000, 1014)
]
PILLOW = pip("CVE-2023-50447", "CRITICAL", "pillow", "10.0.1", "10.2.0",
             "pillow: Arbitrary Code Execution via the environment parameter", SHARED)  # fmt: skip
REQUESTS = pip("CVE-2024-35195", "MEDIUM", "requests", "2.31.0", "2.32.0",
               "requests: later requests to a host ignore cert verification")  # fmt: skip
TORCH = pip("CVE-2025-32434", "CRITICAL", "torch", "2.5.1", "2.6.0",
            "torch: remote command execution with torch.load and weights_only=True")  # fmt: skip
STARLETTE = pip("CVE-2024-47874", "HIGH", "starlette", "0.38.2", "0.40.0",
                "starlette: Denial of service via multipart/form-data")  # fmt: skip
MLFLOW = pip("CVE-2024-37054", "HIGH", "mlflow", "2.14.1", "",
             "mlflow: deserialization of untrusted data in PyFunc")  # fmt: skip
KEY = Finding(
    kind="secret",
    id="aws-access-key-id",
    severity="CRITICAL",
    title="AWS Access Key ID",
    target="/home/app/.aws/credentials",
    line=2,
    layer=OWN,
)
WAIVED = stands(
    "waived", MLFLOW, until="2026-12-31",
    why="Models come from our own registry only, signed; upgrade planned (owner: ml-platform)",
)  # fmt: skip
NOT_AFFECTED = stands(
    "not affected", PERL, why="vulnerable_code_not_in_execute_path: CPAN is not used at run time"
)


def image(component: str, findings: list[Judged], **more: Any) -> ScannedImage:
    counting = [one for one in findings if one.standing == "counts"]
    failed = bool(counting)
    base = component == "ml-base"
    settings: dict[str, Any] = {
        "platform": "linux/amd64",
        "dockerfile": f"components/{component}/Dockerfile",
        "reference": ""
        if failed
        else f"registry.example.com/clinical/{component}@sha256:{len(component):064x}",
        "lines": {BOTTOM: 1, SHARED: 4 if base else 1, OWN: 6},
        "bases": {BOTTOM: PYTHON} if base else {BOTTOM: SIBLING, SHARED: SIBLING},
        "parents": [] if base else [SIBLING],
        "verdict": Verdict(
            status="fail" if failed else "pass",
            trivy="0.76.0",
            database="2026-11-24T00:31:12Z",
            policy=POLICY,
            reason=f"{len(counting)} findings count" if failed else "",
            sbom=f"reports/{component}/sbom.cdx.json",
        ),
        **more,
    }
    return ScannedImage(component=component, findings=findings, **settings)


def report() -> ScanReport:
    rest = stands("unfixed", ZLIB) + NOT_AFFECTED + stands("below", *MINOR)
    shared = counts(*SYSTEM, PILLOW) + rest
    return ScanReport(
        project="clinical",
        environment="dev",
        source=Source(commit="4f1c0d9a7be2c6a54d1e8f30b9a2c7d5e6f80912", branch="main"),
        created="2026-11-24T02:07:44Z",
        trivy="0.76.0",
        database="2026-11-24T00:31:12Z",
        policy=POLICY,
        images=[
            image("ml-base", shared),
            image("prepare", shared + stands("below", REQUESTS)),
            image("train", shared + counts(TORCH) + WAIVED + stands("below", REQUESTS)),
            image("evaluate", shared + stands("below", REQUESTS)),
            image("export", shared + counts(KEY)),
            image("serve", counts(STARLETTE), bases={BOTTOM: "debian:12.8-slim"}, parents=[]),
            image("notify", stands("below", *MINOR[:3]), bases={BOTTOM: "debian:12.8-slim"},
                  parents=[]),
            image("monitor", [], bases={}, parents=[], verdict=Verdict(
                status="incomplete", trivy="0.76.0", database=None, policy=POLICY,
                reason="trivy did not finish its scan (no time left)")),
        ],
        waivers=[
            WaiverNote(problem="expired", id="CVE-2024-35195", package="requests",
                       owner="data-science", expires="2026-11-20"),
            WaiverNote(problem="expires soon", id="CVE-2024-37054", package="mlflow",
                       component="train", owner="ml-platform", expires="2026-12-31"),
            WaiverNote(problem="unused", id="CVE-2021-44228", package="log4j-core",
                       owner="platform"),
        ],
        dockerfiles=[
            Remark(dockerfile="components/train/Dockerfile", line=6, code="DL3042",
                   level="warning",
                   message="Avoid use of cache directory with pip: `--no-cache-dir`"),
            Remark(dockerfile="components/serve/Dockerfile", line=1, code="DL3006", level="warning",
                   message="Always tag the version of an image explicitly", gates=True),
            Remark(dockerfile="components/export/Dockerfile", line=9, code="SC2086", level="info",
                   message="Double quote to prevent globbing and word splitting."),
        ],
    )  # fmt: skip


def before() -> ScanReport:
    """The build before: without torch and the key, and with what has been mended since."""
    now = report()
    curl = deb("CVE-2023-38545", "CRITICAL", "curl", "7.88.1-10", "7.88.1-10+deb12u4",
               "curl: heap based buffer overflow in the SOCKS5 proxy handshake")  # fmt: skip
    recent = {TORCH.id, KEY.id, OPENSSL[2].id}
    images = [
        msgspec.structs.replace(
            one,
            findings=[judged for judged in one.findings if judged.finding.id not in recent]
            + (counts(curl, MLFLOW) if one.component == "train" else []),
        )
        for one in now.images
        if one.component != "monitor"
    ]
    return msgspec.structs.replace(
        now,
        images=images,
        created="2026-11-21T16:40:02Z",
        database="2026-11-21T12:29:50Z",
        source=Source(commit="b7d20e6c11aa93f5d2f4a6e08c3b9571f0e2d4c8", branch="main"),
    )


if __name__ == "__main__":
    from ci_tools.report import scan

    scan.write(Path(sys.argv[1]), report(), before())
