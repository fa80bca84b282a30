"""What Jenkins must have: plugins and credentials as it tells them, and ci.yaml's section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import config
from ci_tools.config_jenkins import Jenkins
from ci_tools.errors import ConfigError
from ci_tools.jenkins import bindings, plugins
from ci_tools.jenkins.bindings import BINDINGS, Wanted
from ci_tools.jenkins.jobs import why_failed
from ci_tools.jenkins.plugins import Installed, Plugin

ROOT = Path(__file__).parents[2]
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "plugins shortName version stores domains credentials id typeName _ x".split()
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON)
def test_whatever_is_told_is_survived(document: Any) -> None:
    found = plugins.installed(document)
    assert all(isinstance(name, str) for name in found)
    plugins.verdict(plugins.needed("github"), found)
    stored = bindings.stored(document)
    assert stored is None or all(isinstance(name, str) for name in stored)


def versions(**given: str) -> dict[str, Installed]:
    return {name: Installed(version, True, True) for name, version in given.items()}


@pytest.mark.parametrize(
    ("version", "minimum", "old"),
    [
        ("1145.v7f2433caa07f", "1145.v7f2433caa07f", False),
        ("1537.vb_2c3d4e5f6a7", "1145.v7f2433caa07f", False),
        ("2.42", "1145.v7f2433caa07f", True),
        ("2.2277.v00573e73ddf1", "1.3.3", False),
        ("1.3.3", "1.3.3", False),
        ("1.3", "1.3.3", True),
        ("1.10.1", "1.9.2", False),
        ("3.6.0-beta-1", "3.6.0", True),
        ("3.7.0-SNAPSHOT (private-abc-jo)", "3.6.0", False),
        ("3.6.0 (private-abc-jo)", "3.6.0", False),
        ("", "3.6.0", True),
    ],
)
def test_a_version_that_is_too_old(version: str, minimum: str, old: bool) -> None:
    told = plugins.verdict([Plugin("it", minimum, "why")], versions(it=version)).problems
    assert bool(told) is old
    assert all("must be" in line for line in told)


def test_what_is_wrong_with_a_plugin() -> None:
    wanted = [Plugin(name, "", "why") for name in ("there", "absent", "off", "waiting")]
    found = {
        "there": Installed("1", True, True),
        "off": Installed("1", False, False),
        "waiting": Installed("1", True, False),
    }
    told = plugins.verdict(wanted, found).problems
    assert [line.split(":")[0] for line in told] == [
        "plugin absent is missing",
        "plugin off is disabled",
        "plugin waiting is not loaded",
    ]


def test_optional_plugins_are_only_noted() -> None:
    names = {plugin.name for plugin in plugins.OPTIONAL}
    assert {"lockable-resources", "warnings-ng", "htmlpublisher"} <= names
    told = plugins.verdict([], {})
    assert told.problems == []
    (note,) = told.notes
    assert all(name in note for name in names)
    assert plugins.verdict([], versions(**dict.fromkeys(names, "1"))).notes == []
    assert names.isdisjoint(plugin.name for plugin in plugins.needed("github"))


def test_github_is_needed_for_github_only() -> None:
    assert plugins.GITHUB in plugins.needed("github")
    assert plugins.GITHUB not in plugins.needed("git")


def test_credentials_that_no_stage_binds() -> None:
    wanted, problems = bindings.wanted("git-read", "kfp-ci-dev-aws  kfp-ci-dev-aws\x1b[31m\n")
    assert [it.id for it in wanted] == ["git-read", "kfp-ci-dev-aws"]
    assert len(problems) == 1
    assert "\x1b" not in problems[0]


def test_every_binding_is_wanted_by_its_kind() -> None:
    wanted, problems = bindings.wanted(None, " ".join(it.id for it in BINDINGS))
    assert problems == []
    assert [(it.id, it.kind) for it in wanted] == [(it.id, it.kind) for it in BINDINGS]


def test_what_may_not_be_seen_is_not_missing() -> None:
    needed = [Wanted("a", "string", "why")]
    for looked, problems, notes in [
        ([{}, {}], 1, 0),
        ([None, {}], 0, 1),
        ([{}, None], 0, 1),
        ([None, {"a": "Secret text"}], 0, 0),
        ([{"a": "Secret file"}], 1, 0),
        ([{"a": "Geheimer Text"}], 0, 0),  # in another language: who knows
        # The nearest folder's is the one that is used.
        ([{"a": "Secret text"}, {"a": "Secret file"}], 0, 0),
    ]:
        told = bindings.verdict(needed, looked)
        assert (len(told.problems), len(told.notes)) == (problems, notes), looked


def test_an_empty_store_is_a_store() -> None:
    assert bindings.stored({"stores": {"system": {"domains": {"_": {"credentials": []}}}}}) == {}
    assert bindings.stored({"stores": {}}) is None
    assert bindings.stored({}) is None


def test_why_a_scan_failed() -> None:
    assert why_failed("x\nERROR: a\n b\nERROR: c\nFinished: FAILURE\n") == "ERROR: a"
    assert why_failed("x\nthe last\n\nFinished: ABORTED\n") == "the last"
    assert why_failed("") == ""


# The Jenkinsfile --------------------------------------------------------------------------


def test_what_the_jenkinsfile_asks_for_is_what_is_looked_for() -> None:
    """Its label, and of each credentials' id the kind and the variables."""
    text = (ROOT / "Jenkinsfile").read_text()
    label = re.search(r"^@Field final String AGENTS = '([^']+)'", text, re.M)
    assert label is not None
    assert label[1] == Jenkins().agents
    named = re.findall(r"'(kfp-ci-[a-z-]+)' in there|\"(kfp-ci-\$\{where\}-[a-z]+)\"", text)
    ids = {
        (fixed or computed).replace("${where}", where)
        for fixed, computed in named
        for where in ("dev", "prod")
    }
    assert ids == {binding.id for binding in BINDINGS}
    for binding in BINDINGS:
        (bound,) = {
            (kind, tuple(re.findall(r"[vV]ariable: '([A-Z_]+)'", rest)))
            for kind, identity, rest in re.findall(
                r"bound << (\w+)\(credentialsId: ([^,]+), (.*)\) \}", text
            )
            if identity.strip("'") in (binding.id, binding.id.rpartition("-")[2])
        }
        assert bound == (binding.kind, binding.variables)


