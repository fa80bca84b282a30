"""`ci release` and `ci releases`: from the stages' files to what others find, as one runs it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from msgspec import structs

from ci.cli import cli
from ci_tools import documents as d
from ci_tools import storage
from ci_tools.documents import ScanRecord
from ci_tools.errors import CIError, CredentialsError, ReleaseNotFoundError
from ci_tools.images import artifacts, ecr_repository, referrers
from ci_tools.images.registry import Registry
from ci_tools.kubeflow import ir
from ci_tools.release import bundle, images, keys, signing, store
from ci_tools.scanner import records
from ci_tools.serving.ecs import PredictionServices
from tests.fakes.registry import FakeRegistry, serve
from tests.fakes.releases import made

SECRET = "correct horse battery"
SBOM = b'{"bomFormat":"CycloneDX"}'
CI_YAML = """
project: ml
environments:
  dev:
    registry: {{host: "{host}"}}
    service: {{cluster: c, region: r}}
    signing: {{key: ../release.key, passphrase_env: PASSPHRASE}}
    promotion: {{keys: [release.key.pub]}}
  unsigned:
    registry: {{host: "{host}"}}
  prod:
    registry: {{host: "127.0.0.1:1"}}
    promotion: {{keys: [release.key.pub], after: dev}}
"""
SERVABLE = "service: svc\n"


class Result(NamedTuple):
    stdout: str
    stderr: str


class Project:
    """A repository whose stages have been run, but for `release`; all is sound."""

    def __init__(self, repository: Any, fake: FakeRegistry, host: str) -> None:
        self.root: Path = repository.root
        self.fake, self.registry = fake, Registry(host)
        self.run("releases", "keygen", os.fspath(self.root.parent / "release.key"), repo=False)
        repository.write("release.key.pub", (self.root.parent / "release.key.pub").read_bytes())
        repository.write("ci.yaml", CI_YAML.format(host=host))
        repository.write("components/train/Dockerfile", "FROM scratch\n")
        repository.write("servable/Dockerfile", "FROM scratch\n")
        repository.write("servable/servable.yaml", SERVABLE)
        repository.write(".gitignore", "build\n")
        self.commit = repository.commit()
        self.digests = {name: fake.image(name) for name in ("train", "servable")}
        self.key = keys.load(self.root / "release.key.pub")
        self.stages()

    def image(self, name: str) -> d.LockedImage:
        return d.LockedImage(
            repository=f"{self.registry.host}/ml/{name}",
            digest=self.digests[name],
            config=f"sha256:{name}",
            key="k",
            size=1,
            tests="passed",
            verdict=d.Verdict(status="pass", trivy="1", database="today", policy="p"),
        )

    def stages(self) -> None:
        build = self.root / "build"
        lock = d.Lock(
            project="ml",
            environment="dev",
            source=d.Source(commit=self.commit, branch="main"),
            components={name: self.image(name) for name in self.digests},
        )
        text = "components: {}\nroot: {}\npipelineInfo: {name: training}\n"
        (build / "pipelines").mkdir(parents=True, exist_ok=True)
        (build / "pipelines/training.yaml").write_text(text)
        sha256 = ir.canonical_sha256(ir.load(build / "pipelines/training.yaml"))
        pipeline = d.CompiledPipeline(
            path="pipelines/training.yaml", source="x.py", function="f", sha256=sha256,
            images=[lock.components["train"].reference], components=["train"],
        )  # fmt: skip
        upload = d.Upload(pipeline_id="1", version_id="2", version="v", sha256=sha256, created=True)
        revision = d.Revision(
            service="svc", cluster="c", image=lock.components["servable"].reference, model=None,
            task_definition="arn", task_definition_sha256="e" * 64, changed=True,
        )  # fmt: skip
        storage.write(build / "images.lock.json", lock)
        storage.write(build / "pipelines.json", d.Compiled(pipelines={"training": pipeline}))
        storage.write(
            build / "uploads.json", d.Uploads(environment="dev", pipelines={"training": upload})
        )
        deployed = d.Deployed(
            environment="dev",
            services={"servable": revision},
            declared={"servable": hashlib.sha256(SERVABLE.encode()).hexdigest()},
        )
        storage.write(build / "deploy.json", deployed)
        for name in self.digests:
            self.scanned(name)

    def scanned(self, name: str) -> None:
        folder = self.root / "build/reports" / name
        storage.write(folder / "findings.json", self.record(name))
        storage.write_bytes(folder / "sbom.cdx.json", SBOM)

    def record(self, name: str) -> ScanRecord:
        return ScanRecord(
            image=f"sha256:{name}",
            trivy="1",
            matched="1",
            kinds=["vulnerability"],
            database="2026-01-01T00:00:00Z",
        )

    def run(self, *arguments: str, repo: bool = True, code: int = 0) -> Result:
        """The command, in this process. What an error says is at the end of stderr."""
        more = ["--repo", os.fspath(self.root), "--env", "dev"] if repo else []
        done = CliRunner().invoke(
            cli,
            [*arguments, *more],
            env={
                "PASSPHRASE": SECRET,
                "KFP_CI_PASSPHRASE": SECRET,
                "JENKINS_URL": "https://user:token@ci.example/",
                "BUILD_URL": "https://ci.example/job/1/",
            },
        )
        error = done.exception
        if error is not None and not isinstance(error, (CIError, SystemExit)):
            raise error
        ended = error.exit_code if isinstance(error, CIError) else done.exit_code
        told = f"{done.stderr}{error or ''}"
        assert ended == code, told
        assert SECRET not in done.stdout + told
        return Result(done.stdout, told)

    def released(self) -> d.Release:
        return storage.read(self.root / "build/release.json", d.Release, made_by="release")


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Task definition -> the release that ECS was told of."""
    told: dict[str, str] = {}
    monkeypatch.setattr(
        PredictionServices, "mark_release", lambda _, arn, release: told.update({arn: release})
    )
    return told


