"""Promotions between two registries, to what `promoting` says is real and what is fake.

After everything that goes wrong the whole world is looked at: registries, Kubeflow,
services, records.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ci import history, live, promote
from ci.promotion import plan as planning
from ci.promotion import promoted
from ci_tools import documents as d
from ci_tools import storage
from ci_tools.errors import (
    CIError,
    ConfigError,
    CredentialsError,
    PromotionRefusedError,
    PromotionStuckError,
    PromotionUnderWayError,
    PromotionUndoneError,
    ReleaseNotFoundError,
    ReleaseSignatureError,
)
from ci_tools.images import referrers
from ci_tools.images.registry import Registry
from ci_tools.kubeflow import ir
from ci_tools.promotion import compare, signed
from ci_tools.promotion.lease import Lease
from ci_tools.promotion.records import Records
from ci_tools.release import bundle as bundles
from ci_tools.release import signing, store
from ci_tools.release.bundle import Bundle
from tests.fakes.releases import Pen
from tests.integration import promoting, worlds
from tests.integration.between import between
from tests.integration.contents import absent
from tests.integration.worlds import SBOM, Parts, World, name

pytestmark = pytest.mark.integration
parts, world = worlds.fixtures()


# what a promotion is --------------------------------------------------------------------------


def test_the_same_bytes_and_all_that_is_attached_go_to_production(
    parts: Parts, world: World
) -> None:
    one = parts.releases["a"]
    done = world.promote(one.release.name)
    registry = Registry(parts.prod)
    for component, released in one.release.images.items():
        repository = f"{world.prefix}/ml/{component}"
        assert registry.digest(repository, released.digest) == released.digest
        assert referrers.attached(registry, repository, released.digest, SBOM)
        # A tag of the release, which no clean-up of ECR takes.
        assert registry.digest(repository, one.release.name) == released.digest
    held = store.find(registry, f"{world.prefix}/ml/releases", one.release.name)
    assert (held.content, held.files) == (one.content, one.files)
    assert signing.verify(held, [parts.pen.key]) == [parts.pen.key.id]
    (version,) = world.parts.kubeflow.versions.values()
    assert ir.executor_images(ir.from_server(version["pipeline_spec"], "x"))[0].image == (
        world.image_of(one, "train")
    )
    assert done.outcome == "done"
    assert done.services["serve"].image == world.image_of(one, "serve")
    assert (done.by, done.approvals) == ("eve", ["ann"])
    assert done.pipelines["training"].version_id == version["pipeline_version_id"]
    assert world.seen()["runs"] == one.release.name
    # What production runs is what `scan live` looks at, where it is.
    running = promoted.release(world.fresh())
    assert running is not None
    assert {i.reference for i in running.images.values()} == set(done.images.values())
    assert live.would(world.fresh()) == [
        f"{component}: would hold {reference} against the newest database"
        for component, reference in sorted(done.images.items())
    ]


@pytest.mark.parametrize("how", ["name", "commit", "digest", "path"])
def test_a_release_by_any_of_its_names(
    parts: Parts, world: World, how: str, tmp_path: Path
) -> None:
    one = parts.releases["a"]
    bundles.write(one, tmp_path / "release.tar")
    digest = Registry(parts.dev).digest("ml/releases", one.release.name)
    what = {
        "name": one.release.name[:20],
        "commit": one.release.source.commit or "",
        "digest": digest or "",
        "path": str(tmp_path / "release.tar"),
    }[how]
    assert world.promote(what).release == one.release.name


def test_again_moves_nothing_and_changes_nothing(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    world.promote(name(parts, "a"))
    journal = json.loads((world.folder / "home/promotions/ml/prod.json").read_text())
    copied = journal["steps"][0]["result"]
    assert (copied["moved"], copied["bytes"], copied["skipped"]) == (0, 0, 2)
    assert world.seen() == before


def test_the_plan_tells_all_and_changes_nothing(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    asked = promote.Request(approvals=("ann",))
    planned = promote.plan_of(world.fresh(), name(parts, "b"), "promote", asked)
    assert planned.refusals == []
    assert [one.present for one in planned.copies] == [False, False]
    assert planned.pipelines[0].equal == []
    assert planned.services[0].lines
    assert planned.runs == name(parts, "a")
    shown = "\n".join(planning.lines(planned))
    assert "to be copied" in shown
    assert "new version" in shown
    again = promote.plan_of(world.fresh(), name(parts, "a"), "promote", asked)
    assert all(one.present for one in again.copies)
    assert again.pipelines[0].equal
    assert again.services[0].lines == []
    assert world.seen() == before
    assert absent(parts.prod, f"{world.prefix}/ml/train", planned.copies[1].target[-71:])


# refused: nothing is touched ------------------------------------------------------------------


def tampered(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, content=bundle.content.replace(b'"passed"', b'"passeD"'))


def without_a_file(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, files={})


def with_a_file(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, files={**bundle.files, "pipelines/more.yaml": b"x"})


def other_ir(bundle: Bundle) -> Bundle:
    files = {**bundle.files, "pipelines/training.yaml": b"x"}
    return dataclasses.replace(bundle, files=files)


@pytest.mark.parametrize("change", [tampered, without_a_file, with_a_file, other_ir])
def test_a_tampered_release_is_not_even_read(
    parts: Parts, world: World, tmp_path: Path, change: Callable[[Bundle], Bundle]
) -> None:
    bundles.write(change(parts.releases["a"]), tmp_path / "release.tar")
    with pytest.raises(ReleaseSignatureError):
        world.promote(str(tmp_path / "release.tar"))
    untouched(parts, world)


def unsigned(parts: Parts) -> Bundle:
    return dataclasses.replace(parts.releases["a"], envelopes=[])


def signed_by_another(parts: Parts) -> Bundle:
    return signing.sign(unsigned(parts), Pen())


def signed_for_another(parts: Parts) -> Bundle:
    return dataclasses.replace(unsigned(parts), envelopes=parts.releases["b"].envelopes)


REFUSED: dict[str, Callable[[Parts], Bundle]] = {
    "is not signed": unsigned,
    "has no signature of a key that is allowed": signed_by_another,
    "is not of its content": signed_for_another,
    "with changes that are in no commit":
        lambda p: p.made(0, source=d.Source(commit=p.commits[0], branch="main", dirty=True)),
    "it comes from no commit": lambda p: p.made(0, source=d.Source()),
    "is on none of the branches main": lambda p: p.made(4),
    "it was not verified in 'dev'": lambda p: p.made(0, servables={
        "serve": d.ReleasedServable(
            service="answers", file="servables/serve.yaml",
            image=p.releases["a"].release.servables["serve"].image)}),
    "image 'train' has no tests": lambda p: p.made(0, problems=["image 'train' has no tests"]),
    "it is a release of 'other'": lambda p: p.made(0, project="other"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused(parts: Parts, world: World, tmp_path: Path, why: str) -> None:
    bundles.write(REFUSED[why](parts), tmp_path / "release.tar")
    with pytest.raises(PromotionRefusedError, match="where nothing was touched") as refused:
        world.promote(str(tmp_path / "release.tar"))
    assert why in refused.value.what
    untouched(parts, world)


def no_such_ir(parts: Parts) -> d.Release:
    release = parts.releases["a"].release
    pipeline = msgspec.structs.replace(release.pipelines["training"], file="pipelines/no.yaml")
    return msgspec.structs.replace(release, pipelines={"training": pipeline})


def no_such_image(parts: Parts) -> d.Release:
    release = parts.releases["a"].release
    return msgspec.structs.replace(release, servables={"no": release.servables["serve"]})


def of_nowhere(parts: Parts) -> d.Release:
    """It says of itself that it must not be promoted, and has us ask another registry."""
    release = parts.releases["a"].release
    image = msgspec.structs.replace(
        release.images["train"], reference="127.0.0.1:9/x@" + release.images["train"].digest
    )
    images = {**release.images, "train": image}
    return msgspec.structs.replace(release, images=images, problems=["it is odd"])


@pytest.mark.parametrize("strange", [no_such_ir, no_such_image, of_nowhere])
def test_what_an_unsigned_release_names_is_looked_for_nowhere(
    parts: Parts, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    strange: Callable[[Parts], d.Release],
) -> None:  # fmt: skip
    made = bundles.of(strange(parts), parts.releases["a"].files)
    path = str(tmp_path / "release.tar")
    bundles.write(made, Path(path))
    world.fresh()
    monkeypatch.setattr(live, "judged", lambda *_, **__: pytest.fail("it was scanned"))
    space = promoting.workspace(world.folder, world.written())
    asked = promote.Request(approvals=("ann",))
    with pytest.raises(PromotionRefusedError):
        promote.promote(space, path, asked)
    with pytest.raises(PromotionRefusedError):
        promote.plan_of(space, path, "promote", asked)
    untouched(parts, world)


def test_today_s_scan_and_missing_approvals_are_refused_together(
    parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(promoting.SCANS, "train", "a waiver of CVE-2026-1 expired yesterday")
    with pytest.raises(PromotionRefusedError) as refused:
        world.promote(name(parts, "a"), approvals=("eve",))
    assert "CVE-2026-1 expired yesterday" in refused.value.what
    assert "1 approvals are needed, 0 given (one's own does not count)" in refused.value.what
    untouched(parts, world)


def untouched(parts: Parts, world: World) -> None:
    assert world.seen() == {"runs": "", "services": {}, "versions": [], "pipelines": []}
    registry = Registry(parts.prod)
    for one in parts.releases["a"].release.images.items():
        assert registry.digest(f"{world.prefix}/ml/{one[0]}", one[1].digest) is None
    assert registry.digest(f"{world.prefix}/ml/promotions", "prod") is None
    assert not (world.folder / "home/promotions/ml/prod.json").exists()


# failed: as it was before ---------------------------------------------------------------------


def test_a_service_that_never_gets_healthy_takes_all_back(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    (world.folder / "unhealthy").touch()
    with pytest.raises(PromotionUndoneError, match="as it was before: the deployment of answers"):
        world.promote(name(parts, "b"))
    assert world.seen() == before
    # The images stay, where nothing names them but by digest; the failure is on record.
    digest = parts.releases["b"].release.images["train"].digest
    assert Registry(parts.prod).digest(f"{world.prefix}/ml/train", digest) == digest
    last = history.history(world.fresh()).records[0]
    assert (last.outcome, last.release) == ("undone", name(parts, "b"))
    assert any("deleted training" in step for step in last.steps)
    (world.folder / "unhealthy").unlink()
    world.promote(name(parts, "b"))
    assert world.seen()["runs"] == name(parts, "b")


def test_a_first_promotion_that_fails_leaves_nothing_visible(parts: Parts, world: World) -> None:
    before = world.seen()
    (world.folder / "unhealthy").touch()
    with pytest.raises(PromotionUndoneError):
        world.promote(name(parts, "a"))
    assert world.seen() == before


def test_kubeflow_that_refuses_takes_all_back(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    kubeflow = parts.kubeflow
    (pipeline,) = [p for p in kubeflow.pipelines.values() if p["namespace"] == world.prefix]
    kubeflow.schedule("nightly", pipeline["pipeline_id"], namespace=world.prefix)
    with pytest.raises(PromotionUndoneError, match="schedules would run the new version at once"):
        world.promote(name(parts, "b"))
    assert world.seen() == before


def test_a_registry_that_drops_connections_in_the_middle(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    with between(parts.prod) as proxy:
        world.config["environments"]["prod"]["registry"]["host"] = proxy.host
        wanted = parts.releases["c"].release.images["train"].digest
        proxy.harm = lambda one: "refuse" if one.method == "PUT" and wanted in one.path else ""
        with pytest.raises(PromotionUndoneError):
            world.promote(name(parts, "c"))
        proxy.harm = lambda _: ""
        assert world.seen() == before
        world.promote(name(parts, "c"))
        assert world.seen()["runs"] == name(parts, "c")


def told(world: World) -> d.Promotion:
    """The record as it lies in the build directory, for who shows what came of it."""
    return storage.read(world.fresh().build / "promotion.json", d.Promotion, made_by="promote")


def test_what_came_of_it_lies_in_the_build_directory(parts: Parts, world: World) -> None:
    assert world.promote(name(parts, "a")) == told(world)
    assert world.promote(name(parts, "b")) == told(world)
    assert world.rollback() == told(world)
    (world.fresh().build / "promotion.json").unlink()
    (world.fresh().build / "promotion.json").mkdir()
    done = world.promote(name(parts, "b"))  # it stands, though that cannot be written
    assert world.seen()["runs"] == done.release


def test_one_that_cannot_be_put_back_says_so_until_it_can(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    interrupted(parts, world, name(parts, "b"), lambda: world.seen()["services"])
    assert world.seen()["services"] != before["services"]
    (world.folder / "stuck").touch()
    with pytest.raises(PromotionStuckError) as stuck:
        promote.undo(world.fresh(), promote.Request())
    assert "could not be put back completely:\n  - service serve: arn" in stuck.value.what
    record = history.history(world.fresh()).records[0]
    assert record.outcome == "partly undone"
    assert told(world) == record
    # What could be undone was; what could not is tried again, and nothing else goes on.
    assert world.seen()["versions"] == before["versions"]
    with pytest.raises(PromotionUnderWayError):
        world.promote(name(parts, "c"))
    (world.folder / "stuck").unlink()
    promote.undo(world.fresh(), promote.Request())
    assert world.seen() == before
    assert [one.outcome for one in history.history(world.fresh()).records] == [
        "undone", "partly undone", "done"
    ]  # fmt: skip


# unfinished -----------------------------------------------------------------------------------


def interrupted(
    parts: Parts, world: World, release: str, look: Callable[[], Any] | None = None
) -> None:
    """Killed later and later, until something that `look` sees changed."""
    seen = look or world.versions
    before = seen()
    for number in range(1, 100):
        code = parts.driver(world, "promote", release, kill=number)
        assert code == promoting.KILLED, parts.driver.errors.read_text()
        if seen() != before:
            return
    pytest.fail("nothing was changed")


def test_another_release_waits_for_what_was_left_unfinished(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    interrupted(parts, world, name(parts, "b"))
    with pytest.raises(PromotionUnderWayError) as refused:
        world.promote(name(parts, "c"))
    assert f"the promotion of {name(parts, 'b')} to 'prod'" in refused.value.what
    assert "promote --undo --to prod" in refused.value.todo
    planned = promote.plan_of(
        world.fresh(), name(parts, "c"), "promote", promote.Request(approvals=("ann",))
    )
    assert any("unfinished" in one for one in planned.refusals)
    promote.undo(world.fresh(), promote.Request())
    world.promote(name(parts, "c"))
    assert world.seen()["runs"] == name(parts, "c")


def test_another_machine_goes_on_or_undoes(parts: Parts, world: World, tmp_path: Path) -> None:
    world.promote(name(parts, "a"))
    interrupted(parts, world, name(parts, "b"))
    elsewhere = tmp_path / "elsewhere"
    space = world.fresh(elsewhere)
    # The dead one's lock has not run out yet.
    with pytest.raises(PromotionUnderWayError, match="is promoting to 'prod'"):
        promote.promote(space, name(parts, "b"), promote.Request(approvals=("ann",)))
    taken = promote.Request(approvals=("ann",), break_lock=True)
    promote.promote(world.fresh(elsewhere), name(parts, "b"), taken)
    assert world.seen()["runs"] == name(parts, "b")


# two at once ----------------------------------------------------------------------------------


def elsewhere(parts: Parts, world: World, folder: Path, key: str, wait: float) -> Any:
    """A promotion from another machine: its release's name, or the exit code."""
    space = promoting.workspace(folder, world.repository)
    asked = promote.Request(approvals=("ann",), wait=wait)
    try:
        return promote.promote(space, name(parts, key), asked).release
    except CIError as error:
        return error


