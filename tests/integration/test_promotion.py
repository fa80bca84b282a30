"""Promotions between two registries, to what `promoting` says is real and what is fake.

After everything that goes wrong the whole world is looked at: registries, Kubeflow,
services, records.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ci import history, live, promote
from ci.promotion import plan as planning
from ci.promotion import promoted
from ci_tools import documents as d
from ci_tools.errors import (
    CIError,
    PromotionRefusedError,
    PromotionStuckError,
    PromotionUnderWayError,
    PromotionUndoneError,
    ReleaseNotFoundError,
    ReleaseSignatureError,
)
from ci_tools.images import referrers, referrers_tag
from ci_tools.images.registry import Registry
from ci_tools.kubeflow import ir
from ci_tools.promotion import compare
from ci_tools.promotion.records import Records
from ci_tools.release import bundle as bundles
from ci_tools.release import signing, store
from ci_tools.release.bundle import Bundle
from tests.fakes.kubeflow import FakeKubeflow, serve
from tests.fakes.releases import Pen
from tests.integration import promoting, registries
from tests.integration.between import between
from tests.integration.contents import absent, image

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SBOM = "application/vnd.cyclonedx+json"
IR = """\
components:
  comp-train:
    executorLabel: exec-train
deploymentSpec:
  executors:
    exec-train:
      container:
        image: {image}
        command: [train]
pipelineInfo:
  name: training
root:
  dag:
    tasks:
      train:
        componentRef:
          name: comp-train
        taskInfo:
          name: train
schemaVersion: 2.1.0
sdkVersion: kfp-2.11.0
"""


class Driver:
    """Commands in processes that may be killed. Safe to use from several threads."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        self._lock = threading.Lock()
        self._under_way: dict[int, Future[int]] = {}
        with errors.open("w") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.promoting"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout
        for line in self._child.stdout:
            answer = json.loads(line)
            self._under_way.pop(answer["id"]).set_result(answer["code"])
        for one in self._under_way.values():
            one.set_exception(AssertionError(self.errors.read_text()))

    def __call__(self, world: World, do: str, release: str = "", kill: int = 0) -> int:
        ended: Future[int] = Future()
        request = {
            "id": id(ended), "do": do, "release": release, "kill": kill,
            "folder": str(world.folder), "repository": str(world.written()),
        }  # fmt: skip
        assert self._child.stdin
        with self._lock:
            self._under_way[id(ended)] = ended
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        return ended.result(timeout=120)

    def close(self) -> None:
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait(timeout=20)