@pytest.fixture
def project(repository: Any, marked: dict[str, str]) -> Iterator[Project]:
    assert marked == {}
    fake = FakeRegistry(api=False)
    with serve(fake) as host:
        yield Project(repository, fake, host)


def test_the_revisions_that_a_release_names_are_held(
    project: Project, marked: dict[str, str]
) -> None:
    project.run("release", "--no-publish")
    assert marked == {}
    project.run("release")
    assert marked == {"arn": project.released().name}


@pytest.mark.parametrize("expires", [True, False])
@pytest.mark.parametrize("sound", [True, False])
def test_the_images_of_a_release_do_not_expire(
    project: Project, repository: Any, monkeypatch: pytest.MonkeyPatch, expires: bool, sound: bool
) -> None:
    """Those of keys do, some day: it may be promoted after that."""
    if expires:
        path = project.root / "ci.yaml"
        host = f'host: "{project.registry.host}"'
        path.write_text(path.read_text().replace(host, f"{host}, ecr: {{expire_days: 30}}"))
        project.commit = repository.commit()
        project.stages()
    if not sound:
        (project.root / "build/train.json").unlink(missing_ok=True)
        (project.root / "build/uploads.json").unlink()
    held: list[tuple[str, str, str]] = []
    real = Registry.tag

    def tag(self: Registry, name: str, digest: str, tag: str) -> str:
        if name == "ml/releases":
            return real(self, name, digest, tag)
        assert not (project.root / "build/release.json").exists()
        held.append((name, digest, tag))
        return digest

    monkeypatch.setattr(Registry, "tag", tag)
    project.run("release")
    named = project.released().name
    assert fnmatch.fnmatchcase(named, ecr_repository.RELEASES)
    assert sorted(held) == (
        sorted((f"ml/{name}", digest, named) for name, digest in project.digests.items())
        if expires and sound
        else []
    )


def test_what_was_deployed_by_another_declaration_is_not_released(project: Project) -> None:
    """Its image may be the same: nobody verified what a promotion would make of this one."""
    (project.root / "servable/servable.yaml").write_text(f"{SERVABLE}environment: {{DEBUG: '1'}}\n")
    told = project.run("release", code=50)
    assert "the service 'svc' was deployed by another declaration" in told.stderr
    assert not project.fake.tags


