"""Sets of images between two of distribution's own registries, through proxies that do
harm; skopeo and the registries' own storage say what is true."""

from __future__ import annotations

import filecmp
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ci_tools.errors import CIError, CredentialsError, PushError, RegistryError
from ci_tools.images import blobs, referrers
from ci_tools.images.copy_set import Copied, Event, Wanted, copy_all
from ci_tools.images.registry import Registry
from tests.integration import registries
from tests.integration.between import Asked, Between, between
from tests.integration.contents import (
    absent,
    attachment,
    cosign,
    holds,
    image,
    index,
    listing,
    raw,
    whole,
)

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BASE = random.Random(1).randbytes(12_000_000)
OWN = random.Random(2).randbytes(9_000_000)


class Pair(NamedTuple):
    source: str
    target: str
    stored: tuple[Path, Path]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("registries")
    with registries.registry(home / "a") as one, registries.registry(home / "b") as other:
        yield Pair(one, other, (home / "a/data", home / "b/data"))


@pytest.fixture
def source(hosts: Pair) -> Iterator[Between]:
    with between(hosts.source) as made:
        yield made


@pytest.fixture
def target(hosts: Pair) -> Iterator[Between]:
    with between(hosts.target) as made:
        yield made


def copied(
    source: Between,
    target: Between,
    *wanted: Wanted,
    tags: dict[str, list[str]] | None = None,
    on_event: Callable[[Event], object] = lambda _: None,
) -> Copied:
    """By somebody who knows nothing of what was before."""
    return copy_all(
        wanted, Registry(source.host), Registry(target.host), tags=tags, on_event=on_event
    )


def attached(host: str, repository: str, subject: str) -> set[tuple[str, str]]:
    found = referrers.attached(Registry(host), repository, subject, None)
    return {(one.digest, one.artifact_type) for one in found}


def stored(data: Path) -> dict[str, Path]:
    """What a registry has on its disk: hex of the digest -> file."""
    files = (data / "docker/registry/v2/blobs/sha256").glob("*/*/data")
    return {file.parent.name: file for file in files}


def platform(architecture: str) -> dict[str, Any]:
    return {"platform": {"os": "linux", "architecture": architecture}}


def small(host: str, name: str, *layers: bytes) -> str:
    digest = image(host, name, *layers, tag="v1")["digest"]
    assert isinstance(digest, str)
    return digest