@dataclass
class Parts:
    """What all worlds share."""

    dev: str
    prod: str
    storage: Path  # of prod's registry, a directory for each prefix
    kubeflow: FakeKubeflow
    origin: Path
    repository: Path
    commits: list[str]
    pen: Pen
    driver: Driver
    worlds: int = 0
    releases: dict[str, Bundle] = field(default_factory=dict)

    def made(self, number: int, *, sign: bool = True, **changes: Any) -> Bundle:
        """A release of two images, a pipeline and a service, published in dev."""
        references = {}
        for name in ("train", "serve"):
            put = image(
                self.dev, f"ml/{name}", b"base" * 1000, f"{name} {number}".encode() * 50,
            )  # fmt: skip
            references[name] = f"{self.dev}/ml/{name}@{put['digest']}"
            registry = Registry(self.dev)
            if not referrers.attached(registry, f"ml/{name}", put["digest"], SBOM):
                referrers.attach(
                    registry, f"ml/{name}", put["digest"], artifact_type=SBOM,
                    files={SBOM: b'{"of": "%d"}' % number}, annotations={},
                )  # fmt: skip
        text = IR.format(image=references["train"])
        files = {
            "pipelines/training.yaml": text.encode(),
            "servables/serve.yaml": b"service: answers\nport: 8080\n",
        }
        revision = d.Revision(
            service="answers", cluster="dev", image=references["serve"], model=None,
            task_definition="arn:dev", task_definition_sha256="f" * 64, changed=True,
        )  # fmt: skip
        whole: dict[str, Any] = {
            "name": "",
            "project": "ml",
            "environment": "dev",
            "source": d.Source(commit=self.commits[number], branch="main"),
            "repository": "https://git.example/ml",
            "images": {
                name: d.ReleasedImage(
                    reference=reference, digest=reference.partition("@")[2], key="k" * 64,
                    verdict=d.Verdict(status="pass", trivy="1", database="d", policy="p"),
                    tests="passed",
                )
                for name, reference in references.items()
            },
            "pipelines": {
                "training": d.ReleasedPipeline(
                    sha256=ir.canonical_sha256(ir.parse(text, "x")),
                    file="pipelines/training.yaml",
                    components=["train"], images=[references["train"]],
                    version="v", version_id="1",
                )
            },
            "servables": {
                "serve": d.ReleasedServable(
                    service="answers", file="servables/serve.yaml", image=references["serve"],
                    task_definition_sha256="f" * 64, revision=revision,
                )
            },
        }  # fmt: skip
        made = bundles.of(d.Release(**(whole | changes)), files)
        if sign:
            made = signing.sign(made, self.pen)
        store.publish(Registry(self.dev), "ml/releases", made)
        return made

    def world(self, tmp_path: Path, **promotion: Any) -> World:
        self.worlds += 1
        number = self.worlds
        config = {
            "project": "ml",
            "environments": {
                "dev": {"registry": {"host": self.dev}},
                "prod": {
                    "registry": {"host": self.prod, "prefix": f"w{number}"},
                    "kubeflow": {"endpoint": self.kubeflow.endpoint, "namespace": f"w{number}"},
                    "service": {"cluster": "prod", "region": "eu-west-1"},
                    "promotion": {
                        "keys": ["release.pub"], "after": "dev", "branches": ["main"],
                        "approvals": 1, **promotion,
                    },
                },
            },
        }  # fmt: skip
        folder = tmp_path / f"w{number}"
        folder.mkdir()
        subprocess.run(
            ["git", "clone", "-q", "--shared", self.repository, folder / "repository"], check=True
        )
        subprocess.run(
            ["git", "-C", folder / "repository", "remote", "set-url", "origin", self.origin],
            check=True,
        )
        return World(self, folder, f"w{number}", config)


