"""Runs a Jenkinsfile under Debian's Groovy, and tells what it did.

The Groovy half is in `harness/`: a model of a controller. It proves the wiring: which
stages ran, on which agents, which commands, with which environment. It does not prove
the sandbox, CPS or any plug-in: only a controller does.

    python tests/groovy/jenkinsfile.py --matrix     event x stage, as executed, for docs/jenkins.md
    python tests/groovy/jenkinsfile.py --events main     every event of one scenario, as JSON
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
JENKINSFILE = REPOSITORY / "Jenkinsfile"
MISSING = "{} is not on this machine. Run: scripts/bootstrap.sh --tests"
SECONDS = 1200  # a busy machine takes minutes

Scenario = dict[str, Any]


class HarnessError(Exception):
    """Groovy is not there, or the harness itself is broken."""


@dataclass(frozen=True)
class Run:
    """What one scenario did.

    errors: why the file does not validate; nothing ran then.
    problems: what no controller would take or ever end.
    result: SUCCESS, UNSTABLE, FAILURE, NOT_BUILT or ABORTED.
    events: in order; each has `event`, `stage` and `branch` (of a parallel), and its own keys.
    """

    name: str
    errors: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    result: str = "SUCCESS"
    events: list[dict[str, Any]] = field(default_factory=list)
    shells: list[dict[str, Any]] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    display_name: str = ""
    description: str | None = None
    directory: str = ""

    def of(self, event: str, stage: str | None = None) -> list[dict[str, Any]]:
        """The events of a kind, in order; of one stage if one is named."""
        return [
            one for one in self.events if one["event"] == event and stage in (None, one["stage"])
        ]

    def commands(self, stage: str | None = None) -> list[str]:
        return [one["command"] for one in self.of("sh", stage)]

    @property
    def stages(self) -> dict[str, str]:
        """Stage -> 'ran', 'failed', or why it was skipped: 'when', 'failure', 'unstable' or
        'restart'."""
        found: dict[str, str] = {}
        for one in self.of("stage"):
            if one["outcome"] == "ran":
                found[one["stage"]] = "failed" if one["error"] else "ran"
            elif one["outcome"] == "skipped":
                found[one["stage"]] = one["reason"]
        return found

    @property
    def ran(self) -> list[str]:
        return [name for name, outcome in self.stages.items() if outcome in ("ran", "failed")]


def java_home() -> Path:
    """A Java runtime for Groovy, whose launcher looks for it in one place only.

    Raises HarnessError.
    """
    candidates: list[Path] = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]))
    java = shutil.which("java")
    if java:
        candidates.append(Path(java).resolve().parents[1])
    candidates += sorted(Path("/usr/lib/jvm").glob("*"))
    for candidate in candidates:
        if os.access(candidate / "bin" / "java", os.X_OK):
            return candidate
    raise HarnessError(MISSING.format("A Java runtime"))


def run(scenarios: Sequence[Scenario], text: str | None = None) -> dict[str, Run]:
    """Scenario's name -> what it did, all in one Groovy.

    text: the Jenkinsfile; by default the repository's. Raises HarnessError.
    """
    names = [scenario["name"] for scenario in scenarios]
    if len(set(names)) < len(names):
        raise HarnessError("two scenarios have one name")
    groovy = shutil.which("groovy")
    if groovy is None:
        raise HarnessError(MISSING.format("Groovy"))
    text = JENKINSFILE.read_text() if text is None else text
    with tempfile.TemporaryDirectory(prefix="jenkinsfile-") as directory:
        request, answer = Path(directory, "request.json"), Path(directory, "answer.json")
        request.write_text(json.dumps({"text": text, "scenarios": list(scenarios)}))
        done = subprocess.run(
            [groovy, "-cp", HERE, HERE / "run.groovy", request, answer, Path(directory, "runs")],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "JAVA_HOME": str(java_home()),
                "JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dfile.encoding=UTF-8",
                "HOME": directory,
                "LC_ALL": "C.UTF-8",
            },
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode or not answer.is_file():
            raise HarnessError(f"the harness failed: {done.stdout}{done.stderr}")
        return {one["name"]: _run(one) for one in json.loads(answer.read_text())}


def _run(answer: Mapping[str, Any]) -> Run:
    if "crash" in answer:
        raise HarnessError(f"{answer['name']}: {answer['crash']}")
    return Run(**answer)


def matrix(runs: Mapping[str, Run], columns: Mapping[str, str]) -> str:
    """A Markdown table: which stage ran for which event, in brackets with whose credentials.

    columns: title -> scenario's name.
    """
    stages = list(dict.fromkeys(name for run in runs.values() for name in run.stages))
    rows = [["stage", *columns], ["---"] * (len(columns) + 1)]
    for stage in stages:
        rows.append([stage, *(_cell(runs[name], stage) for name in columns.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(run: Run, stage: str) -> str:
    outcome = run.stages.get(stage, "when")
    if outcome == "when":
        return "-"
    bound = {id for one in run.of("sh", stage) for id in one["credentials"].values()}
    whose = sorted({id.removeprefix("kfp-ci-").partition("-")[0] for id in bound})
    asked = ["asks"] if run.of("input", stage) else []
    return ", ".join([*asked, "runs" if outcome == "ran" else outcome]) + (
        f" ({', '.join(whose)})" if whose else ""
    )


def _main(arguments: Sequence[str]) -> Iterator[str]:
    from tests.groovy import scenarios

    if arguments == ["--matrix"]:
        yield scenarios.matrix()
    elif len(arguments) == 2 and arguments[0] == "--events":
        chosen = [one for one in scenarios.BY_EVENT if one["name"] == arguments[1]]
        for one in run(chosen).values():
            yield json.dumps(one.__dict__, indent=1)
    else:
        yield __doc__ or ""


if __name__ == "__main__":
    sys.path[0] = str(REPOSITORY)
    from tests.groovy.jenkinsfile import HarnessError, _main  # the one that scenarios.py knows

    try:
        for line in _main(sys.argv[1:]):
            print(line, end="" if line.endswith("\n") else "\n")
    except HarnessError as error:
        sys.exit(str(error))
