"""How scans are run: what is not done twice, and what becomes of it when Trivy dies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from tests.integration import trivy_database
from tests.integration.images import (
    AGELESS,
    CVE,
    DEBIAN,
    DEV,
    LATER,
    debian,
    gated,
    keys,
    python,
    spied,
    standings,
    trivy,
    with_package,
)
from tests.integration.repositories import (
    Machine,
    Repository,
    Spy,
    command_path,
    component,
    in_registry,
)
from tests.integration.trivy_database import Detail

pytestmark = pytest.mark.integration

NEW = "2026-02-02T00:00:00Z"
OTHERS = {"other": {CVE: "9.0"}}


def meddling(folder: Path, script: str) -> dict[str, str]:
    """PATH with a trivy that runs `script` before the real one; $real is that one.

    `begun PID` in it waits until a child is the real program.
    """
    real = shutil.which("trivy", path=command_path())
    folder.mkdir()
    program = folder / "trivy"
    program.write_text(
        f"#!/bin/sh\nreal='{real}'\n"
        'begun() { until [ "/proc/$1/exe" -ef "$real" ]; do sleep 0.01; done; }\n'
        f'{script}\nexec "$real" "$@"\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}:{command_path()}"}


def started(
    repository: Repository, *arguments: str, said: IO[str] | int = subprocess.PIPE, **env: str
) -> subprocess.Popen[str]:
    """said: where its stderr goes."""
    return subprocess.Popen(
        repository.command(*arguments),
        cwd=repository.path,
        env=repository.environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        text=True,
    )


def eventually(holds: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def left_over(machine: Machine) -> dict[int, str]:
    """Processes of Trivy that look into this machine's caches, with their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().decode(errors="replace").replace("\0", " ")
            if "trivy" in line and str(machine.endpoints.home) in line:
                found[int(path.parent.name)] = line
    return found


def logs(repository: Repository) -> str:
    paths = [
        *(repository.build / "logs").glob("*.log"),
        *repository.machine.endpoints.home.glob("trivy/*.log"),
    ]
    return "".join(path.read_text(errors="replace") for path in paths)


def statuses(repository: Repository) -> dict[str, str]:
    return {name: one["verdict"]["status"] for name, one in repository.images.items()}


# Trivy fails ------------------------------------------------------------------------------


def test_a_trivy_that_dies_or_lies_or_is_late_costs_only_its_image(
    machine: Machine, tmp_path: Path
) -> None:
    names = ("corrupt", "fine", "killed", "late")
    files: dict[str, Any] = {}
    for number, name in enumerate(names):
        files |= with_package(name, version=f"1.{number}")
    repository = gated(machine, tmp_path / "r", files, {}, advisories=OTHERS)
    scan = {**repository.config["scan"], "timeout": 77}
    repository.write({"ci.yaml": json.dumps({**repository.config, "scan": scan})})
    env = meddling(
        tmp_path / "bin",
        """case "$*" in
*reports/killed/trivy.json*)
    "$real" "$@" & begun $!; kill -9 $!; wait $!; exit $? ;;
*reports/late/trivy.json*)
    exec "$real" $(echo "$@" | sed 's/--timeout=77s/--timeout=1ms/') ;;
*reports/corrupt/trivy.json*)
    for one; do case $one in
    --output=*) printf '{"SchemaVersion": 2, "Resul' >"${one#*=}" ;;
    esac; done
    exit 0 ;;
esac""",
    )
    answer = repository.built("--jobs", "4", env=env)
    answer.refused(13, "trivy's report cannot be read", "also failed: killed (scan), late (scan)")
    assert statuses(repository) == {"fine": "pass"}
    failed = repository.failed
    assert {(one["step"], one["exit_code"]) for one in failed.values()} == {("scan", 13)}
    assert "killed by signal 9" in failed["killed"]["message"]
    assert "deadline exceeded" in failed["late"]["message"]
    assert "raise scan.timeout" in failed["late"]["todo"]
    for name, one in failed.items():
        assert Path(one["log"]).is_file(), name
        assert not in_registry(repository.tagged(name, keys(repository)[name])), name
    eventually(lambda: left_over(machine) == {})

    repository.built().done()
    assert statuses(repository) == dict.fromkeys(names, "pass")


def test_a_server_that_is_killed_costs_no_image(machine: Machine, tmp_path: Path) -> None:
    files: dict[str, Any] = {}
    for number in range(4):
        files |= with_package(f"image-{number}", version=f"2.{number}")
    repository = gated(machine, tmp_path / "r", files, {}, advisories=OTHERS)
    pid, died = tmp_path / "pid", tmp_path / "died"
    env = meddling(
        tmp_path / "bin",
        f"""case "$*" in
server*) echo $$ >{pid} ;;
*--server=*) if mkdir {died}; then
    "$real" "$@" & begun $!; kill -9 $(cat {pid}); wait $!; exit $?
    fi ;;
esac""",
    )
    repository.built("--jobs", "2", env=env).done()
    assert died.is_dir()
    assert set(statuses(repository).values()) == {"pass"}
    assert "in use by another process" not in logs(repository)
    eventually(lambda: left_over(machine) == {})