def test_a_set_with_all_that_belongs_to_it(
    hosts: Pair, source: Between, target: Between, tmp_path: Path
) -> None:
    here = hosts.source
    amd = image(here, "team/index", BASE, b"amd")
    arm = image(here, "team/index", BASE, b"arm", architecture="arm64")
    proof = image(here, "team/index", b"attestation of BuildKit", architecture="unknown")
    both = index(
        here, "team/index", "v1", amd | platform("amd64"), arm | platform("arm64"),
        proof | {"platform": {"os": "unknown", "architecture": "unknown"}},
    )  # fmt: skip
    plain = image(here, "team/plain", BASE, OWN, tag="v1")
    third = image(here, "team/third", BASE, b"third", tag="v1")
    sbom = attachment(here, "team/plain", plain, "application/vnd.cyclonedx+json", b"sbom")
    signature = attachment(here, "team/plain", sbom, "application/vnd.a.signature", b"signed")
    verdict = attachment(here, "team/index", arm, "application/vnd.a.verdict", b"good")
    other = attachment(here, "team/index", both, "application/vnd.a.verdict", b"good index")
    listing(here, "team/plain", plain["digest"], sbom)
    listing(here, "team/plain", sbom["digest"], signature)
    listing(here, "team/index", arm["digest"], verdict)
    listing(here, "team/index", both["digest"], other)
    tags = [
        cosign(here, "team/index", both["digest"], "att", b"provenance"),
        cosign(here, "team/index", amd["digest"], "sig", b"signature"),
        cosign(here, "team/index", amd["digest"], "sbom", b"sbom of old"),
    ]
    wanted = [
        Wanted("team/index", "prod/index", both["digest"]),
        Wanted("team/plain", "prod/plain", plain["digest"]),
        Wanted("team/third", "prod/third", third["digest"]),
    ]
    release = {one.digest: ["release-1"] for one in wanted}
    events: list[Event] = []
    before = set(stored(hosts.stored[1]))
    done = copied(source, target, *wanted, tags=release, on_event=events.append)

    # skopeo, which knows nothing of us, finds the same bytes under every name.
    for repository, names in {
        "index": [both["digest"], amd["digest"], arm["digest"], verdict["digest"], *tags],
        "plain": [plain["digest"], sbom["digest"], signature["digest"]],
        "third": [third["digest"]],
    }.items():
        for name in [*names, other["digest"]] if repository == "index" else names:
            theirs = raw(hosts.target, f"prod/{repository}", name)
            assert theirs == raw(here, f"team/{repository}", name)
        folders = [tmp_path / f"{side}-{repository}" for side in ("source", "target")]
        whole(here, f"team/{repository}", names[0], folders[0])
        whole(hosts.target, f"prod/{repository}", "release-1", folders[1])
        same = filecmp.dircmp(*folders)
        assert same.left_only == same.right_only == same.diff_files == []
        assert len(same.same_files) >= 4
    # So do the registries' disks: all that came is what the source has, byte for byte,
    # but for the lists of what is attached, which we write.
    came = {name: file for name, file in stored(hosts.stored[1]).items() if name not in before}
    ours = stored(hosts.stored[0])
    lists = [file for name, file in came.items() if name not in ours]
    assert all(
        filecmp.cmp(file, ours[name], shallow=False) for name, file in came.items() if name in ours
    )
    assert all("manifests" in json.loads(file.read_bytes()) for file in lists)
    assert len(lists) <= 4

    # All that is attached is listed there as it is here.
    for repository, subject in [
        ("plain", plain), ("plain", sbom), ("index", arm), ("index", both), ("index", amd),
    ]:  # fmt: skip
        listed = attached(hosts.target, f"prod/{repository}", subject["digest"])
        assert listed == attached(here, f"team/{repository}", subject["digest"])
    assert {event.digest for event in events if event.what == "attached"} == {
        one["digest"] for one in (sbom, signature, verdict, other)
    }

    # A blob that many want is read and sent once; the rest have it mounted.
    first_piece = [one.path for one in source.asked if one.range == "bytes=0-8388607"]
    assert len(first_piece) == len(set(first_piece)) == 2
    sent = [one.path.rpartition("digest=")[2] for one in target.asked if "digest=" in one.path]
    assert len(sent) == len(set(sent)) == done.moved
    assert done.mounted >= 2
    assert done.bytes == sum(event.bytes for event in events if event.what == "moved")
    assert done.bytes > len(BASE) + len(OWN)
    assert (done.skipped, done.manifests) == (0, 13)  # 3 images, 3 children, 4 and 3 attached

    # Nothing was visible before its parts: the registry takes no manifest before them,
    # and the tags are the last of all.
    puts = [one.path for one in target.asked if one.method == "PUT"]
    named = [path for path in puts if path.endswith("manifests/release-1")]
    assert puts[-3:] == named

    source.asked.clear()
    target.asked.clear()
    again = copied(source, target, *wanted, tags=release, on_event=events.append)
    assert again._replace(seconds=0) == Copied(0, 0, 0, 0, 3, 0)
    assert {one.method for one in source.asked + target.asked} <= {"GET", "HEAD"}
    assert not any(one.blob for one in source.asked + target.asked)


