"""The multibranch job as XML, and what becomes of what Jenkins has. Pure."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.config_jenkins import Jenkins, check_remote, names
from ci_tools.errors import ConfigError, JenkinsSetupError
from ci_tools.jenkins import job_change, job_xml
from ci_tools.jenkins.job_xml import Job, declared, written
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.jenkins_jobs import FakeJobs

GIT = Job(
    project="ml",
    path=("team", "ml"),
    source="git",
    remote="https://git.example.com/team/ml.git",
    credentials="git-read",
)
GITHUB = replace(GIT, source="github", remote="https://github.com/team/ml.git")
JOBS = [GIT, GITHUB]
HOSTILE = [
    "</remote><remote>x",
    "]]><!-- & -->",
    "${jndi:ldap://x}",
    "'\"&amp;<![CDATA[",
    "$(touch /tmp/x)`id`",
    "ünïcödé-漢字-😀",
    "a\u0085b\u2028c\rd",
]


def parsed(text: str) -> Element:
    return ET.fromstring(text)


def rewritten(text: str) -> Element:
    """What a (fake) controller makes of it."""
    return job_change.parsed(FakeJobs(FakeJenkins()).rewritten(text))


# The declaration ------------------------------------------------------------------


def test_a_git_source_finds_branches_and_tags() -> None:
    source = declared(GIT).find("sources/data/jenkins.branch.BranchSource/source")
    assert source is not None
    assert source.get("class") == "jenkins.plugins.git.GitSCMSource"
    assert source.findtext("remote") == GIT.remote
    assert source.findtext("credentialsId") == "git-read"
    assert [trait.tag for trait in source.iterfind("traits/*")] == [
        "jenkins.plugins.git.traits.BranchDiscoveryTrait",
        "jenkins.plugins.git.traits.TagDiscoveryTrait",
    ]


@pytest.mark.parametrize(
    ("forks", "trust"),
    [("nobody", "TrustNobody"), ("permission", "TrustPermission"), ("ignore", None)],
)
def test_a_github_source_says_whom_it_trusts(forks: Any, trust: str | None) -> None:
    source = next(declared(replace(GITHUB, forks=forks)).iter("source"))
    start = "org.jenkinsci.plugins.github__branch__source."
    told = {
        trait.tag.removeprefix(start): trait.findtext("strategyId")
        for trait in source.iterfind("traits/*")
    }
    # 1: no branch that is a pull request too; 2: a pull request's own commit.
    wanted = {
        "BranchDiscoveryTrait": "1",
        "OriginPullRequestDiscoveryTrait": "2",
        "TagDiscoveryTrait": None,
    }
    assert told == (wanted | {"ForkPullRequestDiscoveryTrait": "2"} if trust else wanted)
    trusts = [it.get("class") for it in source.iter("trust")]
    kind = "org.jenkinsci.plugins.github_branch_source.ForkPullRequestDiscoveryTrait$"
    assert trusts == ([kind + trust] if trust else [])


@pytest.mark.parametrize(
    ("remote", "owner", "repository", "url", "api"),
    [
        ("https://github.com/o/r.git", "o", "r", "https://github.com/o/r", "https://api.github.com"),
        ("https://GitHub.com/o/r/", "o", "r", "https://github.com/o/r", "https://api.github.com"),
        ("git@GitHub.com:o/r.git", "o", "r", "https://github.com/o/r", "https://api.github.com"),
        ("https://github.com:443/o/r", "o", "r", "https://github.com/o/r", "https://api.github.com"),
        (
            "ssh://git@ghe.example.com:2222/o-1/r.x",
            "o-1", "r.x", "https://ghe.example.com/o-1/r.x", "https://ghe.example.com/api/v3",
        ),
        (
            "https://ghe.example.com:8443/o/r",
            "o", "r", "https://ghe.example.com:8443/o/r", "https://ghe.example.com:8443/api/v3",
        ),
        (
            "http://ghe.example.com/o/r",
            "o", "r", "http://ghe.example.com/o/r", "http://ghe.example.com/api/v3",
        ),
    ],
)  # fmt: skip
def test_a_repository_on_github(
    remote: str, owner: str, repository: str, url: str, api: str
) -> None:
    place = job_xml.github(remote)
    assert (place.owner, place.repository, place.api) == (owner, repository, api)
    assert place.url == url


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/o",
        "https://github.com/o/r/tree/main",
        "https://github.com/../r",
        "/srv/git/r.git",
        "file:///srv/o/r",
    ],
)
def test_what_is_not_on_github_is_told(remote: str) -> None:
    with pytest.raises(ConfigError, match=r"jenkins\.remote"):
        job_xml.github(remote)


def test_nothing_is_deleted_at_once() -> None:
    """Jenkins deletes what is gone at once where it prunes without any bound."""
    for days, branches, wanted in [
        (14, None, ("true", "14", "-1")),
        (None, 5, ("true", "-1", "5")),
        (None, None, ("false", "-1", "-1")),
    ]:
        strategy = declared(replace(GIT, keep_days=days, keep_branches=branches)).find(
            "orphanedItemStrategy"
        )
        assert strategy is not None
        told = [strategy.findtext(it) for it in ("pruneDeadBranches", "daysToKeep", "numToKeep")]
        assert tuple(told) == wanted


@pytest.mark.parametrize(
    ("minutes", "spec"),
    # Of config.xml that controllers wrote: 1d, 3m, 5m; the rest by PeriodicFolderTrigger.
    [
        (1, "* * * * *"), (3, "* * * * *"), (5, "* * * * *"), (10, "H/5 * * * *"),
        (30, "H/5 * * * *"), (60, "H/15 * * * *"), (120, "H/30 * * * *"), (480, "H/30 * * * *"),
        (720, "H H/4 * * *"), (1440, "H H/4 * * *"), (2880, "H H/12 * * *"), (40320, "H H * * *"),
    ],
)  # fmt: skip
def test_the_scan_is_as_often_as_the_form_would_say(minutes: int, spec: str) -> None:
    trigger = declared(replace(GIT, scan_minutes=minutes)).find("triggers/*")
    assert trigger is not None
    assert trigger.tag.endswith(".PeriodicFolderTrigger")
    assert trigger.findtext("spec") == spec
    assert trigger.findtext("interval") == str(minutes * 60 * 1000)


def test_no_scan() -> None:
    assert list(declared(replace(GIT, scan_minutes=0)).iterfind("triggers/*")) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str) -> None:
    """Read back by a parser, every value is what it was and no element is more."""
    job = replace(GIT, remote=text, credentials=text, script_path=text, project=text)
    posted = written(declared(job))
    assert posted.isascii()
    root = parsed(posted)
    assert [it.tag for it in root.iter()] == [it.tag for it in declared(GIT).iter()]
    assert root.findtext(".//remote") == text
    assert root.findtext(".//credentialsId") == text
    assert root.findtext(".//scriptPath") == text
    assert (root.findtext("description") or "").startswith(f"{text}: ")


@pytest.mark.parametrize("job", JOBS)
def test_what_is_posted_is_read_back_by_the_same_meaning(job: Job) -> None:
    assert job_change.same(parsed(written(declared(job))), declared(job))


# From ci.yaml ---------------------------------------------------------------------


def test_a_job_of_a_repository_without_settings() -> None:
    made = job_xml.job(Jenkins(), "ml", "git@git.example.com:team/ml.git")
    assert (made.name, made.source, made.remote) == ("ml", "git", "git@git.example.com:team/ml.git")
    assert made.script_path == "Jenkinsfile"


def test_a_repository_that_is_nowhere() -> None:
    with pytest.raises(ConfigError, match="where Jenkins finds"):
        job_xml.job(Jenkins(), "ml", None)


@pytest.mark.parametrize(
    "remote",
    [
        "ext::sh -c id",
        "ext::sh",
        "-upload-pack=x",
        "https://user:secret@example.com/r",
        "https://token@example.com/r",
        "ssh://git:secret@example.com/r",
        "javascript://x/y",
        "https://exa mple.com/r",
        "https://example.com/r\n",
        "C:\\r",
        "r",
        "https:///r",
        "https://example.com:0/r",
        "https://[::1/r",
        "\u202ehttps://example.com",
    ],
)
def test_a_remote_that_git_should_not_be_given(remote: str) -> None:
    with pytest.raises(ValueError, match="remote") as caught:
        check_remote(remote)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError):
        job_xml.job(Jenkins(), "ml", remote)


@pytest.mark.parametrize(
    "remote",
    [
        "https://example.com/a/b.git", "ssh://git@example.com:2222/r", "git@example.com:a/b",
        "example.com:a/b", "/srv/git/r.git", "file:///srv/git/r.git", "http://[::1]:80/r",
    ],
)  # fmt: skip
def test_a_remote_that_git_takes(remote: str) -> None:
    check_remote(remote)


@pytest.mark.parametrize(
    "job",
    ["", "/", "a//b", "a/..", ".", "a/b?c", "a%2F", "a b ", "x.", "a\\b", "a;b", "\x1b", "é" * 201],
)  # fmt: skip
def test_names_that_jenkins_refuses(job: str) -> None:
    with pytest.raises(ValueError, match="no name that Jenkins takes"):
        names(job)


def test_names() -> None:
    assert names("/team/my job/") == ("team", "my job")


# What Jenkins has, and what becomes of it ----------------------------------------------


@pytest.mark.parametrize("job", JOBS)
def test_what_jenkins_wrote_of_ours_needs_no_change(job: Job) -> None:
    theirs = rewritten(written(declared(job)))
    assert len(list(theirs.iter())) > len(list(declared(job).iter()))  # it added some
    assert job_change.difference(theirs, job_change.changed(theirs, declared(job))) == []
    assert job_change.made_by_us(theirs)
    assert theirs.tag == job_xml.PROJECT


CHANGES = {
    "remote": {"remote": "https://git.example.com/team/other.git"},
    "credentials": {"credentials": "other"},
    "script path": {"script_path": "ci/Jenkinsfile"},
    "only": {"only": ("main", "v*")},
    "days": {"keep_days": 3},
    "number": {"keep_branches": 7},
    "scan": {"scan_minutes": 5},
    "no scan": {"scan_minutes": 0},
    "kind": {"source": "github", "remote": "https://github.com/team/ml"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_declared_change_gets_there_and_stays(change: dict[str, Any]) -> None:
    theirs = rewritten(written(declared(GIT)))
    ours = declared(replace(GIT, **change))
    after = job_change.changed(theirs, ours)
    assert job_change.difference(theirs, after)
    again = rewritten(written(after))
    assert job_change.difference(again, job_change.changed(again, ours)) == []
    fresh = rewritten(written(ours))
    assert job_change.same(again, fresh)


def test_a_fork_is_trusted_no_longer() -> None:
    """Also where somebody made the form say otherwise."""
    theirs = rewritten(written(declared(GITHUB)))
    for trust in theirs.iter("trust"):
        trust.set("class", str(trust.get("class")).replace("TrustNobody", "TrustEveryone"))
    diff = job_change.difference(theirs, job_change.changed(theirs, declared(GITHUB)))
    assert any(it.startswith("-") and "TrustEveryone" in it for it in diff)
    assert any(it.startswith("+") and "TrustNobody" in it for it in diff)
    ignoring = declared(replace(GITHUB, forks="ignore"))
    assert not list(job_change.changed(theirs, ignoring).iter("trust"))


def test_what_an_administrator_added_stays() -> None:
    theirs = rewritten(written(declared(GIT)))
    description = theirs.find("description")
    assert description is not None
    description.text = f"Ask Jo.\r\n{description.text}"
    ET.SubElement(theirs, "displayName").text = "ML"
    ET.SubElement(theirs.find("properties"), "org.example.Property").text = "x"  # type: ignore[arg-type]
    ET.SubElement(theirs.find("triggers"), "org.example.WebhookTrigger")  # type: ignore[arg-type]
    ET.SubElement(
        next(theirs.iter("traits")), "jenkins.plugins.git.traits.CleanBeforeCheckoutTrait"
    )
    source = next(theirs.iter("jenkins.branch.BranchSource"))
    strategies = ET.SubElement(source, "buildStrategies")
    ET.SubElement(strategies, "jenkins.branch.buildstrategies.basic.TagBuildStrategyImpl")
    theirs.find("disabled").text = "true"  # type: ignore[union-attr]
    theirs.find("orphanedItemStrategy/abortBuilds").text = "true"  # type: ignore[union-attr]
    assert job_change.difference(theirs, job_change.changed(theirs, declared(GIT))) == []
    after = job_change.changed(theirs, declared(replace(GIT, remote="/srv/r")))
    assert after.findtext(".//remote") == "/srv/r"
    after.find(".//remote").text = GIT.remote  # type: ignore[union-attr]
    assert job_change.same(after, theirs)


@pytest.mark.parametrize("job", JOBS)
def test_only_some_branches(job: Job) -> None:
    theirs = rewritten(written(declared(replace(job, only=("main", "v*")))))
    (trait,) = theirs.iter("jenkins.scm.impl.trait.WildcardSCMHeadFilterTrait")
    assert (trait.findtext("includes"), trait.findtext("excludes")) == ("main v*", "")
    # Declared no longer, it stays: it may be an administrator's.
    assert job_change.difference(theirs, job_change.changed(theirs, declared(job))) == []
    other = job_change.changed(theirs, declared(replace(job, only=("main",))))
    assert [it.text for it in other.iter("includes")] == ["main"]


def test_credentials_that_are_not_declared_are_left_alone() -> None:
    theirs = rewritten(written(declared(GIT)))
    ours = declared(replace(GIT, credentials=None))
    assert job_change.difference(theirs, job_change.changed(theirs, ours)) == []


BY_HAND = f"""<?xml version='1.1' encoding='UTF-8'?>
<{job_xml.PROJECT} plugin="workflow-multibranch@2.22">
  <description>Of Jo</description>
  <sources class="jenkins.branch.MultiBranchProject$BranchSourceList" plugin="branch-api@2.6">
    <data>
      <jenkins.branch.BranchSource>
        <source class="jenkins.plugins.git.GitSCMSource" plugin="git@4.11">
          <id>30d15538-4f60-437f-81cd-9c46ee6e7ec6</id>
          <remote>https://jo:hunter2@git.example.com/team/ml.git</remote>
          <credentialsId></credentialsId>
          <traits><jenkins.plugins.git.traits.BranchDiscoveryTrait/></traits>
        </source>
      </jenkins.branch.BranchSource>
    </data>
    <owner class="{job_xml.PROJECT}" reference="../.."/>
  </sources>