def test_what_a_killed_run_leaves_behind_hinders_no_other(machine: Machine, tmp_path: Path) -> None:
    """Its server lives on, with the cache that it holds."""
    files: dict[str, Any] = {}
    for number in range(3):
        files |= with_package(f"image-{number}", version=f"5.{number}")
    repository = gated(machine, tmp_path / "r", files, {}, advisories=OTHERS)
    hanging = tmp_path / "hanging"
    env = meddling(
        tmp_path / "bin", f'case "$*" in *--server=*) touch {hanging}; exec sleep 20 ;; esac'
    )
    repository.ci("plan").done()
    child = started(repository, "build", **env)
    try:
        eventually(hanging.exists)
        child.kill()
        child.communicate(timeout=300)
        eventually(lambda: len(left_over(machine)) == 1)  # who asked it goes by himself
        (pid,) = left_over(machine)
        told = logs(repository)
        repository.built().done()
        assert "in use by another process" not in logs(repository).removeprefix(told)
        assert list(left_over(machine)) == [pid]
    finally:
        for pid in left_over(machine):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["--fail-fast", "Ctrl-C"])
def test_what_is_known_is_reported_though_the_run_ends_early(
    machine: Machine, tmp_path: Path, how: str
) -> None:
    repository = gated(
        machine,
        tmp_path / "r",
        with_package("bad") | component("slow"),  # no layer of theirs is the same
        {},
        advisories={"planted": {CVE: "2.0"}},
    )
    hanging = tmp_path / "hanging"
    env = meddling(
        tmp_path / "bin",
        f"""case "$*" in
*reports/slow/trivy.json*) touch {hanging}; exec sleep 3000 ;;
*reports/bad/trivy.json*) until [ -e {hanging} ]; do sleep 0.05; done ;;
esac""",
    )
    repository.ci("plan", env=env).done()
    arguments = ["--fail-fast"] if how == "--fail-fast" else []
    told = tmp_path / "told"
    with told.open("w") as said:
        child = started(repository, "build", "--jobs", "2", *arguments, said=said, **env)
    try:
        if how == "Ctrl-C":
            eventually(lambda: "'bad' does not pass" in told.read_text())
            child.send_signal(signal.SIGINT)
        child.wait(timeout=300)
    finally:
        child.kill()
    err = told.read_text()
    assert child.returncode == (130 if how == "Ctrl-C" else 22), err
    assert "Traceback" not in err
    assert standings(repository) == {"bad": {(CVE, "counts")}}
    for name in ("scan.sarif", "scan.xml", "scan.html"):
        assert CVE in (repository.build / "reports" / name).read_text()
    eventually(lambda: left_over(machine) == {})


# Many at once -----------------------------------------------------------------------------


def test_twenty_images_at_once_on_one_base(machine: Machine, tmp_path: Path, spy: Spy) -> None:
    files: dict[str, Any] = with_package("base")
    for number in range(20):
        files |= component(f"image-{number:02}", "FROM base\nCOPY own /own\n", own=str(number))
    repository = gated(machine, tmp_path / "r", files, {}, advisories=OTHERS)
    env = spied(repository, spy)
    answer = repository.built("--jobs", "20", env=env).done()
    assert "INCOMPLETE" not in answer.err
    assert len(repository.images) == 21
    assert set(statuses(repository).values()) == {"pass"}
    assert "in use by another process" not in logs(repository)
    downloads = [call for call in trivy(spy, "image") if "--download-db-only" in call]
    assert len(downloads) == 1
    assert len(trivy(spy, "server")) == 1
    assert sum("--server=" in call for call in trivy(spy, "image")) == 21
    assert len(trivy(spy, "image")) == 22
    eventually(lambda: left_over(machine) == {})

    spy.forget()
    repository.built(env=env).done()
    assert trivy(spy) == []
    assert spy.calls == []


