"""A world to promote in, and a driver whose processes are killed at any of its actions.

Real: both registries, the releases with their signatures, git, the journal, the lock, and
the API client of Kubeflow. FAKES: the Kubeflow server (tests/fakes/kubeflow.py), the
prediction services (a file) and the scan (what `SCANS` says).

As a program it reads a request a line, does each at once in a child of its own and tells
how that ended: nothing has to be imported anew, and a killed child is really dead.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ci import live, promote
from ci.promotion.services import Event, Now, Wanted
from ci.promotion.target import Target
from ci.workspace import Workspace
from ci_tools import documents as d
from ci_tools import storage
from ci_tools.errors import CIError, DeploymentFailedError
from ci_tools.images import copy_set, moving, referrers_tag
from ci_tools.kubeflow.inventory import ServerInventory
from ci_tools.kubeflow.server import KubeflowServer
from ci_tools.promotion import lease
from ci_tools.release import store
from ci_tools.serving.declaration import Servable

KILLED = 9


@dataclass
class FileServices:
    """A FAKE of the prediction services, in a file: satisfies `Services`."""

    path: Path
    act: Callable[[str], None] = lambda _: None

    def prepare(self) -> None:
        """There is nothing to connect to."""

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def _write(self, service: str, **changes: Any) -> None:
        whole = self.read()
        whole.setdefault(service, {"definitions": [], "desired": 0, "runs": ""}).update(changes)
        storage.write_bytes(self.path, json.dumps(whole).encode())

    def now(self, service: str) -> Now | None:
        found = self.read().get(service)
        if found is None:
            return None
        return SimpleNamespace(
            task_definition=found["runs"],
            sha256=found["runs"].partition("#")[2],
            desired=found["desired"],
            serves=found["desired"] > 0,
            good=found["runs"],
            verified=True,
        )

    def sha256(self, wanted: Wanted) -> str:
        model = wanted.model.sha256 if wanted.model else ""
        return f"{wanted.image.rpartition(':')[2][:12]}{model[:4]}"

    def diff(self, wanted: Wanted) -> list[str]:
        now = self.now(wanted.servable.service)
        if now is not None and now.sha256 == self.sha256(wanted):
            return []
        return [f"image: {now.sha256 if now else '(none)'} -> {wanted.image}"]

    def deploy(self, wanted: Wanted, tags: Mapping[str, str], on_event: Event) -> d.Revision:
        name, sha256 = wanted.servable.service, self.sha256(wanted)
        now = self.now(name)
        was = self.read().get(name, {"definitions": [], "runs": ""})
        arn = was["runs"]
        if now is None or now.sha256 != sha256 or not now.serves:
            arn = f"arn:{name}:{len(was['definitions']) + 1}#{sha256}"
            self._write(name, definitions=[*was["definitions"], arn], runs=was["runs"])
            self.act("registered")
            if (self.path.parent / "unhealthy").exists():
                if now is None:
                    self._write(name, runs=arn, desired=0)
                raise DeploymentFailedError(
                    f"the deployment of {name} failed (tasks stop: exit code 3); the last "
                    "verified revision serves again", "Mend the image",
                )  # fmt: skip
            self._write(name, runs=arn, desired=wanted.servable.count)
            self.act("updated")
        on_event(f"{name}: {arn} is verified")
        return d.Revision(
            service=name, cluster="prod", image=wanted.image, model=wanted.model,
            task_definition=arn, task_definition_sha256=sha256, changed=arn != was["runs"],
        )  # fmt: skip

    def go_back(self, servable: Servable, task_definition: str, on_event: Event) -> None:
        if (self.path.parent / "stuck").exists():
            raise DeploymentFailedError(f"{task_definition} stops too", "Mend it")
        self._write(servable.service, runs=task_definition, desired=servable.count)
        on_event(f"{servable.service}: back on {task_definition}")

    def stop(self, service: str, task_definition: str | None) -> None:
        changes = {"runs": task_definition} if task_definition else {}
        self._write(service, desired=0, **changes)

    def disown(self, task_definition: str) -> None:
        pass

    def clear(self, service: str, sha256: str) -> list[str]:
        return []


SCANS: dict[str, str] = {}  # component -> why it does not pass


def scanned(_: Any, releases: Any, **__: Any) -> tuple[d.ScanReport, dict[str, CIError]]:
    """A FAKE of today's scan."""
    images = [
        d.ScannedImage(
            component=name,
            verdict=d.Verdict(
                status="fail" if name in SCANS else "pass", reason=SCANS.get(name, ""),
                trivy="0", database="today", policy="p",
            ),
        )
        for name in releases[0].images
    ]  # fmt: skip
    report = d.ScanReport(
        project="ml", environment="prod", source=d.Source(), created="", trivy="0",
        database="today", policy="p", images=images,
    )  # fmt: skip
    return report, {}


