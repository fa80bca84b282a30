"""How a build runs: what waits for what, who is first, what is tried again, and
what is left when it is stopped. Oracles: the registry through skopeo, and
wrappers of `docker` and `trivy` for what was run and when.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration import registries
from tests.integration.images import KEY_ID, SECRET
from tests.integration.repositories import (
    BASE,
    Machine,
    Repository,
    Spy,
    command_path,
    component,
    git,
    image_names,
    in_registry,
    inspected,
    run,
    skopeo,
)

pytestmark = pytest.mark.integration

LEAK = f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"


def keys(repository: Repository) -> dict[str, str]:
    return {one["name"]: one["key"] for one in repository.read("plan.json")["components"]}


def spied(repository: Repository, spy: Spy) -> dict[str, str]:
    return {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}


def identities(repository: Repository) -> dict[str, Any]:
    """What of a lock is not a time or a place."""
    return {
        name: {part: image[part] for part in
               ("repository", "digest", "config", "platforms", "key", "size", "tests",
                "parents", "bases", "ingredients")} | {"scan": image["verdict"]["status"]}
        for name, image in repository.images.items()
    }  # fmt: skip


# What waits for what ----------------------------------------------------------------


def test_a_child_is_built_while_its_parent_is_scanned(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        component("base") | component("child", "FROM base\n" + run("busybox touch /more")),
    )
    repository.ci("plan").done()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    real = shutil.which("trivy", path=repository.environment()["PATH"])
    # Trivy waits, at the first scan, until the engine has the child: it comes only
    # if nobody waits for Trivy.
    (bin_ / "trivy").write_text(
        "#!/bin/sh\n"
        'case "$*" in *--format=json*)\n'
        f"  for i in $(seq 300); do [ -n \"$(docker image ls -q --filter "
        f"label=kfp-ci.key={keys(repository)['child']})\" ] && break; sleep 0.1; done\n"
        f"  [ $i -lt 300 ] || exit 1 ;;\nesac\nexec {real} \"$@\"\n"
    )  # fmt: skip
    (bin_ / "trivy").chmod(0o755)
    path = f"{bin_}:{repository.environment()['PATH']}"
    repository.ci("build", "--jobs", "2", env={"PATH": path}).done()
    base, child = (inspected(repository.reference(name))["Layers"] for name in ("base", "child"))
    assert child[: len(base)] == base
    # The name that only this run gave them is gone again.
    tags = [tag for tag in image_names("") if repository.project in tag]
    assert tags
    assert not [tag for tag in tags if ":run-" in tag]


def test_a_child_of_a_refused_parent_is_in_no_registry(machine: Machine, tmp_path: Path) -> None:
    """Its own scan would pass: it takes only a harmless file of the parent."""
    child = "FROM scratch\nCOPY --from=base /bin/busybox /bin/busybox\n"
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("base", BASE + "COPY credentials /root/.aws/\n", credentials=LEAK),
            **component("child", child),
            **component("good"),
        },
    )
    repository.built().refused(22, "'base'", "also failed: child (parent)")
    assert list(repository.images) == ["good"]
    for name in ("base", "child"):
        assert not in_registry(repository.tagged(name, keys(repository)[name]))


def test_the_longest_chain_is_first(machine: Machine, tmp_path: Path, spy: Spy) -> None:
    names = ["a", "b", "root", "z"]
    files = {k: v for name in names for k, v in component(name).items()}
    leaf = component("leaf", "FROM root\n" + run("busybox touch /leaf"))
    repository = machine.repository(tmp_path / "r", {**files, **leaf})
    repository.built().done()
    # Another lock that tells what each took: the chain root -> leaf 3 + 9 seconds, z 10.
    lock = repository.read("images.lock.json")
    for name, seconds in {"a": 1, "b": 2, "root": 3, "leaf": 9, "z": 10}.items():
        lock["components"][name]["timings"] = {"build": seconds}
    (tmp_path / "timings.json").write_text(json.dumps(lock))
    for name in names:
        repository.write({f"components/{name}/Dockerfile": BASE + run("busybox touch /new")})
    repository.ci("plan", "--timings", str(tmp_path / "timings.json")).done()
    repository.ci("build", "--jobs", "1", env=spied(repository, spy)).done()
    built = [call.rpartition("/components/")[2] for call in spy.builds]
    assert built == ["root", "z", "leaf", "b", "a"]


# Two at once -----------------------------------------------------------------------


def test_two_jobs_that_build_one_key_end_with_one_image(machine: Machine, tmp_path: Path) -> None:
    """Another commit is another label, so that the two images are not the same bytes."""
    one = machine.repository(
        tmp_path / "one", component("c") | component("d"), project=f"p-{uuid.uuid4().hex[:8]}"
    )
    two = Repository(tmp_path / "two", machine, one.config)
    subprocess.run(["git", "clone", "--quiet", one.path, two.path], check=True)
    two.commit()
    for job in (one, two):
        job.ci("plan").done()
    assert keys(one) == keys(two)
    jobs = [
        subprocess.Popen(job.command("build"), cwd=job.path, env=job.environment(),
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for job in (one, two)
    ]  # fmt: skip
    said = [job.communicate(timeout=600)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    for name, image in one.images.items():
        assert image["digest"] == two.images[name]["digest"]
        assert inspected(one.tagged(name, image["key"]))["Digest"] == image["digest"]
    assert sum(image["built"] for job in (one, two) for image in job.images.values()) == 2


# What is tried again ------------------------------------------------------------------


@contextlib.contextmanager
def refusing(registry: str, times: int, answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The registry behind a proxy that refuses the first manifests which are pushed."""
    host, _, port = registry.partition(":")
    refused: list[bytes] = []

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as upstream:
            threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 16):
                    request = data.partition(b"\r\n")[0]
                    manifest = request.startswith(b"PUT /v2/") and b"/manifests/" in request
                    if manifest and len(refused) < times:
                        refused.append(request)
                        client.sendall(answer)
                        return
                    upstream.sendall(data)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", refused
        server.shutdown(socket.SHUT_RDWR)


