"""B1: `ci plan --dry-run` on trees of 50 to 10,000 components."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import venv
from functools import partial
from pathlib import Path

from measure import Goal, Side, Table, at_most, in_turn, times_faster
from shared import CI, Bench, call, commit, write

SIZES = (50, 200, 2_000, 10_000)
FILES = 20
GIT = "git ls-files -s >/dev/null && git status --porcelain >/dev/null"
CHARTPRESS_SIZES = (50, 200)  # it asks git for each image: minutes beyond these


def run(bench: Bench) -> Table:
    table = Table(f"B1: `ci plan --dry-run`, components of {FILES} small files under git")
    chartpress = install_chartpress(bench)
    medians: dict[int, float] = {}
    for size in SIZES:
        repository = bench.repository(f"b1-{size}", tree(size))
        if size in CHARTPRESS_SIZES:
            add_history(repository, size)
        medians[size] = compare(bench, table, repository, size, chartpress)
        shutil.rmtree(repository)
    growth = medians[10_000] / (5 * medians[2_000])
    table.add(
        "10,000 against 5 x 2,000",
        f"{medians[10_000]:.2f} s",
        f"{5 * medians[2_000]:.2f} s",
        f"{growth:.2f}",
        Goal(1.1, "<= 1.1 (linear)"),
        growth,
    )
    return table


def compare(bench: Bench, table: Table, repository: Path, size: int, chartpress: Path) -> float:
    """The rows of one size; our median in seconds."""
    same_work(bench, repository, size)
    sides = {
        "ours": Side(lambda: bench.ci(repository, "plan", "--dry-run")),
        "git": Side(lambda: bench.shell(GIT, repository)),
    }
    if size in CHARTPRESS_SIZES:
        listed = call([str(chartpress), "--list-images"], repository).count("\n")
        if listed != size:
            raise SystemExit(f"chartpress lists {listed} images, not {size}")
        for option in ("--list-images", "--no-build"):
            script = f"{chartpress} {option} >/dev/null"
            sides[f"chartpress {option}"] = Side(
                partial(bench.shell, script, repository),
                check=partial(call, ["git", "checkout", "-q", "."], repository),
            )
    taken = in_turn(sides, bench.runs)
    ours = taken.pop("ours")
    what = f"{size:,} components"
    for peer, times in taken.items():
        goals = {(200, "chartpress"): times_faster(20), (2_000, "git"): at_most(3)}
        name = peer if peer != "git" else "git ls-files -s && git status"
        table.compare(f"{what}, against {name}", ours, times, goals.get((size, peer.split()[0])))
    median = statistics.median(ours)
    if size == 2_000:
        memory = peak_memory(bench, repository)
        table.add(f"{what}, time", f"{median:.2f} s", "", "", Goal(1, "< 1 s"), median)
        table.add(f"{what}, peak memory", f"{memory:.0f} MB", "", "", Goal(150, "< 150 MB"), memory)
        table.notes.append(bench.profile(repository, "plan", "--dry-run"))
    return median


def tree(size: int) -> dict[str, str | bytes]:
    """The components, and what chartpress needs to know of them."""
    names = [f"component-{number:05}" for number in range(size)]
    files: dict[str, str | bytes] = {}
    for name in names:
        where = f"components/{name}"
        files[f"{where}/Dockerfile"] = "FROM scratch\nCOPY . /\n"
        files |= {f"{where}/{n:02}.py": f"# {name} {n}\n" * 20 for n in range(FILES - 1)}
    images = {
        name: {"contextPath": f"components/{name}", "valuesPath": f"{name}.image"} for name in names
    }
    chart = {"name": "chart", "imagePrefix": "b1/", "images": images}
    return {
        **files,
        "chartpress.yaml": json.dumps({"charts": [chart]}),
        "chart/Chart.yaml": "name: chart\nversion: 0.0.1\n",
        "chart/values.yaml": "".join(f"{name}: {{image: {{name: n, tag: t}}}}\n" for name in names),
    }


def add_history(repository: Path, size: int) -> None:
    """A commit a component, as a repository of some age has: chartpress looks for the last."""
    for number in range(size):
        write(repository, {f"components/component-{number:05}/00.py": f"# changed {number}\n"})
        commit(repository)


def same_work(bench: Bench, repository: Path, size: int) -> None:
    """Ours and git see every component."""
    told = call([*CI, "plan", "--dry-run", "--json"], repository, bench.environment())
    found = len(json.loads(told)["components"])
    tracked = call(["git", "ls-files", "--", "components"], repository).count("\n")
    if (found, tracked) != (size, size * FILES):
        raise SystemExit(f"{found} components and {tracked} files, not {size} and {size * FILES}")


def peak_memory(bench: Bench, repository: Path) -> float:
    """Of a plan's largest process, in MB.

    Asked by a small process between: the kernel counts a child's memory from
    that of the process it was forked from, which is large here.
    """
    between = (
        "import os, subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=2);"
        "_, status, used = os.wait4(child.pid, 0); assert status == 0; print(used.ru_maxrss)"
    )
    command = [sys.executable, "-c", between, *CI, "plan", "--dry-run", "--quiet"]
    return int(call(command, repository, bench.environment())) / 1024


def install_chartpress(bench: Bench) -> Path:
    directory = bench.scratch / "chartpress"
    venv.create(directory, with_pip=True)
    call([str(directory / "bin" / "pip"), "install", "--quiet", "chartpress==2.4.0"], bench.scratch)
    return directory / "bin" / "chartpress"