</{job_xml.PROJECT}>
"""  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_a_job_of_somebody_else_that_is_adopted(job: Job) -> None:
    """Its source keeps its id: the branches' jobs are bound to it."""
    theirs = job_change.parsed(BY_HAND)
    assert not job_change.made_by_us(theirs)
    after = job_change.changed(theirs, declared(job))
    assert [it.findtext("id") for it in after.iter("source")] == [
        "30d15538-4f60-437f-81cd-9c46ee6e7ec6"
    ]
    assert (after.findtext("description") or "").startswith("Of Jo\n")
    assert job_change.made_by_us(after)
    again = rewritten(written(after))
    assert job_change.difference(again, job_change.changed(again, declared(job))) == []
    told = "\n".join(job_change.difference(theirs, after))
    assert "hunter2" not in told
    assert "https://***@git.example.com" in told


def test_among_several_sources_ours_is_changed() -> None:
    theirs = job_change.parsed(BY_HAND)
    data = theirs.find("sources/data")
    assert data is not None
    other = ET.fromstring(ET.tostring(data[0]))
    other.find("source/remote").text = GIT.remote  # type: ignore[union-attr]
    other.find("source/id").text = "2"  # type: ignore[union-attr]
    data.append(other)
    after = job_change.changed(theirs, declared(GIT))
    first, second = after.iter("jenkins.branch.BranchSource")
    assert job_change.same(first, data[0])
    assert len(second.findall("source/traits/*")) == 2
    # Of neither: ours is another.
    third = job_change.changed(theirs, declared(replace(GIT, remote="/srv/r")))
    assert [it.findtext("id") for it in third.iter("source")][2:] == ["kfp-ci"]


