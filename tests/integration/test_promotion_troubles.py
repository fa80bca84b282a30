"""What an engineer meets at night: a promotion that was interrupted, a journal that is not
so, records that are gone, git's origin that does not answer, a service of another name.

`promoting` says what is real and what is fake.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci import history, promote
from ci.promotion.target import Target
from ci_tools.documents import Journal
from ci_tools.errors import (
    DeploymentFailedError,
    InterruptedRunError,
    PromotionRefusedError,
    PromotionStuckError,
    PromotionUnderWayError,
    RegistryError,
    ReleaseNotFoundError,
)
from ci_tools.images import moving
from ci_tools.images.registry import Registry
from ci_tools.promotion.records import Records
from ci_tools.release import bundle as bundles
from ci_tools.release import signing, store
from tests.integration import worlds
from tests.integration.promoting import FileServices
from tests.integration.test_promotion import interrupted, signs
from tests.integration.worlds import Parts, World, name

pytestmark = pytest.mark.integration
parts, world = worlds.fixtures()
MAIN = "refs/remotes/origin/main"
ASKED = promote.Request(approvals=("ann",))


def journal(world: World) -> Journal:
    found = Target(world.fresh()).journals.read()
    assert found is not None
    return found


# interrupted ----------------------------------------------------------------------------------


def stop(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def told_of(parts: Parts, world: World, error: InterruptedRunError) -> None:
    """Who is interrupted, and whoever looks then, reads what is unfinished and what to do."""
    promotion = f"the promotion of {name(parts, 'b')} to 'prod'"
    assert promotion in error.what
    assert "service serve" in error.what
    assert "promote --undo --to prod" in error.todo
    found = history.history(world.fresh())
    assert found.unfinished.startswith(promotion)
    assert any(one.startswith("UNFINISHED: the promotion") for one in history.lines(found))


def test_who_is_interrupted_is_told_what_is_unfinished(
    parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promote(name(parts, "a"))
    with monkeypatch.context() as patched:
        patched.setattr(FileServices, "deploy", stop)
        with pytest.raises(InterruptedRunError) as told:
            world.promote(name(parts, "b"))
    told_of(parts, world, told.value)
    world.promote(name(parts, "b"))
    assert history.history(world.fresh()).unfinished == ""


def test_who_is_interrupted_while_undoing_is_told_too(
    parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promote(name(parts, "a"))
    interrupted(parts, world, name(parts, "b"), lambda: world.seen()["services"])
    with monkeypatch.context() as patched:
        patched.setattr(FileServices, "go_back", stop)
        with pytest.raises(InterruptedRunError) as told:
            promote.undo(world.fresh(), ASKED)
    told_of(parts, world, told.value)
    promote.undo(world.fresh(), ASKED)
    assert history.history(world.fresh()).unfinished == ""


def test_a_plan_of_what_is_unfinished_is_to_go_on_with_it(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    interrupted(parts, world, name(parts, "b"))
    planned = promote.plan_of(world.fresh(), name(parts, "b"), "promote", ASKED)
    assert planned.refusals == []
    assert "this would go on with it" in planned.warnings[0]
    for what, action in ((name(parts, "c"), "promote"), (name(parts, "b"), "rollback")):
        planned = promote.plan_of(world.fresh(), what, action, ASKED)  # type: ignore[arg-type]
        assert any("is unfinished" in one for one in planned.refusals)


# what a journal says --------------------------------------------------------------------------


def test_what_a_journal_says_is_done_is_seen_to(parts: Parts, world: World) -> None:
    """Whoever may push there could have it recorded, and signed, that all of it was done."""
    signs(world, parts.pen)
    world.promote(name(parts, "a"))
    interrupted(parts, world, name(parts, "b"))
    forged = journal(world)
    forged.serial += 5
    for step in forged.steps:
        step.state = "done"
        step.result = {"digest": "sha256:" + "0" * 64}
    moving.put(
        Registry(parts.prod), f"{world.prefix}/ml/promotions", "prod__journal",
        "application/vnd.kfp-ci.promotion-journal.v1+json", msgspec.json.encode(forged),
    )  # fmt: skip
    done = world.promote(name(parts, "b"))
    image = parts.releases["b"].release.images["serve"].digest
    ((serves, _),) = world.seen()["services"].values()
    assert serves.endswith(image.removeprefix("sha256:")[:12])
    assert done.services["serve"].task_definition == serves
    assert done.pipelines["training"].version_id in parts.kubeflow.versions
    assert history.history(world.fresh()).runs == name(parts, "b")


def test_a_journal_that_cannot_be_undone_is_told_in_a_sentence(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    interrupted(parts, world, name(parts, "b"))
    damaged = journal(world)
    for step in damaged.steps:
        step.state, step.before = "done", {"service": "other"}
    Target(world.fresh()).journals.keep(damaged)
    with pytest.raises(PromotionStuckError, match="the journal does not say what was there before"):
        promote.undo(world.fresh(), ASKED)


def test_history_is_told_though_the_journal_is_damaged(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    moving.put(
        Registry(parts.prod), f"{world.prefix}/ml/promotions", "prod__journal",
        "application/vnd.kfp-ci.promotion-journal.v1+json", b"{",
    )  # fmt: skip
    found = history.history(world.fresh())
    assert found.runs == name(parts, "a")
    assert "is damaged" in found.unfinished


def test_one_that_is_recorded_stands_though_its_journal_cannot_be_closed(
    parts: Parts, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    world.promote(name(parts, "a"))
    real = moving.put

    def put(registry: Any, repository: str, tag: str, kind: str, content: bytes) -> str:
        if tag == "prod__journal" and not msgspec.json.decode(content)["open"]:
            raise RegistryError("the registry is away", "Try again")
        return real(registry, repository, tag, kind, content)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "put", put)
        done = world.promote(name(parts, "b"))
    assert (done.outcome, world.seen()["runs"]) == ("done", name(parts, "b"))
    told = capfd.readouterr()
    assert "others may be told that this is unfinished (the registry is away)" in (
        told.out + told.err
    )
    # Another machine is told so, and ends it; here it is known to be closed.
    elsewhere = world.fresh(tmp_path / "elsewhere")
    with pytest.raises(PromotionUnderWayError, match="unfinished"):
        promote.promote(elsewhere, name(parts, "c"), ASKED)
    again = promote.promote(elsewhere, name(parts, "b"), ASKED)
    assert again == done
    world.promote(name(parts, "c"))


def test_who_was_overtaken_and_then_fails_undoes_nothing(
    parts: Parts, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network came back, and another machine had gone on with it meanwhile."""
    world.promote(name(parts, "a"))
    elsewhere = world.fresh(tmp_path / "elsewhere")
    real = FileServices.deploy

    def overtaken(*_: Any) -> Any:
        monkeypatch.setattr(FileServices, "deploy", real)
        taken = promote.Request(approvals=("ann",), break_lock=True)
        promote.promote(elsewhere, name(parts, "b"), taken)
        raise DeploymentFailedError("the network was away", "Try again")

    monkeypatch.setattr(FileServices, "deploy", overtaken)
    with pytest.raises(PromotionUnderWayError, match="is promoting to 'prod'"):
        world.promote(name(parts, "b"))
    found = history.history(world.fresh())
    assert (found.runs, found.unfinished) == (name(parts, "b"), "")
    assert [one.outcome for one in found.records] == ["done", "done"]
    image = parts.releases["b"].release.images["serve"].digest.removeprefix("sha256:")
    assert world.seen()["services"]["answers"][0].endswith(image[:12])


