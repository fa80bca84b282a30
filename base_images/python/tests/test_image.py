"""What components count on is in the image, and nothing more."""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest


def test_python_is_that_of_the_environment() -> None:
    assert sys.version_info[:2] == (3, 11)
    assert sys.prefix == "/opt/venv"
    assert shutil.which("python3") == "/opt/venv/bin/python3"


def test_the_user_is_not_root() -> None:
    assert os.getuid() == 10001


def test_the_environment_ships_no_package_manager() -> None:
    # The base below may have a pip of its own, outside the environment.
    assert shutil.which("pip", path=f"{sys.prefix}/bin") is None
    assert importlib.util.find_spec("pip") is None


def test_the_locked_versions_are_installed_and_nothing_else() -> None:
    lock = Path(__file__).with_name("locked.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE))
    found = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    assert {item.metadata["Name"].lower(): item.version for item in found} == locked


@pytest.mark.parametrize(
    "name", ["joblib", "numpy", "pandas", "scipy.stats", "sklearn.datasets", "sklearn.linear_model"]
)
def test_the_libraries_import(name: str) -> None:
    importlib.import_module(name)
