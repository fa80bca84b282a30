"""What the benchmarks share: an embedded environment of their own, small
repositories, measurement in turn, and tables.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measure import Check, Side, nothing, profiled_lines, seconds, steps  # noqa: E402

from ci_tools import local  # noqa: E402
from ci_tools.local import daemon, state  # noqa: E402

# A static program, made unlike that of other runs by what follows the executable.
BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox").read_bytes() + secrets.token_bytes(8)
PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
CI = (sys.executable, "-m", "ci")
BUILD = "docker buildx build --provenance=false --sbom=false --progress=quiet"
# What our stage asks of Trivy, with a cache directory a worker, which Trivy locks.
# $1 is the image's name, $IMAGE its reference, $SLOT the worker's number.
SCAN = (
    "trivy image --quiet --image-src=docker --scanners=secret "
    "--image-config-scanners=secret --skip-db-update "
    "--skip-java-db-update --skip-check-update --skip-version-check --list-all-pkgs "
    "--format=json --cache-dir=$WORK/cache-${SLOT:-0} --output=$WORK/$1.json $IMAGE"
)
SBOM = "trivy convert --quiet --format=cyclonedx --output=$WORK/$1.cdx.json $WORK/$1.json"
# The nonce is part of src: all but the first layer, which stands for a common base,
# is built again whenever it changes. A constant file copied after a new one would
# not do: BuildKit links its content to every parent it ever had, and gets slower.
SMALL_DOCKERFILE = (
    'FROM scratch\nCOPY busybox /bin/busybox\nCOPY src /src\nRUN ["/bin/busybox", "true"]\n'
)
_TRIVY_STUB = """#!/bin/sh
# Answers at once: an empty report of the image that was asked for.
case "$1" in --version) echo '{{"Version":"{version}"}}'; exit ;; esac
for word; do
  case "$word" in --output=*) output=${{word#--output=}} ;; esac
done
[ -z "$output" ] || printf '{{"SchemaVersion":2,"Metadata":{{"ImageID":"%s"}}}}' "$word" >"$output"
"""


@dataclass(frozen=True)
class Bench:
    """One run of the benchmarks: an environment, and a directory for what they make."""

    scratch: Path
    host: str
    runs: int
    stub: Path

    @property
    def home(self) -> Path:
        return self.scratch / "home"

    def environment(self, *first_on_path: Path) -> dict[str, str]:
        """Variables of a child process; `first_on_path` come before its programs.

        Python may keep what it compiled, as it has it of an installed package.
        """
        own = {key: it for key, it in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return {
            **own,
            "PATH": os.pathsep.join([*map(str, first_on_path), PROGRAMS]),
            "PYTHONPATH": str(ROOT),
            "KFP_CI_HOME": str(self.home),
        }

    def ci(self, repository: Path, *arguments: str, stub: bool = False) -> float:
        """`python -m ci ...` in a repository; with `stub`, Trivy costs nothing. Seconds."""
        started = time.perf_counter()
        env = self.environment(*([self.stub] if stub else []))
        call([*CI, *arguments, "--quiet"], cwd=repository, env=env)
        return time.perf_counter() - started

    def spied(self, repository: Path, prepare: Callable[[], object] = nothing) -> list[str]:
        """How `ci build --plan` called docker and trivy, three words a call.

        It runs twice, each time after `prepare`: first it asks the spy for its version.
        """
        spies, log = self.scratch / "spies", self.scratch / "calls"
        for program in ("docker", "trivy"):
            real = shutil.which(program, path=PROGRAMS)
            script = f"#!/bin/sh\necho {program} \"$@\" >>'{log}'\nexec '{real}' \"$@\"\n"
            write(spies, {program: script.encode()})
        for _ in range(2):
            prepare()
            log.write_text("")
            call([*CI, "build", "--plan", "--quiet"], repository, self.environment(spies))
        return [" ".join(line.split()[:3]) for line in log.read_text().splitlines()]

    def profile(self, repository: Path, *arguments: str) -> str:
        """Where one run of a stage spent its time."""
        file = self.scratch / "profile"
        profiled = [sys.executable, "-m", "cProfile", "-o", str(file), *CI[1:], *arguments, "-q"]
        call(profiled, cwd=repository, env=self.environment())
        return f"`ci {' '.join(arguments)}` {profiled_lines(file, ROOT)}"

    def shell(self, script: str, cwd: Path) -> None:
        """A script as it would stand in a Jenkinsfile; any failure fails it."""
        env = {**self.environment(), "WORK": str(self.scratch / "peer")}
        call(["bash", "-euo", "pipefail", "-c", script], cwd=cwd, env=env)

    def repository(self, name: str, files: Mapping[str, str | bytes]) -> Path:
        """A committed repository, whose images go to `name`/..."""
        path = self.scratch / name
        # No time is to go into asking the internet for a vulnerability database.
        config = f'project: {name}\nscan: {{database: "{self.host}/no-database"}}\n'
        write(path, {"ci.yaml": config, ".gitignore": "/build/\n", **files})
        call(["git", "init", "-q"], cwd=path)
        commit(path)
        return path

    def images(self, prefix: str) -> int:
        """How many images the registry has below a prefix, as it says itself: tags, less
        those of scan records and reports."""
        names = self._asked("_catalog?n=1000")["repositories"]
        own = (n for n in names if n.startswith(prefix) and not n.endswith("/reports/scans"))
        tags = (tag for name in own for tag in self._asked(f"{name}/tags/list")["tags"] or ())
        return sum(not tag.startswith("sha256-") for tag in tags)

    def pushed(self, prefix: str, number: int) -> Check:
        """A check that what was run put `number` more images below `prefix`."""
        before = itertools.count(self.images(prefix) + number, number)

        def check() -> None:
            expected, found = next(before), self.images(prefix)
            if found != expected:
                raise SystemExit(f"{prefix}: {found} images in the registry, not {expected}")

        return check

    def writes_since(self, moment: float) -> int:
        """Tags that the registry wrote since, found in its storage: no push escapes it."""
        links = (self.home / "registry").rglob("_manifests/tags/*/current/link")
        return sum(link.stat().st_mtime >= moment for link in links)

    def _asked(self, path: str) -> dict[str, list[str]]:
        with urllib.request.urlopen(f"http://{self.host}/v2/{path}") as answer:
            found: dict[str, list[str]] = json.load(answer)
            return found


@dataclass
class Ours:
    """`ci build --plan`, remembering where the time went.

    options: of `build`. stub: Trivy costs nothing.
    """

    bench: Bench
    repository: Path
    options: Sequence[str] = ()
    stub: bool = False
    taken: list[float] = field(default_factory=list)
    steps: str = ""

    def __call__(self) -> None:
        self.taken.append(
            self.bench.ci(self.repository, "build", "--plan", *self.options, stub=self.stub)
        )

    def side(self, prepare: Callable[[], object], check: Check) -> Side:
        def checked() -> None:
            check()
            self.steps = steps(self.repository)

        return Side(self, prepare, checked)

    def __str__(self) -> str:
        return f"{seconds(self.taken[-self.bench.runs :])}; last run: {self.steps}"


def small_components(names: Sequence[str], files: int = 20) -> dict[str, str | bytes]:
    """Files of components: a nonce, a static program, and `files` small ones each."""
    made: dict[str, str | bytes] = {}
    for name in names:
        where = f"components/{name}"
        made[f"{where}/Dockerfile"] = SMALL_DOCKERFILE
        made[f"{where}/src/nonce"] = f"{name}\n"
        made[f"{where}/busybox"] = BUSYBOX
        made |= {f"{where}/src/{n:02}.py": f"# {name} {n}\n" * 20 for n in range(files)}
    return made


def freshen(repository: Path, names: Sequence[str]) -> str:
    """Give each component a nonce and commit, so that no layer of it is cached; the nonce."""
    nonce = secrets.token_hex(6)
    write(repository, {f"components/{name}/src/nonce": f"{name} {nonce}\n" for name in names})
    commit(repository)
    return nonce


def raw_push(image: str, context: str, more: str = "") -> str:
    """The raw commands that build and push one image, and remember it as $IMAGE."""
    return f"IMAGE={image} && {BUILD} {more} --push --tag $IMAGE {context}"


def xargs(jobs: int, names: Sequence[str], script: str) -> str:
    """A shell command that runs `script`, `jobs` at once, once a name (`$1`)."""
    run = f"xargs -P{jobs} --process-slot-var=SLOT -I@ bash -euc {shlex.quote(script)} - @"
    return f"printf '%s\\n' {' '.join(names)} | {run}"


def write(path: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        if isinstance(content, bytes):
            target.chmod(0o755)


def commit(repository: Path) -> None:
    call(["git", "add", "-A"], cwd=repository)
    identity = ["-c", "user.name=b", "-c", "user.email=b@example.invalid", "-c", "gc.auto=0"]
    call(["git", *identity, "commit", "-qm", "benchmark", "--allow-empty"], cwd=repository)


def call(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command; its output. A failure ends the benchmarks with what it said."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)[:400]}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def bench(runs: int) -> Iterator[Bench]:
    """An embedded environment on ports of its own; at the end nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="kfp-ci-bench-") as name:
        scratch = Path(name)
        home = scratch / "home"
        home.mkdir()
        parts = {part: state.Part(port=daemon.choose_port(0)) for part in ("registry", "aws")}
        state.save(home, state.State(parts=parts))
        host = f"127.0.0.1:{parts['registry'].port}"
        try:
            local.up(home)
            (scratch / "peer").mkdir()
            yield Bench(scratch, host, runs, stub_trivy(scratch))
        finally:
            local.down(home, wipe=True)
            remove_images(host)


def stub_trivy(scratch: Path) -> Path:
    """A directory with a `trivy` that does nothing, and says it is the real one's version."""
    version = json.loads(
        call(["trivy", "--version", "--format=json"], scratch, {**os.environ, "PATH": PROGRAMS})
    )["Version"]
    directory = scratch / "stub"
    write(directory, {"trivy": _TRIVY_STUB.format(version=version).encode()})
    return directory


def remove_images(host: str) -> None:
    """Take our registry's images out of the engine, and no others."""
    listed = call(["docker", "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"], Path.cwd())
    ours = [line.split()[0] for line in listed.splitlines() if line.startswith(f"{host}/")]
    tagged = [name for name in ours if not name.endswith(":<none>")]
    for start in range(0, len(tagged), 100):
        subprocess.run(["docker", "rmi", "-f", *tagged[start : start + 100]], capture_output=True)