def workspace(folder: Path, repository: Path) -> Workspace:
    """Of environment `prod`, with its state in a folder of its own."""
    return Workspace(
        repository=repository,
        build=folder / "build",
        environment_name="prod",
        home=folder / "home",
    )


def fakes(folder: Path, act: Callable[[str], None] = lambda _: None) -> None:
    """Put the fakes in their places, for one world."""
    live.judged = scanned  # type: ignore[assignment]
    Target.services = FileServices(folder / "services.json", act)  # type: ignore[assignment]
    lease.TIMING = lease.Timing(settle=0.0, look=0.05)
    referrers_tag._SETTLED = (0.0, 0.0)  # nobody else writes into these registries


def deadly(at: int, told: Path) -> Callable[[str], None]:
    """Actions are counted, and the one of this number is the process's last. told: the
    file that has a line for each."""

    count = 0

    def act(name: str) -> None:
        nonlocal count
        count += 1
        with told.open("a") as file:
            file.write(f"{name}\n")
        if count == at:
            os._exit(KILLED)

    def around(owner: Any, name: str, *, after: bool = True) -> None:
        real = getattr(owner, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            act(f"before {name}")
            made = real(*arguments, **keywords)
            if after:
                act(f"after {name}")
            return made

        setattr(owner, name, counted)

    # Each writing of the journal (ours is written, the registry's not yet), each of the
    # two of a record, each sign of life.
    around(moving, "put", after=False)
    around(copy_set, "copy_all")
    around(store, "publish")
    around(KubeflowServer, "upload_all")
    around(ServerInventory, "delete_version")
    around(FileServices, "go_back")
    return act


def done(request: dict[str, Any]) -> int:
    """One command; its exit code."""
    folder = Path(request["folder"])
    told = folder / "actions"
    told.unlink(missing_ok=True)
    act = deadly(request.get("kill", 0), told)
    fakes(folder, act)
    space = workspace(folder, Path(request["repository"]))
    asked = promote.Request(approvals=("ann",))
    try:
        match request["do"]:
            case "promote":
                promote.promote(space, request["release"], asked)
            case "rollback":
                promote.rollback(space, request.get("release"), asked)
            case "undo":
                promote.undo(space, asked)
    except CIError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def main() -> None:
    for name in ("kfp", "kfp_server_api", "oras.provider", "requests", "tenacity",
                 "cryptography.hazmat.primitives.serialization", "securesystemslib.dsse",
                 "securesystemslib.signer"):  # fmt: skip
        importlib.import_module(name)  # once, and not in every child
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    for line in sys.stdin:
        request = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child = os.fork()
            if child == 0:
                _exit(request)
            _, status = os.waitpid(child, 0)
            answer = {"id": request["id"], "code": os.waitstatus_to_exitcode(status)}
            os.write(1, json.dumps(answer).encode() + b"\n")
            os._exit(0)


def _exit(request: dict[str, Any]) -> None:
    code = 70
    try:
        code = done(request)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