def test_nothing_is_published_of_revisions_that_cannot_be_held(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise CredentialsError("AWS refuses TagResource", "Ask for it")

    monkeypatch.setattr(PredictionServices, "mark_release", refuse)
    project.run("release", code=15)
    assert not project.fake.tags
    assert not (project.root / "build/release.json").exists()


def test_a_sound_release_is_signed_published_and_found(project: Project) -> None:
    printed = project.run("release").stdout.splitlines()
    release = project.released()
    assert printed == [release.name]
    assert release.problems == []
    assert release.builder == "https://ci.example/"  # without who logs in there
    assert release.committed.endswith("+00:00")
    on_disk = bundle.read(project.root / "build/release")
    found = store.find(project.registry, "ml/releases", project.commit)
    assert found.release == on_disk.release == release
    assert found.envelopes == on_disk.envelopes
    assert signing.verify(found, [project.key]) == [project.key.id]
    assert found.files["servables/servable.yaml"].decode() == SERVABLE
    assert b"pipelineInfo" in found.files["pipelines/training.yaml"]
    assert SECRET.encode() not in found.content

    # What an engineer asks then.
    name = release.name
    said = project.run("releases", "verify", project.commit[:8]).stdout
    assert said.split() == [name, "is", "signed", "by", project.key.id]
    listed = json.loads(project.run("releases", "list", "--json").stdout)["releases"]
    assert [(one["name"], one["commit"]) for one in listed] == [(name, project.commit)]
    shown = project.run("releases", "show", name[:20]).stdout
    for word in (name, project.commit, "ml/train@sha256:", "svc", "training"):
        assert word in shown
    told = project.run("releases", "get", name, os.fspath(project.root / "build/r.tar"), "--json")
    assert json.loads(told.stdout)["name"] == name
    assert bundle.read(project.root / "build/r.tar").release == release
    project.run("releases", "verify", os.fspath(project.root / "build/r.tar"))


def test_a_dry_run_says_where_it_would_go_and_asks_nobody(project: Project) -> None:
    project.fake.asked.clear()
    told = project.run("release", "--dry-run").stdout
    assert f"published in: {project.registry.host}/ml/releases" in told
    assert "signed by: ../release.key" in told
    assert not project.fake.asked
    assert not project.fake.tags


def test_what_a_stranger_pushed_cannot_write_to_the_terminal(project: Project) -> None:
    source = d.Source(commit="d" * 40, branch="\x1b[2Jevil\r")
    stranger = made(source=source, problems=["\x1b]0;x\x07"])
    store.publish(project.registry, "ml/releases", stranger)
    for command in (["list"], ["show", "d" * 40]):
        told = project.run("releases", *command).stdout
        assert "evil" in told
        assert not {"\x1b", "\r", "\x07"} & {*told}


def test_a_damaged_release_does_not_hide_the_others(project: Project) -> None:
    project.run("release")
    odd = f"release-{'0' * 64}"
    project.fake.tags[odd] = project.digests["train"]
    listed = json.loads(project.run("releases", "list", "--json").stdout)["releases"]
    assert {one["name"]: bool(one["damaged"]) for one in listed} == {
        project.released().name: False,
        odd: True,
    }
    assert f"{odd}  " in project.run("releases", "list").stdout


def test_every_image_is_attested_and_once(project: Project) -> None:
    project.run("release")
    held = len(project.fake.manifests)
    for name, digest in project.digests.items():
        found = referrers.attached(project.registry, f"ml/{name}", digest, images.TYPE)
        kinds = {one.annotations["dev.sigstore.bundle.predicateType"] for one in found}
        assert kinds == {"https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"}
    project.run("release")
    assert len(project.fake.manifests) == held


@pytest.mark.parametrize("by_manifest", [True, False])
def test_an_sbom_of_another_agent_is_found_beside_the_image(
    project: Project, by_manifest: bool
) -> None:
    folder = project.root / "build/reports/train"
    (folder / "sbom.cdx.json").write_bytes(b"of another image")
    record = project.record("train")
    storage.write(folder / "findings.json", structs.replace(record, image="sha256:other"))
    digest = project.digests["train"]
    record.image = digest if by_manifest else record.image  # as the engine calls it
    records.publish(project.registry, "ml/train", digest, record, SBOM)
    project.run("release", "--strict")
    assert project.released().images["train"].sboms == {
        "": artifacts.digest_of(SBOM).removeprefix("sha256:")
    }


def _marked(project: Project, change: str) -> None:
    path = (
        project.root
        / "build"
        / {"uploads": "uploads.json", "deploy": "deploy.json"}.get(change, "images.lock.json")
    )
    if change in ("uploads", "deploy"):
        path.unlink()
        return
    lock = storage.read(path, d.Lock, made_by="build")
    if change == "dirty":
        lock.source.dirty = True
    if change == "scan":
        lock.components["train"].verdict.status = "incomplete"
    if change == "tests":
        lock.components["train"].tests = "none"
    storage.write(path, lock)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dirty", "the work tree had changes"),
        ("scan", "the scan of train is incomplete"),
        ("tests", "image 'train' has no tests"),
        ("uploads", "the pipeline 'training' was not uploaded"),
        ("deploy", "the service 'svc' was not deployed"),
    ],
)
def test_what_must_not_be_promoted_is_marked_and_not_signed(
    project: Project, change: str, said: str
) -> None:
    _marked(project, change)
    strict = project.run("release", "--strict", code=50)
    assert said in strict.stderr
    assert not (project.root / "build/release.json").exists()
    assert not project.fake.tags

    done = project.run("release")
    assert said in done.stderr
    release = project.released()
    assert len(release.problems) == 1
    assert said in release.problems[0]
    found = store.find(project.registry, "ml/releases", release.name)
    assert found.envelopes == []
    assert "not signed" in project.run("releases", "verify", release.name, code=51).stderr
    for name, digest in project.digests.items():  # nor is anything said of its images
        assert not referrers.attached(project.registry, f"ml/{name}", digest, images.TYPE)