@pytest.mark.parametrize(
    "sources",
    [
        "<sources/>",
        "",
        "<sources><jenkins.branch.BranchSource plugin='branch-api@2'><source class='x'><id>1</id>"
        "</source></jenkins.branch.BranchSource></sources>",
        "<sources class='jenkins.branch.MultiBranchProject$BranchSourceList'><data/></sources>",
    ],
)
def test_lists_of_sources_in_any_form(sources: str) -> None:
    theirs = job_change.parsed(f"<{job_xml.PROJECT}>{sources}</{job_xml.PROJECT}>")
    after = job_change.changed(theirs, declared(GIT))
    assert [it.findtext("remote") for it in after.iter("source")] == [GIT.remote]
    assert len(list(after.iter("jenkins.branch.BranchSource"))) == 1
    assert job_change.same(after, job_change.changed(after, declared(GIT)))


@pytest.mark.parametrize(
    "text",
    [
        "", "not xml", "<a>", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        "<?xml version='1.1'?><a>&#1;</a>", "<a>" * 300 + "</a>" * 300, "<a>" * 100_000,
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_read(text: str) -> None:
    with pytest.raises(JenkinsSetupError, match="cannot be read"):
        job_change.parsed(text)


def test_secrets_are_hidden() -> None:
    root = ET.fromstring(
        "<a><password>hunter2</password><apiToken><value>{AQAAABAAAAAQx+/=}</value></apiToken>"
        "<text>see {AQAAABAAAAAQabcdef+/==} and https://jo:hunter2@h/p, ssh://git@h/p</text>"
        "<credentialsId>shown</credentialsId><tokenCredentialId>shown-too</tokenCredentialId>"
        "<x y='https://hunter2@h/'/><privateKeySource><k>hunter2</k></privateKeySource></a>"
    )
    told = "\n".join(job_change.shown(root))
    assert "hunter2" not in told
    assert "AQAA" not in told
    assert "shown<" in told
    assert "shown-too" in told
    assert "ssh://git@h/p" in told
    other = ET.fromstring(ET.tostring(root).replace(b"<password>hunter2", b"<password>x"))
    assert job_change.difference(root, other) == ["(what differs is a secret, and not shown)"]


def test_a_difference_shows_what_differs_and_no_more() -> None:
    theirs = rewritten(written(declared(GIT)))
    after = job_change.changed(theirs, declared(replace(GIT, scan_minutes=0)))
    lines = [it for it in job_change.difference(theirs, after)[2:] if it[0] in "+-"]
    start = "com.cloudbees.hudson.plugins.folder.computed.PeriodicFolderTrigger"
    assert lines == [
        "-  <triggers>",
        f"-    <{start}>",
        "-      <spec>H/15 * * * *</spec>",
        "-      <interval>3600000</interval>",
        f"-    </{start}>",
        "-  </triggers>",
        "+  <triggers />",
    ]


def test_what_is_shown_is_harmless() -> None:
    root = ET.fromstring("<a><b>x&#27;[31m</b></a>".replace("&#27;", "&#x9b;"))
    assert "\x9b" not in "\n".join(job_change.difference(None, root))


# Meaning -------------------------------------------------------------------------------

TAGS = st.sampled_from(["a", "b", "jenkins.branch.BranchSource", "owner", "traits"])
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["class", "reference", "x"]), WORDS, max_size=2)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Element:
    element = Element(draw(TAGS), draw(ATTRIBUTES))
    children = draw(st.lists(trees(depth - 1), max_size=4)) if depth else []
    element.extend(children)
    if not children:
        element.text = draw(st.none() | WORDS)
    return element


