"""Artifacts: all of them, each whole, or none; whatever a controller calls them."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ci_tools.errors import JenkinsError, WriteError
from ci_tools.jenkins import artifacts, builds
from ci_tools.jenkins.artifacts import Artifact, Fingerprint
from ci_tools.jenkins.connection import Connection
from ci_tools.jenkins.credentials import Credentials
from tests.fakes.jenkins import FakeJenkins, Play, Request, Response

FILES = {
    "build/images.lock.json": b'{"fake": true}',
    "build/logs/train one.log": b"\x00" * 3_000_000,
    "50%#?.txt": b"",
}


def built(fake: FakeJenkins, files: dict[str, bytes], **keywords: Any) -> Play:
    play = Play(artifacts=files, **keywords)
    job = fake.add("ml", play)
    fake.leave(fake.put(job, "ci", {}))
    job.builds[0].result = "SUCCESS"
    return play


def fetched(fake: FakeJenkins, directory: Path) -> list[Artifact]:
    connection = Connection(fake.url, Credentials("ci", "11fake0token", "test"), lambda _: None)
    return artifacts.fetch(connection, builds.find(connection, "ml", None), 1, directory)


def here(directory: Path) -> dict[str, bytes]:
    return {
        str(it.relative_to(directory)): it.read_bytes()
        for it in directory.rglob("*")
        if it.is_file()
    }


def test_all_of_them_as_they_were_recorded(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, FILES)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/images.lock.json").write_text("older")
    found = fetched(jenkins, tmp_path)
    assert here(tmp_path) == FILES
    assert [it.path for it in found] == list(FILES)
    assert all(it.checked for it in found)
    assert found[0].md5 == hashlib.md5(FILES["build/images.lock.json"]).hexdigest()


def test_without_fingerprints_nothing_is_checked(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, FILES, fingerprints=False)
    assert not any(it.checked for it in fetched(jenkins, tmp_path))
    assert here(tmp_path) == FILES


def test_none_there(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {})
    assert fetched(jenkins, tmp_path / "new") == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "path",
    [
        "../evil", "a/../../evil", "/etc/evil", "..", ".", "", "a//b", "a/./b", "a\\..\\evil",
        "a\x00b", "a\nb", "a\x1b[2J", "x" * 300,
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(jenkins: FakeJenkins, tmp_path: Path, path: str) -> None:
    built(jenkins, {"fine": b"1", path: b"evil"})
    with pytest.raises(JenkinsError, match="no path below a directory"):
        fetched(jenkins, tmp_path / "to")
    assert not any("artifact" in it for it in jenkins.seen)
    assert here(tmp_path) == {}


def test_a_name_that_is_a_folder_too(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"1", "a/b": b"2"})
    with pytest.raises(JenkinsError, match="as an artifact and as a folder"):
        fetched(jenkins, tmp_path)


def test_links_that_are_there_lead_nowhere(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"new", "logs/x": b"evil"})
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (outside / "x").write_text("mine")
    (to / "a").symlink_to(outside / "x")
    (to / "logs").symlink_to(outside)
    with pytest.raises(WriteError, match="is a link"):
        fetched(jenkins, to)
    assert here(outside) == {"x": b"mine"}
    assert (to / "a").is_symlink()  # nothing was written, not even what could be
    (to / "logs").unlink()
    fetched(jenkins, to)
    assert here(outside) == {"x": b"mine"}
    assert not (to / "a").is_symlink()
    assert here(to) == {"a": b"new", "logs/x": b"evil"}


def test_a_directory_in_the_place_of_a_file(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"1", "b": b"2"})
    (tmp_path / "b").mkdir()
    with pytest.raises(WriteError, match="is a directory"):
        fetched(jenkins, tmp_path)
    assert here(tmp_path) == {}


def test_one_that_cannot_be_had_means_none(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"1", "b": b"2"})
    jenkins.route("GET", r"/job/ml/1/artifact/b", lambda *_: Response(500))
    with pytest.raises(JenkinsError):
        fetched(jenkins, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_one_means_none(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"1", "x/b": b"2"})
    jenkins.route("GET", r"/job/ml/1/artifact/x/b", lambda *_: Response(200, {}, b"damaged"))
    with pytest.raises(JenkinsError, match="x/b is not what Jenkins recorded"):
        fetched(jenkins, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_is_made_again(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"whole"})
    cut = [Response(200, {"Content-Length": "5"}, b"who")]
    answer = jenkins._artifact

    def breaking(request: Request, match: Any) -> Response:
        return cut.pop() if cut else answer(request, match)

    jenkins.route("GET", r"/(job/ml)/(1)/artifact/(a)", breaking)
    fetched(jenkins, tmp_path)
    assert here(tmp_path) == {"a": b"whole"}


def test_kept_elsewhere_it_is_asked_for_without_our_token(
    jenkins: FakeJenkins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the plugin that keeps artifacts in S3 does; a bucket may send us on."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ci password 11fake0token\n")
    monkeypatch.setenv("NETRC", str(netrc))
    heard: list[dict[str, str]] = []

    class FakeBucket(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append({name.lower(): value for name, value in self.headers.items()})
            if self.path.startswith("/moved"):
                self.send_response(307)
                self.send_header("Location", "/key")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"kept elsewhere")

        def log_message(self, *_: Any) -> None:
            pass

    bucket = HTTPServer(("127.0.0.1", 0), FakeBucket)
    thread = threading.Thread(
        target=lambda: [bucket.handle_request() for _ in range(2)], daemon=True
    )
    thread.start()
    built(jenkins, {"a": b"kept elsewhere"})
    place = f"http://127.0.0.1:{bucket.server_address[1]}/moved?X-Amz-Signature=fake"
    jenkins.route("GET", r"/job/ml/1/artifact/a", lambda *_: Response(302, {"Location": place}))
    assert fetched(jenkins, tmp_path / "to")[0].checked
    bucket.server_close()
    assert here(tmp_path / "to") == {"a": b"kept elsewhere"}
    assert len(heard) == 2
    assert not {"authorization", "cookie"} & {name for one in heard for name in one}


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://example.com/x"])
def test_elsewhere_is_http(jenkins: FakeJenkins, tmp_path: Path, place: str) -> None:
    built(jenkins, {"a": b"1"})
    jenkins.route("GET", r"/job/ml/1/artifact/a", lambda *_: Response(302, {"Location": place}))
    with pytest.raises(JenkinsError, match="sends us elsewhere"):
        fetched(jenkins, tmp_path)


def test_elsewhere_is_an_address(jenkins: FakeJenkins, tmp_path: Path) -> None:
    built(jenkins, {"a": b"1"})
    nowhere = Response(302, {"Location": "https://[bucket/key"})
    jenkins.route("GET", r"/job/ml/1/artifact/a", lambda *_: nowhere)
    with pytest.raises(JenkinsError, match="an address that is none"):
        fetched(jenkins, tmp_path)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def artifact(path: str, content: bytes) -> Artifact:
    return Artifact(path=path, size=len(content), md5=md5(content))


def test_names_of_fingerprints_are_those_of_other_files() -> None:
    """A record has a name without folders, and that of the first file with its content."""
    found = [artifact("a/x.json", b"1"), artifact("b/x.json", b"2"), artifact("c/y", b"3")]
    recorded = [Fingerprint("z.json", md5(b"1")), Fingerprint("x.json", md5(b"2").upper())]
    checked = artifacts.compared(found, recorded)
    assert [it.checked for it in checked] == [True, True, False]
    # One that was recorded and not archived means nothing for one that is as recorded.
    checked = artifacts.compared(found[:1], [*recorded, Fingerprint("x.json", md5(b"9"))])
    assert checked[0].checked
    # b/x.json accounts for the record of its name, so a/x.json is only not recorded.
    other = [artifact("a/x.json", b"not recorded"), found[1]]
    assert [it.checked for it in artifacts.compared(other, recorded[1:])] == [False, True]
    with pytest.raises(JenkinsError):
        artifacts.compared([artifact("a/x.json", b"damaged")], recorded[1:])