# ci.yaml ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("scan_minutes: 7", "scan_minutes"),
        ("keep_days: 0", "keep_days"),
        ("forks: everyone", "forks"),
        ("remote: 'ext::sh'", "remote is not"),
        ("remote: 'https://jo:hunter2@x/y'", "user or a password"),
        ("url: 'https://jo:hunter2@x'", "user or a password"),
        ("script_path: ../Jenkinsfile", "script_path"),
        ("script_path: /etc/passwd", "script_path"),
        ('script_path: "a\\tb"', "script_path"),
        ("job: a%2Fb", "no name that Jenkins takes"),
        ("credentials: 'a b'", "credentials"),
        ("agents: 'a || b'", "agents"),
        ("source: gitlab", "source"),
        ("only: ['main v*']", "only"),
        ("agent: docker", "Did you mean 'agents'"),
    ],
)
def test_a_section_that_is_not_valid(repository: Any, text: str, told: str) -> None:
    repository.write("ci.yaml", f"jenkins:\n  {text}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(repository.root)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_whole_section(repository: Any) -> None:
    repository.write(
        "ci.yaml",
        "jenkins: {url: 'https://jenkins.example.com', job: team/ml, source: github,"
        " remote: 'git@github.com:team/ml.git', credentials: github-app, forks: permission,"
        " script_path: ci/Jenkinsfile, scan_minutes: 1440, keep_days: null, keep_branches: 20,"
        " agents: docker-large}\n",
    )
    settings = config.load(repository.root).jenkins
    assert (settings.keep_days, settings.keep_branches, settings.agents) == (
        None,
        20,
        "docker-large",
    )
