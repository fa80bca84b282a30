"""The stage: several servables at once, each with its own outcome, and what is asked of it."""

from __future__ import annotations

import fnmatch
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ci import deploy, holding, service
from ci.cli import cli
from ci.console import Console
from ci.workspace import Workspace
from ci_tools import documents as d
from ci_tools import storage
from ci_tools.errors import (
    CIError,
    ConfigError,
    DeploymentFailedError,
    InterruptedRunError,
    ServiceDriftError,
    ServicePreflightError,
    SmokeTestError,
)
from ci_tools.images import ecr_repository
from ci_tools.serving.asked import Findings
from ci_tools.serving.declaration import Servable
from tests.fakes.registry import FakeRegistry, serve

DIGEST = f"sha256:{'a' * 64}"
SETTINGS = """
project: ml
environments:
  dev:
    registry: {host: registry.example}
    service: {cluster: dev, region: eu-west-1, execution_role: "arn:aws:iam::1:role/e",
              subnets: [subnet-1]}
"""


def locked(name: str) -> d.LockedImage:
    return d.LockedImage(
        repository=f"registry.example/ml/{name}",
        digest=DIGEST,
        config=DIGEST,
        key="k",
        size=1,
        verdict=d.Verdict(status="pass", trivy="1", database="today", policy="p"),
    )


class Services:
    """Stands for PredictionServices: what becomes of a service is what the test says."""

    def __init__(self, sleep: Callable[[float], None] | None) -> None:
        self.sleep = sleep or (lambda _: None)
        self.fates: dict[str, Any] = {}
        self.deployed: list[str] = []
        self.given: dict[str, dict[str, Any]] = {}
        self.abandoned: list[str] = []
        self.at_once = threading.Barrier(1)

    def deploy(self, servable: Servable, image: str, model: Any, **given: Any) -> d.Revision:
        name = servable.service
        self.given[name] = given
        self.at_once.wait(300)
        fate = self.fates.get(name)
        if isinstance(fate, BaseException):
            raise fate
        if fate == "waits":
            try:
                while True:
                    self.sleep(30)
            except InterruptedRunError:
                self.abandoned.append(name)
                raise
        self.deployed.append(name)
        return d.Revision(
            service=name, cluster="dev", image=image, model=model, task_definition=f"{name}:1",
            task_definition_sha256="0", changed=True,
        )  # fmt: skip

    def diff(self, servable: Servable, *_: Any, **__: Any) -> list[str]:
        return list(self.fates.get(servable.service, []))

    def verify(self, servable: Servable, *_: Any, **__: Any) -> Findings:
        found: Findings = self.fates.get(servable.service, Findings())
        return found


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    made = Services(None)

    def prediction_services(_: Workspace, sleep: Any = None) -> Services:
        made.sleep = sleep or made.sleep
        return made

    monkeypatch.setattr(deploy, "prediction_services", prediction_services)
    return made


@pytest.fixture
def workspace(repository: Any) -> Workspace:
    repository.write("ci.yaml", SETTINGS)
    for name in ("iris", "rose", "tulip"):
        repository.write(f"servables/{name}/Dockerfile", "FROM scratch\n")
        repository.write(f"servables/{name}/servable.yaml", f"service: {name}\n")
    workspace = Workspace(
        repository=repository.root,
        build=repository.root / "build",
        environment_name="dev",
        console=Console(quiet=True),
    )
    lock = d.Lock(
        project="ml",
        environment="dev",
        source=d.Source(commit="c" * 40),
        components={name: locked(name) for name in workspace.components},
    )
    workspace.write("images.lock.json", lock)
    return workspace


def test_what_a_service_was_deployed_by_is_kept(workspace: Workspace, services: Services) -> None:
    """The declaration and the images of the sidecars: the image and the model a revision tells."""
    path = workspace.repository / "servables/rose/servable.yaml"
    with path.open("a") as file:
        file.write("sidecars: {beside: {image: tulip}}\n")
    lock = workspace.read("images.lock.json", d.Lock, made_by="build")
    first = deploy.deploy(workspace).declared
    assert first == deploy.declared(workspace, lock)
    assert {*first} == {"iris", "rose", "tulip"}

    lock.components["tulip"].digest = "sha256:" + "f" * 64
    other = deploy.declared(workspace, lock)
    assert {name for name in first if first[name] != other[name]} == {"rose"}

    path.write_text(path.read_text() + "count: 2\n")
    assert deploy.declared(workspace, lock)["rose"] not in (first["rose"], other["rose"])