# what is gone ---------------------------------------------------------------------------------


def test_a_roll_back_needs_no_record_that_is_older(parts: Parts, world: World) -> None:
    for key in "abc":
        world.promote(name(parts, key))
    records = Records(Registry(parts.prod), f"{world.prefix}/ml/promotions", "prod")
    oldest = records.known()[0][-1]
    kept = parts.storage / world.prefix / "ml/promotions/_manifests/revisions/sha256"
    shutil.rmtree(kept / oldest.digest.removeprefix("sha256:"))
    found = history.history(world.fresh())
    assert [one.release for one in found.records] == [name(parts, "c"), name(parts, "b")]
    assert "what was before is not known" in history.lines(found)[-1]
    assert world.rollback().release == name(parts, "b")
    with pytest.raises(ReleaseNotFoundError, match="what 'prod' ran before is not known"):
        world.rollback()
    assert world.rollback(name(parts, "c")).release == name(parts, "c")


def test_a_roll_back_while_origin_does_not_answer(
    parts: Parts, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """A signed record says that it passed the gate once; an unsigned one anybody can write,
    and then it counts what the clone last fetched."""
    git = ["git", "-C", str(world.repository)]

    def origin(url: str | Path, *, fetched: bool) -> None:
        subprocess.run([*git, "remote", "set-url", "origin", url], check=True)
        known = ["fetch", "-q", "origin"] if fetched else ["update-ref", "-d", MAIN]
        subprocess.run([*git, *known], check=True)

    def goes_back(key: str) -> None:
        subprocess.run([*git, "remote", "set-url", "origin", "/nowhere"], check=True)
        capfd.readouterr()
        assert world.rollback().release == name(parts, key)
        told = capfd.readouterr()
        assert "going back all the same: nobody can tell which branch" in told.out + told.err
        with pytest.raises(PromotionRefusedError, match="nobody can tell which branch"):
            world.promote(name(parts, "c"))

    for key in "abc":
        world.promote(name(parts, key))
    origin("/nowhere", fetched=False)
    with pytest.raises(PromotionRefusedError, match="nobody can tell which branch"):
        world.rollback()
    origin(parts.origin, fetched=True)
    goes_back("b")
    origin(parts.origin, fetched=True)
    signs(world, parts.pen)
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    origin(parts.origin, fetched=False)
    goes_back("a")


# another service ------------------------------------------------------------------------------


def renamed(parts: Parts, key: str, service: str) -> str:
    """The release with its service called otherwise; its name."""
    bundle = parts.releases[key]
    one = msgspec.structs.replace(bundle.release.servables["serve"], service=service)
    release = msgspec.structs.replace(bundle.release, servables={"serve": one})
    text = f"service: {service}\nport: 8080\n"
    made = bundles.of(release, {**bundle.files, "servables/serve.yaml": text.encode()})
    store.publish(Registry(parts.dev), "ml/releases", signing.sign(made, parts.pen))
    return made.release.name


def test_a_service_that_a_release_has_not_goes_on_and_that_is_said(
    parts: Parts, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.promote(name(parts, "a"))
    answers = world.seen()["services"]["answers"]
    other = renamed(parts, "b", "replies")
    said = f"the service 'answers' is not in {other[:20]}: it goes on as it is"
    planned = promote.plan_of(world.fresh(), other, "promote", ASKED)
    assert any(one.startswith(said) for one in planned.warnings)
    capfd.readouterr()
    world.promote(other)
    told = capfd.readouterr()
    assert said in told.out + told.err
    assert world.seen()["services"]["answers"] == answers


def test_a_service_of_another_name_is_put_back_by_its_own(parts: Parts, world: World) -> None:
    world.promote(renamed(parts, "b", "replies"))
    world.promote(name(parts, "a"))
    before = world.seen()["services"]
    assert {*before} == {"answers", "replies"}
    interrupted(parts, world, renamed(parts, "c", "replies"), lambda: world.seen()["services"])
    promote.undo(world.fresh(), ASKED)
    assert world.seen()["services"] == before
