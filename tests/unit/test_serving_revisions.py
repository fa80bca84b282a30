"""Which revisions there are, which of them is gone back to, and which may go."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.serving import revisions
from ci_tools.serving.revisions import Known, before, named, superfluous

PREFIX = "arn:aws:ecs:eu-west-1:123456789012:task-definition/iris:"


def known(number: int, **changes: Any) -> Known:
    told = {"cluster": "prod", "ours": True, "image": "x@sha256:1", **changes}
    return Known(task_definition=f"{PREFIX}{number}", revision=number, **told)


def numbers(found: list[Known]) -> list[int]:
    return [one.revision for one in found]


def test_what_tags_tell() -> None:
    described = {
        "taskDefinitionArn": f"{PREFIX}4",
        "revision": 4,
        "family": "iris",
        "containerDefinitions": [
            {"name": "proxy", "image": "proxy@sha256:2"},
            {"name": "iris", "image": "iris@sha256:1"},
        ],
    }
    told = revisions.tags(commit="abc", release="release-1", build="https://ci/job/1?x=%20")
    told |= {revisions.IMAGE: "sha256:1", revisions.CLUSTER: "prod"}
    one = Known.of(described, revisions.as_ecs(told))
    assert (one.revision, one.image, one.commit, one.release) == (4, "iris@sha256:1", "abc",
                                                                  "release-1")  # fmt: skip
    assert one.build == "https://ci/job/1_x=_20"  # what a tag may hold
    assert (one.ours, one.cluster, one.verified) == (True, "prod", None)
    assert not Known.of(described, []).ours
    assert revisions.tags() == {}


@given(st.dictionaries(st.sampled_from(["kfp-ci:commit", "kfp-ci:build"]), st.text()))
def test_ecs_takes_any_tag_of_ours(told: dict[str, str]) -> None:
    made = revisions.as_ecs(told)
    for tag in made:
        assert len(tag["value"]) <= 256
        assert all(c.isascii() and (c.isalnum() or c in " _.:/=+@-") for c in tag["value"])
    shape = botocore.session.get_session().get_service_model("ecs").operation_model("TagResource")
    report = ParamValidator().validate({"resourceArn": "a", "tags": made}, shape.input_shape)
    assert report.generate_report() == ""


def test_only_what_nobody_needs_goes() -> None:
    when = "2024-01-0"
    family = [
        known(1),
        known(2, release="release-1"),
        known(3, verified=f"{when}1"),
        known(4, verified=f"{when}2"),
        known(5, verified=f"{when}3"),
        known(6),
        known(7, ours=False),
        known(8, cluster="dev"),
        known(9),
        known(10),
    ]
    gone = superfluous(family, keep=2, cluster="prod", in_use={f"{PREFIX}6"})
    assert numbers(gone) == [1, 3]  # 4 and 5 were verified last, 9 and 10 are the newest
    assert superfluous(family, keep=100, cluster="prod", in_use=()) == []


@given(
    st.lists(
        st.builds(
            dict,
            verified=st.sampled_from([None, "2024-01-01", "2024-01-02"]),
            release=st.sampled_from(["", "release-1"]),
            ours=st.booleans(),
            cluster=st.sampled_from(["prod", "dev"]),
        ),
        max_size=15,
    ),
    st.integers(2, 5),
    st.sets(st.integers(1, 15), max_size=3),
)
def test_what_is_needed_never_goes(family: list[dict[str, Any]], keep: int, used: set[int]) -> None:
    known_ones = [known(number, **one) for number, one in enumerate(family, start=1)]
    in_use = {f"{PREFIX}{number}" for number in used}
    gone = superfluous(known_ones, keep=keep, cluster="prod", in_use=in_use)
    own = [one for one in known_ones if one.ours and one.cluster == "prod"]
    for one in gone:
        assert one in own
        assert not one.release
        assert one.task_definition not in in_use
        assert sum(other.revision > one.revision for other in own) >= keep
        if one.verified:
            assert (
                sum(
                    bool(other.verified)
                    and (other.verified, other.revision) > (one.verified, one.revision)
                    for other in own
                )
                >= 2
            )
    assert numbers(gone) == sorted(numbers(gone))


def test_back_is_the_one_verified_last_before() -> None:
    family = [
        known(5),
        known(4, verified="2024-01-04"),
        known(3, verified="2024-01-03", rolled_back="2024-01-03"),
        known(2, verified="2024-01-02"),
        known(1, verified="2024-01-01"),
    ]
    assert before(family, f"{PREFIX}4") == family[3]  # 3 was left on purpose
    assert before(family, f"{PREFIX}2") == family[4]
    assert before(family, f"{PREFIX}1") is None
    assert before(family, f"{PREFIX}5") == family[1]  # what runs was never proven
    assert before([], None) is None


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("2", 2),
        ("iris:2", 2),
        (f"{PREFIX}2", 2),
        ("release-b", 3),
        ("c" * 40, 3),  # two have it: the newer
        ("ccccccc", 3),
        ("cccccc", None),  # too short to mean anything
        ("9", None),
        ("", None),
    ],
)
def test_a_revision_has_many_names(name: str, revision: int | None) -> None:
    family = [
        known(1, commit="a" * 40),
        known(2, commit="c" * 40, release="release-a"),
        known(3, commit="c" * 40, release="release-b"),
    ]
    found = named(family, name)
    assert (found.revision if found else None) == revision
