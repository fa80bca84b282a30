"""K1 and K2: pin, compile and proof of 20 pipelines of 20 components, new and unchanged."""

from __future__ import annotations

import shutil
import statistics
import sys
from functools import partial
from pathlib import Path

from measure import Goal, Side, Table, at_most, in_turn, seconds
from shared import CI, Bench, call, commit, write

from ci_tools import storage
from ci_tools.documents import Lock, LockedImage, Source, Verdict

COMPONENTS = [f"component-{number:02}" for number in range(20)]
PIPELINES = [f"pipeline-{number:02}" for number in range(20)]
TEMPLATE = """\
name: {name}
description: One of twenty.
inputs:
- {{name: rows, type: Integer, default: "3"}}
- {{name: data, type: Dataset, optional: true}}
outputs:
- {{name: result, type: Dataset}}
implementation:
  container:
    image: {image}
    command: [run, --rows, {{inputValue: rows}}, --result, {{outputPath: result}}]
"""
PIPELINE = """\
from kfp import dsl
from kfp.components import load_component_from_file

NAMES = {names}
steps = [load_component_from_file("component_specs/" + name + ".yaml") for name in NAMES]


@dsl.pipeline(name="{name}", description="Twenty steps, each after the one before")
def pipeline(rows: int = {rows}):
    last = None
    for step in steps:
        task = step(rows=rows)
        if last is not None:
            task.after(last)
        last = task
"""


def run(bench: Bench) -> Table:
    table = Table("K1, K2: pin, compile and proof: `ci compile --pin`")
    for number in (len(PIPELINES), 1):
        repository, peer = project(bench, number)
        sides = {
            "ours": Side(partial(stage, bench, repository), partial(forget, bench, repository)),
            "kfp": Side(partial(one_by_one, bench, peer, number)),
        }
        taken = in_turn(sides, bench.runs)
        same(repository, peer, number)
        goal = at_most(0.6 if number > 1 else 1.1)
        what = f"{number} pipelines" if number > 1 else "one pipeline"
        table.compare(
            f"{what} of 20 components, against `kfp dsl compile` one by one",
            taken["ours"],
            taken["kfp"],
            goal,
        )
        if number > 1:
            again = in_turn({"ours": Side(partial(stages, bench, repository))}, bench.runs)["ours"]
            quick(table, "nothing changed, `ci pin && ci compile`", again)
            only = in_turn({"ours": Side(partial(stage, bench, repository))}, bench.runs)["ours"]
            quick(table, "nothing changed, `ci compile --pin`", only)
            table.notes.append(imported(bench, repository))
            table.notes.append(bench.profile(repository, "compile", "--pin"))
    return table


def quick(table: Table, what: str, taken: list[float]) -> None:
    table.add(what, seconds(taken), "", "", Goal(0.3, "< 0.3 s"), statistics.median(taken))


def project(bench: Bench, number: int) -> tuple[Path, Path]:
    """A repository with a lock, and one for the peer, whose templates are pinned already."""
    files: dict[str, str | bytes] = {}
    for name in COMPONENTS:
        files[f"components/{name}/Dockerfile"] = "FROM scratch\n"
        files[f"component_specs/{name}.yaml"] = TEMPLATE.format(name=name, image=name)
    for rows, name in enumerate(PIPELINES[:number]):
        file = f"pipelines/{name.replace('-', '_')}.py"
        files[file] = PIPELINE.format(name=name, names=COMPONENTS, rows=rows)
    repository = bench.repository(f"k{number}", files)
    images = {name: image(bench.host, name) for name in COMPONENTS}
    lock = Lock(project=repository.name, environment="local", source=Source(), components=images)
    storage.write(repository / "build" / "images.lock.json", lock)
    peer = bench.scratch / f"k{number}-peer"
    shutil.copytree(repository, peer, ignore=shutil.ignore_patterns("build", ".git"))
    for name, one in images.items():
        text = TEMPLATE.format(name=name, image=one.reference)
        write(peer, {f"component_specs/{name}.yaml": text})
    commit(repository)
    return repository, peer


def image(host: str, name: str) -> LockedImage:
    digest = "sha256:" + (name.encode().hex() + "0" * 64)[:64]
    return LockedImage(
        repository=f"{host}/k/{name}",
        digest=digest,
        config=digest,
        key=digest[7:],
        size=1,
        verdict=Verdict(status="pass", trivy="0", database=None, policy="0"),
    )


def stages(bench: Bench, repository: Path) -> None:
    bench.ci(repository, "pin")
    bench.ci(repository, "compile")


def stage(bench: Bench, repository: Path) -> None:
    bench.ci(repository, "compile", "--pin")


def forget(bench: Bench, repository: Path) -> None:
    shutil.rmtree(bench.home / "compiled", ignore_errors=True)
    shutil.rmtree(repository / "build" / "pipelines", ignore_errors=True)


def one_by_one(bench: Bench, peer: Path, number: int) -> None:
    kfp = str(Path(sys.executable).with_name("kfp"))
    for name in PIPELINES[:number]:
        file = f"pipelines/{name.replace('-', '_')}.py"
        command = [kfp, "dsl", "compile", "--py", file, "--output", f"{name}.yaml"]
        call(command, peer, {**bench.environment(), "PYTHONPATH": str(peer)})


def same(repository: Path, peer: Path, number: int) -> None:
    """Ours compiled what kfp's own command did, to the byte."""
    for name in PIPELINES[:number]:
        ours = repository / "build" / "pipelines" / f"{name}.yaml"
        if ours.read_bytes() != (peer / f"{name}.yaml").read_bytes():
            raise SystemExit(f"{ours} is not what `kfp dsl compile` makes")


def imported(bench: Bench, repository: Path) -> str:
    """Whether an unchanged run imports kfp or starts a process that could."""
    spy = (
        "import sys; seen = []; "
        "sys.addaudithook(lambda e, a: seen.append(a[1]) if e == 'subprocess.Popen' else None); "
        "sys.argv = ['ci', 'compile', '--pin', '--quiet']; "
        "from ci.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('kfp' in sys.modules, [str(it[0]) + ' ' + str(it[1]) for it in seen])"
    )
    told = call([CI[0], "-c", spy], repository, bench.environment()).splitlines()[-1]
    return f"nothing changed: kfp imported, and processes started: {told}"
