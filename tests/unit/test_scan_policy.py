"""The scan policy: where it is declared, and what is wrong with it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from ci_tools import config
from ci_tools.errors import ConfigError
from ci_tools.scanner import declared, policy
from ci_tools.scanner.policy import Counting, Policy

FILE = """
severities: {vulnerability: [CRITICAL], license: [HIGH]}
waivers:
- id: CVE-2099-0001
  package: zlib
  reason: not reachable
  owner: ml-team@example.org
  expires: 2026-12-31
environments: {prod: {ignore_unfixed: false}}
vex: [security/vex.json]
"""


def load(repository: Path, ci: str = "") -> Policy:
    (repository / "ci.yaml").write_text(ci)
    found = config.load(repository)
    return declared.load(repository, found.scan, {"local", "prod", *found.environments})


def test_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / policy.FILE).write_text(FILE)
    found = load(tmp_path, "scan: {timeout: 60}\n")
    assert found.severities == Counting(vulnerability=("CRITICAL",), license=("HIGH",))
    assert found.waivers[0].expires == date(2026, 12, 31)
    assert type(found) is Policy


def test_the_shipped_schema_is_of_the_types() -> None:
    shipped = Path(policy.__file__).parents[1] / "schemas" / "scan-policy.schema.json"
    whole = json.loads(shipped.read_text())
    assert whole == json.loads(msgspec.json.encode(config.schema(Policy, policy.FILE)))
    judge = jsonschema.Draft202012Validator(whole)
    assert judge.is_valid(yaml.safe_load(FILE.replace("2026-12-31", "'2026-12-31'")))
    assert not judge.is_valid({"waivers": [{"id": "C", "reason": "r"}]})


def test_or_in_ci_yaml_or_not_at_all(tmp_path: Path) -> None:
    assert load(tmp_path) == Policy()
    assert load(tmp_path, "scan: {database_days: 3}\n").database_days == 3


def test_but_not_in_both(tmp_path: Path) -> None:
    (tmp_path / policy.FILE).write_text(FILE)
    with pytest.raises(ConfigError, match="both declare the scan policy") as caught:
        load(tmp_path, "scan: {ignore_unfixed: false}\n")
    assert "ignore_unfixed" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("severities: [HIGH]", "severities"),
        ("severities: {vulnerabilities: [HIGH]}", "vulnerability"),
        ("severities: {vulnerability: [SEVERE]}", "SEVERE"),
        ("waivers: [{id: C, reason: r, owner: o}]", "expires"),
        ("waivers: [{id: C, reason: '', owner: o, expires: 2026-01-01}]", "reason"),
        ("waivers: [{id: C, reason: r, owner: o, expires: 31.12.2026}]", "expires"),
        ("waivers: [{id: C, reason: r, owner: o, expires: 2026-02-30}]", "scan-policy.yaml"),
        ("environments: {prd: {ignore_unfixed: true}}", "'prd', which is not declared"),
        ("vex: [../vex.json]", "outside the repository"),
        ("vex: [/etc/passwd]", "outside the repository"),
        ("vex: [missing.json]", "cannot be read"),
        ("database_days: 0", "database_days"),
        ("database_days: 99999999999", "database_days"),  # no day of the calendar
        ("ignore_unfixed: true\nignore_unfixed: false", "twice"),
        ("!!python/object/apply:os.system [id]", "scan-policy.yaml"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / policy.FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        policy.active(load(tmp_path), "local", tmp_path)
    assert message in str(caught.value)


def test_a_link_out_of_the_repository_is_no_vex_document(tmp_path: Path) -> None:
    repository, outside = tmp_path / "r", tmp_path / "vex.json"
    repository.mkdir()
    outside.write_text("{}")
    (repository / "vex.json").symlink_to(outside)
    with pytest.raises(ConfigError, match="outside the repository"):
        policy.active(Policy(vex=["vex.json"]), "local", repository)


def test_the_content_of_vex_documents_is_in_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "vex.json"
    path.write_text("{}")
    before = policy.active(Policy(vex=["vex.json"]), "local", tmp_path)
    path.write_text("{ }")
    after = policy.active(Policy(vex=["vex.json"]), "local", tmp_path)
    assert before.vex == (path.resolve(),)
    assert len({before.hash, after.hash, policy.active(Policy(), "local", tmp_path).hash}) == 3
