"""What the gate lets through and what not: real Trivy, and databases of the tests' own."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration import trivy_database
from tests.integration.images import (
    AGELESS,
    CREDENTIALS,
    CVE,
    DEBIAN,
    DEV,
    LATER,
    OLD,
    SECRET,
    debian,
    gated,
    keys,
    python,
    spied,
    standings,
    trivy,
    with_package,
)
from tests.integration.repositories import (
    BASE,
    Machine,
    Spy,
    component,
    in_registry,
    inspected,
    skopeo,
)
from tests.integration.trivy_database import Detail

pytestmark = pytest.mark.integration

# What counts ---------------------------------------------------------------------------


def test_severities_fixes_and_waivers_decide_by_the_environments_policy(
    machine: Machine, tmp_path: Path
) -> None:
    """One image for each edge. Default policy: HIGH and CRITICAL that somebody mended.
    dev: LOW and HIGH, mended or not."""
    levels = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")
    cves = {level: f"CVE-2099-1{number:03}" for number, level in enumerate(levels)}
    waived, expired, elsewhere = "CVE-2099-2001", "CVE-2099-2002", "CVE-2099-2003"
    held = {level.lower(): {cve: "2.0-1"} for level, cve in cves.items()} | {
        "unfixed": {"CVE-2099-2000": ""},
        "waived": {waived: "2.0-1"},
        "expired": {expired: "2.0-1"},
        "elsewhere": {elsewhere: "2.0-1"},
    }
    details = {cve: Detail(severity=level) for level, cve in cves.items()}
    high = {cve: Detail(severity="HIGH") for found in held.values() for cve in found}
    said = {"reason": "it is not reached", "owner": "somebody"}
    files: dict[str, Any] = {
        **component("leaky", BASE + "COPY credentials /root/.aws/\n", credentials=CREDENTIALS),
        **with_package("mended", "critical", "2.0-1"),
    }
    for name in held:
        files |= with_package(name, name)
    repository = gated(
        machine,
        tmp_path / "r",
        files,
        {
            "environments": {
                "dev": {"severities": {"vulnerability": ["LOW", "HIGH"]}, "ignore_unfixed": False}
            },
            "waivers": [
                {"id": waived, "expires": "2199-01-01", "package": "waived", **said},
                {"id": expired, "expires": "2020-01-01", **said},
                {"id": elsewhere, "expires": "2199-01-01", "component": "waived", **said},
                {"id": "aws-access-key-id", "expires": "2199-01-01", **said},
                {"id": "CVE-1999-0001", "expires": "2199-01-01", "package": "gone", **said},
            ],
        },
        advisories=held,
        details={**high, **details},
    )
    local = repository.built("--jobs", "4")
    local.refused(22, "'critical'", "also failed: elsewhere (scan), expired (scan), high (scan)")
    assert set(repository.failed) == {"critical", "elsewhere", "expired", "high", "leaky"}
    assert set(repository.images) == {"low", "medium", "mended", "unfixed", "unknown", "waived"}
    assert {one["exit_code"] for one in repository.failed.values()} == {22}
    assert f"{cves['HIGH']} in high 1.0-1 (fixed in 2.0-1)" in repository.failed["high"]["message"]
    found = standings(repository)
    assert found["unfixed"] == {("CVE-2099-2000", "unfixed")}
    assert found["waived"] == {(waived, "waived")}
    assert found["elsewhere"] == {(elsewhere, "counts")}
    assert found["mended"] == set()
    assert found["leaky"] >= {("aws-access-key-id", "counts")}
    for level in ("UNKNOWN", "LOW", "MEDIUM"):
        assert found[level.lower()] == {(cves[level], "below")}
    severities = {
        one["finding"]["id"]: one["finding"].get("severity", "UNKNOWN")
        for image in repository.read("reports/scan.json")["images"]
        for one in image["findings"]
    }
    assert {cve: severities[cve] for cve in cves.values()} == {c: s for s, c in cves.items()}

    assert f"the waiver of {expired} (somebody) has expired on 2020-01-01" in local.err
    assert "the waiver of CVE-1999-0001 of gone (somebody) is of no use" in local.err
    assert f"the waiver of {elsewhere} of waived (somebody) is of no use" in local.err
    assert f"the waiver of {waived}" not in local.err
    notes = {(one["id"], one["problem"]) for one in repository.read("reports/scan.json")["waivers"]}
    assert notes == {
        (expired, "expired"),
        ("CVE-1999-0001", "unused"),
        (elsewhere, "unused"),
        ("aws-access-key-id", "unused"),
    }
    for name, key in keys(repository).items():
        assert in_registry(repository.tagged(name, key)) is (name in repository.images), name

    # What local let in, dev refuses, and the other way round.
    repository.built("--jobs", "4", env=DEV).refused(22)
    assert set(repository.failed) == {
        "elsewhere", "expired", "high", "leaky", "low", "unfixed",
    }  # fmt: skip
    assert set(repository.images) == {"critical", "medium", "mended", "unknown", "waived"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".trivyignore", f"{CVE}\naws-access-key-id\naws-secret-access-key\n"),
        ("trivy-secret.yaml", "disable-rules: [aws-access-key-id, aws-secret-access-key]\n"),
        ("trivy.yaml", "severity: [LOW]\nscan: {skip-dirs: [root]}\n"),
        ("TRIVY_SEVERITY", "LOW"),
        ("TRIVY_SKIP_DIRS", "/root/.aws"),
    ],
)
def test_only_the_policy_says_what_does_not_count(
    machine: Machine, tmp_path: Path, name: str, content: str
) -> None:
    """Not what Trivy reads of itself in the repository or in its variables: that has no
    reason, owner or end, and a secret cannot be waived at all."""
    leaky = component("leaky", BASE + "COPY credentials /root/.aws/\n", credentials=CREDENTIALS)
    variable = name.startswith("TRIVY_")
    repository = gated(
        machine,
        tmp_path / "r",
        {**with_package("one"), **leaky, **({} if variable else {name: content})},
        {},
        advisories={"planted": {CVE: "2.0-1"}},
        details={CVE: Detail(severity="HIGH")},
    )
    repository.built(env={name: content} if variable else None).refused(22, "'leaky'", "one (scan)")


def test_what_a_vex_document_says_passes_and_is_told(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    repository = gated(
        machine,
        tmp_path / "r",
        with_package("one") | with_package("other"),
        {},
        advisories={"planted": {CVE: "2.0"}},
    )
    env = spied(repository, spy)
    repository.built(env=env).refused(22, CVE)
    assert set(repository.failed) == {"one", "other"}

    def say(statement: str) -> None:
        document = {
            "@context": "https://openvex.dev/ns/v0.2.0",
            "@id": "https://example.com/vex",
            "author": "a test",
            "timestamp": "2026-01-01T00:00:00Z",
            "version": 1,
            "statements": [
                {
                    "vulnerability": {"name": CVE},
                    "products": [{"@id": "pkg:deb/debian/planted@1.0-1"}],
                    "status": "not_affected",
                    "justification": "vulnerable_code_not_in_execute_path",
                    "impact_statement": statement,
                }
            ],
        }
        repository.write({"security/one.json": json.dumps(document)})

    say("nobody calls it")
    policy = yaml.safe_dump({**AGELESS, "vex": ["security/one.json"]})
    repository.write({"scan-policy.yaml": policy})
    spy.forget()
    repository.built(env=env).done()
    assert standings(repository)["one"] == {(CVE, "not affected")}
    assert trivy(spy, "image", "server") == []  # not looked at again, though it was refused
    (first, *_) = repository.read("reports/scan.json")["images"][0]["findings"]
    assert first["why"].startswith("not_affected")

    spy.forget()
    say("there is no way to it")
    repository.built(env=env).done()
    assert trivy(spy, "image", "server") == []
    assert len(trivy(spy, "sbom")) == 2
    suites = ET.parse(repository.build / "reports/scan.xml").getroot()
    (told,) = suites.findall(".//testsuite[@name='scan.one']//skipped")
    assert "not affected" in str(told.get("message"))

    spy.forget()
    repository.write({"security/one.json": "{}"})
    answer = repository.built(env=env).refused(13, "(run error: ", "'vex' of the scan policy")
    assert "FATAL" not in answer.err
    assert repository.images == {}


# Databases -----------------------------------------------------------------------------


def test_a_database_that_is_too_old_makes_a_scan_incomplete(
    machine: Machine, tmp_path: Path
) -> None:
    repository = gated(
        machine,
        tmp_path / "r",
        with_package("one")
        | component("leaky", BASE + "COPY c /root/.aws/credentials\n", c=CREDENTIALS),
        {"database_days": 30},
        advisories={"other": {CVE: "2.0"}},
    )
    local = repository.built()
    local.refused(22, "'leaky'")
    assert "WARNING: INCOMPLETE" in local.err
    assert "the vulnerability database is of 2026-01-01, more than 30 days old" in local.err
    assert repository.images["one"]["verdict"]["status"] == "incomplete"

    dev = repository.built(env=DEV)
    dev.refused(22, "'leaky'", "one (scan)")
    assert repository.failed["one"]["exit_code"] == 23
    assert "30 days old" in repository.failed["one"]["message"]
    assert repository.images == {}


DAMAGES = {
    "no archive": b"this is no archive",
    "no bbolt file": trivy_database.archive(
        {
            "trivy.db": b"this is no database" * 1000,
            "metadata.json": json.dumps(
                {"Version": 2, "UpdatedAt": OLD, "NextUpdate": LATER, "DownloadedAt": OLD}
            ).encode(),
        }
    ),
    "no metadata": trivy_database.archive({"trivy.db": trivy_database.bolt({"vulnerability": {}})}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_database_is_told_in_a_sentence(
    machine: Machine, tmp_path: Path, damage: bytes
) -> None:
    """Of several images, so that the server meets it too."""
    repository = gated(machine, tmp_path / "r", with_package("one") | with_package("two"), {})
    source = repository.config["scan"]["database"].partition("/")[2]
    trivy_database.publish_layer(machine.registry, source, damage)
    local = repository.built()
    assert "Traceback" not in local.err + local.out
    assert local.code == 0, local.err
    assert "WARNING: INCOMPLETE" in local.err
    assert {one["verdict"]["status"] for one in repository.images.values()} == {"incomplete"}

    repository.built(env=DEV).refused(23, "database")
    assert repository.images == {}

    # A better one mends it, without anybody's help.
    trivy_database.publish(machine.registry, source, updated=OLD, advisories={"other": {CVE: "2"}})
    repository.built(env=DEV).done()


# Images --------------------------------------------------------------------------------


def test_a_secret_in_a_parents_layer_stops_the_child_too(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("parent", BASE + "COPY c /root/.aws/credentials\n", c=CREDENTIALS),
            **component("child", "FROM parent\nCOPY more /more\n", more="more"),
            **component("grandchild", "FROM child\nCOPY more /again\n", more="more"),
        },
    )
    answer = repository.built()
    answer.refused(22, "parent")
    assert repository.images == {}
    assert {repository.failed[name]["exit_code"] for name in ("child", "grandchild")} <= {22, 25}
    for name, key in keys(repository).items():
        assert not in_registry(repository.tagged(name, key)), name
    told = "".join(
        path.read_text(errors="replace")
        for path in (repository.build / "reports").rglob("*")
        if path.is_file()
    )
    assert SECRET not in answer.err + answer.out + told


def test_an_image_pushed_behind_our_back_is_scanned_before_it_is_locked(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    repository = gated(
        machine,
        tmp_path / "r",
        with_package("bad", version="2.0") | with_package("fine"),
        {},
        advisories={"planted": {CVE: "1.5"}, "other": {CVE: "2.0"}},
    )
    repository.ci("plan").done()
    behind = {"bad": debian(version="1.0"), "fine": debian(package="other", version="2.0")}
    for name, files in behind.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_text(str(content))
        (folder / "Dockerfile").write_text(DEBIAN)
        tag = repository.tagged(name, keys(repository)[name])
        for command in (["build", "--quiet", "--provenance=false", "--tag", tag, str(folder)],
                        ["push", "--quiet", tag]):  # fmt: skip
            subprocess.run(["docker", *command], check=True, capture_output=True)

    env = spied(repository, spy)
    repository.built(env=env).refused(22, "'bad'", f"{CVE} in planted 1.0")
    assert spy.builds == []
    assert len(trivy(spy, "image")) == 3  # both images, and the database
    assert list(repository.images) == ["fine"]
    digest = inspected(repository.tagged("fine", keys(repository)["fine"]))["Digest"]
    assert repository.images["fine"]["digest"] == digest


def test_reports_are_written_when_the_gate_refuses_and_what_was_scanned_is_what_is_pushed(
    machine: Machine, tmp_path: Path
) -> None:
    """With names and titles from a database that nobody should believe."""
    evil = "\x1b[31mred\x1b[0m\n[  0.0] ERROR: forged. Do it. <script>alert(1)</script>"
    titled = Detail(severity="HIGH", title=evil)
    package = "<img src=x onerror=alert(1)>"
    dockerfile = (
        f"{DEBIAN}COPY good /srv/good\n"
        "COPY METADATA /usr/lib/python3/dist-packages/planted-1.0.dist-info/METADATA\n"
        "COPY OTHER /usr/lib/python3/dist-packages/other-1.0.dist-info/METADATA\n"
    )
    repository = gated(
        machine,
        tmp_path / "r",
        {
            **component(
                "bad",
                dockerfile,
                good="good",
                METADATA=python("planted", "1.0"),
                OTHER=python(package, "1.0"),
                **debian(),
            ),
            **with_package("fine"),
        },
        {},
        advisories={"nothing": {CVE: "1"}},
        python={
            "planted": {"CVE-2099-0002": "2.0"},
            package: {f"CVE-2099-0003{evil}": "3.0"},
        },
        details={"CVE-2099-0002": titled, f"CVE-2099-0003{evil}": titled},
    )
    answer = repository.built("--quarantine")
    answer.refused(22, "'bad'", "CVE-2099-0002 in planted 1.0 (fixed in 2.0)")
    assert "\x1b" not in answer.err + answer.out
    assert not any(line.startswith("[  0.0] ERROR: forged") for line in answer.err.splitlines())

    # The refused image: apart by its key, and nowhere else.
    key = keys(repository)["bad"]
    assert not in_registry(repository.tagged("bad", key))
    apart = f"{machine.registry}/quarantine/{repository.project}/bad:{key}"
    record = repository.read("reports/bad/findings.json")
    manifest = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{apart}"))
    assert manifest["config"]["digest"] == record["image"]
    assert f"in quarantine, {machine.registry}/quarantine/" in answer.err

    # What was scanned is what was pushed.
    reference = f"docker://{repository.reference('fine')}"
    manifest = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", reference))
    assert repository.read("reports/fine/findings.json")["image"] == manifest["config"]["digest"]
    assert not in_registry(f"{machine.registry}/quarantine/{repository.project}/fine:{key}")

    # The reports.
    folder = repository.build / "reports"
    sarif = json.loads((folder / "scan.sarif").read_text())
    (run,) = (one for one in sarif["runs"] if one["tool"]["driver"]["name"] == "Trivy")
    places = {}
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        places[result["ruleId"]] = (
            place["artifactLocation"]["uri"], place["region"]["startLine"], result["level"],
        )  # fmt: skip
    assert places == {
        "CVE-2099-0002": ("components/bad/Dockerfile", 5, "error"),
        f"CVE-2099-0003{evil}": ("components/bad/Dockerfile", 6, "error"),
    }
    suites = ET.parse(folder / "scan.xml").getroot().findall(".//testsuite")
    assert {(one.get("name"), one.get("failures")) for one in suites} == {
        ("scan.bad", "3"),
        ("scan.fine", "0"),
    }
    assert set(standings(repository)) == {"bad", "fine"}
    page = (folder / "scan.html").read_text()
    assert "\x1b" not in page
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
    assert "planted" in page


def test_a_jar_without_an_index_of_jars_is_incomplete(machine: Machine, tmp_path: Path) -> None:
    import io
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        jar.writestr("Main.class", b"\xca\xfe\xba\xbe")
    repository = gated(
        machine,
        tmp_path / "r",
        component(
            "java", DEBIAN + "COPY app.jar /app.jar\n", **{"app.jar": stream.getvalue()}, **debian()
        )
        | with_package("plain"),
        {},
        advisories={"planted": {CVE: "0.1"}},
    )
    scan = {**repository.config["scan"], "java_database": f"{machine.registry}/no-java"}
    repository.write({"ci.yaml": json.dumps({**repository.config, "scan": scan})})
    local = repository.built().done()
    assert "INCOMPLETE" in local.err
    assert "it holds JAR files, and the index of Java libraries cannot be had" in local.err
    statuses = {name: one["verdict"]["status"] for name, one in repository.images.items()}
    assert statuses == {"java": "incomplete", "plain": "pass"}
    repository.built(env=DEV).refused(23, "'java'", "JAR files")
    assert list(repository.images) == ["plain"]
