"""From a request to a build's number, and the jobs that it is asked of; against a fake."""

from __future__ import annotations

from typing import Any

import pytest

from ci_tools.errors import ConfigError, JenkinsError, JenkinsQueueError
from ci_tools.jenkins import builds, queue
from ci_tools.jenkins.builds import Job
from ci_tools.jenkins.connection import Connection
from ci_tools.jenkins.credentials import Credentials
from ci_tools.jenkins.refusals import NotThere
from tests.fakes.jenkins import FakeJenkins, Play, Request, Response, document, page

PARAMETERS = {"TRAIN": "changed", "DRY_RUN": "false"}


def connected(fake: FakeJenkins) -> Connection:
    made = Connection(fake.url, Credentials("ci", "11fake0token", "test"), lambda _: None)
    made.who()
    return made


def asked(fake: FakeJenkins, name: str, **parameters: str) -> tuple[queue.Request, int]:
    """A request, and the number of the build that it became."""
    connection = connected(fake)
    job = builds.find(connection, name, None)
    made = queue.request(connection, job, parameters, lambda _: None)
    number = made.number
    if number is None:
        assert made.item is not None
        number = queue.wait(connection, job, made.item, lambda _: None, patience=60)
    return made, number


# Jobs ------------------------------------------------------------------------------


def test_the_job_of_a_branch(jenkins: FakeJenkins) -> None:
    jenkins.add("team/ml/main", parameters=PARAMETERS)
    jenkins.add("team/ml/feature%2Fx", built=False)
    connection = connected(jenkins)
    main = builds.find(connection, "team/ml", "main")
    assert main == Job("team/ml/main", "job/team/job/ml/job/main", PARAMETERS, False)
    other = builds.find(connection, "team/ml", "feature/x")
    assert other.path == "job/team/job/ml/job/feature%252Fx"
    assert other.parameters == {}
    assert builds.find(connection, "team/ml/main", "whatever is checked out").name == "team/ml/main"


def test_a_branch_that_has_no_job(jenkins: FakeJenkins) -> None:
    jenkins.add("ml/main")
    connection = connected(jenkins)
    with pytest.raises(ConfigError, match="none for branch 'mian'") as error:
        builds.find(connection, "ml", "mian")
    assert "Did you mean 'main'" in str(error.value)
    with pytest.raises(ConfigError, match="no branch is known here"):
        builds.find(connection, "ml", None)
    with pytest.raises(ConfigError, match="has none for branch 'x'"):
        builds.find(connection, "ml/main", "x", chosen=True)


def test_a_hostile_branch_asks_for_its_own_job_only(jenkins: FakeJenkins) -> None:
    jenkins.add("ml/main")
    connection = connected(jenkins)
    for branch in ("../../manage", "x/../../..", "$(id)", "a\nb", "?delay=0", "main/api/json#"):
        with pytest.raises(ConfigError):
            builds.find(connection, "ml", branch)
    paths = [it for it in jenkins.seen if "whoAmI" not in it]
    assert all(it.startswith("GET /job/ml/") and it.endswith("/api/json") for it in paths)
    assert all(it.count("/") in (4, 6) for it in paths), paths


def test_folders_and_jobs_that_are_not_there(jenkins: FakeJenkins) -> None:
    folder = {"_class": "com.cloudbees.hudson.plugins.folder.Folder", "jobs": [{"name": "ml"}]}
    jenkins.route("GET", "/job/team/api/json", lambda *_: document(folder))
    connection = connected(jenkins)
    with pytest.raises(ConfigError, match="is a folder") as error:
        builds.find(connection, "team", "main")
    assert "ml" in error.value.todo
    with pytest.raises(NotThere, match="no job 'none', or no permission"):
        builds.find(connection, "none", "main")


def test_a_job_that_is_disabled(jenkins: FakeJenkins) -> None:
    jenkins.add("ml").buildable = False
    with pytest.raises(JenkinsError, match="does not build 'ml'"):
        builds.find(connected(jenkins), "ml", None)


# Requests --------------------------------------------------------------------------


def test_parameters_are_the_body_and_never_the_address(jenkins: FakeJenkins) -> None:
    jenkins.add("ml", parameters={**PARAMETERS, "TEXT": ""})
    hostile = "$(id)\nK=V&DRY_RUN=true%00 'é\" ../"
    made, number = asked(jenkins, "ml", TEXT=hostile)
    assert (made.joined, number) == (False, 1)
    assert jenkins.jobs["ml"].builds[0].parameters == {**PARAMETERS, "TEXT": hostile}
    assert jenkins.forms == [{"TEXT": hostile}]
    assert not any("TEXT" in query for query in jenkins.queries)


def test_a_job_without_parameters_and_one_never_built(jenkins: FakeJenkins) -> None:
    jenkins.add("plain")
    assert asked(jenkins, "plain")[1] == 1
    jenkins.add("new", parameters=PARAMETERS, built=False)
    assert asked(jenkins, "new")[1] == 1
    assert jenkins.seen.count("POST /job/new/build") == 1
    assert asked(jenkins, "new", TRAIN="none")[1] == 2  # now they are known
    assert jenkins.jobs["new"].builds[1].parameters["TRAIN"] == "none"


