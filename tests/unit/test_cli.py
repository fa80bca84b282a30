"""The command line, as a person meets it: through a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import ci.cli as command_line
from ci import __version__
from ci.cli import SECTIONS, cli, parsed
from ci_tools import errors, storage
from ci_tools.documents import Lock, LockedImage, Source, Verdict
from ci_tools.errors import ConfigError

ROOT = Path(__file__).parents[2]
STAGES = [*SECTIONS["Stages, in order"], "run"]
DIGEST = f"sha256:{'d' * 64}"
HEAVY = ["kfp", "boto3", "botocore", "docker", "requests", "rich", "oras", "jenkins", "keyring"]


def ci(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ci", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


@pytest.fixture
def project(repository: Any) -> Any:
    repository.write("train/Dockerfile", "FROM ml/base\n")
    repository.write("base/Dockerfile", "FROM scratch\nCOPY . /\n")
    repository.write("ci.yaml", "project: ml\n")
    repository.write("component_specs/train.yaml", "implementation: {container: {image: train}}\n")
    return repository


def test_help_lists_every_command_by_section() -> None:
    shown = [name for names in SECTIONS.values() for name in names]
    for module in pkgutil.iter_modules(command_line.__path__):
        importlib.import_module(f"ci.cli.{module.name}")
    assert sorted(shown) == sorted(cli.commands)
    text = ci("--help").stdout
    for title, names in SECTIONS.items():
        assert f"{title}:" in text
        assert all(f"\n  {name} " in text for name in names)


def test_a_command_is_whole_where_only_its_own_modules_are_imported() -> None:
    """One that is missing takes subcommands with it, and nobody sees that in the help."""
    script = (
        "import sys, json, click\n"
        "def asked(*names):\n"
        "    for module in [it for it in sys.modules if it.startswith('ci.cli')]:\n"
        "        del sys.modules[module]\n"
        "    from ci.cli import cli\n"
        "    found = [(it, cli.get_command(click.Context(cli), it)) for it in names]\n"
        "    return {it: sorted(getattr(one, 'commands', {})) for it, one in found if one}\n"
        "from ci.cli import SECTIONS\n"
        "names = [it for section in SECTIONS.values() for it in section]\n"
        "alone = {}\n"
        "for it in names: alone |= asked(it)\n"
        "print(json.dumps([asked('nothing of that name', *names), alone]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    together, alone = json.loads(done.stdout)
    assert alone == together
    assert set(alone) == {name for names in SECTIONS.values() for name in names}


def test_a_command_of_a_similar_name_is_suggested() -> None:
    done = ci("biuld")
    assert done.returncode == errors.USAGE_EXIT_CODE
    assert "Did you mean 'build'?" in done.stderr


def every_command(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            assert one is not None
            yield from every_command(one, f"{path} {name}")


def test_every_command_and_option_says_what_it_is() -> None:
    for path, command in every_command(cli, "kfp-ci"):
        assert command.help, path
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{path} {option.name}"


def test_the_list_of_commands_is_not_cut() -> None:
    _, commands = ci("--help").stdout.split("Stages, in order:")
    assert "..." not in commands


def test_version() -> None:
    assert __version__ in ci("--version").stdout


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_dry_run_and_json(stage: str) -> None:
    command = cli.get_command(click.Context(cli), stage)
    assert command
    options = {o for p in command.params for o in p.opts if isinstance(p, click.Option)}
    assert {"--dry-run", "--json", "--repo", "--build-dir", "--env", "--quiet"} <= options
    assert command.help


def test_plan_as_json(project: Any) -> None:
    done = ci("plan", "--dry-run", "--json", "--repo", str(project.root))
    assert done.returncode == 0, done.stderr
    base, train = json.loads(done.stdout)["components"]
    assert (base["name"], train["name"]) == ("base", "train")
    assert train["dockerfile"] == "train/Dockerfile"
    assert train["context"] == "train"
    assert train["parents"] == ["base"]
    assert train["templates"] == ["component_specs/train.yaml"]
    assert len(train["key"]) == 64
    assert not (project.root / "build").exists()


def test_another_project_of_the_repository_has_a_declaration_of_its_own(project: Any) -> None:
    """Its name, its components, its bases and its build directory."""
    digest = f"sha256:{'a' * 64}"
    project.write(
        "agent/ci.yaml",
        """
        project: other
        ignore: ["/*/", "!/agent/"]
        pipelines: {templates: agent/none}
        components: {agent: {context: .}}
    """,
    )
    project.write("agent/Dockerfile", "FROM debian:trixie-slim\n")
    project.write("agent/Dockerfile.dockerignore", "**\n")
    project.write("agent/bases.lock", f"debian:trixie-slim: {digest}\n")
    project.write("bases.lock", f"debian:trixie-slim: sha256:{'b' * 64}\n")
    root, own = str(project.root), str(project.root / "agent/ci.yaml")
    home = {"KFP_CI_HOME": str(project.root / "home")}  # where no stand-in is recorded
    plan = ci("plan", "--dry-run", "--json", "--repo", root, "--config", own, **home)
    assert plan.returncode == 0, plan.stderr
    planned = json.loads(plan.stdout)
    (agent,) = planned["components"]
    assert (planned["project"], agent["name"], agent["context"]) == ("other", "agent", ".")
    assert not agent["provisional"]
    assert agent["bases"]["debian:trixie-slim"].endswith(digest)
    missing = ci("build", "--repo", root, "--config", own)
    assert missing.returncode == errors.MissingInputError.exit_code
    assert "/build/agent/plan.json" in missing.stderr
    main = json.loads(ci("plan", "--dry-run", "--json", "--repo", root).stdout)
    assert main["project"] == "ml"


def test_a_declaration_that_is_not_there_is_told(project: Any) -> None:
    done = ci("plan", "--dry-run", "--repo", str(project.root), "--config", "nowhere/ci.yaml")
    assert done.returncode == errors.ConfigError.exit_code
    assert "ci.yaml cannot be read" in done.stderr


def test_a_dry_run_computes_the_same_from_anywhere(project: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(project.root, tmp_path / "copy")
    one = ci("plan", "--dry-run", "--json", "--repo", str(project.root))
    other = ci("plan", "--dry-run", "--json", cwd=copy)
    assert one.stdout == other.stdout


def imported(*arguments: str) -> set[str]:
    """The modules that a command has when it ends. It must end well."""
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['ci', *{arguments!r}]\n"
        "try: runpy.run_module('ci', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


def test_start_up_imports_nothing_heavy(project: Any) -> None:
    project.write("train/.dockerignore", "*.md\n")
    assert not imported("plan", "--dry-run", "--repo", str(project.root)) & {*HEAVY}


def test_a_command_imports_no_others(project: Any) -> None:
    """Nor what builds, for the stages after it: they read what it left."""
    modules = {f"ci.cli.{it.name}" for it in pkgutil.iter_modules(command_line.__path__)}
    shared = {"ci.cli.group", "ci.cli.options"}
    assert imported("--version") & modules == shared
    lock = Lock(
        project="ml",
        environment="local",
        source=Source(),
        components={
            "train": LockedImage(
                repository="registry.example/ml/train",
                digest=DIGEST,
                config=DIGEST,
                key="k",
                size=1,
                verdict=Verdict(status="pass", trivy="1", database=None, policy="p"),
            )
        },
    )
    storage.write(project.root / "build" / "images.lock.json", lock)
    own = shared | {"ci.cli.stages", "ci.cli.show"}
    builds = {"ci.build", "ci.plan", "ci.reports", "ci.session", "ci_tools.images.registry", "ssl"}
    for command in (["pin"], ["compile"], ["compile", "--pin"]):
        had = imported(*command, "--repo", str(project.root))
        assert not had & {*HEAVY, *builds}, command
        assert had & modules == own


def test_a_promotion_does_without_the_stages_of_a_build() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ci.promote; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    stages = {"plan", "build", "pin", "compile", "upload", "train", "release"}
    assert not {f"ci.{it}" for it in stages} & set(done.stdout.split())


def write(path: str, text: str) -> Any:
    return lambda project: project.write(path, text)


@pytest.mark.parametrize(
    ("prepare", "arguments", "error"),
    [
        (write("ci.yaml", "projct: x"), ["plan"], errors.ConfigError),
        (write("train/Dockerfile", "FRO x"), ["plan"], errors.DockerfileError),
        (write("x/train/Dockerfile", "FROM x"), ["plan"], errors.DuplicateComponentError),
        (write("base/Dockerfile", "FROM ml/train"), ["plan"], errors.CycleError),
        (write("component_specs/x.yaml", "a: ["), ["plan"], errors.TemplateError),
        (write("README", ""), ["plan", "--env", "nowhere"], errors.ConfigError),
        (write("ci.yaml", "project: ml\nenvironments: {prod: {}}"), ["plan", "--env", "prod"],
         errors.ConfigError),
    ],
)  # fmt: skip
def test_each_mistake_has_its_code_and_a_sentence(
    project: Any, prepare: Any, arguments: list[str], error: type[errors.CIError]
) -> None:
    prepare(project)
    done = ci(*arguments, "--dry-run", "--repo", str(project.root))
    assert done.returncode == error.exit_code, done.stderr
    assert done.stderr.startswith("ERROR: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_missing_input_names_the_stage_to_run(project: Any) -> None:
    done = ci("build", "--repo", str(project.root))
    assert done.returncode == errors.MissingInputError.exit_code
    assert "Run 'python -m ci plan'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["plan", "--nothing"], ["plan", "--repo", "/no/such"],
                  ["build", "-j", "0"], ["completion", "tcsh"]],
)  # fmt: skip
def test_a_wrong_command_line(arguments: list[str]) -> None:
    done = ci(*arguments)
    assert done.returncode == errors.USAGE_EXIT_CODE
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_codes_are_listed() -> None:
    lines = ci("exit-codes").stdout.splitlines()
    assert {int(line.split()[0]): line.split(maxsplit=1)[1] for line in lines} == (
        errors.exit_codes()
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = ci("completion", shell)
    assert done.returncode == 0
    assert "_KFP_CI_COMPLETE" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout, text=True, check=False)
        assert checked.returncode == 0


def in_bash(command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("CI", f"{sys.executable} -m ci")],
        cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["schema", "--help", "plan --help", "exit-codes"])
def test_a_reader_that_leaves_early(command: str) -> None:
    done = in_bash(f"CI {command} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == errors.OutputClosedError.exit_code
    assert done.stderr == ""
    assert in_bash("CI schema | head -1").stdout == "{\n"


@pytest.mark.parametrize("command", ["schema", "plan --help", "plan --dry-run"])
def test_output_on_a_full_disk(project: Any, command: str) -> None:
    done = in_bash(f"CI {command} >/dev/full", project.root)
    assert done.returncode == errors.WriteError.exit_code
    assert done.stderr.startswith("ERROR: the output could not be written (No space left")
    assert done.stderr.count("\n") == 1


def test_an_error_that_cannot_be_told_has_its_code(project: Any) -> None:
    assert in_bash("CI nothing 2>/dev/full").returncode == errors.USAGE_EXIT_CODE
    project.write("ci.yaml", "projct: x")
    done = in_bash("CI plan --dry-run 2>/dev/full", project.root)
    assert done.returncode == errors.ConfigError.exit_code


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_the_standard_streams(project: Any, closed: str) -> None:
    done = in_bash(f"CI plan --dry-run {closed}", project.root)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ("train" in done.stdout) == (">&- " not in f" {closed} ".replace("2>&-", ""))


def test_a_python_without_our_packages(project: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "ci", "plan", "--dry-run"],
        cwd=project.root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == errors.ToolError.exit_code
    assert done.stderr.startswith("ERROR: the Python package ")
    assert done.stderr.count("\n") == 1


def test_a_repository_without_a_dockerfile(repository: Any) -> None:
    repository.write("README", "")
    done = ci("plan", "--dry-run", cwd=repository.root)
    assert "no file here is called Dockerfile" in done.stdout


def test_names_from_elsewhere_do_nothing_to_a_terminal(project: Any) -> None:
    project.write("new\nline\x1b[31m/Dockerfile", "FROM scratch\n")
    command = f"{sys.executable} -m ci plan --dry-run"
    done = in_bash(f"script -qec {command!r} /dev/null", project.root)  # a terminal
    assert "new\\nline\\x1b[31m/Dockerfile" in done.stdout
    assert "\x1b[31m" not in done.stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_locale_that_lacks_our_signs(project: Any, encoding: str) -> None:
    project.write("ci.yaml", "project: ml\nservables: ['→']\n")
    project.write("x→/Dockerfile", "FROM scratch\n")
    done = ci("plan", "--dry-run", cwd=project.root, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr


def test_a_dry_run_of_everything_plans_once(project: Any) -> None:
    project.write("ci.yaml", "project: ml\ncomponents: {train: {args: {unused: x}}}\n")
    done = ci("run", "--dry-run", cwd=project.root)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is called 'unused'") == 1


@pytest.mark.parametrize("under_git", [True, False])
def test_below_the_root_it_is_the_same_project(project: Any, under_git: bool) -> None:
    if under_git:
        project.commit()
    below = ci("plan", "--dry-run", "--json", cwd=project.root / "train")
    assert (below.stdout == ci("plan", "--dry-run", "--json", cwd=project.root).stdout) == under_git


def test_the_nearest_declaration_is_the_project(project: Any) -> None:
    project.write("inner/ci.yaml", "project: inner\n")
    project.write("inner/one/Dockerfile", "FROM scratch\n")
    project.commit()
    told = json.loads(ci("plan", "--dry-run", "--json", cwd=project.root / "inner/one").stdout)
    assert told["project"] == "inner"
    assert [one["name"] for one in told["components"]] == ["one"]


@pytest.mark.parametrize("pattern", ["/etc", "", "a**"])
def test_a_pattern_of_servables_that_is_none(project: Any, pattern: str) -> None:
    project.write("ci.yaml", f"servables: ['{pattern}']")
    done = ci("deploy", "--dry-run", cwd=project.root)
    assert done.returncode == errors.ConfigError.exit_code
    assert "of 'servables' is no pattern" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in (
            "3", "1.10", "true", "x", "", "[1, a]", "a=b", "[", "null", "12:30", "0123", "#ff",
            "two # three", "!!python/name:os.system", "'", "'a' 'b'", "'a' b'",
        )),
        ("'3'", "3"), ('"a\\tb"', "a\tb"), ("''", ""), ("'it''s'", "it's"),
    ],
)  # fmt: skip
def test_parameters(text: str, value: object) -> None:
    assert parsed((f"name={text}",)) == {"name": value}


def test_the_last_parameter_counts() -> None:
    assert parsed(("a=1", "b=2", "a=3")) == {"a": "3", "b": "2"}


@pytest.mark.parametrize("pair", ["x", "=1", "a-b=1", ""])
def test_what_is_no_parameter(pair: str) -> None:
    with pytest.raises(ConfigError, match="is no parameter"):
        parsed((pair,))


@pytest.mark.parametrize("days", ["0", "-1", "x", "99999999999"])
def test_old_is_a_number_of_days_that_a_calendar_has(days: str) -> None:
    done = ci("pipelines", "prune", "--launched", days)
    assert done.returncode == errors.USAGE_EXIT_CODE
    assert "'--launched'" in done.stderr