def test_few_requests_where_all_is_there(hosts: Pair, source: Between, target: Between) -> None:
    wanted = [
        Wanted(f"few/{number}", f"few/{number}", small(hosts.source, f"few/{number}", b"few"))
        for number in range(5)
    ]
    copied(source, target, *wanted)
    source.asked.clear()
    target.asked.clear()
    assert copied(source, target, *wanted).skipped == 5
    # One for each image; of the source, whether anything is attached to it.
    assert [one.method for one in target.asked] == ["HEAD"] * 5
    assert source.count("GET", "/tags/list") == 5
    assert source.count("GET", "/referrers/") <= 5
    assert source.count("GET", "/manifests/sha256-") <= 5
    assert source.count("HEAD") == 0
    # Where we may not list tags, or there are more than a page, each is asked for.
    source.harm = lambda asked: "403" if "/tags/list" in asked.path else ""
    source.asked.clear()
    copied(source, target, *wanted)
    assert source.count("HEAD", ".att") == source.count("HEAD", ".sig") == 5
    assert source.count("GET", "/manifests/sha256-") == 5


def test_what_is_attached_later_follows(hosts: Pair, source: Between, target: Between) -> None:
    made = image(hosts.source, "later", b"later", tag="v1")
    wanted = Wanted("later", "later", made["digest"])
    copied(source, target, wanted)
    first = attachment(hosts.source, "later", made, "a/first", b"1")
    listing(hosts.source, "later", made["digest"], first)
    assert copied(source, target, wanted).manifests == 1
    # Something that only the destination has stays in its list.
    own = attachment(hosts.target, "later", made, "a/own", b"own")
    listing(hosts.target, "later", made["digest"], first, own)
    second = attachment(hosts.source, "later", made, "a/second", b"2")
    listing(hosts.source, "later", made["digest"], first, second)
    done = copied(source, target, wanted)
    assert (done.manifests, done.skipped) == (1, 1)
    assert attached(hosts.target, "later", made["digest"]) == {
        (one["digest"], one["artifactType"]) for one in (first, own, second)
    }


def test_an_attachment_that_is_there_but_in_no_list(
    hosts: Pair, source: Between, target: Between
) -> None:
    made = image(hosts.source, "unlisted", b"unlisted", tag="v1")
    one = attachment(hosts.source, "unlisted", made, "a/one", b"1")
    listing(hosts.source, "unlisted", made["digest"], one)
    wanted = Wanted("unlisted", "unlisted", made["digest"])
    target.harm = lambda asked: "403" if asked.path.endswith(made["digest"][7:]) and (
        asked.method == "PUT" and "sha256-" in asked.path
    ) else ""  # fmt: skip
    with pytest.raises(CredentialsError):
        copied(source, target, wanted)
    assert not absent(hosts.target, "unlisted", one["digest"])
    target.harm = lambda _: ""
    assert copied(source, target, wanted).manifests == 0
    assert attached(hosts.target, "unlisted", made["digest"]) == {(one["digest"], "a/one")}


def test_what_a_list_claims_is_not_believed(hosts: Pair, source: Between, target: Between) -> None:
    made = image(hosts.source, "lies", b"lies", tag="v1")
    stranger = image(hosts.source, "lies", b"stranger")
    gone = attachment(hosts.source, "lies", made, "a/gone", b"gone")
    listing(hosts.source, "lies", made["digest"], {**stranger, "artifactType": "a/lie"}, gone)
    path = f"/v2/lies/manifests/{gone['digest']}"
    assert Registry(hosts.source).http.ask("DELETE", path).ok
    events: list[Event] = []
    copied(source, target, Wanted("lies", "lies", made["digest"]), on_event=events.append)
    left = {event.digest: event.name for event in events if event.what == "left"}
    assert set(left) == {stranger["digest"], gone["digest"]}
    assert "has it no more" in left[gone["digest"]]
    assert "does not refer to" in left[stranger["digest"]]
    assert attached(hosts.target, "lies", made["digest"]) == set()
    assert absent(hosts.target, "lies", stranger["digest"])


