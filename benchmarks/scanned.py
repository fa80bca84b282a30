"""What the benchmarks of the scan gate share: projects whose images are in the
registry with no verdict yet, a vulnerability database, raw Trivy to compare with,
and a check that all sides found the same.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import written
from measure import Side
from shared import Bench, Ours, xargs
from written import Layer

from ci_tools.local import daemon
from tests.integration import trivy_database

CVES = 3  # a source package of the base; with real ones, it is some hundred an image, too
# What our stage asks of Trivy. $1 is the image's name.
ASKED = (
    "--quiet --image-src=remote --scanners=secret,vuln --image-config-scanners=secret "
    "--skip-db-update --skip-java-db-update "
    "--skip-check-update --skip-version-check --list-all-pkgs --format=json"
)
LOOK = f"trivy image {ASKED} $PLACE --output=$HERE/$1.json $(<$HERE/$1.ref)"
LIST = "trivy convert --quiet --format=cyclonedx --output=$HERE/$1.cdx.json $HERE/$1.json"
MATCH = (
    "trivy sbom --quiet --scanners=vuln --skip-db-update --skip-java-db-update "
    "--skip-version-check --list-all-pkgs --format=json $PLACE --output=$HERE/$1.json $HERE/$1.cdx"
)


class Work(NamedTuple):
    """What was found: sums over all images."""

    images: int
    packages: int
    vulnerabilities: int
    secrets: int

    @classmethod
    def told(cls, reports: Sequence[Path]) -> Work:
        """From Trivy's own JSON."""
        read = [json.loads(path.read_bytes()) for path in reports]
        results = [result for one in read for result in one.get("Results") or ()]
        kinds = ("Packages", "Vulnerabilities", "Secrets")
        return cls(len(read), *(sum(len(one.get(k) or ()) for one in results) for k in kinds))


@dataclass
class Project:
    """images: component -> reference by digest, in the registry under the plan's key."""

    bench: Bench
    name: str
    repository: Path
    images: Mapping[str, str]
    _found: Work | None = None

    def forget_verdicts(self) -> None:
        """Of each image there is neither verdict nor record, here or in the registry."""
        shutil.rmtree(self.repository / "build", ignore_errors=True)
        # The list of what is attached to an image is a tag, where the registry keeps none.
        storage = self.bench.home / "registry/docker/registry/v2/repositories" / self.name
        for tag in storage.glob("*/_manifests/tags/sha256-*"):
            shutil.rmtree(tag)

    def forget_all(self) -> None:
        """Nor does Trivy know any layer."""
        self.forget_verdicts()
        for cache in (self.bench.home / "trivy").glob("cache-*"):
            shutil.rmtree(cache)

    def check_ours(self) -> None:
        """After a scan of ours."""
        self.check(self._said("trivy.json"))
        if len(self._said("sbom.cdx.json")) != len(self.images):
            raise SystemExit(f"{self.name}: SBOMs are missing")

    def drop_reports(self) -> None:
        """What Trivy said; what was made of it stays."""
        for report in self._said("trivy*.json"):
            report.unlink()

    def check_unscanned(self) -> None:
        """After a run of ours that asked Trivy nothing."""
        if self._said("trivy*.json") or len(self._said("sbom.cdx.json")) != len(self.images):
            raise SystemExit(f"{self.name}: not all verdicts came from the registry")

    def check_matched(self) -> None:
        """After a run of ours that compared SBOMs with a newer database."""
        if self._said("trivy.json"):
            raise SystemExit(f"{self.name}: an image was looked into")
        self.check(self._said("trivy-sbom.json"))

    def _said(self, name: str) -> list[Path]:
        return list(self.repository.glob(f"build/reports/*/{name}"))

    def check(self, reports: Sequence[Path]) -> None:
        """All images, and what every side before found in them."""
        found = Work.told(reports)
        self._found = self._found or found
        if found != self._found or found.images != len(self.images):
            raise SystemExit(f"{self.name}: found {found}, another side {self._found}")

    @property
    def work(self) -> str:
        found = self._found
        return (
            f"every side found in {found.images} images {found.packages} packages, "
            f"{found.vulnerabilities} vulnerabilities, {found.secrets} secrets"
            if found
            else ""
        )