def reserialised(element: Element, chance: random.Random) -> Element:
    """The same, in another's hand: other order among names, versions, white space."""

    def again(one: Element) -> str:
        attributes = list(one.attrib.items())
        if chance.random() < 0.5:
            attributes.append(("plugin", f"p@{chance.random()}"))
        chance.shuffle(attributes)
        start = one.tag + "".join(f" {key}={quoteattr(value)}" for key, value in attributes)
        tags = list(dict.fromkeys(child.tag for child in one))
        chance.shuffle(tags)
        children = [again(child) for tag in tags for child in one if child.tag == tag]
        space = chance.choice(["", "\n  ", "\n\t"])
        if children:
            return f"<{start}>{space}{space.join(children)}{space}</{one.tag}>"
        if not (one.text or "").strip():
            return chance.choice(
                [f"<{start}/>", f"<{start}></{one.tag}>", f"<{start}>\n</{one.tag}>"]
            )
        return f"<{start}>{escape(one.text or '')}</{one.tag}>"

    declaration = chance.choice(["", "<?xml version='1.1' encoding='UTF-8'?>\n"])
    return job_change.parsed(declaration + again(element))


@given(trees(), st.randoms(use_true_random=False))
def test_the_same_in_another_hand_differs_in_nothing(tree: Element, chance: random.Random) -> None:
    other = reserialised(tree, chance)
    assert job_change.same(tree, other)
    assert job_change.difference(tree, other) == []
    assert job_change.same(parsed(written(tree)), other)


@given(trees(), st.data())
def test_whatever_changes_is_seen(tree: Element, data: st.DataObject) -> None:
    other = ET.fromstring(ET.tostring(tree))
    one = data.draw(st.sampled_from(list(other.iter())))
    change = data.draw(st.sampled_from(["tag", "attribute", "text", "child"]))
    if change == "tag":
        one.tag = "other"
    elif change == "attribute":
        one.set("class", f"{one.get('class')}x")
    elif change == "text" and not len(one):
        one.text = f"{one.text}x"
    else:
        ET.SubElement(one, "more")
    assert not job_change.same(tree, other)
    assert job_change.difference(tree, other)


def test_order_counts_in_a_list_only() -> None:
    assert job_change.same(parsed("<a><b/><c/></a>"), parsed("<a><c/><b/></a>"))
    assert not job_change.same(parsed("<a><b>1</b><b>2</b></a>"), parsed("<a><b>2</b><b>1</b></a>"))
