"""Signatures of records. What is signed is computed here by the specification of DSSE alone."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import storage
from ci_tools.promotion import signed
from ci_tools.release import attest, signing
from tests.fakes.releases import Pen, made
from tests.unit.test_promotion_engine import record

OURS, OTHER = Pen(), Pen("ecdsa")
RECORD = record("release-a")
CONTENT = storage.encode(RECORD)
SIGNED = signed.envelope(OURS, CONTENT, RECORD)
ALLOWED = [OURS.key]


def test_one_of_an_allowed_key_is_believed() -> None:
    assert signed.problem(CONTENT, SIGNED, ALLOWED) == ""
    assert signed.problem(CONTENT, SIGNED, [OTHER.key, OURS.key]) == ""


def test_anybody_can_verify_it() -> None:
    """By DSSE's protocol.md and in-toto's statement.md, with the key's own library."""
    envelope = json.loads(SIGNED)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    assert kind == "application/vnd.in-toto+json"
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    OURS.private.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), pae)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:kfp-ci:promotion:v1"
    (subject,) = statement["subject"]
    assert subject["digest"] == {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert statement["predicate"]["release"] == "release-a"
    assert statement["predicate"]["environment"] == RECORD.environment


def test_one_that_is_not_signed() -> None:
    assert signed.problem(CONTENT, None, ALLOWED) == "it is not signed"
    for odd in (b"", b"{", b"[]", b"null", b"\xff", json.dumps({"signatures": []}).encode()):
        assert signed.problem(CONTENT, odd, ALLOWED).startswith("no key that is allowed signed it")


def test_one_of_another_key_and_of_none() -> None:
    by_other = signed.envelope(OTHER, CONTENT, RECORD)
    assert OTHER.key.id[:12] in signed.problem(CONTENT, by_other, ALLOWED)
    assert signed.problem(CONTENT, SIGNED, []) != ""
    claims = json.loads(by_other)
    claims["signatures"][0]["keyid"] = OURS.key.id  # anybody can write that
    assert signed.problem(CONTENT, json.dumps(claims).encode(), ALLOWED) != ""


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_any_other_byte_makes_it_another_record(where: int, other: int) -> None:
    changed = bytearray(CONTENT)
    changed[where] ^= other
    assert signed.problem(bytes(changed), SIGNED, ALLOWED) == "its signature is of something else"


def test_one_of_another_record_is_not_taken() -> None:
    another = storage.encode(record("release-b"))
    assert signed.problem(another, SIGNED, ALLOWED) == "its signature is of something else"


def statement(kind: str, *digests: str, pen: Any = OURS) -> bytes:
    subjects = [{"name": "x", "digest": {"sha256": one}} for one in digests]
    return signing.envelope(pen, attest.encoded(subjects, kind, {}))


@pytest.mark.parametrize(
    "envelope",
    [
        statement(attest.PROVENANCE, hashlib.sha256(CONTENT).hexdigest()),
        statement(signed.KIND, hashlib.sha256(CONTENT).hexdigest(), "0" * 64),
        statement(signed.KIND),
        signing.envelope(OURS, b"no json"),
        signing.sign(made(), OURS).envelopes[0],
    ],
    ids=["of another kind", "of two", "of nothing", "no statement", "of a release"],
)
def test_what_the_same_key_signed_otherwise_is_no_signature_of_a_record(envelope: bytes) -> None:
    assert signed.problem(CONTENT, envelope, ALLOWED) == "its signature is of something else"


def test_a_signature_of_a_record_is_none_of_a_release() -> None:
    bundle = made().signed(SIGNED)
    with pytest.raises(signing.ReleaseSignatureError, match="is not of its content"):
        signing.verify(bundle, ALLOWED)