def response(status: str, code: str) -> bytes:
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def behind(machine: Machine, path: Path, host: str) -> Repository:
    where = {"dev": {"registry": {"host": host}, "allow_incomplete_scan": True}}
    return machine.repository(path, component("one"), environments=where)


def test_a_push_that_fails_for_a_passing_reason_is_tried_again(
    machine: Machine, tmp_path: Path
) -> None:
    busy = response("429 Too Many Requests", "TOOMANYREQUESTS")
    with refusing(machine.registry, 2, busy) as (host, refused):
        repository = behind(machine, tmp_path / "r", host)
        repository.ci("plan", "--env", "dev").done()
        told = repository.ci("build", "--env", "dev").done().err
        assert len(refused) == 2
        assert "one: attempt 1 of 4 failed" in told
        assert "one: attempt 2 of 4 failed" in told
        image = repository.images["one"]
    assert inspected(repository.tagged("one", image["key"]))["Digest"] == image["digest"]


def test_a_push_that_is_forbidden_is_not(machine: Machine, tmp_path: Path) -> None:
    denied = response("403 Forbidden", "DENIED")
    with refusing(machine.registry, 99, denied) as (host, refused):
        repository = behind(machine, tmp_path / "r", host)
        repository.ci("plan", "--env", "dev").done()
        repository.ci("build", "--env", "dev").refused(24, "denied")
        assert len([request for request in refused if b"/one/manifests/" in request]) == 1


def test_a_step_that_fails_is_not_tried_again(machine: Machine, tmp_path: Path, spy: Spy) -> None:
    # Its output looks like a network's trouble.
    script = "busybox echo 'dial tcp: i/o timeout'; busybox echo 503 Service Unavailable; exit 9"
    repository = machine.repository(tmp_path / "r", component("one", BASE + run(script)))
    repository.built(env=spied(repository, spy)).refused(20, "exit code: 9")
    assert len(spy.builds) == 1