@dataclass
class World:
    """One production of its own. prefix: of its repositories, and its namespace."""

    parts: Parts
    folder: Path
    prefix: str
    config: dict[str, Any]

    def written(self) -> Path:
        """The clone, with its ci.yaml as it is to be now."""
        (self.repository / "ci.yaml").write_text(yaml.safe_dump(self.config))
        return self.repository

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def fresh(self, folder: Path | None = None) -> Any:
        promoting.fakes(self.folder)
        return promoting.workspace(folder or self.folder, self.written())

    def promote(self, what: str, **asked: Any) -> d.Promotion:
        request = promote.Request(**{"approvals": ("ann",), **asked})
        return promote.promote(self.fresh(), what, request)

    def rollback(self, what: str | None = None, **asked: Any) -> d.Promotion:
        request = promote.Request(**{"approvals": ("ann",), **asked})
        return promote.rollback(self.fresh(), what, request)

    def versions(self) -> list[str]:
        """Pipeline and commit of each version, the oldest first. What else is in its name
        is a hash, also over where the images are."""
        kubeflow = self.parts.kubeflow
        return [
            f"{kubeflow.pipelines[one['pipeline_id']]['name']} {one['name'][:12]}"
            for one in kubeflow.versions.values()
            if kubeflow.pipelines[one["pipeline_id"]]["namespace"] == self.prefix
        ]

    def seen(self) -> dict[str, Any]:
        """All that anybody who uses production can see."""
        space = self.fresh()
        services = promoting.FileServices(self.folder / "services.json").read()
        kubeflow = self.parts.kubeflow
        return {
            "runs": history.history(space).runs,
            "services": {
                name: (one["runs"], one["desired"])
                for name, one in services.items()
                if one["desired"]
            },
            "versions": self.versions(),
            "pipelines": [
                one["name"] for one in kubeflow.pipelines.values()
                if one["namespace"] == self.prefix
            ],
        }  # fmt: skip

    def copied(self) -> World:
        """Another world that is as this one, to go on from there."""
        parts, before = self.parts, self.prefix
        parts.worlds += 1
        after = f"w{parts.worlds}"
        # What in it names this world's registry, nobody reads again.
        shutil.copytree(parts.storage / before, parts.storage / after)
        folder = self.folder.with_name(after)
        shutil.copytree(self.folder, folder)
        parts.kubeflow.copy(before, after)
        config = copy.deepcopy(self.config)
        config["environments"]["prod"]["registry"]["prefix"] = after
        config["environments"]["prod"]["kubeflow"]["namespace"] = after
        return World(parts, folder, after, config)

    def actions(self) -> list[str]:
        """What the driver's last command in this world did, as far as it came."""
        return (self.folder / "actions").read_text().split("\n")[:-1]

    def image_of(self, bundle: Bundle, name: str) -> str:
        digest = bundle.release.images[name].digest
        return f"{self.parts.prod}/{self.prefix}/ml/{name}@{digest}"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    home = tmp_path_factory.mktemp("parts")
    origin, clone = home / "origin.git", home / "clone"

    def git(*arguments: str, at: Path = clone) -> str:
        return subprocess.run(
            ["git", "-C", at, "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    origin.mkdir()
    clone.mkdir()
    git("init", "-q", "--bare", at=origin)
    git("init", "-q", "-b", "main")
    git("remote", "add", "origin", str(origin))
    pen = Pen()
    (clone / "release.pub").write_bytes(pen.key.pem)
    commits = []
    for number in range(4):
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", str(number))
        commits.append(git("rev-parse", "HEAD"))
    git("push", "-q", "origin", "main")
    git("checkout", "-q", "-b", "feature")
    git("commit", "-q", "--allow-empty", "-m", "not on main")
    commits.append(git("rev-parse", "HEAD"))
    git("push", "-q", "origin", "feature")
    driver = Driver(home / "errors")
    with (
        registries.registry(home / "dev") as dev,
        registries.registry(home / "prod") as prod,
        serve(FakeKubeflow()) as kubeflow,
    ):
        storage = home / "prod/data/docker/registry/v2/repositories"
        made = Parts(dev, prod, storage, kubeflow, origin, clone, commits, pen, driver)
        made.releases = {"a": made.made(0), "b": made.made(1), "c": made.made(2)}
        yield made
        driver.close()


@pytest.fixture
def world(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # What `promoting.fakes` replaces is put back.
    from ci.promotion.target import Target
    from ci_tools.promotion import lease

    monkeypatch.setattr(live, "judged", live.judged)
    monkeypatch.setattr(Target, "services", Target.__dict__["services"])
    monkeypatch.setattr(lease, "TIMING", lease.TIMING)
    monkeypatch.setattr(referrers_tag, "_SETTLED", referrers_tag._SETTLED)
    monkeypatch.setenv("BUILD_USER_ID", "eve")
    return parts.world(tmp_path)


def name(parts: Parts, key: str) -> str:
    return parts.releases[key].release.name


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


def test_one_that_cannot_be_put_back_says_so_until_it_can(parts: Parts, world: World) -> None:
    world.promote(name(parts, "a"))
    before = world.seen()
    interrupted(parts, world, name(parts, "b"), lambda: world.seen()["services"])
    assert world.seen()["services"] != before["services"]
    (world.folder / "stuck").touch()
    with pytest.raises(PromotionStuckError) as stuck:
        promote.undo(world.fresh(), promote.Request())
    assert "could not be put back completely:\n  - service serve: arn" in stuck.value.what
    assert history.history(world.fresh()).records[0].outcome == "partly undone"
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


# killed ---------------------------------------------------------------------------------------


AT_ONCE = 4


def all_of(commands: Sequence[Callable[[], int]]) -> list[int]:
    """The exit codes of some of the driver's commands, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda one: one(), commands))


def killed(driver: Driver, start: World, release: str, numbers: range) -> dict[int, World]:
    """Action -> a world that is as `start` was, but for a promotion that was killed there."""
    worlds = {number: start.copied() for number in numbers}
    codes = all_of([
        lambda number=number, one=one: driver(one, "promote", release, kill=number)  # type: ignore[misc]
        for number, one in worlds.items()
    ])  # fmt: skip
    assert set(codes) == {promoting.KILLED}, driver.errors.read_text()
    return worlds


def ended(driver: Driver, worlds: dict[int, World], then: str, release: str) -> None:
    codes = all_of([
        lambda one=one: driver(one, then, release) for one in worlds.values()  # type: ignore[misc]
    ])  # fmt: skip
    assert set(codes) == {0}, driver.errors.read_text()


class Everywhere(NamedTuple):
    """start: a world that runs `a`. actions: those of a promotion of `b` there. before,
    after: what is seen of it before and after that."""

    start: World
    actions: list[str]
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture(scope="module")
def everywhere(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Everywhere:
    start = parts.world(tmp_path_factory.mktemp("killed"))
    assert parts.driver(start, "promote", name(parts, "a")) == 0
    undisturbed = start.copied()
    assert parts.driver(undisturbed, "promote", name(parts, "b")) == 0
    actions = undisturbed.actions()
    assert {"before put", "after copy_all", "after publish", "after upload_all", "registered",
            "updated"} <= set(actions)  # fmt: skip
    return Everywhere(start, actions, start.seen(), undisturbed.seen())


def contents(seen: dict[str, Any]) -> dict[str, Any]:
    """With services by what they run, and not by the revision's number."""
    services = {
        name: (arn.partition("#")[2], desired) for name, (arn, desired) in seen["services"].items()
    }
    return {**seen, "services": services}


def test_killed_at_every_action_and_run_again(
    parts: Parts, world: World, everywhere: Everywhere
) -> None:
    actions = range(1, len(everywhere.actions) + 1)
    worlds = killed(parts.driver, everywhere.start, name(parts, "b"), actions)
    ended(parts.driver, worlds, "promote", name(parts, "b"))
    for number, one in worlds.items():
        # A revision that was registered and never used stays; what serves is the same.
        assert contents(one.seen()) == contents(everywhere.after), number


def test_killed_at_every_action_and_undone(
    parts: Parts, world: World, everywhere: Everywhere
) -> None:
    actions = range(1, len(everywhere.actions) + 1)
    worlds = killed(parts.driver, everywhere.start, name(parts, "b"), actions)
    ended(parts.driver, worlds, "undo", "")
    states = [one.seen() for one in worlds.values()]
    # Once its record is there and its journal closed, nothing is left to undo.
    assert all(one in (everywhere.before, everywhere.after) for one in states)
    undone = [one == everywhere.before for one in states]
    assert undone == sorted(undone, reverse=True)
    assert undone.count(False) == 2  # our journal is closed; and the registry's, too


def test_killed_while_undoing(parts: Parts, world: World, everywhere: Everywhere) -> None:
    sick = everywhere.start.copied()
    (sick.folder / "unhealthy").touch()
    whole = sick.copied()
    assert parts.driver(whole, "promote", name(parts, "b")) == PromotionUndoneError.exit_code
    actions = whole.actions()
    assert "after delete_version" in actions
    first = actions.index("registered") + 1  # which then fails
    worlds = killed(parts.driver, sick, name(parts, "b"), range(first, len(actions) + 1))
    for one in worlds.values():
        (one.folder / "unhealthy").unlink()
    ended(parts.driver, worlds, "undo", "")
    for number, one in worlds.items():
        assert one.seen() == everywhere.before, number


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
        assert len(done) == 2 if wait else done
        assert all(isinstance(one, PromotionUnderWayError) for one in turned_away)
        found = history.history(world.fresh())
        assert found.runs in done
        assert {one.outcome for one in found.records} == {"done"}


def test_who_comes_while_another_is_at_it_is_turned_away_or_waits(
    parts: Parts, world: World, tmp_path: Path
) -> None:
    """That one's journal is open, and yet it is not unfinished."""
    world.promote(name(parts, "a"))
    world.fresh()
    middle, go_on = threading.Event(), threading.Event()

    def act(what: str) -> None:
        if what == "registered":
            middle.set()
            assert go_on.wait(60)

    promoting.fakes(world.folder, act)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(elsewhere, parts, world, tmp_path / "1", "b", 0.0)
        assert middle.wait(60)
        promoting.fakes(world.folder)
        turned_away = elsewhere(parts, world, tmp_path / "2", "c", 0.0)
        assert isinstance(turned_away, PromotionUnderWayError)
        assert turned_away.what == f"eve with {name(parts, 'b')[:20]} is promoting to 'prod'"
        second = pool.submit(elsewhere, parts, world, tmp_path / "2", "c", 60.0)
        go_on.set()
        assert first.result() == name(parts, "b")
        assert second.result() == name(parts, "c")
    found = history.history(world.fresh())
    assert [one.release for one in found.records] == [name(parts, key) for key in "cba"]


# back, and what differs -----------------------------------------------------------------------


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