def test_a_release_is_found_by_what_means_its_commit_to_git(project: Project) -> None:
    project.run("release")
    name = project.released().name
    git = ["git", "-C", os.fspath(project.root)]
    subprocess.run([*git, "tag", "v1"], check=True)
    for what in ("HEAD", "v1"):
        assert project.run("releases", "show", what).stdout.split()[0] == name
    by = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, *by, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    assert f"no release '{head}'" in project.run("releases", "show", "HEAD", code=52).stderr
    for odd in ("HEAD..", "v1^{tree}:x", "v2"):
        project.run("releases", "show", odd, code=52)


def test_a_release_that_is_not_published_is_on_disk_alone(project: Project) -> None:
    project.run("release", "--no-publish")
    assert not project.fake.tags
    one = bundle.read(project.root / "build/release")
    assert signing.verify(one, [project.key])


def test_what_fails_leaves_no_earlier_release_behind(project: Project) -> None:
    project.run("release")
    (project.root / "build/pipelines/training.yaml").write_text(
        "components: {}\nroot: {odd: 1}\npipelineInfo: {name: training}\n"
    )
    done = project.run("release", code=8)
    assert "is not what was compiled" in done.stderr
    assert not (project.root / "build/release.json").exists()
    with pytest.raises(ReleaseNotFoundError):
        bundle.read(project.root / "build/release")


def test_who_cannot_sign_publishes_nothing(project: Project) -> None:
    (project.root.parent / "release.key").unlink()
    project.run("release", code=3)
    assert not project.fake.tags


def test_another_key_an_unknown_release_and_an_environment_without_keys(project: Project) -> None:
    project.run("release")
    other = project.root / "other"
    project.run("releases", "keygen", os.fspath(other), "--type", "ecdsa", repo=False)
    done = project.run("releases", "verify", project.commit, "--key", f"{other}.pub", code=51)
    assert "no signature of a key that is allowed" in done.stderr
    project.run("releases", "show", "0" * 40, code=52)
    done = project.run("releases", "verify", project.commit, "--to", "unsigned", code=3)
    assert "promotion.keys" in done.stderr


def test_a_release_is_verified_where_an_environment_takes_it_from(project: Project) -> None:
    """Whatever we work in by default."""
    project.run("release")
    name, where = project.released().name, os.fspath(project.root)
    told = project.run("releases", "verify", name, "--to", "prod", "--repo", where, repo=False)
    assert told.stdout.split() == [name, "is", "signed", "by", project.key.id]


def test_s3_has_it_too_and_is_asked_where_the_registry_has_it_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto import mock_aws

    path = project.root / "ci.yaml"
    path.write_text(path.read_text().replace("  dev:\n", "  dev:\n    releases: s3://bucket/x\n"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        project.run("release")
        name = project.released().name
        project.fake.tags.clear()
        for what in (name, project.commit):
            told = project.run("releases", "verify", what).stdout
            assert told.split() == [name, "is", "signed", "by", project.key.id]
        project.run("releases", "verify", "0" * 40, code=52)
