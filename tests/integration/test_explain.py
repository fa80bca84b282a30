"""What `plan --against` and `explain` say beforehand is what `build` then does."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pytest

from tests.integration.repositories import BASE, Machine, component, run

pytestmark = pytest.mark.integration


def test_what_is_told_beforehand_is_what_is_built(machine: Machine, tmp_path: Path) -> None:
    project = f"explained-{uuid.uuid4().hex[:8]}"
    files = {
        **component("base", BASE + run("busybox echo 1 >/base.txt") + "COPY note /note\n"),
        "components/base/note": "1",
        **component("child", f"FROM {project}/base\n" + run("busybox cat /base.txt >/child.txt")),
        **component("alone", BASE + run("busybox echo alone >/alone.txt")),
    }
    repository = machine.repository(tmp_path / project, files, project=project)
    repository.built().done()
    before = tmp_path / "before.json"
    shutil.copy(repository.path / "build/images.lock.json", before)
    away = {"DOCKER_HOST": "tcp://127.0.0.1:1"}
    assert repository.ci("explain", "child", env=away).done().out == "child: nothing changed\n"

    repository.write({"components/base/note": "2"})
    said = repository.ci("explain", "child", env=away).done().out
    assert [line for line in said.splitlines() if line.startswith("  ")] == [
        f"  parent {project}/base changed", "  file note changed",
    ]  # fmt: skip
    plan = repository.ci("plan", "--dry-run", "--json", "--against", str(before), env=away).done()
    told = json.loads(plan.out)["against"]
    repository.built().done()
    built = {name for name, image in repository.images.items() if image["built"]}
    assert {one["name"] for one in told["rebuild"]} == built == {"base", "child"}
    assert told["unchanged"] == 1
    assert repository.ci("explain", "child", env=away).done().out == "child: nothing changed\n"
