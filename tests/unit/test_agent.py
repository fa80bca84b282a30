"""The agent's image as far as no engine is needed: its scripts, its locks, what it is sent."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_tools import config, git
from ci_tools.components import context, discovery
from ci_tools.components.dockerignore import Ignore
from ci_tools.local import stand_in

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent"
MEANT = ("KFP_CI_", "JENKINS_", "BUILDKIT_", "BUILDX_")  # variables that the scripts read


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def shell(
    script: Path, *arguments: str, fakes: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script with fakes of programs first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(MEANT)}
    path = f"{fakes}:{os.environ['PATH']}"
    return subprocess.run(
        [shutil.which("bash") if script.name == "bootstrap.sh" else "/bin/sh", script, *arguments],
        capture_output=True,
        text=True,
        env={**kept, "PATH": path, **env},
        timeout=60,
    )


def locked(name: str) -> dict[str, str]:
    """Requirement with its marker -> its hashes."""
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^ *#.*\n", "", text).strip())
    return {head: rest for head, _, rest in (block.partition("\\\n") for block in blocks)}


def names(requirements: dict[str, str]) -> set[str]:
    return {one.partition("==")[0] for one in requirements}


class TestLocks:
    def test_the_packages_lock_is_a_part_of_that_of_development(self) -> None:
        run, dev = locked("run.lock"), locked("dev.lock")
        assert len(run) > 50
        assert {one: dev.get(one) for one in run} == run

    def test_it_holds_what_the_package_asks_for_and_nothing_that_only_tests_use(self) -> None:
        setup = (ROOT / "setup.cfg").read_text()
        asked = re.search(r"^install_requires =\n((?:    .+\n)+)", setup, re.MULTILINE)
        extra = re.search(r"^dev =\n((?:    .+\n)+)", setup, re.MULTILINE)
        assert asked
        assert extra
        run = names(locked("run.lock"))
        wanted, development = (
            {re.split(r"[\s\[=<>;]", line.strip())[0].lower() for line in found[1].splitlines()}
            for found in (asked, extra)
        )
        assert wanted <= run
        # kfp itself brings the one, as it happens.
        assert development & run <= {"jsonschema"}


class TestContext:
    def test_the_image_is_sent_the_package_and_its_locks(self) -> None:
        sent = set(context.paths(ROOT, AGENT / "Dockerfile"))
        assert {"ci/__main__.py", "ci_tools/local/stand-in.txt", "requirements/run.lock"} <= sent
        assert {"setup.cfg", "pyproject.toml", "agent/entrypoint.sh", "agent/debian.sh"} <= sent
        assert not [path for path in sent if path.startswith("tests/")]
        ignore = Ignore((AGENT / "Dockerfile.dockerignore").read_text())
        assert ignore.ignores("ci/cli/__pycache__/group.pyc")
        assert ignore.ignores("build/plan.json")
        # A key by which others build must not hang on what is not committed anywhere.
        assert sent <= set(git.files(ROOT))

    def test_it_is_a_project_of_its_own_and_no_part_of_the_main_one(self) -> None:
        files = git.files(ROOT)
        own = config.parse(AGENT / "ci.yaml", config.Config)
        assert own.project
        (agent,) = discovery.discover(ROOT, own, own.project, files).values()
        assert (agent.name, agent.context, agent.test_target) == ("agent", ".", "test")
        assert agent.unused_args == ()
        assert agent.bases == ("debian:trixie-slim",)
        main = config.load(ROOT)
        assert main.project
        assert "agent" not in discovery.discover(ROOT, main, main.project, files)

    def test_every_package_is_locked_by_hash_and_root_is_not_who_works_there(self) -> None:
        dockerfile = (AGENT / "Dockerfile").read_text()
        installs = re.findall(r"pip (?:install|sync)[^&]*", dockerfile)
        assert len(installs) == 4
        assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
        assert dockerfile.rindex("USER 1000:1000") > dockerfile.rindex("USER 0")


class TestBootstrap:
    """On an agent. docker, Debian's tools and its Python are fakes; what is layered is real."""

    @pytest.fixture
    def fakes(self, tmp_path: Path) -> Path:
        for name in ("docker", "docker-registry", "mmdebstrap", "skopeo", "cosign"):
            program(tmp_path / "fakes", name, "exit 0")
        for name in ("busybox", "ssh-agent", "groovy", "java", "apt-get"):
            program(tmp_path / "fakes", name, "exit 0")
        # A Python whose environments have a pip that can install nothing.
        program(
            tmp_path / "fakes",
            "python3",
            '[ "$2" = venv ] || exit 0\n'
            'rm -rf "$4" && mkdir -p "$4/bin"\n'
            'printf "#!/bin/sh\\n[ \\"\\$3\\" = --version ]\\n" >"$4/bin/python"\n'
            'chmod +x "$4/bin/python"',
        )
        return tmp_path / "fakes"

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        job = tmp_path / "a job's workspace"
        for folder in ("scripts", "requirements", "ci"):
            (job / folder).mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "bootstrap.sh", job / "scripts")
        for name in ("dev.lock", "run.lock", "tools.lock"):
            shutil.copy(ROOT / "requirements" / name, job / "requirements")
        shutil.copy(ROOT / "setup.cfg", job)
        shutil.copy(ROOT / "pyproject.toml", job)
        (job / "ci" / "__init__.py").write_text("WHERE = 'checkout'\n")
        return job

    @pytest.fixture
    def prepared(self, tmp_path: Path) -> Path:
        """What an agent's image holds: locks, and an environment with one module."""
        image = tmp_path / "image"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(image / "venv")], check=True
        )
        (packages,) = image.glob("venv/lib/python3*/site-packages")
        (packages / "of_the_image.py").write_text("")
        # Seen from what is layered on it, and able to install nothing.
        (packages / "pip.py").write_text("import sys\nsys.exit(sys.argv[1] != '--version')\n")
        (packages / "ci").mkdir()
        (packages / "ci" / "__init__.py").write_text("WHERE = 'image'\n")
        program(image / "venv" / "bin", "trivy", "echo trivy of the image")
        for name in ("run.lock", "tools.lock"):
            shutil.copy(ROOT / "requirements" / name, image)
        return image

    def run(
        self, checkout: Path, fakes: Path, prepared: Path, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        return shell(
            checkout / "scripts" / "bootstrap.sh",
            *arguments,
            fakes=fakes,
            KFP_CI_HOME=str(checkout.parent / "home"),
            KFP_CI_PREPARED=str(prepared),
        )

    def python(self, checkout: Path, code: str) -> str:
        return subprocess.run(
            [checkout / ".venv" / "bin" / "python", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
        ).stdout.strip()

    def test_the_images_environment_is_used_below_the_checkouts_own_files(
        self, checkout: Path, fakes: Path, prepared: Path
    ) -> None:
        before = sorted(prepared.rglob("*"))
        done = self.run(checkout, fakes, prepared)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].split() == [
            "bootstrap:",
            "python",
            "found",
            "in",
            str(prepared),
        ]
        assert "installed" not in done.stdout
        assert self.python(checkout, "import of_the_image, ci; print(ci.WHERE)") == "checkout"
        trivy = checkout / ".venv" / "bin" / "trivy"
        assert (
            subprocess.run([trivy], capture_output=True, text=True).stdout == "trivy of the image\n"
        )
        # Python itself keeps bytecode where it may, which in the image it may not.
        after = [path for path in sorted(prepared.rglob("*")) if "__pycache__" not in str(path)]
        assert after == before

    def test_a_second_time_nothing_is_made_again(
        self, checkout: Path, fakes: Path, prepared: Path
    ) -> None:
        assert self.run(checkout, fakes, prepared).returncode == 0
        before = {path: path.lstat().st_ino for path in (checkout / ".venv").rglob("*")}
        assert self.run(checkout, fakes, prepared).returncode == 0
        assert {
            path: path.lstat().st_ino
            for path in (checkout / ".venv").rglob("*")
            if "__pycache__" not in str(path)
        } == before

    def test_a_workspace_that_outlives_an_image(
        self, checkout: Path, fakes: Path, prepared: Path, tmp_path: Path
    ) -> None:
        """The next image's locks are the same, its Python is another."""
        assert self.run(checkout, fakes, prepared).returncode == 0
        (checkout / ".venv" / "old").write_text("")
        python = prepared / "venv" / "bin" / "python"
        shutil.copy(python.resolve(), tmp_path / "another-python")
        python.unlink()
        python.symlink_to(tmp_path / "another-python")
        (prepared / "venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
        done = self.run(checkout, fakes, prepared)
        assert done.returncode == 0, done.stderr
        assert not (checkout / ".venv" / "old").exists()

    @pytest.mark.parametrize("lock", ["run.lock", "tools.lock"])
    def test_other_locks_get_an_environment_of_their_own(
        self, checkout: Path, fakes: Path, prepared: Path, lock: str
    ) -> None:
        """Which the fake cannot install: that it is tried is the point."""
        assert self.run(checkout, fakes, prepared).returncode == 0
        with (checkout / "requirements" / lock).open("a") as file:
            file.write("# moved on\n")
        done = self.run(checkout, fakes, prepared)
        assert done.returncode == 13
        assert "bootstrap: uv could not be installed." in done.stderr
        # Nothing of the image is left in what it is installed into.
        assert not list((checkout / ".venv").rglob("kfp-ci.pth"))

    def test_tests_need_more_than_the_image_has(
        self, checkout: Path, fakes: Path, prepared: Path
    ) -> None:
        done = self.run(checkout, fakes, prepared, "--tests")
        assert done.returncode == 13
        assert "found in" not in done.stdout

    def test_a_workspace_that_moves_to_an_agent_without_the_image(
        self, checkout: Path, fakes: Path, prepared: Path, tmp_path: Path
    ) -> None:
        assert self.run(checkout, fakes, prepared).returncode == 0
        done = self.run(checkout, fakes, tmp_path / "nothing")
        assert done.returncode == 13
        assert "python" not in done.stdout
        assert not list((checkout / ".venv").rglob("kfp-ci.pth"))


class TestStandIn:
    """The AWS stand-in that an agent's image brings along."""

    @pytest.fixture
    def image(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("KFP_CI_PREPARED", str(tmp_path / "image"))
        program(tmp_path / "image/stand-in/bin", "python", "exit 0")
        shutil.copy(stand_in._LOCK_FILE, tmp_path / "image")
        return tmp_path / "image"

    def test_it_is_used_and_none_is_made(self, image: Path, tmp_path: Path) -> None:
        assert stand_in.install(tmp_path / "home") == image / "stand-in/bin/python"
        assert not (tmp_path / "home").exists()

    def test_one_of_another_lock_is_not(
        self, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (image / "stand-in.txt").open("a") as file:
            file.write("# moved on\n")
        made = []
        monkeypatch.setattr(
            stand_in, "_install_commands", lambda *places: made.append(places) or []
        )
        home = tmp_path / "home"
        home.mkdir()
        assert stand_in.install(home) == home / "stand-in/bin/python"
        assert made == [(home / "stand-in", home / "stand-in/bin/python")]


class TestDebian:
    """agent/debian.sh. apt-get is a fake that writes down how it is called."""

    SCRIPT = AGENT / "debian.sh"
    # As Debian's official images have it.
    SOURCES = """\
Types: deb
# http://archive.example.org/debian/20260101T000000Z
URIs: http://mirror.example.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
# http://archive.example.org/security/20260101T000000Z
URIs: http://mirror.example.org/security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp
"""

    @pytest.fixture
    def fakes(self, tmp_path: Path) -> Path:
        program(
            tmp_path / "fakes",
            "apt-get",
            f'echo "$@" >>"{tmp_path}/calls"\n'
            "for word; do case $word in Dir::Etc::SourceParts=*)\n"
            f'cat "${{word#*=}}"/*.sources >"{tmp_path}/sources" ;; esac; done',
        )
        program(tmp_path / "fakes", "mkdir", "exit 0")  # of manuals, on this machine
        (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
        return tmp_path / "fakes"

    def run(
        self, fakes: Path, *arguments: str, sources: str = SOURCES
    ) -> subprocess.CompletedProcess[str]:
        etc = fakes.parent / "etc"
        (etc / "apt/sources.list.d/debian.sources").write_text(sources)
        return shell(self.SCRIPT, *arguments, fakes=fakes, KFP_CI_ETC=str(etc))

    def test_without_a_snapshot_the_bases_own_sources_count(self, fakes: Path) -> None:
        assert self.run(fakes, "", "git", "python3").returncode == 0
        assert (fakes.parent / "calls").read_text().splitlines() == [
            "-q update",
            "-q -y install --no-install-recommends git python3",
        ]

    @pytest.mark.parametrize(
        ("asked", "taken"), [("base", "20260101T000000Z"), ("20261101T000000Z",) * 2]
    )
    def test_a_snapshot_is_all_that_is_asked(self, fakes: Path, asked: str, taken: str) -> None:
        done = self.run(fakes, asked, "git")
        assert done.returncode == 0, done.stderr
        calls = (fakes.parent / "calls").read_text().splitlines()
        assert len(calls) == 2
        assert all("-o Dir::Etc::SourceList=/dev/null" in call for call in calls)
        assert calls[1].endswith(" -q -y install --no-install-recommends git")
        found = (fakes.parent / "sources").read_text()
        expected = self.SOURCES.replace("mirror", "archive").splitlines()
        assert found.splitlines() == [
            f"{line}/{taken}" if line.startswith("URIs") else line
            for line in expected
            if not line.startswith("#")
        ]

    @pytest.mark.parametrize(
        "asked",
        [
            "yesterday",
            "20261101",
            "20261101T000000Z -o x",
            "x\n20261101T000000Z",
            "20261101T000000Z\nx",
        ],
    )
    def test_what_is_no_time_is_refused(self, fakes: Path, asked: str) -> None:
        self.refused(fakes, asked, "is no time of a snapshot")

    @pytest.mark.parametrize("asked", ["base", "20261101T000000Z"])
    def test_a_base_that_names_no_archive_is_told(self, fakes: Path, asked: str) -> None:
        first, _, second = self.SOURCES.partition("\n\n")
        plain = "\n".join(line for line in second.splitlines() if not line.startswith("#"))
        self.refused(fakes, asked, "name no archive", sources=plain)
        # Half of it pinned is not pinned.
        self.refused(fakes, asked, "name no archive", sources=f"{first}\n\n{plain}\n")

    def refused(self, fakes: Path, asked: str, words: str, sources: str = SOURCES) -> None:
        done = self.run(fakes, asked, "git", sources=sources)
        assert done.returncode == 1
        assert words in done.stderr
        assert not (fakes.parent / "calls").exists()

    def test_no_host_is_named(self) -> None:
        for path in (self.SCRIPT, AGENT / "Dockerfile"):
            assert "://" not in path.read_text()


class TestEntrypoint:
    """agent/entrypoint.sh. java is a fake that says how it is called; so is the controller."""

    SCRIPT = AGENT / "entrypoint.sh"

    @pytest.fixture
    def fakes(self, tmp_path: Path) -> Path:
        program(
            tmp_path / "fakes",
            "java",
            'echo "$@"\n'
            'for word; do case $word in @*) stat -c %a "${word#@}"; cat "${word#@}" ;; esac; done\n'
            'echo; echo "in the environment: ${JENKINS_SECRET:-nothing}"',
        )
        return tmp_path / "fakes"

    @pytest.fixture
    def controller(self) -> Iterator[str]:
        class Controller(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == "/ci/jnlpJars/agent.jar"
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(b"a jar" if found else b"")

            def log_message(self, *_: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Controller) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/ci/"
            server.shutdown()

    def run(self, fakes: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return shell(
            self.SCRIPT, *arguments, fakes=fakes, HOME=str(fakes.parent), no_proxy="*", **env
        )

    def test_a_command_is_run_as_it_is(self, fakes: Path) -> None:
        done = self.run(fakes, "printf", "%s|", "a b", "$(id)", "")
        assert done.stdout == "a b|$(id)||"

    def test_an_inbound_agent_connects_and_shows_its_secret_to_nobody(
        self, fakes: Path, controller: str
    ) -> None:
        work = fakes.parent / "agent"
        done = self.run(
            fakes, JENKINS_URL=controller, JENKINS_AGENT_NAME="a 1", JENKINS_SECRET="s3cret"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            f"-jar {work}/agent.jar -url {controller} -name a 1 -secret @{work}/.secret"
            f" -workDir {work} -webSocket",
            "600",
            "s3cret",
            "in the environment: nothing",
        ]
        assert (work / "agent.jar").read_bytes() == b"a jar"

    @pytest.mark.parametrize(
        ("asked", "ending"),
        [
            ({"JENKINS_WEB_SOCKET": "false"}, ""),
            ({"JENKINS_WEB_SOCKET": "true"}, " -webSocket"),
            ({"JENKINS_TUNNEL": "jenkins:50000"}, " -tunnel jenkins:50000"),
            ({"JENKINS_AGENT_WORKDIR": "{}/w"}, " -webSocket"),
        ],
    )
    def test_how_it_connects_can_be_said(
        self, fakes: Path, controller: str, asked: dict[str, str], ending: str
    ) -> None:
        given = {"JENKINS_URL": controller, "JENKINS_AGENT_NAME": "a", "JENKINS_SECRET": "s"}
        asked = {name: value.format(fakes.parent) for name, value in asked.items()}
        work = asked.get("JENKINS_AGENT_WORKDIR", f"{fakes.parent}/agent")
        done = self.run(fakes, **given, **asked)
        assert done.stdout.splitlines()[0].endswith(f" -workDir {work}{ending}")

    def test_built_on_jenkins_own_image_that_one_connects(self, fakes: Path) -> None:
        program(fakes, "jenkins-agent", 'echo "theirs: $@"')
        assert self.run(fakes, JENKINS_SECRET="s").stdout == "theirs: \n"
        assert (
            self.run(fakes, "secret", "name", JENKINS_SECRET="s").stdout == "theirs: secret name\n"
        )
        assert self.run(fakes, "echo", "a command").stdout == "a command\n"

    @pytest.mark.parametrize("missing", ["JENKINS_URL", "JENKINS_AGENT_NAME", "JENKINS_SECRET"])
    def test_what_is_missing_is_named(self, fakes: Path, missing: str) -> None:
        given = {"JENKINS_URL": "http://x", "JENKINS_AGENT_NAME": "a", "JENKINS_SECRET": "s"}
        del given[missing]
        done = self.run(fakes, **given)
        assert done.returncode == 1
        assert f"{missing} is not set" in done.stderr

    def test_no_controller_is_told(self, fakes: Path, controller: str) -> None:
        done = self.run(
            fakes, JENKINS_URL=controller + "no", JENKINS_AGENT_NAME="a", JENKINS_SECRET="s"
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("kfp-ci-agent: ")
