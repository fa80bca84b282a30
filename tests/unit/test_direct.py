"""Plain HTTP to a registry: from many threads at once, from the first request on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ci_tools.images import direct

ASKING = """
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from ci_tools.errors import RegistryError
from ci_tools.images.direct import Direct, Patience


class Slow:  # threads meet in the middle of an import
    def find_spec(self, name, *_):
        if name.startswith("urllib3."):
            time.sleep(0.01)


def ask(number):
    time.sleep(number / 200)
    try:
        url = "http://127.0.0.1:1/"
        Direct("http", "127.0.0.1:1", Patience(retries=0)).ask("GET", url, {}, None, None)
    except RegistryError:
        return True


sys.meta_path.insert(0, Slow())
with ThreadPoolExecutor(32) as pool:
    assert all(pool.map(ask, range(64)))
"""


def test_the_first_requests_come_from_many_threads() -> None:
    """Imports in several threads can wait for each other, and then one of them fails."""
    done = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1:5100", "local up"),
        ("localhost:5000", "local up"),
        ("[::1]:5000", "local up"),
        ("registry-1.docker.io", "the network"),
    ],
)
def test_nobody_is_told_to_start_a_public_registry(host: str, said: str) -> None:
    assert said in direct.silent(host, OSError("no")).todo
    assert ("Start it" in direct.silent(host, OSError("no")).todo) == ("local up" in said)