def test_parameters_that_jenkins_does_not_take(jenkins: FakeJenkins) -> None:
    jenkins.add("ml", parameters=PARAMETERS)
    refused = page("<html>A fake. Illegal choice for parameter TRAIN: x", 400)
    jenkins.route("POST", "/job/ml/buildWithParameters", lambda *_: refused)
    with pytest.raises(JenkinsError, match="Illegal choice for parameter TRAIN"):
        asked(jenkins, "ml", TRAIN="x")


def test_a_queue_that_takes_nothing(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    jenkins.route("POST", "/job/ml/build", lambda *_: Response(302, {"Location": "."}))
    with pytest.raises(JenkinsQueueError, match="put no build of 'ml'") as error:
        asked(jenkins, "ml")
    assert error.value.exit_code == 64


@pytest.mark.parametrize(
    "location",
    [
        *("", "http://x/queue/item/", "/queue/item/../1", "/item/7/", "/queue/item/a7/"),
        f"/queue/item/{'9' * 5000}/",
    ],
)
def test_a_location_that_names_no_item(jenkins: FakeJenkins, location: str) -> None:
    jenkins.add("ml")
    jenkins.route("POST", "/job/ml/build", lambda *_: Response(201, {"Location": location}))
    with pytest.raises(JenkinsQueueError, match="put no build"):
        asked(jenkins, "ml")


def test_only_the_number_of_a_location_is_used(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml")

    def start(_: Request, __: Any) -> Response:
        item = jenkins.put(job, "ci", {})
        return Response(201, {"Location": f"https://evil.example.com/x/queue/item/{item.id}/?a=b"})

    jenkins.route("POST", "/job/ml/build", start)
    assert asked(jenkins, "ml")[1] == 1


def test_an_equal_request_that_waits_is_joined(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml", Play(waits=["a", "b"]))
    waiting = jenkins.put(job, "other", {})
    made, number = asked(jenkins, "ml")
    assert made == queue.Request(waiting.id, None, True)
    assert number == 1


# A lost answer ---------------------------------------------------------------------


def test_a_lost_answer_is_found_in_the_queue(jenkins: FakeJenkins) -> None:
    jenkins.add("ml", Play(waits=["busy"] * 5), parameters=PARAMETERS)
    jenkins.losing = 1
    made, number = asked(jenkins, "ml", TRAIN="none")
    assert made.item is not None
    assert (made.number, number) == (None, 1)
    assert len(jenkins.items) == 1  # asked for once


def test_a_lost_answer_that_joined_an_equal_request(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml", Play(waits=["busy"] * 5), parameters=PARAMETERS)
    waiting = jenkins.put(job, "ci", {**PARAMETERS, "TRAIN": "none"})
    jenkins.losing = 1
    made, number = asked(jenkins, "ml", TRAIN="none")
    assert (made, number) == (queue.Request(waiting.id, None, True), 1)


def test_a_lost_answer_is_found_among_the_builds(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml", parameters=PARAMETERS)
    jenkins.leave(jenkins.put(job, "ci", {**PARAMETERS, "TRAIN": "none"}))  # an older one
    jenkins.losing = 1
    start = jenkins._start

    def at_once(request: Request, match: Any) -> Response:
        answer = start(request, match)
        jenkins.leave(max(jenkins.items.values(), key=lambda it: it.id))
        return answer

    jenkins.route("POST", "/(job/ml)/(buildWithParameters)", at_once)
    made, number = asked(jenkins, "ml", TRAIN="none")
    assert (made.number, number) == (2, 2)
    assert len(job.builds) == 2


@pytest.mark.parametrize(
    ("user", "train", "sure"),
    [("other", "none", True), ("ci", "all", True), ("ci", "none", False)],
)
def test_what_others_asked_for_meanwhile(
    jenkins: FakeJenkins, user: str, train: str, sure: bool
) -> None:
    """Only another build of the same user with the same parameters can be taken for ours."""
    job = jenkins.add("ml", parameters=PARAMETERS)
    jenkins.losing = 1
    start = jenkins._start

    def meanwhile(request: Request, match: Any) -> Response:
        jenkins.leave(jenkins.put(job, user, {**PARAMETERS, "TRAIN": train}))
        answer = start(request, match)
        jenkins.leave(max(jenkins.items.values(), key=lambda it: it.id))
        return answer

    jenkins.route("POST", "/(job/ml)/(buildWithParameters)", meanwhile)
    if sure:
        assert asked(jenkins, "ml", TRAIN="none")[1] == 2
    else:
        with pytest.raises(JenkinsError, match=r"build \d and build \d of 'ml' may be ours"):
            asked(jenkins, "ml", TRAIN="none")
    assert len(job.builds) == 2  # nothing was asked for twice


def test_a_request_that_never_arrived(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    jenkins.refusing = 1
    with pytest.raises(JenkinsError, match="neither a queue item nor a build") as error:
        asked(jenkins, "ml")
    assert error.value.exit_code == 60
    assert jenkins.seen.count("POST /job/ml/build") == 1


# The queue -------------------------------------------------------------------------


def test_why_it_waits_is_told_as_it_changes(jenkins: FakeJenkins) -> None:
    waits = ["quiet for 3.1 s", "quiet for 2.0 s", "no \x1b[2Jagent", "no \x1b[2Jagent"]
    job = jenkins.add("ml", Play(waits=waits))
    item = jenkins.put(job, "ci", {})
    connection = connected(jenkins)
    told: list[str] = []
    found = builds.find(connection, "ml", None)
    assert queue.wait(connection, found, item.id, told.append, patience=60) == 1
    assert [it.partition(": ")[2] for it in told] == ["quiet for 3.1 s", "no \x1b[2Jagent"]


def test_a_cancelled_item(jenkins: FakeJenkins) -> None:
    jenkins.add("ml", Play(waits=["busy"], cancelled=True))
    with pytest.raises(JenkinsQueueError, match="was cancelled") as error:
        asked(jenkins, "ml")
    assert error.value.exit_code == 64


def test_an_item_that_has_expired_is_found_in_its_build(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml")
    jenkins.leave(jenkins.put(job, "ci", {}))
    jenkins.expiring = True
    made, number = asked(jenkins, "ml")
    assert number == 2
    assert job.builds[1].queue_id == made.item


def test_an_item_that_has_vanished(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    connection = connected(jenkins)
    job = builds.find(connection, "ml", None)
    with pytest.raises(JenkinsQueueError, match="item 7 is gone"):
        queue.wait(connection, job, 7, lambda _: None, patience=60)


def test_a_restart_while_it_waits(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml", Play(waits=["busy"] * 3))
    connection = connected(jenkins)
    found = builds.find(connection, "ml", None)
    made = queue.request(connection, found, {}, lambda _: None)
    assert made.item is not None
    jenkins.leave(jenkins.items[made.item])
    jenkins.restart()  # forgets items that have left
    assert queue.wait(connection, found, made.item, lambda _: None, patience=60) == 1
    assert len(job.builds) == 1


def test_one_that_waits_too_long_stays_in_the_queue(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml", Play(waits=["no agent"] * 1000))
    item = jenkins.put(job, "ci", {})
    connection = connected(jenkins)
    found = builds.find(connection, "ml", None)
    with pytest.raises(JenkinsQueueError, match="still waits after 0 s: no agent"):
        queue.wait(connection, found, item.id, lambda _: None, patience=0.02)
    assert not item.cancelled
    assert queue.cancel(connection, found, item.id) is None
    assert item.cancelled


@pytest.mark.parametrize("status", [404, 500, 302])
def test_cancelling_one_that_has_left(jenkins: FakeJenkins, status: int) -> None:
    """Versions of Jenkins answer it differently."""
    jenkins.route("POST", "/queue/cancelItem", lambda *_: Response(status, {"Location": "."}))
    job = jenkins.add("ml")
    item = jenkins.put(job, "ci", {})
    jenkins.leave(item)
    connection = connected(jenkins)
    assert queue.cancel(connection, builds.find(connection, "ml", None), item.id) == 1


def test_one_that_may_not_be_cancelled(jenkins: FakeJenkins) -> None:
    item = jenkins.put(jenkins.add("ml", Play(waits=["busy"])), "ci", {})
    jenkins.route("POST", "/queue/cancelItem", lambda *_: Response(422))
    connection = connected(jenkins)
    with pytest.raises(JenkinsError, match="422"):
        queue.cancel(connection, builds.find(connection, "ml", None), item.id)


# What a build is doing ---------------------------------------------------------------


def test_a_build_as_it_is_shown(jenkins: FakeJenkins) -> None:
    stages = [
        {"name": "Plan", "status": "SUCCESS", "durationMillis": 2500, "pauseDurationMillis": 500},
        {"name": "Promote", "status": "PAUSED_PENDING_INPUT"},
    ]
    job = jenkins.add("ml", Play(stages=stages), parameters={**PARAMETERS, "B": True})  # type: ignore[dict-item]
    jenkins.leave(jenkins.put(job, "ci", {**PARAMETERS, "B": True}))  # type: ignore[dict-item]
    connection = connected(jenkins)
    found = builds.find(connection, "ml", None)
    seen = builds.look(connection, found, None)
    assert (seen.number, seen.result, seen.ended) == (1, "RUNNING", False)
    assert seen.parameters == {**PARAMETERS, "B": "true"}
    assert seen.causes == ["Started by user ci"]
    assert seen.url == f"{jenkins.url}/job/ml/1/"
    named = [(it.name, it.seconds) for it in builds.stages(connection, found, 1)]
    assert named == [("Plan", 2.0), ("Promote", 0.0)]
    builds.stop(connection, found, 1)
    with pytest.raises(NotThere, match="no build 9"):
        builds.look(connection, found, 9)


def test_no_stages_without_their_plugin(jenkins: FakeJenkins) -> None:
    job = jenkins.add("ml")
    jenkins.leave(jenkins.put(job, "ci", {}))
    connection = connected(jenkins)
    assert builds.stages(connection, builds.find(connection, "ml", None), 1) == []