# How it ends --------------------------------------------------------------------------


def test_fail_fast_ends_the_run(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("bad", BASE + run("exit 3")),
            **component("slow", BASE + run("busybox sleep 3000")),
            **component("waiting", "FROM slow\n"),
        },
    )
    answer = repository.built("--jobs", "2", "--fail-fast")
    answer.refused(20, "'bad'", "also failed: slow (cancelled), waiting (cancelled)")
    assert repository.failed["slow"]["exit_code"] == 27
    assert repository.images == {}


def test_an_image_has_a_time_of_its_own(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        component("good") | component("slow", BASE + run("busybox sleep 3000")),
        components={"slow": {"timeout": 3}},
    )
    repository.built().refused(20, "'slow'", "more than 3 s")
    assert list(repository.images) == ["good"]


def test_no_image_is_built_for_a_registry_that_takes_none(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    readonly = {"maintenance": {"readonly": {"enabled": True}}}
    with registries.registry(tmp_path / "registry", storage=readonly) as host:
        repository = behind(machine, tmp_path / "r", host)
        repository.ci("plan", "--env", "dev").done()
        repository.ci("build", "--env", "dev", env=spied(repository, spy)).refused(24)
        assert spy.builds == []


def test_killed_at_any_moment_the_next_run_gives_the_same_lock(
    machine: Machine, tmp_path: Path
) -> None:
    """Killed, not asked to stop. What the cache has of a layer is what makes its
    bytes, so it is not forgotten; the registry forgets the images each time."""
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("base", BASE + run("busybox sleep 0.3; busybox echo 1 >/one")),
            **component("left", "FROM base\n" + run("busybox sleep 0.3; busybox touch /left")),
            **component("right", "FROM base\n" + run("busybox sleep 0.2; busybox touch /right")),
            **component("alone", BASE + run("busybox sleep 0.4; busybox touch /alone")),
        },
    )
    began = time.monotonic()
    repository.built().done()
    whole = time.monotonic() - began
    undisturbed = identities(repository)
    chance = random.Random(int(os.environ.get("KFP_CI_KILL_SEED", "20261124")))
    landed = set()
    for _ in range(int(os.environ.get("KFP_CI_KILLS", "3"))):
        forget(repository, undisturbed)
        repository.ci("plan").done()
        child = subprocess.Popen(
            repository.command("build"), cwd=repository.path, env=repository.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(chance.uniform(0.1, whole))
        child.send_signal(signal.SIGKILL)
        landed.add(child.wait())
        repository.ci("build").done()
        assert identities(repository) == undisturbed
        assert not list(repository.build.glob(".*.json.*")) or repository.ci("plan").done()
    assert landed <= {0, -signal.SIGKILL}


def forget(repository: Repository, images: dict[str, Any]) -> None:
    """The registry without these images, and no build directory."""
    for name, image in images.items():
        if in_registry(repository.tagged(name, image["key"])):
            skopeo(
                "delete", "--tls-verify=false", f"docker://{image['repository']}@{image['digest']}"
            )
    shutil.rmtree(repository.build)


# What an image says of itself ----------------------------------------------------------


def test_labels_and_the_time_of_the_commit(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    git(repository.path, "remote", "add", "origin", "https://me:secret@git.example.com/team/ml.git")
    repository.built().done()
    committed = int(git(repository.path, "log", "-1", "--format=%ct"))
    seen = inspected(repository.reference("one"))
    when = datetime.fromtimestamp(committed, timezone.utc)
    assert datetime.fromisoformat(seen["Created"].replace("Z", "+00:00")) == when
    assert seen["Labels"] == {
        "kfp-ci.key": repository.images["one"]["key"],
        "org.opencontainers.image.created": when.isoformat(),
        "org.opencontainers.image.revision": git(repository.path, "rev-parse", "HEAD").strip(),
        "org.opencontainers.image.source": "https://git.example.com/team/ml.git",
    }


def test_a_cache_mount_is_kept_between_builds(machine: Machine, tmp_path: Path) -> None:
    place = f"type=cache,id={uuid.uuid4().hex},target=/kept"
    script = "busybox echo x >>/kept/seen; busybox wc -l </kept/seen >/count"
    files = component("one", BASE + "COPY more.txt /\n" + run(script, place), **{"more.txt": "1"})
    repository = machine.repository(tmp_path / "r", files)
    repository.built().done()
    repository.write({"components/one/more.txt": "2"})
    repository.built().done()
    image = repository.images["one"]["config"]
    said = docker.from_env().containers.run(image, ["/bin/busybox", "cat", "/count"], remove=True)
    assert said.strip() == b"2"


# Shards and branches -------------------------------------------------------------------


def test_shards_make_what_one_agent_would(machine: Machine, tmp_path: Path) -> None:
    files = {
        **component("base", BASE + run("busybox touch /base")),
        **component("child", "FROM base\n" + run("busybox touch /child")),
        **component("one", BASE + run("busybox touch /one")),
        **component("two", BASE + run("busybox touch /two")),
    }
    alone = machine.repository(tmp_path / "alone", files, project=f"p-{uuid.uuid4().hex[:8]}")
    alone.built().done()
    whole = identities(alone)
    forget(alone, whole)

    first = Repository(tmp_path / "agent-1", machine, alone.config)
    second = Repository(tmp_path / "agent-2", machine, alone.config)
    for agent in (first, second):
        subprocess.run(["git", "clone", "--quiet", alone.path, agent.path], check=True)
        git(agent.path, "remote", "remove", "origin")  # a label of images, and alone has none
    first.ci("plan", "--shards", "2").done()
    second.build.mkdir()
    shutil.copy(first.build / "plan.json", second.build)
    first.ci("build", "--shard", "1/2").done()
    first.ci("merge").refused(8, "2/2")
    second.ci("build", "--shard", "2/2").done()
    built = [
        {
            name
            for name, image in agent.read(f"images.lock.{number}-of-2.json")["components"].items()
        }
        for number, agent in ((1, first), (2, second))
    ]
    assert built[0] | built[1] == set(whole)
    assert not built[0] & built[1]
    assert {"base", "child"} <= built[0] or {"base", "child"} <= built[1]
    shutil.copytree(second.build, first.build, dirs_exist_ok=True)
    first.ci("merge").done()
    assert identities(first) == whole
    told = [
        (case.get("classname"), case.get("name"))
        for report in first.build.glob("reports/*.xml")
        for case in ET.parse(report).iter("testcase")
    ]
    assert {f"image.{name}" for name in whole} <= {where for where, _ in told}
    assert len(told) == len(set(told))  # no shard's is counted twice
    parts = [
        (case.get("classname"), case.get("name"))
        for report in first.build.glob("reports/shards/*.xml")
        for case in ET.parse(report).iter("testcase")
    ]
    assert sorted(parts) == sorted(told)  # whichever Jenkins is shown
    first.ci("pin").done()


def test_what_the_shards_build_on_is_built_first(machine: Machine, tmp_path: Path) -> None:
    files = {
        **component("base", BASE + run("busybox touch /base")),
        **component("other", "FROM base\n" + run("busybox false")),
        **component("third", "FROM other\n" + run("busybox touch /third")),
        **component("child", "FROM base\n" + run("busybox touch /child")),
    }
    repository = machine.repository(tmp_path / "r", files, build={"agent_seconds": 0})
    repository.ci("plan", "--shards", "2", "--first", "--jobs", "1").done()
    plan = repository.read("plan.json")
    by_shard = {one["name"]: one["shard"] for one in plan["components"]}
    assert by_shard["base"] == 0
    assert {by_shard["child"], by_shard["third"]} == {1, 2}
    repository.ci("build", "--shard", "1/2").refused(8, "base", "build --first")
    repository.ci("build", "--first").done()
    first = repository.read("images.lock.0-of-2.json")
    assert set(first["components"]) == {"base"}
    assert first["components"]["base"]["timings"]
    answers = [repository.ci("build", "--shard", f"{n}/2") for n in (1, 2)]
    assert sorted(answer.code for answer in answers) == [0, 20]
    repository.ci("merge").refused(20, "'other'", "third (parent)")
    assert set(repository.images) == {"base", "child"}
    # Its parent is the very image that shard 0 pushed.
    layers = {
        name: inspected(image["repository"] + "@" + image["digest"])["Layers"]
        for name, image in repository.images.items()
    }
    assert layers["child"][: len(layers["base"])] == layers["base"]


def test_a_branch_uses_what_main_has_and_cannot_replace_it(
    machine: Machine, tmp_path: Path
) -> None:
    """Where what branches build is kept apart, a branch pushes nothing where main looks."""
    where = {"registry": {"host": machine.registry, "branches": {}}, "allow_incomplete_scan": True}
    repository = machine.repository(
        tmp_path / "r", component("one") | component("two"), environments={"dev": where}
    )
    git(repository.path, "branch", "-M", "main")
    on_dev = {"KFP_CI_ENVIRONMENT": "dev"}
    repository.built(env=on_dev).done()
    main = repository.images
    assert main["one"]["repository"] == f"{machine.registry}/{repository.project}/one"

    git(repository.path, "checkout", "--quiet", "-b", "feature/x")
    repository.write({"components/one/Dockerfile": BASE + run("busybox touch /x")})
    repository.commit()
    repository.built(env=on_dev).done()
    branch = repository.images
    assert branch["two"]["digest"] == main["two"]["digest"]
    assert not branch["two"]["built"]
    assert branch["one"]["repository"] == f"{machine.registry}/branches/{repository.project}/one"
    assert not in_registry(repository.tagged("one", branch["one"]["key"]))

    # What main then builds of the same sources is main's own, not the branch's.
    git(repository.path, "checkout", "--quiet", "main")
    git(repository.path, "merge", "--quiet", "feature/x")
    repository.built(env=on_dev).done()
    assert repository.images["one"]["built"]
    assert repository.images["one"]["repository"] == main["one"]["repository"]
    assert in_registry(repository.tagged("one", branch["one"]["key"]))
    # A pull request may call its branch as it likes.
    repository.write({"components/one/Dockerfile": BASE + run("busybox touch /y")})
    repository.ci("plan", env={**on_dev, "CHANGE_ID": "7"}).done()
    planned = {one["name"]: one["repository"] for one in repository.read("plan.json")["components"]}
    assert planned["one"] == f"branches/{repository.project}/one"


def test_files_that_change_while_they_are_built_are_noticed(
    machine: Machine, tmp_path: Path
) -> None:
    """Else an image of other files would be what this key means for ever."""
    files = component("one", BASE + "COPY more.txt /\n", **{"more.txt": uuid.uuid4().hex})
    repository = machine.repository(tmp_path / "r", files)
    repository.ci("plan").done()
    # A docker that changes a file when it has built, before anything else is done.
    wrapper = tmp_path / "bin" / "docker"
    wrapper.parent.mkdir()
    real = shutil.which("docker", path=command_path())
    wrapper.write_text(
        f"#!/bin/sh\n'{real}' \"$@\"; code=$?\n"
        f'[ "$1 $2" != "buildx build" ] || echo 2 >{repository.path}/components/one/more.txt\n'
        "exit $code\n"
    )
    wrapper.chmod(0o755)
    answer = repository.ci("build", env={"PATH": f"{wrapper.parent}:{command_path()}"})
    answer.refused(20, "'one' were changed while it was built")
    assert not in_registry(repository.tagged("one", keys(repository)["one"]))


def test_one_command_plans_and_builds(machine: Machine, tmp_path: Path, spy: Spy) -> None:
    repository = machine.repository(tmp_path / "r", component("one") | component("two"))
    repository.ci("build", "--plan").done()
    first = identities(repository)
    repository.write({"components/one/Dockerfile": BASE + run("busybox touch /new")})
    # plan.json is of other sources now: a stage alone says so, this plans anew.
    repository.ci("build").refused(8, "out of date (one)")
    repository.ci("build", "--plan", env=spied(repository, spy)).done()
    assert len(spy.builds) == 1
    assert repository.images["one"]["key"] != first["one"]["key"]
    assert repository.images["two"]["digest"] == first["two"]["digest"]
    assert repository.ci("build", "--plan", "--shard", "1/2").code == 2
    assert keys(repository) == {n: i["key"] for n, i in repository.images.items()}


def test_a_build_by_force_is_of_its_own_key_and_uses_no_layer(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    random = BASE + run("busybox sh -c 'busybox head -c 16 /dev/urandom >/random'")
    repository = machine.repository(
        tmp_path / "r",
        {**component("base", random), **component("child", "FROM base\n"), **component("other")},
    )
    repository.ci("build", "--plan").done()
    before = identities(repository)
    told = repository.ci("plan", "--force", "base", "--force-id", "job-7").done()
    assert "forced by job-7" in told.out
    # A build reads it from plan.json, whatever a variable says by now.
    repository.ci("build", env={**spied(repository, spy), "KFP_CI_FORCE": "other"}).done()
    forced = identities(repository)
    assert {name for name in before if forced[name]["key"] != before[name]["key"]} == {
        "base", "child",
    }  # fmt: skip
    assert forced["base"]["digest"] != before["base"]["digest"]  # no layer was taken
    assert forced["child"]["digest"] != before["child"]["digest"]
    assert sum("--no-cache" in call for call in spy.builds) == 1
    why = repository.ci("explain", "child").done().out
    assert "built again by force: job-7 → nothing" in why

    spy.forget()  # the same plan again, as when a stage is restarted
    repository.ci("plan", "--force", "base", "--force-id", "job-7").done()
    repository.ci("build", env=spied(repository, spy)).done()
    assert spy.builds == []
    repository.ci("build", "--plan").done()  # the next build has what was there before
    assert identities(repository) == before


def test_an_image_is_not_better_than_its_parent(machine: Machine, tmp_path: Path) -> None:
    """The child's image is there; that of its parent is gone, and cannot be made again."""
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("base", "FROM scratch\nCOPY busybox /bin/busybox\nCOPY more /more\n"
                        + run("[ -e /bin/busybox ]", "type=secret,id=gate,target=/gate")),
            **component("child", "FROM scratch\nCOPY --from=base /more /more\n"),
            "components/base/busybox": Path("/bin/busybox").read_bytes(),
            "components/base/more": uuid.uuid4().hex,
        },
        build={"secrets": {"gate": str(tmp_path / "gate")}},
    )  # fmt: skip
    (tmp_path / "gate").write_text("open")
    repository.built().done()
    skopeo("delete", "--tls-verify=false", f"docker://{repository.reference('base')}")
    (tmp_path / "gate").unlink()
    repository.built().refused(3, "'gate'", "also failed: child (parent)")
    assert repository.images == {}


def test_a_child_is_built_while_the_image_of_its_parent_is_scanned_anew(
    machine: Machine, tmp_path: Path
) -> None:
    repository = machine.repository(
        tmp_path / "r", component("base") | component("child", "FROM base\n")
    )
    repository.built().done()
    shutil.rmtree(repository.build)  # no verdict is known of the parent, which is there
    repository.write({"components/child/Dockerfile": "FROM base\n" + run("busybox touch /new")})
    repository.built("--jobs", "2").done()
    assert {n: i["built"] for n, i in repository.images.items()} == {"base": False, "child": True}