def test_two_builds_at_once_on_one_machine(machine: Machine, tmp_path: Path) -> None:
    """One has fetched the database that the other finds; neither takes the other's cache."""
    spies, repositories = [], []
    for name in ("first", "second"):
        files: dict[str, Any] = {}
        for number in range(4):
            version = f"3.{number}" if name == "first" else f"4.{number}"
            files |= with_package(f"image-{number}", version=version)
        repositories.append(gated(machine, tmp_path / name, files, {}, advisories=OTHERS))
        spies.append(Spy(tmp_path / f"spy-{name}").install())
    one, two = repositories
    two.write({"ci.yaml": yaml.safe_dump({**two.config, "scan": one.config["scan"]})})
    for repository in repositories:
        repository.ci("plan").done()
    children = [
        started(repository, "build", **spied(repository, spy))
        for repository, spy in zip(repositories, spies, strict=True)
    ]
    said = [child.communicate(timeout=600)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    for repository, spy in zip(repositories, spies, strict=True):
        assert statuses(repository) == {f"image-{number}": "pass" for number in range(4)}
        assert "in use by another process" not in logs(repository)
        assert len(trivy(spy, "server")) == 1
    calls = [call for spy in spies for call in trivy(spy, "image")]
    assert sum("--download-db-only" in call for call in calls) == 1
    eventually(lambda: left_over(machine) == {})


# What is not done again -------------------------------------------------------------------


def test_what_one_agent_found_the_next_one_knows(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    dockerfile = (
        f"{DEBIAN}COPY METADATA /usr/lib/python3/dist-packages/planted-1.0.dist-info/METADATA\n"
    )
    details = {CVE: Detail(severity="MEDIUM"), "CVE-2099-0002": Detail(severity="LOW")}
    first: dict[str, Any] = {
        "advisories": {"planted": {CVE: "2.0"}},
        "python": {"planted": {"CVE-2099-0002": "2.0"}},
    }
    files = {
        **component("one", dockerfile, METADATA=python("planted", "1.0"), **debian()),
        **with_package("two", version="1.9"),
    }
    repository = gated(machine, tmp_path / "r", files, {}, **first, details=details)
    env = spied(repository, spy)
    repository.built(env=env).done()
    assert len(trivy(spy, "server")) == 1
    assert found(repository, "one") == direct(repository, "one", tmp_path / "direct")
    assert {identity for identity, *_ in found(repository, "one")} == {CVE, "CVE-2099-0002"}

    # The same once more, and with nothing in the build directory: no process of Trivy.
    spy.forget()
    repository.built(env=env).done()
    shutil.rmtree(repository.build)
    repository.built(env=env).done()
    assert trivy(spy) == []
    assert statuses(repository) == {"one": "pass", "two": "pass"}
    assert (repository.build / repository.images["one"]["verdict"]["sbom"]).is_file()

    # Another policy judges what is known.
    strict = {"severities": {"vulnerability": ["MEDIUM"]}}
    repository.write({"scan-policy.yaml": yaml.safe_dump({**AGELESS, **strict})})
    repository.built(env=env).refused(22, "'one'", CVE)
    repository.write({"scan-policy.yaml": yaml.safe_dump(AGELESS)})
    repository.built(env=env).done()
    assert trivy(spy) == []

    # Another machine: it fetches the database and looks into no image.
    def elsewhere(name: str) -> dict[str, str]:
        shutil.rmtree(repository.build)
        spy.forget()
        return {**env, **DEV, "KFP_CI_HOME": str(tmp_path / name)}

    repository.built(env=elsewhere("second")).done()
    assert ["--download-db-only" in call for call in trivy(spy, "image")] == [True]
    assert trivy(spy, "sbom", "server", "convert") == []
    assert statuses(repository) == {"one": "pass", "two": "pass"}

    # A newer database is matched with the SBOM, to the same end as a whole scan.
    name = repository.config["scan"]["database"].partition("/")[2]
    more = {"planted": {CVE: "2.0", "CVE-2099-0003": "1.5", "CVE-2099-0004": ""}}
    python_too = {"planted": {"CVE-2099-0002": "3.0"}}
    trivy_database.publish(
        machine.registry, name, updated=NEW, next_update=LATER, advisories=more,
        python=python_too, details={**details, "CVE-2099-0003": Detail(severity="LOW")},
    )  # fmt: skip
    repository.built(env=elsewhere("third")).done()
    assert ["--download-db-only" in call for call in trivy(spy, "image")] == [True]
    assert len(trivy(spy, "sbom")) == 2
    assert trivy(spy, "server", "convert") == []
    for component_ in ("one", "two"):
        scanned = direct(repository, component_, tmp_path / "again")
        assert found(repository, component_) == scanned
        assert repository.images[component_]["verdict"]["database"].startswith("2026-02-02")
    assert len(found(repository, "one")) == 4
    assert len(found(repository, "two")) == 2  # 1.9 is newer than 1.5

    # And that is known to the next.
    repository.built(env=elsewhere("fourth")).done()
    assert trivy(spy, "sbom", "server", "convert") == []
    assert len(found(repository, "one")) == 4


Found = set[tuple[str, str, str, str, str]]


def found(repository: Repository, name: str) -> Found:
    """Vulnerabilities of an image as its record has them."""
    return {
        (one["id"], one["package"], one["installed"], one.get("fixed", ""), one["severity"])
        for one in repository.read(f"reports/{name}/findings.json")["findings"]
    }


def direct(repository: Repository, name: str, cache: Path) -> Found:
    """The same as Trivy alone finds it in the registry's image."""
    report = cache.with_suffix(".json")
    subprocess.run(
        ["trivy", "image", "--quiet", f"--cache-dir={cache}", "--image-src=remote",
         f"--db-repository={repository.config['scan']['database']}", "--scanners=vuln",
         "--skip-version-check", "--format=json", f"--output={report}",
         repository.reference(name)],
        check=True, capture_output=True, env=repository.environment(), timeout=600,
    )  # fmt: skip
    return {
        (one["VulnerabilityID"], one["PkgName"], one["InstalledVersion"],
         one.get("FixedVersion", ""), one["Severity"])
        for result in json.loads(report.read_text())["Results"]
        for one in result.get("Vulnerabilities") or ()
    }  # fmt: skip