def test_of_two_at_once_one_is_turned_away(parts: Parts, world: World, tmp_path: Path) -> None:
    world.promote(name(parts, "a"))
    world.fresh()
    for wait in (0.0, 30.0):
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(
                lambda key: elsewhere(parts, world, tmp_path / f"machine-{key}", key, wait), "bc"  # noqa: B023
            ))  # fmt: skip
        done = [one for one in outcomes if isinstance(one, str)]
        turned_away = [one for one in outcomes if not isinstance(one, str)]
        # On such a registry the one who was overtaken may stop even if it would wait.
        assert done
        assert all(isinstance(one, PromotionUnderWayError) for one in turned_away)
        found = history.history(world.fresh())
        assert found.runs in done
        assert {one.outcome for one in found.records} == {"done"}


@contextmanager
def in_the_middle(
    parts: Parts, world: World, folder: Path
) -> Iterator[tuple[Future[Any], threading.Event]]:
    """Another machine's promotion of `b`, which goes on once the event is set."""
    world.promote(name(parts, "a"))
    world.fresh()
    middle, go_on = threading.Event(), threading.Event()

    def act(what: str) -> None:
        if what == "registered":
            middle.set()
            assert go_on.wait(600)

    promoting.fakes(world.folder, act)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(elsewhere, parts, world, folder, "b", 0.0)
        assert middle.wait(600)
        promoting.fakes(world.folder)
        try:
            yield first, go_on
        finally:
            go_on.set()


