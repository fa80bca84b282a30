"""Trivy's JSON, read into records."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import storage
from ci_tools.documents import Layer, ScanRecord
from ci_tools.errors import ToolError
from ci_tools.scanner import report

IMAGE = "sha256:" + "1" * 64
DATABASE = "2026-03-02T00:00:00Z"


def trivy(*results: dict[str, Any], image: str = IMAGE, **metadata: Any) -> report.Report:
    whole = {
        "SchemaVersion": 2,
        "Metadata": {"ImageID": image, **metadata},
        "Results": list(results),
        "Unknown": "fields are Trivy's own business",
    }
    return report.read(json.dumps(whole).encode())


def made(read: report.Report, **more: Any) -> ScanRecord:
    return report.record(
        read, IMAGE,
        **{"platform": "", "trivy": "0.76.0", "kinds": ("vulnerability", "secret"),
           "database": DATABASE, **more},
    )  # fmt: skip


CVE = {
    "VulnerabilityID": "CVE-2099-0001", "PkgName": "zlib", "InstalledVersion": "1",
    "FixedVersion": "2", "Severity": "HIGH", "Title": "t", "PrimaryURL": "https://e.invalid",
    "PkgIdentifier": {"PURL": "pkg:deb/debian/zlib@1"}, "Layer": {"DiffID": "sha256:a"},
}  # fmt: skip
PACKAGES = {"Target": "127.0.0.1:5100/p/one:k (debian 12.5)", "Vulnerabilities": [CVE]}


def test_each_class_is_read() -> None:
    secret = {
        "RuleID": "aws-key", "Title": "AWS", "Severity": "CRITICAL", "StartLine": 3,
        "Match": "AKIASECRET", "Code": {"Lines": [{"Content": "AKIASECRET"}]},
        "Layer": {"DiffID": "sha256:b"},
    }  # fmt: skip
    check = {"ID": "DS-0002", "Title": "root", "Severity": "HIGH", "Status": "FAIL"}
    found = made(
        trivy(
            PACKAGES,
            {"Target": "/app/.env", "Secrets": [secret]},
            {"Target": "config", "Misconfigurations": [check, {**check, "Status": "PASS"}]},
            {"Target": "Python", "Licenses": [{"Name": "GPL-3.0", "PkgName": "x"}]},
        )
    )
    told = [(one.kind, one.id, one.severity, one.package, one.target) for one in found.findings]
    assert told == [
        ("license", "GPL-3.0", "UNKNOWN", "x", "Python"),
        ("misconfiguration", "DS-0002", "HIGH", "", "the image's configuration"),
        ("secret", "aws-key", "CRITICAL", "", "/app/.env"),
        ("vulnerability", "CVE-2099-0001", "HIGH", "zlib", "debian 12.5"),
    ]
    assert [one.layer for one in found.findings[2:]] == ["sha256:b", "sha256:a"]
    assert (found.findings[3].installed, found.findings[3].fixed) == ("1", "2")
    assert b"AKIASECRET" not in storage.encode(found)


def test_what_vex_took_out_is_kept_with_the_reason() -> None:
    modified = {
        "Type": "vulnerability", "Status": "not_affected",
        "Statement": "vulnerable_code_not_present", "Source": "vex.json", "Finding": CVE,
    }  # fmt: skip
    found = made(trivy({"Target": "x (debian 12.5)", "ExperimentalModifiedFindings": [modified]}))
    (one,) = found.findings
    assert (one.id, one.vex) == ("CVE-2099-0001", "not_affected: vulnerable_code_not_present")


def test_layers_have_the_steps_that_made_them() -> None:
    history = [
        {"created_by": "COPY a /"}, {"created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "RUN b"},
    ]  # fmt: skip
    layers = ["sha256:1", "sha256:2"]
    found = made(trivy(DiffIDs=layers, ImageConfig={"history": history}))
    assert found.layers == [
        Layer(diff_id="sha256:1", created_by="COPY a /"),
        Layer(diff_id="sha256:2", created_by="RUN b"),
    ]
    # An image of another builder may tell nothing, or nothing that matches.
    found = made(trivy(DiffIDs=layers, ImageConfig={"history": history[:1]}))
    assert [one.created_by for one in found.layers] == ["", ""]


def test_a_report_of_another_image_is_none_of_ours() -> None:
    with pytest.raises(ToolError, match="instead of"):
        made(trivy(image="sha256:2"))
    with pytest.raises(ToolError, match="instead of"):
        report.rematched(
            made(trivy()), trivy(image="sha256:2"), trivy="1", database=DATABASE, vex=""
        )


def test_without_a_database_vulnerabilities_were_not_looked_for() -> None:
    assert made(trivy(), database=None).kinds == ["secret"]
    lacking = made(trivy(), lacking=["JAR files"])
    assert (lacking.kinds, lacking.database) == (["secret"], None)


def test_another_database_replaces_vulnerabilities_and_nothing_else() -> None:
    secret = {"Target": "/a", "Secrets": [{"RuleID": "k"}]}
    before = made(trivy(PACKAGES, secret), database=None)
    other = {**CVE, "VulnerabilityID": "CVE-2099-0002"}
    after = report.rematched(
        before, trivy({"Target": "sbom.json (debian 12.5)", "Vulnerabilities": [other]}),
        trivy="0.77.0", database="2026-03-03T00:00:00Z", vex="v",
    )  # fmt: skip
    assert [one.id for one in after.findings] == ["k", "CVE-2099-0002"]
    assert after.kinds == ["vulnerability", "secret"]
    assert (after.trivy, after.matched, after.vex) == ("0.76.0", "0.77.0", "v")
    assert after.findings[1].target == "debian 12.5"  # as a scan of the image says


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"SchemaVersion": "two"}', b"\xff\xfe", b'{"Results": 3}',
     b'{"SchemaVersion": 2, "Results": [{"Vulnerabilities": [{"VulnerabilityID": 3}]}]}'],
)  # fmt: skip
def test_damaged_json_is_a_sentence(raw: bytes) -> None:
    with pytest.raises(ToolError, match="trivy's report cannot be read"):
        report.read(raw)


def test_a_damaged_finding_of_vex_is_a_sentence() -> None:
    modified = {"Type": "vulnerability", "Finding": {"PkgName": 3}}
    with pytest.raises(ToolError, match="cannot be read"):
        made(trivy({"Target": "x", "ExperimentalModifiedFindings": [modified]}))


@given(st.permutations([CVE, {**CVE, "VulnerabilityID": "C2"}, {**CVE, "PkgName": "a"}, CVE]))
def test_the_order_that_trivy_took_does_not_matter(order: list[dict[str, Any]]) -> None:
    one = made(trivy({"Target": "x (debian 12.5)", "Vulnerabilities": order}))
    other = made(trivy({"Target": "y (debian 12.5)", "Vulnerabilities": sorted(order, key=str)}))
    assert storage.encode(one) == storage.encode(other)
    assert len(one.findings) == 3