def test_all_are_deployed_at_once_and_told_in_order(
    workspace: Workspace, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_URL", "https://ci.example/7/")
    services.at_once = threading.Barrier(3)  # nobody passes until all three are there
    result = deploy.deploy(workspace)
    assert list(result.services) == ["iris", "rose", "tulip"]
    assert services.given["rose"]["tags"] == {
        "kfp-ci:commit": "c" * 40,
        "kfp-ci:build": "https://ci.example/7/",
    }
    assert services.given["rose"]["images"]["iris"].endswith(DIGEST)
    deploy.raise_failures(result)
    assert storage.read(workspace.build / "deploy.json", d.Deployed, made_by="deploy") == result


def test_one_that_fails_stops_no_other(workspace: Workspace, services: Services) -> None:
    services.fates = {
        "iris": SmokeTestError("iris does not answer", "Mend iris"),
        "rose": DeploymentFailedError("rose failed", "Mend rose"),
    }
    result = deploy.deploy(workspace)
    assert services.deployed == ["tulip"]
    assert list(result.services) == ["tulip"]
    assert {name: one.exit_code for name, one in result.failed.items()} == {"iris": 44, "rose": 41}
    with pytest.raises(DeploymentFailedError) as failed:  # the earliest kind
        deploy.raise_failures(result)
    assert failed.value.what == "rose failed\nalso failed: iris: iris does not answer"
    assert storage.read(workspace.build / "deploy.json", d.Deployed, made_by="deploy") == result


def test_one_whose_model_is_not_there_stops_no_other(
    workspace: Workspace, services: Services, repository: Any
) -> None:
    repository.write(
        "servables/rose/servable.yaml", "service: rose\nmodel: {pipeline: p, artifact: m}\n"
    )
    result = deploy.deploy(workspace)
    assert list(result.services) == ["iris", "tulip"]
    assert result.failed["rose"].exit_code == 8


def test_a_defect_of_ours_is_not_taken_for_an_outcome(
    workspace: Workspace, services: Services
) -> None:
    services.fates = {"iris": KeyError("iris"), "rose": "waits"}
    services.at_once = threading.Barrier(3)  # one that has not begun is not abandoned
    with pytest.raises(KeyError):
        deploy.deploy(workspace)
    assert services.abandoned == ["rose"]


def test_an_interruption_reaches_every_deployment(
    workspace: Workspace, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.fates = {"rose": "waits", "tulip": "waits"}
    services.at_once = threading.Barrier(3)  # one that did not begin yet has nothing to abandon

    def interrupted(*_: Any) -> None:  # while the first result is kept
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy.deploy(workspace)
    assert sorted(services.abandoned) == ["rose", "tulip"]


# what is only asked ---------------------------------------------------------------


def called(workspace: Workspace, *arguments: str) -> Any:
    where = ["--repo", str(workspace.repository), "--env", "dev", "-q"]
    return CliRunner().invoke(cli, [*arguments, *where], standalone_mode=False)


def test_drift_is_told_and_ends_with_45(workspace: Workspace, services: Services) -> None:
    done = called(workspace, "deploy", "--diff")
    assert done.exception is None
    assert done.stdout == "iris: as declared\nrose: as declared\ntulip: as declared\n"
    services.fates = {"rose": ["service.desiredCount: 1 -> 2"]}
    done = called(workspace, "deploy", "--diff")
    assert isinstance(done.exception, ServiceDriftError)
    assert done.exception.exit_code == 45
    assert "rose: differs\n  service.desiredCount: 1 -> 2\n" in done.stdout
    assert services.deployed == []
    done = called(workspace, "deploy", "--diff", "--json")
    assert json.loads(done.stdout)["services"]["rose"] == ["service.desiredCount: 1 -> 2"]


def test_problems_are_told_and_end_with_46(workspace: Workspace, services: Services) -> None:
    services.fates = {"iris": Findings(remarks=["odd"]), "rose": Findings(problems=["no role"])}
    done = called(workspace, "deploy", "--verify")
    assert isinstance(done.exception, ServicePreflightError)
    assert done.exception.what.endswith(":\n  service 'rose': no role")
    assert done.stdout == "iris: ready\n  remark: odd\nrose: not ready\n  no role\ntulip: ready\n"
    del services.fates["rose"]
    assert called(workspace, "deploy", "--verify").exception is None


@pytest.mark.parametrize(
    "options", [("--diff", "--verify"), ("--diff", "--dry-run"), ("--verify", "--dry-run")]
)
def test_two_questions_at_once_are_refused(workspace: Workspace, options: tuple[str, ...]) -> None:
    assert called(workspace, "deploy", *options).exception.exit_code == 2


def test_a_failed_deployment_is_in_the_json_and_the_exit_code(
    workspace: Workspace, services: Services
) -> None:
    services.fates = {"rose": DeploymentFailedError("rose failed", "Mend rose")}
    done = called(workspace, "deploy", "--json")
    assert isinstance(done.exception, CIError)
    assert done.exception.exit_code == 41
    assert json.loads(done.stdout)["failed"]["rose"]["message"] == "rose failed"


# which service --------------------------------------------------------------------


def test_a_service_must_be_said_where_there_are_several(
    workspace: Workspace, services: Services
) -> None:
    with pytest.raises(ConfigError, match="which service") as failed:
        service.rollback(workspace, None, None)
    assert "iris, rose, tulip" in failed.value.todo
    with pytest.raises(ConfigError) as failed:
        service.rollback(workspace, "tullip", None)
    assert failed.value.todo == "Did you mean 'tulip'"


def test_a_dry_run_of_a_roll_back_asks_nobody(workspace: Workspace, services: Services) -> None:
    done = called(workspace, "service", "rollback", "rose", "--to", "12", "--dry-run")
    assert done.stdout.splitlines()[0] == "service 'rose' in cluster 'dev': back to 12"


@pytest.mark.parametrize("since", ["10", "m", "-1m", "1w", "", "9999999s", "10000d", "\u0663d"])
def test_a_time_span_that_is_none(workspace: Workspace, since: str) -> None:
    with pytest.raises(ConfigError, match="no time span"):
        service.logs(workspace, "rose", since, None, None, follow=False)


def test_every_command_about_services_speaks_json() -> None:
    group = cli.get_command(click.Context(cli), "service")
    for command in group.commands.values():  # type: ignore[union-attr]
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options
        assert command.help


def test_the_environment_counts(workspace: Workspace, repository: Any) -> None:
    repository.write(
        "servables/rose/servable.yaml", "service: rose\nenvironments: {dev: {count: 4}}\n"
    )
    assert workspace.servables["rose"].count == 4
    other = Workspace(repository=workspace.repository, build=Path("build"))
    assert other.servables["rose"].count == 1


# digests that must not expire -----------------------------------------------------


@pytest.mark.parametrize("expires", [True, False])
def test_an_image_that_is_given_to_a_service_does_not_expire(
    workspace: Workspace, services: Services, repository: Any, expires: bool
) -> None:
    """ECS resolves to a digest and pulls it again for every task that it adds."""
    fake = FakeRegistry(immutable=True)
    digest = fake.image()
    fake.blobs["image"] = b"{}"  # its config
    with serve(fake) as host:
        ecr = "ecr: {expire_days: 30}" if expires else ""
        text = SETTINGS.replace("host: registry.example", f"host: '{host}', {ecr}")
        repository.write("ci.yaml", text)
        fresh = Workspace(
            repository=workspace.repository, build=workspace.build, environment_name="dev",
            console=Console(quiet=True),
        )  # fmt: skip
        lock = storage.read(workspace.build / "images.lock.json", d.Lock, made_by="build")
        for name in lock.components:
            lock.components[name].repository = f"{host}/ml/{name}"
            lock.components[name].digest = digest
        fresh.write("images.lock.json", lock)
        assert deploy.deploy(fresh).failed == {}
        assert deploy.deploy(fresh).failed == {}  # the tag is there already
    tag = f"{ecr_repository.SERVING}{digest[7:19]}"
    assert fake.tags == ({tag: digest} if expires else {})
    assert fnmatch.fnmatchcase(tag, ecr_repository.RELEASES)
    assert fresh.console.warnings == []


def test_the_images_of_sidecars_do_not_expire_either(
    workspace: Workspace, services: Services, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.repository / "servables/rose/servable.yaml"
    path.write_text(
        "service: rose\nsidecars: {beside: {image: tulip}, other: {image: 'x@sha256:1'}}\n"
    )
    held: list[str] = []
    monkeypatch.setattr(holding, "hold", lambda _, image, tag: held.append(f"{image} {tag}"))
    fresh = Workspace(
        repository=workspace.repository, build=workspace.build, environment_name="dev",
        console=Console(quiet=True),
    )  # fmt: skip
    lock = storage.read(workspace.build / "images.lock.json", d.Lock, made_by="build")
    lock.components["tulip"].digest = "sha256:" + "f" * 64
    fresh.write("images.lock.json", lock)
    deploy.deploy(fresh)
    tulip = f"registry.example/ml/tulip@sha256:{'f' * 64}"
    # As its own service's, and beside the rose; what is no component's is nobody's to hold.
    assert held.count(f"{tulip} {ecr_repository.SERVING}{'f' * 12}") == 2
    assert len(held) == 4


def test_an_image_that_may_expire_is_told_and_deployed(
    workspace: Workspace, services: Services, repository: Any
) -> None:
    text = SETTINGS.replace("host: registry.example", "host: '127.0.0.1:1', ecr: {expire_days: 1}")
    fresh = Workspace(
        repository=workspace.repository, build=workspace.build, environment_name="dev",
        console=Console(quiet=True),
    )  # fmt: skip
    with serve(FakeRegistry()) as host:  # which does not hold it
        repository.write("ci.yaml", text.replace("127.0.0.1:1", host))
        lock = storage.read(workspace.build / "images.lock.json", d.Lock, made_by="build")
        for image in lock.components.values():
            image.repository = f"{host}/ml/x"
        fresh.write("images.lock.json", lock)
        assert list(deploy.deploy(fresh).services) == ["iris", "rose", "tulip"]
    (warning,) = fresh.console.warnings
    assert "may expire while it serves" in warning