@dataclass
class Raw:
    """Trivy as somebody would call it who has thought about it: `jobs` programs at once.

    served: clients of one `trivy server`; else a cache directory a worker.
    first:  one image before all others, so that their base is known.
    warm:   with the layers known that the run before knew.
    lists:  with an SBOM of each image.
    match:  SBOMs instead of images, from this directory.
    """

    project: Project
    jobs: int
    served: bool = False
    first: bool = False
    warm: bool = False
    lists: bool = True
    names: Sequence[str] = ()
    match: Path | None = None
    _here: Path | None = field(default=None, init=False)

    @property
    def side(self) -> Side:
        return Side(self, self.prepare, self.check)

    @property
    def here(self) -> Path:
        if self._here is None:
            self._here = Path(tempfile.mkdtemp(dir=self.project.bench.scratch / "peer"))
        return self._here

    def prepare(self) -> None:
        """Empty cache directories, but for the database; nobody times that."""
        for path in self.here.iterdir():
            if path.is_file():
                path.unlink()
            elif not self.warm:
                shutil.rmtree(path)
        caches = ["cache-0", "client"] if self.served else [f"cache-{n}" for n in range(self.jobs)]
        for cache in caches:
            shutil.copytree(_database(self.project.bench), self.here / cache / "db",
                            dirs_exist_ok=True)  # fmt: skip
        for name, reference in self.project.images.items():
            (self.here / f"{name}.ref").write_text(reference)
            if self.match is not None:
                (self.here / f"{name}.cdx").symlink_to(self.match / name / "sbom.cdx.json")

    def __call__(self) -> None:
        names = list(self.names or self.project.images)
        place, serve = "--cache-dir=$HERE/cache-${SLOT:-0}", ""
        if self.served:
            port = daemon.choose_port(0)
            serve = _server(port)
            place = f"--server=http://127.0.0.1:{port} --cache-dir=$HERE/client"
        steps = [MATCH] if self.match else [LOOK, LIST] if self.lists else [LOOK]
        one = " && ".join(steps).replace("$PLACE", place)
        runs = [xargs(1, names[:1], one), xargs(self.jobs, names[1:], one)]
        script = " && ".join(runs) if self.first else xargs(self.jobs, names, one)
        script = f"export HERE={self.here}\n{serve}\n{script}"
        self.project.bench.shell(script, self.project.repository)

    def check(self) -> None:
        if not self.names:
            reports = [self.here / f"{name}.json" for name in self.project.images]
            self.project.check(reports)


def project(bench: Bench, name: str, images: Mapping[str, Sequence[Layer]]) -> Project:
    """A project with a database, all of whose images (component -> layers above the base)
    are in the registry. They were looked at once, so that what ours needs is there."""
    files: dict[str, str | bytes] = {"ci.yaml": _config(bench, name)}
    for component in images:
        # Never built: the registry has it.
        files[f"components/{component}/Dockerfile"] = "FROM scratch\nCOPY name /\n"
        files[f"components/{component}/name"] = component
    repository = bench.repository(name, files)
    bench.ci(repository, "plan")
    plan = json.loads((repository / "build" / "plan.json").read_bytes())
    below = written.base(bench).layer
    pushed = {
        one["name"]: written.push(
            bench.host, one["repository"], one["key"], [below, *images[one["name"]]]
        )
        for one in plan["components"]
    }
    made = Project(bench, name, repository, pushed)
    Ours(bench, repository)()
    made.check_ours()
    move_database(bench)
    return made


def small(names: Sequence[str]) -> dict[str, list[Layer]]:
    """A few small files an image."""
    return {
        name: [written.layer({f"src/{n:02}.py": f"# {name} {n}\n".encode() * 20 for n in range(5)})]
        for name in names
    }


def move_database(bench: Bench) -> None:
    """Make the database that is at hand a newer one, with nothing else in it, that
    nobody asks the registry about for a week."""
    path = _database(bench) / "metadata.json"
    now = datetime.now(timezone.utc)
    moved = {"UpdatedAt": now.isoformat(), "NextUpdate": (now + timedelta(days=7)).isoformat()}
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **moved}))


def _config(bench: Bench, name: str) -> str:
    config = {
        "project": name,
        # Nothing is refused: a run that ends early would be fast.
        "scan": {"database": _published(bench), "severities": {"vulnerability": []}},
    }
    return json.dumps(config)


@functools.cache
def _published(bench: Bench) -> str:
    """A database in the registry that has something on each package of the base."""
    packages = written.base(bench).packages
    advisories = {
        package: {f"CVE-2099-{number * CVES + n:05}": "9999" for n in range(CVES)}
        for number, package in enumerate(packages)
    }
    today = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return trivy_database.publish(bench.host, "trivy-db", updated=today, advisories=advisories)


def _database(bench: Bench) -> Path:
    (found,) = (bench.home / "trivy").glob("vulnerabilities-*/current/db")
    return found


def _server(port: int) -> str:
    """Lines of a script that start a server and stop it in the end."""
    return (
        f"trivy server --quiet --skip-db-update --listen=127.0.0.1:{port} "
        "--cache-dir=$HERE/cache-0 & SERVER=$!\n"
        "trap 'kill $SERVER; wait $SERVER || true' EXIT\n"
        f"until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do kill -0 $SERVER; sleep 0.02; done"
    )
