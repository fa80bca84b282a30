"""How Trivy is run: caches that nobody shares, databases that are replaced whole."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_tools.errors import ToolError
from ci_tools.scanner.databases import Databases, Sources
from ci_tools.scanner.trivy import Trivy

NOW = datetime.now(timezone.utc)

# Stands for trivy: it does what `behaviour.json` beside it says and notes its arguments.
FAKE = """#!{python}
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
told = json.load(open(os.path.join(here, "behaviour.json")))
arguments = sys.argv[1:]
with open(os.path.join(here, "calls"), "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
with open(os.path.join(here, "variables"), "a") as variables:
    said = {{name: it for name, it in os.environ.items() if name.startswith("TRIVY_")}}
    variables.write(json.dumps(said) + "\\n")
options = dict(one[2:].split("=", 1) for one in arguments if one.startswith("--") and "=" in one)
if arguments[0] == "--version":
    print(json.dumps({{"Version": told.get("version", "0.76.0")}}))
    sys.exit()
cache = options.get("cache-dir")
if "--download-db-only" in arguments or "--download-java-db-only" in arguments:
    time.sleep(told.get("slow", 0))
    if told.get("refuse"):
        print("FATAL ...\\n\\t* " + told["refuse"], file=sys.stderr)
        sys.exit(1)
    folder = os.path.join(cache, "java-db" if "--download-java-db-only" in arguments else "db")
    os.makedirs(folder)
    with open(os.path.join(folder, "metadata.json"), "w") as metadata:
        json.dump(told["metadata"], metadata)
    sys.exit()
if told.get("alone"):  # as bbolt: nobody else in this directory
    mine = os.path.join(cache, "in-use")
    try:
        os.close(os.open(mine, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        print("cache may be in use by another process", file=sys.stderr)
        sys.exit(1)
    time.sleep(0.05)
    os.unlink(mine)
if told.get("java") and not os.path.exists(os.path.join(cache, "java-db")):
    if "vuln" in options.get("scanners", ""):
        print("FATAL Unable to initialize the Java DB: ...", file=sys.stderr)
        sys.exit(1)
if told.get("damaged") and "vuln" in options.get("scanners", ""):
    print("FATAL run error: init error: DB error: failed to open db: invalid database")
    sys.exit(1)
if told.get("killed"):
    if arguments[0] == "convert":
        open(options["output"], "w").write("{{")
    os.kill(os.getpid(), 9)
if told.get("fails"):
    print(told["fails"], file=sys.stderr)
    sys.exit(1)
with open(options["output"], "w") as output:
    output.write("{{}}")
"""


class Fake:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        self.folder = folder / "bin"
        self.folder.mkdir()
        self.program = self.folder / "trivy"
        self.program.write_text(FAKE.format(python=sys.executable))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{os.environ['PATH']}")
        self.does()

    def does(self, **behaviour: Any) -> None:
        behaviour.setdefault("metadata", metadata())
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    @property
    def calls(self) -> list[list[str]]:
        return self._noted("calls")

    @property
    def variables(self) -> list[dict[str, str]]:
        """Trivy's own, of each call."""
        return self._noted("variables")

    def _noted(self, name: str) -> list[Any]:
        path = self.folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


def metadata(
    updated: str = "2026-01-01T00:00:00Z", next_update: datetime = NOW + timedelta(hours=6),
    downloaded: datetime = NOW,
) -> dict[str, str]:  # fmt: skip
    return {
        "UpdatedAt": updated, "NextUpdate": next_update.isoformat(),
        "DownloadedAt": downloaded.isoformat(),
    }  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


def scanned(trivy: Trivy, folder: Path, name: str = "one", **more: Any) -> list[str]:
    return trivy.scan(
        f"{name}:1", folder / name / "trivy.json",
        **{"source": "docker", "kinds": ("vulnerability", "secret"), "timeout": 60,
           "log": folder / "log", **more},
    )  # fmt: skip


def databases(fake: Fake, home: Path, source: str | None = None) -> Databases:
    return Databases(str(fake.program), home, Sources(source))


def test_the_version_is_asked_once_for_each_program(fake: Fake, tmp_path: Path) -> None:
    for _ in range(2):
        assert Trivy(tmp_path / "home", Sources()).version == "0.76.0"
    assert fake.calls == [["--version", "--config=", "--format", "json"]]
    fake.does(version="0.77.0")
    fake.program.write_text(fake.program.read_text() + "\n")
    assert Trivy(tmp_path / "home", Sources()).version == "0.77.0"


def test_no_program_of_trivys_reads_what_lies_about(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its own files of the repository, and of its variables none that hides a finding."""
    variables = {"TRIVY_SEVERITY": "LOW", "TRIVY_CONFIG": "x", "TRIVY_SERVER": "http://x"}
    kept = {"TRIVY_PASSWORD": "p", "TRIVY_CACERT": "c", "TRIVY_DB_REPOSITORY": "d"}
    for name, value in {**variables, **kept}.items():
        monkeypatch.setenv(name, value)
    trivy = Trivy(tmp_path / "home", Sources(checks="registry.example.com/checks"))
    _ = trivy.version, trivy.databases.checks()
    scanned(trivy, tmp_path)
    report = tmp_path / "one" / "trivy.json"
    trivy.sbom(report, tmp_path / "sbom", log=tmp_path / "log")
    trivy.match(tmp_path / "sbom", report, timeout=60, log=tmp_path / "log")
    commands = [call[0] for call in fake.calls]
    assert sorted(commands) == ["--version", "config", "convert", "image", "image", "sbom"]
    assert all("--config=" in call for call in fake.calls)
    looks = [call for call in fake.calls if any(one.startswith("--output") for one in call)]
    assert len(looks) == 3
    assert all("--ignorefile=" in call for call in looks)
    assert "--secret-config=" in next(call for call in looks if call[0] == "image")
    assert {name: value for one in fake.variables for name, value in one.items()} == kept


def test_a_damaged_note_of_the_version_is_asked_again(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "version.json").write_text("{")
    assert Trivy(tmp_path / "home", Sources()).version == "0.76.0"


def test_twenty_at_once_and_two_programs_never_share_a_cache(fake: Fake, tmp_path: Path) -> None:
    fake.does(alone=True)
    sessions = [Trivy(tmp_path / "home", Sources()) for _ in range(2)]
    with ThreadPoolExecutor(20) as pool:
        done = [pool.submit(scanned, sessions[n % 2], tmp_path, f"image-{n}") for n in range(20)]
        assert [one.result() for one in done] == [[]] * 20
    # One after another they use one directory, whose layers are analysed already.
    for n in range(3):
        scanned(sessions[0], tmp_path, f"later-{n}")
    caches = {o for call in fake.calls[-3:] for o in call if o.startswith("--cache-dir")}
    assert caches == {f"--cache-dir={tmp_path / 'home' / 'cache-0'}"}


def test_a_database_is_fetched_once_whoever_asks(fake: Fake, tmp_path: Path) -> None:
    fake.does(slow=0.3)
    sessions = [databases(fake, tmp_path / "home") for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: sessions[n % 4].vulnerabilities, range(8)))
    assert {one.updated for one in found} == {"2026-01-01T00:00:00Z"}
    assert len(fake.calls) == 1


def test_a_scan_sees_the_database_that_counts(fake: Fake, tmp_path: Path) -> None:
    trivy = Trivy(tmp_path / "home", Sources())
    scanned(trivy, tmp_path)
    link = tmp_path / "home" / "cache-0" / "db"
    first = link.resolve()
    assert json.loads((first / "metadata.json").read_text())["UpdatedAt"].startswith("2026-01-01")

    # A newer one is out: what the first scan opened is still there.
    old = metadata(next_update=NOW - timedelta(hours=1), downloaded=NOW - timedelta(hours=2))
    (first / "metadata.json").write_text(json.dumps(old))
    fake.does(metadata=metadata("2026-01-02T00:00:00Z"))
    later = Trivy(tmp_path / "home", Sources())
    assert later.databases.vulnerabilities.updated == "2026-01-02T00:00:00Z"
    scanned(later, tmp_path)
    assert link.resolve() != first
    assert (first / "metadata.json").exists()


@pytest.mark.parametrize(
    ("next_update", "downloaded", "asked"),
    [
        (timedelta(hours=1), timedelta(hours=-9), False),
        (timedelta(hours=-1), timedelta(minutes=-30), False),  # within the hour, as Trivy has it
        (timedelta(hours=-1), timedelta(hours=-2), True),
    ],
)
def test_when_a_newer_database_is_asked_for(
    fake: Fake, tmp_path: Path, next_update: timedelta, downloaded: timedelta, asked: bool
) -> None:
    fake.does(metadata=metadata(next_update=NOW + next_update, downloaded=NOW + downloaded))
    assert databases(fake, tmp_path / "home").vulnerabilities.updated is not None
    _ = databases(fake, tmp_path / "home").vulnerabilities
    assert len(fake.calls) == 1 + asked


def test_a_digest_is_never_asked_for_twice(fake: Fake, tmp_path: Path) -> None:
    stale = metadata(next_update=NOW - timedelta(days=1), downloaded=NOW - timedelta(days=1))
    fake.does(metadata=stale)
    pinned = "mirror.example.com/trivy-db@sha256:" + "1" * 64
    for _ in range(2):
        _ = databases(fake, tmp_path / "home", pinned).vulnerabilities
    assert len(fake.calls) == 1
    # Another source is another database, whatever is at hand of the first.
    _ = databases(fake, tmp_path / "home", pinned.replace("1", "2")).vulnerabilities
    assert f"--db-repository={pinned.replace('1', '2')}" in fake.calls[1]
    assert len(fake.calls) == 2


def test_a_database_that_cannot_be_had_is_told_and_an_old_one_kept(
    fake: Fake, tmp_path: Path
) -> None:
    fake.does(refuse="no such host")
    found = databases(fake, tmp_path / "home").vulnerabilities
    assert found.updated is None
    assert found.problem == "the vulnerability database cannot be had (no such host)"

    stale = metadata(next_update=NOW - timedelta(days=1), downloaded=NOW - timedelta(days=1))
    fake.does(metadata=stale)
    assert databases(fake, tmp_path / "home").vulnerabilities.problem == ""
    fake.does(refuse="no such host")
    found = databases(fake, tmp_path / "home").vulnerabilities
    assert (found.updated, bool(found.problem)) == ("2026-01-01T00:00:00Z", True)
    assert not list((tmp_path / "home").glob("*/incoming-*"))


def test_a_damaged_database_is_told(fake: Fake, tmp_path: Path) -> None:
    one = databases(fake, tmp_path / "home")
    _ = one.vulnerabilities
    (path,) = (tmp_path / "home").glob("*/current/db/metadata.json")
    path.write_text("{")
    assert "damaged" in one.at_hand().problem
    # The next run fetches it anew.
    assert databases(fake, tmp_path / "home").vulnerabilities.updated is not None


def test_without_a_database_secrets_are_looked_for_all_the_same(fake: Fake, tmp_path: Path) -> None:
    fake.does(refuse="no such host")
    scanned(Trivy(tmp_path / "home", Sources()), tmp_path)
    assert "--scanners=secret" in fake.calls[-1]


def test_jar_files_bring_the_index_of_java_libraries_once(fake: Fake, tmp_path: Path) -> None:
    fake.does(java=True)
    trivy = Trivy(tmp_path / "home", Sources(java="mirror.example.com/java"))
    assert scanned(trivy, tmp_path) == []
    assert scanned(trivy, tmp_path, "two") == []
    fetched = [call for call in fake.calls if "--download-java-db-only" in call]
    assert len(fetched) == 1
    assert "--java-db-repository=mirror.example.com/java" in fetched[0]


def test_jar_files_without_that_index_are_said_to_be_unknown(fake: Fake, tmp_path: Path) -> None:
    trivy = Trivy(tmp_path / "home", Sources())
    _ = trivy.databases.vulnerabilities
    fake.does(java=True, refuse="no such host")
    (lacking,) = scanned(trivy, tmp_path)
    assert lacking.startswith("it holds JAR files, and the index of Java libraries cannot be had")
    assert "--scanners=secret" in fake.calls[-1]


@pytest.mark.parametrize("image", ["--config=/etc/passwd", "-h", "a b:1"])
def test_an_images_name_is_never_an_option(fake: Fake, tmp_path: Path, image: str) -> None:
    trivy = Trivy(tmp_path / "home", Sources())
    trivy.scan(
        image, tmp_path / "r.json", source="docker", kinds=("secret",), timeout=9,
        log=tmp_path / "log",
    )  # fmt: skip
    assert fake.calls[-1][-2:] == ["--", image]


def test_trivy_that_fails_leaves_no_report(fake: Fake, tmp_path: Path) -> None:
    trivy = Trivy(tmp_path / "home", Sources())
    scanned(trivy, tmp_path)
    fake.does(fails="FATAL out of luck")
    with pytest.raises(ToolError, match="out of luck"):
        scanned(trivy, tmp_path)
    assert not (tmp_path / "one" / "trivy.json").exists()


def test_a_scan_that_outruns_its_time_is_ended(fake: Fake, tmp_path: Path) -> None:
    trivy = Trivy(tmp_path / "home", Sources())
    _ = trivy.databases.vulnerabilities
    fake.program.write_text("#!/bin/sh\nsleep 600\n")
    with pytest.raises(ToolError, match="no time left"):
        scanned(trivy, tmp_path, timeout=-29)  # half a minute more is given to Trivy itself


@pytest.mark.parametrize(
    ("source", "age", "asked"),
    [
        ("mirror.example.com/java", timedelta(hours=1), 1),
        ("mirror.example.com/java", timedelta(days=2), 2),
        ("mirror.example.com/java@sha256:" + "1" * 64, timedelta(days=2), 1),
    ],
)
def test_the_index_of_java_libraries_is_renewed(
    fake: Fake, tmp_path: Path, source: str, age: timedelta, asked: int
) -> None:
    fake.does(metadata=metadata(next_update=NOW - timedelta(minutes=1), downloaded=NOW - age))
    for _ in range(2):
        assert Databases(str(fake.program), tmp_path, Sources(java=source)).java() == ""
    assert len(fake.calls) == asked
    # One that cannot be renewed is better than none.
    fake.does(refuse="no such host")
    assert Databases(str(fake.program), tmp_path, Sources(java=source)).java() == ""


def test_a_trivy_that_is_killed_is_told_so(fake: Fake, tmp_path: Path) -> None:
    """The kernel does it where memory is short, and Trivy itself says nothing then."""
    fake.does(killed=True)
    with pytest.raises(ToolError, match="killed by signal 9"):
        scanned(Trivy(tmp_path / "home", Sources()), tmp_path)


def test_an_sbom_is_whole_or_not_there(fake: Fake, tmp_path: Path) -> None:
    trivy = Trivy(tmp_path / "home", Sources())
    report, sbom, log = tmp_path / "trivy.json", tmp_path / "sbom.cdx.json", tmp_path / "log"
    trivy.sbom(report, sbom, log=log)
    assert sbom.read_text() == "{}"
    sbom.unlink()
    fake.does(killed=True)
    with pytest.raises(ToolError, match="makes no SBOM"):
        trivy.sbom(report, sbom, log=log)
    assert not sbom.exists()


def test_a_database_that_cannot_be_opened_is_as_good_as_none(fake: Fake, tmp_path: Path) -> None:
    """And it is fetched anew by the next run, though it is not due for long."""
    fake.does(damaged=True)
    sbom, matched, log = tmp_path / "sbom.json", tmp_path / "matched.json", tmp_path / "log"

    def matches(trivy: Trivy) -> bool:
        return trivy.match(sbom, matched, timeout=60, log=log)

    for looks in (matches, lambda trivy: bool(scanned(trivy, tmp_path))):
        trivy = Trivy(tmp_path / "home", Sources())
        assert trivy.databases.vulnerabilities.updated is not None
        assert not looks(trivy)
        known = trivy.databases.vulnerabilities
        assert known.updated is None
        assert "damaged (failed to open db: invalid database)" in known.problem
    assert (tmp_path / "one" / "trivy.json").exists()  # secrets were looked for all the same

    fake.does()
    again = Trivy(tmp_path / "home", Sources())
    assert again.databases.vulnerabilities.updated is not None
    assert matches(again)
