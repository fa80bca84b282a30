"""What an unchanged repository costs, against asking the engine for each image.

    python benchmarks/unchanged.py [--components 20] [--files 20] [--runs 5]

Prints, for each of our commands, the median seconds and the ratio to a cached
`docker buildx build` of every image, one after another, as a shell script in a
Jenkinsfile would do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BUSYBOX = shutil.which("busybox") or "/bin/busybox"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--components", type=int, default=20)
    arguments.add_argument("--files", type=int, default=20)
    arguments.add_argument("--runs", type=int, default=5)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="kfp-ci-benchmark-") as scratch:
        repository = Path(scratch) / "repository"
        names = make_repository(repository, options.components, options.files)
        os.environ["KFP_CI_HOME"] = str(Path(scratch) / "home")
        try:
            measure(repository, names, options.runs)
        finally:
            ci(repository, "local", "down", "--wipe")


def measure(repository: Path, names: list[str], runs: int) -> None:
    def raw() -> None:
        for name in names:
            call("docker", "buildx", "build", "-q", "--provenance=false", f"components/{name}",
                 cwd=repository)  # fmt: skip

    def plan_and_build() -> None:
        ci(repository, "plan")
        ci(repository, "build")

    ours: dict[str, Callable[[], None]] = {
        "ci plan --dry-run": lambda: ci(repository, "plan", "--dry-run"),
        "ci plan + ci build": plan_and_build,
    }
    plan_and_build()  # cold, so that everything is built below
    raw()
    print(f"{len(names)} components, {runs} runs in turn; medians")
    print(f"{'command':<24}{'seconds':>10}{'raw':>10}{'ratio':>10}")
    for title, command in ours.items():
        pairs = [(timed(command), timed(raw)) for _ in range(runs)]
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"{title:<24}{mine:>10.2f}{theirs:>10.2f}{ratio:>10.2f}")


def make_repository(repository: Path, components: int, files: int) -> list[str]:
    """Components of small files on `scratch`, under git."""
    names = [f"component-{number:02}" for number in range(components)]
    for name in names:
        context = repository / "components" / name
        context.mkdir(parents=True)
        shutil.copy(BUSYBOX, context / "busybox")
        for number in range(files):
            (context / f"file-{number:02}.txt").write_text(f"{name} {number}\n" * 20)
        (context / "Dockerfile").write_text('FROM scratch\nCOPY . /\nRUN ["/busybox", "true"]\n')
    call("git", "init", "-q", cwd=repository)
    call("git", "add", "-A", cwd=repository)
    call("git", "-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "-qm", "all",
         cwd=repository)  # fmt: skip
    return names


def ci(repository: Path, *arguments: str) -> None:
    call(sys.executable, "-m", "ci", *arguments, *where(repository, arguments))


def where(repository: Path, arguments: tuple[str, ...]) -> list[str]:
    return [] if arguments[0] == "local" else ["--quiet", "--repo", str(repository)]


def timed(command: Callable[[], None]) -> float:
    started = time.perf_counter()
    command()
    return time.perf_counter() - started


def call(*command: str, cwd: Path | None = None) -> None:
    quiet = subprocess.DEVNULL
    subprocess.run(command, cwd=cwd, check=True, stdout=quiet, stderr=quiet)


if __name__ == "__main__":
    main()