def test_who_comes_while_another_is_at_it_is_turned_away_or_waits(
    parts: Parts, world: World, tmp_path: Path
) -> None:
    """That one's journal is open, and yet it is not unfinished."""
    with (
        in_the_middle(parts, world, tmp_path / "1") as (first, go_on),
        ThreadPoolExecutor(1) as pool,
    ):
        turned_away = elsewhere(parts, world, tmp_path / "2", "c", 0.0)
        assert isinstance(turned_away, PromotionUnderWayError)
        assert turned_away.what == f"eve with {name(parts, 'b')[:20]} is promoting to 'prod'"
        second = pool.submit(elsewhere, parts, world, tmp_path / "2", "c", 600.0)
        go_on.set()
        assert first.result() == name(parts, "b")
        assert second.result() == name(parts, "c")
    found = history.history(world.fresh())
    assert [one.release for one in found.records] == [name(parts, key) for key in "cba"]


def test_who_comes_while_another_ends_is_let_in(
    parts: Parts, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the other's journal open, and then nobody who holds the lock."""
    with in_the_middle(parts, world, tmp_path / "1") as (first, go_on):

        def holder(_: Lease, head: str) -> str:
            go_on.set()
            assert first.result() == name(parts, "b")
            return ""

        monkeypatch.setattr(Lease, "holder", holder)
        assert elsewhere(parts, world, tmp_path / "2", "c", 0.0) == name(parts, "c")


# back, and what differs -----------------------------------------------------------------------


def test_with_a_bucket_the_lock_is_there(
    parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is moto's here; `test_promotion_lock` has a server for it."""
    import boto3
    from moto import mock_aws

    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    world.config["environments"]["prod"]["releases"] = "s3://bucket/x"
    key, dead = "x/locks/ml/prod.json", {"who": "ann", "release": "r", "machine": "m", "at": 0.0}
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key=key, Body=json.dumps({"nonce": "1", **dead}))
        with pytest.raises(PromotionUnderWayError, match="ann with r is promoting"):
            world.promote(name(parts, "a"))
        world.promote(name(parts, "a"), break_lock=True)
        held = json.loads(s3.get_object(Bucket="bucket", Key=key)["Body"].read())
    assert (held["who"], held["release"], held["over"]) == ("eve", name(parts, "a"), True)
    claims = f"http://{parts.prod}/v2/{world.prefix}/ml/promotions-claims/tags/list"
    with pytest.raises(urllib.error.HTTPError):  # nothing of it is in the registry
        urllib.request.urlopen(claims)


def test_a_roll_back_is_one_unit_and_asks_the_source_nothing(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    first = world.seen()
    world.promote(name(parts, "b"))
    world.config["environments"]["dev"]["registry"]["host"] = "127.0.0.1:1"
    done = world.rollback()
    assert (done.release, done.action) == (name(parts, "a"), "rollback")
    seen = world.seen()
    assert seen["runs"] == first["runs"]
    assert seen["services"]["answers"][0].endswith(first["services"]["answers"][0][-8:])
    assert f"training {done.pipelines['training'].version[:12]}" == first["versions"][0]
    with pytest.raises(ReleaseNotFoundError, match="ran nothing before"):
        world.rollback()


def test_a_roll_back_needs_no_word_of_where_it_was_verified(parts: Parts, world: World) -> None:
    """Nor its images from there: today's scan looks at those that ran here."""
    made = parts.made(0, environment="build")
    record = d.Promotion(
        id="1", action="promote", outcome="done", environment="dev", project="ml",
        release=made.release.name, bundle="", commit=None, by="", approvals=[], began="", ended="",
    )  # fmt: skip
    Records(Registry(parts.dev), "ml/promotions", "dev").put(record)
    world.promote(made.release.name)
    world.promote(name(parts, "b"))
    looked: list[str] = []
    promoting.fakes(world.folder)
    scanned = live.judged

    def seen(space: Any, releases: Any, **more: Any) -> Any:
        looked.extend(one.reference for one in releases[0].images.values())
        return scanned(space, releases, **more)

    world.config["environments"]["dev"]["registry"]["host"] = "127.0.0.1:1"
    space = world.fresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "judged", seen)
        done = promote.rollback(space, None, promote.Request(approvals=("ann",)))
    assert done.release == made.release.name
    assert sorted(looked) == sorted(done.images.values())


def test_a_roll_back_in_spite_of_today_s_scan(
    parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    monkeypatch.setitem(promoting.SCANS, "train", "a waiver expired")
    space = world.fresh()
    promote.rollback(space, None, promote.Request(approvals=("ann",)))
    assert any("a waiver expired" in one for one in space.console.warnings)


def test_no_roll_back_to_what_never_ran_there(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    with pytest.raises(ReleaseNotFoundError):
        world.rollback(name(parts, "c"))
    registry = Registry(parts.prod)
    store.publish(registry, f"{world.prefix}/ml/releases", parts.releases["c"])
    with pytest.raises(PromotionRefusedError, match="never ran it"):
        world.rollback(name(parts, "c"))
    assert world.seen()["runs"] == name(parts, "a")


# records that are signed -----------------------------------------------------------------------


def signs(world: World, pen: Pen, environment: str = "prod") -> None:
    """Let an environment's records be signed with this key from now on."""
    path = world.folder / f"{pen.key.id[:8]}.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pen.private.private_bytes(*form))
    world.config["environments"][environment]["signing"] = {"key": str(path)}


def recorded(bundle: Bundle, environment: str, **changes: Any) -> d.Promotion:
    """A record as who may push can write one."""
    return d.Promotion(**{
        "id": "0" * 32, "action": "promote", "outcome": "done", "environment": environment,
        "project": "ml", "release": bundle.release.name, "bundle": "", "commit": None,
        "by": "eve", "approvals": [], "began": "", "ended": "", **changes,
    })  # fmt: skip


def test_a_signed_record_lets_a_roll_back_pass(parts: Parts, world: World) -> None:
    signs(world, parts.pen)
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    assert world.rollback().release == name(parts, "a")
    records = Records(Registry(parts.prod), f"{world.prefix}/ml/promotions", "prod")
    history, _ = records.known()
    assert [kept.record.action for kept in history] == ["rollback", "promote", "promote"]
    for kept in history:
        assert signed.problem(kept.content, records.signature(kept), [parts.pen.key]) == ""


FORGERIES = ["unsigned", "another key", "replayed", "another environment"]


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_record_is_no_evidence_for_a_roll_back(
    parts: Parts, world: World, how: str
) -> None:
    signs(world, parts.pen)
    world.promote(name(parts, "a"))
    before = world.seen()
    registry, c = Registry(parts.prod), parts.releases["c"]
    records = Records(registry, f"{world.prefix}/ml/promotions", "prod")
    store.publish(registry, f"{world.prefix}/ml/releases", c)
    head = records.head()
    assert head is not None
    forged = recorded(c, "prod", previous=head.digest)
    other = recorded(c, "dev")
    signature: Callable[[bytes], bytes] | None = {
        "unsigned": None,
        "another key": lambda content: signed.envelope(Pen(), content, forged),
        "replayed": lambda _: records.signature(head) or b"",
        "another environment": lambda _: signed.envelope(parts.pen, storage.encode(other), other),
    }[how]
    records.put(forged, signature)
    with pytest.raises(PromotionRefusedError, match="the record that it ran here is not believed"):
        world.rollback(name(parts, "c"))
    assert world.seen()["services"] == before["services"]
    assert world.seen()["versions"] == before["versions"]


@pytest.mark.parametrize("how", [*FORGERIES[:3], "signed"])
def test_a_record_elsewhere_is_evidence_where_an_allowed_key_signed_it(
    parts: Parts, world: World, how: str
) -> None:
    """Of an environment between: the release itself says nothing of it."""
    prefix = f"{world.prefix}stage"
    registry = {"host": parts.prod, "prefix": prefix}
    world.config["environments"]["stage"] = {"registry": registry}
    world.config["environments"]["prod"]["promotion"]["after"] = "stage"
    signs(world, parts.pen, "stage")
    a, b = parts.releases["a"], parts.releases["b"]
    store.publish(Registry(parts.prod), f"{prefix}/ml/releases", a)
    records = Records(Registry(parts.prod), f"{prefix}/ml/promotions", "stage")
    forged, another = recorded(a, "stage"), recorded(b, "stage")
    by = parts.pen if how == "signed" else Pen()
    about = another if how == "replayed" else forged
    records.put(
        forged,
        None
        if how == "unsigned"
        else lambda _: signed.envelope(
            parts.pen if how == "replayed" else by, storage.encode(about), about
        ),
    )
    if how == "signed":
        assert world.promote(a.release.name).release == a.release.name
        return
    words = r"not verified in 'stage' \(the record of that is not believed: "
    with pytest.raises(PromotionRefusedError, match=words):
        world.promote(a.release.name)
    assert world.seen()["runs"] == ""


def test_records_from_before_there_was_a_key(parts: Parts, world: World) -> None:
    """They are no evidence any more; to promote again makes one that is."""
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    signs(world, parts.pen)
    with pytest.raises(PromotionRefusedError, match="not believed: it is not signed"):
        world.rollback()
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    assert world.rollback().release == name(parts, "a")


def test_without_a_key_a_record_is_believed_and_that_is_said(
    parts: Parts, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    world.rollback()
    told = capfd.readouterr()
    assert "says a record that nobody signed (environments.prod.signing" in told.out + told.err


def test_a_key_that_would_not_be_believed_is_told_before_anything(
    parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs(world, Pen())
    with pytest.raises(ConfigError, match="is none that it believes"):
        world.promote(name(parts, "a"))
    world.config["environments"]["prod"]["signing"] = {"key_env": "NO_SUCH_KEY"}
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(CredentialsError, match="NO_SUCH_KEY"):
        world.promote(name(parts, "a"))
    assert world.seen()["runs"] == ""
    assert world.seen()["services"] == {}


def test_undoing_needs_no_key(parts: Parts, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is called at night may not have it."""
    world.promote(name(parts, "a"))
    before = world.seen()
    signs(world, parts.pen)
    assert parts.driver(world, "promote", name(parts, "b"), kill=12) == promoting.KILLED
    world.config["environments"]["prod"]["signing"] = {"key_env": "NO_SUCH_KEY"}
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert promote.undo(world.fresh(), promote.Request()) is not None
    assert world.seen() == before


def test_history_and_difference(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    world.promote(name(parts, "b"))
    world.rollback()
    found = history.history(world.fresh())
    assert [one.action for one in found.records] == ["rollback", "promote", "promote"]
    told = history.lines(found)
    assert told[0] == f"'prod' runs {name(parts, 'a')}"
    assert "ann" in told[2]
    difference = history.difference(world.fresh(), name(parts, "a"), name(parts, "b"))
    assert [one.name for one in difference.images] == ["serve", "train"]
    (pipeline,) = difference.pipelines
    assert len([line for line in pipeline.lines if line[0] in "+-"]) == 2
    assert "nothing differs" in compare.lines(
        history.difference(world.fresh(), name(parts, "a"), name(parts, "a"))
    )