def test_a_tag_that_names_another_is_not_moved(
    hosts: Pair, source: Between, target: Between
) -> None:
    theirs = image(hosts.target, "taken", b"theirs", tag="release-1")["digest"]
    ours = small(hosts.source, "taken", b"ours")
    with pytest.raises(PushError, match=r"taken:release-1 names") as told:
        copied(source, target, Wanted("taken", "taken", ours), tags={ours: ["release-1"]})
    assert theirs in told.value.what
    assert ours in told.value.what
    assert source.asked == []  # nothing moved for it
    assert absent(hosts.target, "taken", ours)
    assert Registry(hosts.target).digest("taken", "release-1") == theirs


def test_a_registry_that_mounts_nothing_is_sent_it_again(
    hosts: Pair, source: Between, target: Between, tmp_path: Path
) -> None:
    wanted = [
        Wanted(f"mountless/{name}", f"mountless/{name}",
               small(hosts.source, f"mountless/{name}", OWN[:5000]))
        for name in "abc"
    ]  # fmt: skip
    target.harm = lambda asked: "plain" if "mount=" in asked.path else ""
    done = copied(source, target, *wanted)
    assert (done.moved, done.mounted) == (6, 0)
    target.harm = lambda asked: "405" if "mount=" in asked.path else ""
    others = [one._replace(destination=f"{one.destination}/x") for one in wanted]
    assert copied(source, target, *others).mounted == 0
    for one in (*wanted, *others):
        assert whole(hosts.target, one.destination, one.digest, tmp_path / one.destination) == 4


# What goes wrong on the way


