"""Bundles: a release is its bytes, all of them and no other ones."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import config
from ci_tools.documents import Release, Run
from ci_tools.errors import ReleaseNotFoundError, ReleaseSignatureError, WriteError
from ci_tools.release import bundle, canonical
from ci_tools.release.bundle import Bundle
from tests.fakes.releases import COMMIT, IR, made, release

ROOT = Path(__file__).parents[2]


def test_the_name_is_a_hash_that_anybody_can_compute() -> None:
    content = json.loads(made().content)
    name = content.pop("name")
    # Nothing in this release is a number that Python writes otherwise.
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert name == f"release-{hashlib.sha256(plain.encode()).hexdigest()}"
    assert made().release.name == name


def test_files_are_named_with_their_hashes() -> None:
    files = made().release.files
    assert files["pipelines/training.yaml"] == hashlib.sha256(IR).hexdigest()
    assert list(files) == ["pipelines/training.yaml", "servables/train.yaml"]


def test_the_content_is_what_the_shipped_schema_says() -> None:
    shipped = json.loads((ROOT / "ci_tools/schemas/release.schema.json").read_text())
    assert shipped == json.loads(json.dumps(config.schema(Release, "release.json")))
    jsonschema.Draft202012Validator.check_schema(shipped)
    jsonschema.validate(json.loads(made().content), shipped)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x"}, shipped)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])),
       st.floats(allow_nan=False, allow_infinity=False)), st.integers())  # fmt: skip
def test_metrics_and_parameters_survive_the_bytes(metrics: dict[str, float], seed: int) -> None:
    run = Run(pipeline="p", run_id="r", version_id="v", state="SUCCEEDED", metrics=metrics,
              parameters={"seed": seed})  # fmt: skip
    one = made(runs=[run])
    assert one.release.runs[0].metrics == metrics
    assert json.loads(one.content)["runs"][0]["parameters"] == {"seed": seed}


@pytest.mark.parametrize("name", ["../x.yaml", "pipelines/../x.yaml", "pipelines/.x.yaml", "x.yaml",
                                  "pipelines/a/b.yaml", "pipelines/x.sh", "/pipelines/x.yaml",
                                  "signatures/x.json", "pipelines/x.yaml\n"])  # fmt: skip
def test_a_file_can_be_nowhere_else(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a file"):
        bundle.of(release(), {name: b""})
    stranger = json.loads(made().content)
    stranger["files"] = {name: hashlib.sha256(b"").hexdigest()}
    del stranger["name"]
    sha256 = hashlib.sha256(canonical.encode(stranger)).hexdigest()
    stranger["name"] = f"release-{sha256}"
    odd = Bundle(content=canonical.encode(stranger), files={name: b""})
    with pytest.raises(ReleaseSignatureError, match="has not the files"):
        _ = odd.release


def _byte(one: Bundle) -> Bundle:
    return dataclasses.replace(one, content=one.content.replace(b'"main"', b'"Main"'))


def _file(one: Bundle) -> Bundle:
    return dataclasses.replace(one, files={**one.files, "pipelines/training.yaml": IR + b" "})


def _extra(one: Bundle) -> Bundle:
    return dataclasses.replace(one, files={**one.files, "pipelines/more.yaml": b""})


def _missing(one: Bundle) -> Bundle:
    return dataclasses.replace(one, files={"pipelines/training.yaml": IR})


TAMPERED: dict[str, Callable[[Bundle], Bundle]] = {
    "one byte": _byte,
    "one file": _file,
    "an extra file": _extra,
    "a missing file": _missing,
    "a space": lambda one: dataclasses.replace(one, content=one.content + b" "),
    "a key twice": lambda one: dataclasses.replace(one, content=b'{"schema":1,' + one.content[1:]),
    "no JSON": lambda one: dataclasses.replace(one, content=b"\xff"),
    "no object": lambda one: dataclasses.replace(one, content=b"[]"),
    "another schema": lambda one: dataclasses.replace(
        one, content=one.content.replace(b'"schema":1', b'"schema":2')
    ),
    "nested without end": lambda one: dataclasses.replace(one, content=b'{"runs":' + b"[" * 9999),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_tampered_with_is_no_release(how: str) -> None:
    with pytest.raises(ReleaseSignatureError) as caught:
        _ = TAMPERED[how](made()).release
    assert caught.value.exit_code == 51


@given(st.data())
def test_no_byte_can_change(data: st.DataObject) -> None:
    one = made()
    place = data.draw(st.integers(0, len(one.content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != one.content[place]))
    content = one.content[:place] + bytes([other]) + one.content[place + 1 :]
    with pytest.raises(ReleaseSignatureError):
        _ = dataclasses.replace(one, content=content).release


@pytest.mark.parametrize("wanted", [COMMIT, made().release.name, ""])
def test_a_release_is_the_one_that_was_asked_for(wanted: str) -> None:
    assert dataclasses.replace(made(), wanted=wanted).release == made().release


@pytest.mark.parametrize("wanted", ["d" * 40, f"release-{'0' * 64}"])
def test_another_one_in_its_place_is_refused(wanted: str) -> None:
    with pytest.raises(ReleaseSignatureError, match="in the place of"):
        _ = dataclasses.replace(made(), wanted=wanted).release


@pytest.mark.parametrize("place", ["folder", "one.tar"])
def test_a_bundle_is_the_same_after_disk(tmp_path: Path, place: str) -> None:
    one = made().signed(*(b"{%d}" % number for number in range(12)))
    bundle.write(one, tmp_path / place)
    again = bundle.read(tmp_path / place)
    assert (again.content, again.files, again.envelopes) == (one.content, one.files, one.envelopes)
    assert again.release == one.release


def test_equal_bundles_are_equal_bytes() -> None:
    assert bundle.packed(made()) == bundle.packed(made())


def test_a_folder_holds_one_release_and_other_peoples_files_stay(tmp_path: Path) -> None:
    bundle.write(made().signed(b"{}"), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    other = bundle.of(release(pipelines={}), {"servables/train.yaml": b"x"})
    bundle.write(other, tmp_path)
    assert bundle.read(tmp_path).release == other.release
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list((tmp_path / "pipelines").iterdir())


def test_half_a_folder_is_no_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.write(made(), tmp_path)
    real, calls = bundle.storage.write_bytes, []

    def dies(path: Path, data: bytes, **more: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, data, **more)

    monkeypatch.setattr(bundle.storage, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        bundle.write(made(project="other"), tmp_path)
    with pytest.raises(ReleaseNotFoundError):
        bundle.read(tmp_path)


def test_a_folder_that_cannot_be_emptied_is_told(tmp_path: Path) -> None:
    (tmp_path / "release.json").mkdir()
    with pytest.raises(WriteError, match="could not be emptied"):
        bundle.write(made(), tmp_path)


def _tar(**files: bytes) -> bytes:
    room = io.BytesIO()
    with tarfile.open(fileobj=room, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return room.getvalue()


def _link() -> bytes:
    room = io.BytesIO()
    with tarfile.open(fileobj=room, mode="w") as archive:
        member = tarfile.TarInfo("release.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return room.getvalue()


NO_BUNDLES = {
    "nothing": b"",
    "no tar": b"x" * 2000,
    "a link": _link(),
    "no release.json": _tar(a=b""),
}


@pytest.mark.parametrize("what", NO_BUNDLES)
def test_what_is_no_bundle_is_told_in_a_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(NO_BUNDLES[what])
    with pytest.raises(ReleaseNotFoundError) as caught:
        bundle.read(path)
    assert caught.value.exit_code == 52
    with pytest.raises(ReleaseNotFoundError):
        bundle.read(tmp_path / "absent")


@given(st.data())
def test_a_file_that_was_damaged_on_the_way_is_no_release_or_the_same(data: st.DataObject) -> None:
    whole = bytearray(bundle.packed(made()))
    places = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(places, min_size=1, max_size=20)):
        whole[place] = byte
    with contextlib.suppress(ReleaseNotFoundError, ReleaseSignatureError):
        assert bundle.unpacked(bytes(whole), "x").release == made().release


def test_a_file_of_another_name_in_a_tar_is_tampering() -> None:
    one = made()
    files = {"release.json": one.content, **one.files, "../../evil.yaml": b""}
    with pytest.raises(ReleaseSignatureError, match="has not the files"):
        _ = bundle.unpacked(_tar(**files), "x").release


def test_a_later_version_of_the_tool_is_named(tmp_path: Path) -> None:
    content = json.loads(made().content) | {"schema": 9}
    with pytest.raises(ReleaseSignatureError, match="schema version 9"):
        _ = Bundle(content=msgspec.json.encode(content), files={}).release
