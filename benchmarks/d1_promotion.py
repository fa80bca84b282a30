"""D1 and D2: 20 images that share layers from one registry to another, and once more.

Two of distribution's own registries on this machine. The destination is a new one, on a
port of its own, for every run of every side: nobody finds what another run brought, nor
does skopeo, which remembers by registry where it saw a blob.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import shlex
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from measure import Goal, Side, Table, at_most, in_turn, seconds
from shared import Bench, call

from ci_tools.images.registry import Registry
from tests.integration import contents, registries

IMAGES = 20
FAMILY = 5  # so many have one more layer in common
MB = 1_000_000
BASE = (30 * MB, 20 * MB, 10 * MB)  # layers of all
SHARED, OWN = 15 * MB, (4 * MB, MB // 5)  # of a family; of each image
ATTACHED = {"application/vnd.cyclonedx+json": 400_000, "application/vnd.in-toto+json": 20_000}
OURS, WITH, SERIAL, PARALLEL = (
    "copy_all",
    "copy_all, two attachments an image",
    "skopeo copy, one after the other",
    "xargs -P2 skopeo copy",
)
SKOPEO = (
    "skopeo copy --quiet --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false"
)
DRIVER = """
import json, sys
from ci_tools.images.copy_set import Wanted, copy_all
from ci_tools.images.registry import Registry
source, destination, wanted = json.load(sys.stdin)
done = copy_all(
    [Wanted(*one) for one in wanted], Registry(source), Registry(destination),
    tags={one[2]: ["release-1"] for one in wanted},
)
print(json.dumps(done._asdict()))
"""


def run(bench: Bench) -> Table:
    table = Table(f"D1, D2: {IMAGES} images that share layers, from registry to registry")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(registries.registry(bench.scratch / "d1-source"))
        digests = {
            prefix: images(source, prefix, attach=prefix == "attached")
            for prefix in ("plain", "attached")
        }
        here = Promotion(bench, source, digests, stack)
        sides = {
            OURS: Side(lambda: here.ours("plain"), here.prepare, here.check),
            WITH: Side(lambda: here.ours("attached"), here.prepare, here.check),
            SERIAL: Side(lambda: here.skopeo(1), here.prepare, here.check),
            PARALLEL: Side(lambda: here.skopeo(2), here.prepare, here.check),
        }
        taken = in_turn(sides, bench.runs)
        table.compare(f"D1: {OURS}, against {SERIAL}", taken[OURS], taken[SERIAL], at_most(0.5))
        table.compare(f"D1: {OURS}, against {PARALLEL}", taken[OURS], taken[PARALLEL])
        table.compare(f"D1: {WITH}, against {SERIAL}", taken[WITH], taken[SERIAL])
        table.notes.append(f"{OURS}: {here.told['plain']}; {WITH}: {here.told['attached']}")
        for prefix, what in (("plain", OURS), ("attached", WITH)):
            here.prepare()
            here.ours(prefix)
            again = in_turn({f"again: {what}": Side(partial(here.ours, prefix))}, bench.runs)
            (times,) = again.values()
            assert here.last["moved"] == here.last["bytes"] == here.last["manifests"] == 0
            goal, median = Goal(1, "< 1 s, 0 blobs"), statistics.median(times)
            table.add(f"D2: {what}, all there", seconds(times), "", "", goal, median)
            table.notes.append(f"again: {what}: {here.told[prefix]}")
    return table


class Promotion:
    """The sides, each with a destination of its own."""

    def __init__(
        self,
        bench: Bench,
        source: str,
        digests: dict[str, dict[str, str]],
        stack: contextlib.ExitStack,
    ) -> None:
        self._bench, self._source, self._digests, self._stack = bench, source, digests, stack
        self._registry = stack.enter_context(contextlib.ExitStack())
        self._destination, self._prefix = "", ""
        self.last: dict[str, Any] = {}
        self.told: dict[str, str] = {}

    def prepare(self) -> None:
        """A new and empty destination."""
        self._registry.close()
        home = self._bench.scratch / f"d1-{secrets.token_hex(4)}"
        self._destination = self._registry.enter_context(registries.registry(home))

    def ours(self, prefix: str) -> None:
        wanted = [(name, f"prod/{name}", digest) for name, digest in self._digests[prefix].items()]
        file = self._bench.scratch / "d1.json"
        file.write_text(json.dumps([self._source, self._destination, wanted]))
        command = ["sh", "-c", f'exec "$0" -c "$1" <{file}', sys.executable, DRIVER]
        started = time.perf_counter()
        answer = call(command, self._bench.scratch, self._bench.environment())
        spent = time.perf_counter() - started
        self._prefix, self.last = prefix, json.loads(answer)
        did = ", ".join(
            f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value:,}"
            for name, value in self.last.items()
        )
        self.told[prefix] = f"{did}, of {spent:.2f} s with the start of Python"

    def skopeo(self, jobs: int) -> None:
        self._prefix = "plain"
        pairs = [
            f"docker://{self._source}/{name}@{digest} "
            f"docker://{self._destination}/prod/{name}:release-1"
            for name, digest in self._digests["plain"].items()
        ]
        lines = shlex.join(["printf", "%s\n", *pairs])
        call(["sh", "-c", f"{lines} | xargs -P{jobs} -L1 {SKOPEO}"], Path.cwd())

    def check(self) -> None:
        """Every image is there, under its tag and its digest."""
        registry = Registry(self._destination)
        for name, digest in self._digests[self._prefix].items():
            found = {registry.digest(f"prod/{name}", what) for what in (digest, "release-1")}
            assert found == {digest}, f"{name}: {found}"


def images(host: str, prefix: str, *, attach: bool) -> dict[str, str]:
    """Put the images there, each as buildx does: an index of one platform and its
    provenance. Repository -> digest."""
    randoms = random.Random(prefix)  # noqa: S311 - the same bytes each time
    base = [randoms.randbytes(size) for size in BASE]
    made = {}
    for number in range(IMAGES):
        if number % FAMILY == 0:
            shared = randoms.randbytes(SHARED)
        name = f"{prefix}/component-{number:02}"
        layers = [*base, shared, *(randoms.randbytes(size) for size in OWN)]
        image = contents.image(host, name, *layers)
        provenance = contents.image(host, name, randoms.randbytes(8000), architecture="unknown")
        whole = contents.index(
            host,
            name,
            "v1",
            image | {"platform": {"os": "linux", "architecture": "amd64"}},
            provenance | {"platform": {"os": "unknown", "architecture": "unknown"}},
        )
        if attach:
            entries = [
                contents.attachment(host, name, image, kind, randoms.randbytes(size))
                for kind, size in ATTACHED.items()
            ]
            contents.listing(host, name, image["digest"], *entries)
        made[name] = whole["digest"]
    return made
