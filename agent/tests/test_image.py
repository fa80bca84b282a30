"""What the agent's image holds, asked in the very image. No engine answers there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

HOME = Path("/opt/kfp-ci")
PROGRAMS = {
    "python -m ci --version": r"kfp-ci, version \d",
    "kfp-ci --version": r"kfp-ci, version \d",
    "trivy --version": r"Version: \d",
    "hadolint --version": r"Haskell Dockerfile Linter \d",
    "uv --version": r"uv \d",
    "git --version": r"git version \d",
    "docker --version": r"Docker version \d",
    "docker buildx version": r"buildx\D+\d",
    "docker-registry --version": r"\d+\.\d+",
    "kfp-ci-agent echo what is given is run": "what is given is run",
}


def said(*command: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd="/tmp", timeout=60
    )
    return done.stdout


class Image(unittest.TestCase):
    def test_programs_are_there_and_work(self) -> None:
        for command, words in PROGRAMS.items():
            with self.subTest(command):
                self.assertRegex(said(*command.split()), words)

    def test_ssh_is_there_for_git_and_for_builds(self) -> None:
        self.assertTrue(shutil.which("ssh") and shutil.which("ssh-agent"))

    def test_there_is_no_engine(self) -> None:
        self.assertIsNone(shutil.which("dockerd"))

    def test_who_works_here_is_not_root_and_cannot_change_the_environment(self) -> None:
        self.assertEqual((os.getuid(), os.getgid()), (1000, 1000))
        for path in (HOME, HOME / "venv", HOME / "package"):
            self.assertFalse(os.access(path, os.W_OK))
        self.assertTrue(os.access(Path.home(), os.W_OK))

    def test_another_environment_can_be_made_where_the_locks_differ(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            said("python3", "-m", "venv", folder)
            self.assertIn("pip", said(f"{folder}/bin/python", "-m", "pip", "--version"))

    def test_everything_is_compiled_already(self) -> None:
        """Nobody may write bytecode here: what has none is compiled at each start."""
        (packages,) = HOME.glob("venv/lib/python3*/site-packages")
        for folder in (packages / "kfp", HOME / "package/ci"):
            sources = {path.stem for path in folder.glob("*.py")}
            self.assertTrue(sources)
            compiled = {path.name.split(".")[0] for path in folder.glob("__pycache__/*.pyc")}
            self.assertEqual(sources, compiled)

    def test_the_environment_is_what_its_locks_say(self) -> None:
        installed = said(str(HOME / "venv/bin/uv"), "pip", "list", "--format=freeze", "--python",
                         str(HOME / "venv/bin/python"))  # fmt: skip
        locked = "".join((HOME / name).read_text() for name in ("run.lock", "tools.lock"))
        names = set(re.findall(r"^([\w.-]+==[\w.+!]+)", locked, re.MULTILINE))
        self.assertTrue(installed)
        self.assertLessEqual(set(installed.split()), names)


if __name__ == "__main__":
    unittest.main()