def test_connections_that_drop_both_ways(
    hosts: Pair, source: Between, target: Between, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ci_tools.images.attempts._FIRST_SECONDS", 0.01)
    wanted = [
        Wanted(f"drop/{name}", f"drop/{name}", small(hosts.source, f"drop/{name}", BASE, OWN))
        for name in "ab"
    ]
    cut, broken = set[str](), set[str]()

    def source_harm(asked: Asked) -> str:
        if asked.range.startswith("bytes=8388608") and asked.path not in cut:
            cut.add(asked.path)
            return "cut"
        return ""

    def target_harm(asked: Asked) -> str:
        digest = asked.path.rpartition("digest=")[2]
        if asked.method == "PUT" and "digest=" in asked.path and digest not in broken:
            broken.add(digest)
            return "break"
        return ""

    source.harm, target.harm = source_harm, target_harm
    done = copied(source, target, *wanted)
    assert len(cut) == 2
    assert len(broken) == 3
    assert done.moved == 3
    for one in wanted:
        assert whole(hosts.target, one.destination, one.digest, tmp_path / one.destination) == 5


def test_a_copy_that_broke_off_shows_nothing_and_goes_on(
    hosts: Pair, source: Between, target: Between, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(blobs, "_ATTEMPTS", 1)
    digest = small(hosts.source, "broken", BASE, OWN, b"broken")
    wanted = Wanted("broken", "broken", digest)
    source.harm = lambda asked: "cut" if asked.range == "bytes=8388608-8999999" else ""
    with pytest.raises(RegistryError, match="does not answer"):
        copied(source, target, wanted, tags={digest: ["release-1"]})
    assert absent(hosts.target, "broken", digest)
    assert absent(hosts.target, "broken", "release-1")
    source.harm = lambda _: ""
    events: list[Event] = []
    copied(source, target, wanted, tags={digest: ["release-1"]}, on_event=events.append)
    moved = {event.digest for event in events if event.what == "moved"}
    assert len(moved) < 4
    assert whole(hosts.target, "broken", "release-1", tmp_path / "dir") == 6


def test_wrong_bytes_for_a_digest(hosts: Pair, source: Between, target: Between) -> None:
    digest = small(hosts.source, "wrong", OWN[1:], b"wrong")
    wanted = Wanted("wrong", "wrong", digest)
    source.harm = lambda asked: "turn" if asked.range.startswith("bytes=8388608") else ""
    with pytest.raises(RegistryError, match="is not what its digest says"):
        copied(source, target, wanted)
    large = f"sha256:{hashlib.sha256(OWN[1:]).hexdigest()}"
    assert any(large[7:] in one.path for one in target.asked)  # it was begun
    assert not any(large[7:] in one.path and one.method == "PUT" for one in target.done)
    assert not holds(hosts.target, "wrong", large)
    assert absent(hosts.target, "wrong", digest)
    source.harm = lambda asked: "turn" if "/manifests/sha256:" in asked.path else ""
    with pytest.raises(RegistryError, match="is not what its digest says"):
        copied(source, target, wanted)
    assert absent(hosts.target, "wrong", digest)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("401", CredentialsError, "refuse"),
        ("403", CredentialsError, "refuses our push"),
        ("429", PushError, "HTTP 429"),
        ("500", PushError, "HTTP 500"),
        ("507", PushError, "HTTP 507"),  # its disk is full
    ],
)
def test_a_destination_that_refuses(
    hosts: Pair, source: Between, target: Between, monkeypatch: Any,
    status: str, error: type[CIError], words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("ci_tools.images.attempts._FIRST_SECONDS", 0.01)
    name = f"refused-{status}"
    digest = small(hosts.source, name, b"refused")
    wanted = Wanted(name, name, digest)
    target.harm = lambda asked: status if asked.method == "PUT" and "digest=" in asked.path else ""
    with pytest.raises(error, match=words) as told:
        copied(source, target, wanted, tags={digest: ["release-1"]})
    assert target.host in told.value.what
    assert absent(hosts.target, name, digest)
    assert absent(hosts.target, name, "release-1")
    target.harm = lambda asked: status if asked.method == "PUT" and name in asked.path else ""
    with pytest.raises(error):
        copied(source, target, wanted)
    # What passes by itself is waited for.
    refused: list[str] = []

    def once(asked: Asked) -> str:
        if asked.method == "PUT" and asked.path not in refused and len(refused) < 2:
            refused.append(asked.path)
            return "429"
        return ""

    target.harm = once
    assert copied(source, target, wanted).manifests == 1


def test_what_the_source_has_not(hosts: Pair, source: Between, target: Between) -> None:
    there = small(hosts.source, "absent", b"there")
    nothing = "sha256:" + "0" * 64
    with pytest.raises(RegistryError, match=f"absent@{nothing} does not exist"):
        copied(
            source, target, Wanted("absent", "absent", there), Wanted("absent", "absent", nothing),
            tags={there: ["release-1"]},
        )  # fmt: skip
    assert absent(hosts.target, "absent", "release-1")
    with pytest.raises(RegistryError, match="is no sha256 digest"):
        copied(source, target, Wanted("absent", "absent", "v1"))


def test_each_side_has_its_own_login(hosts: Pair, tmp_path: Path, monkeypatch: Any) -> None:
    digest = small(hosts.source, "logins", OWN[:9000])
    wanted = Wanted("logins", "logins", digest)
    with (
        between(hosts.source, "the source's") as source,
        between(hosts.target, "the destination's") as target,
    ):
        config = registries.docker_config(tmp_path, source.host, "the source's")
        monkeypatch.setenv("DOCKER_CONFIG", str(config))
        with pytest.raises(CredentialsError, match=target.host):
            copied(source, target, wanted)
        both = json.loads((config / "config.json").read_text())["auths"]
        registries.docker_config(tmp_path, target.host, "the destination's")
        both |= json.loads((config / "config.json").read_text())["auths"]
        (config / "config.json").write_text(json.dumps({"auths": both}))
        assert copied(source, target, wanted).manifests == 1
    assert whole(hosts.target, "logins", digest, tmp_path / "dir") == 4


# Ended in the middle

PROGRAM = """
import json, sys
from ci_tools.images.copy_set import Wanted, copy_all
from ci_tools.images.registry import Registry
source, target, wanted, tags = json.loads(sys.argv[1])
try:
    copy_all([Wanted(*one) for one in wanted], Registry(source), Registry(target), tags=tags)
except KeyboardInterrupt:
    sys.exit(130)
"""


def run(
    source: Between, target: Between, wanted: list[Wanted], step: int, number: int
) -> tuple[int, bool]:
    """A copy in a process that gets a signal at its step-th PUT: its exit code, and
    whether it got so far."""
    tags = {one.digest: ["release-1"] for one in wanted}
    told = json.dumps([source.host, target.host, wanted, tags])
    steps = itertools.count(1)
    reached: list[int] = []
    child: list[subprocess.Popen[bytes]] = []

    def harm(asked: Asked) -> str:
        if asked.method == "PUT" and next(steps) == step:
            reached.append(step)
            os.kill(child[0].pid, number)
        return ""

    target.harm = harm
    child.append(
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, told], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    )
    return child[0].wait(timeout=600), bool(reached)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ended_at_any_step_it_shows_nothing_and_completes(
    hosts: Pair, source: Between, target: Between, tmp_path: Path, number: int
) -> None:
    name = f"ended-{number}"
    one = image(hosts.source, f"{name}/index", b"base", b"one")
    both = index(hosts.source, f"{name}/index", "v1", one | platform("amd64"))
    verdict = attachment(hosts.source, f"{name}/index", both, "a/verdict", b"good")
    listing(hosts.source, f"{name}/index", both["digest"], verdict)
    plain = small(hosts.source, f"{name}/plain", b"base", b"two")
    for step in itertools.count(1, 3 if number == signal.SIGINT else 1):
        prefix = f"{name}/to-{step}"
        index_there, plain_there = f"{prefix}/index", f"{prefix}/plain"
        wanted = [
            Wanted(f"{name}/index", index_there, both["digest"]),
            Wanted(f"{name}/plain", plain_there, plain),
        ]
        code, reached = run(source, target, wanted, step, number)
        if not reached:
            assert code == 0
            break
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        tags = [absent(hosts.target, there, "release-1") for there in (index_there, plain_there)]
        if not all(tags):  # then the whole set is there
            assert attached(hosts.target, index_there, both["digest"])
        for there, digest in ((index_there, both["digest"]), (plain_there, plain)):
            if not absent(hosts.target, there, digest):
                assert whole(hosts.target, there, digest, tmp_path / there) >= 4
        assert run(source, target, wanted, 0, number)[0] == 0
        for there, digest in ((index_there, both["digest"]), (plain_there, plain)):
            assert raw(hosts.target, there, "release-1") == raw(hosts.target, there, digest)
        assert attached(hosts.target, index_there, both["digest"]) == {
            (verdict["digest"], "a/verdict")
        }
    assert step > 10


def test_large_blobs_need_little_memory(hosts: Pair) -> None:
    layers = [random.Random(number).randbytes(40_000_000) for number in range(6)]
    digest = small(hosts.source, "memory", *layers)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ci_tools.images.copy_set import Wanted, copy_all\n"
        "from ci_tools.images.registry import Registry\n"
        # Not getrusage's, which begins with that of the process that started this one.
        "status = Path('/proc/self/status')\n"
        "own = lambda: int(status.read_text().split('VmHWM:')[1].split()[0])\n"
        "source, target, digest = sys.argv[1:]\n"
        "before = own()\n"
        "copy_all([Wanted('memory', 'memory', digest)], Registry(source), Registry(target))\n"
        "print(own() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, hosts.source, hosts.target, digest],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert int(done.stdout) < 200_000  # KiB, of 240 MB
    assert not absent(hosts.target, "memory", digest)
