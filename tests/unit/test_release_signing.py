"""Signatures: by every kind of key, over all of it, and believed of nobody else.

What is signed is judged by `cryptography` alone too, from DSSE's own description.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools import documents as d
from ci_tools.config import Signing
from ci_tools.errors import CIError, ConfigError, CredentialsError, ReleaseSignatureError
from ci_tools.release import attest, keygen, keys, signing
from ci_tools.release.bundle import Bundle
from tests.fakes.releases import COMMIT, Pen, made

KINDS = ("ed25519", "ecdsa", "rsa")
SECRET = "correct horse battery"
SOMEBODY = Pen()


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, as its protocol.md says."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def judge(public: Any, envelope: bytes) -> bytes:
    """The payload, verified with nothing of ours. Raises InvalidSignature."""
    read = json.loads(envelope)
    payload = base64.b64decode(read["payload"])
    message = pae(read["payloadType"], payload)
    signature = base64.b64decode(read["signatures"][0]["sig"])
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, message)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    else:
        public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    return payload


# -- what is stated --------------------------------------------------------------------


def test_the_statement_names_everything_there_is() -> None:
    one = made()
    stated = json.loads(attest.statement(one))
    assert stated["_type"] == "https://in-toto.io/Statement/v1"
    assert stated["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {(s["name"], s["digest"]["sha256"]) for s in stated["subject"]} == {
        ("host/ml/train", "a" * 64),
        ("release.json", hashlib.sha256(one.content).hexdigest()),
        ("pipelines/training.yaml", one.release.files["pipelines/training.yaml"]),
        ("servables/train.yaml", one.release.files["servables/train.yaml"]),
        ("task-definitions/train", "f" * 64),
    }
    assert attest.statement(one) == attest.statement(made())


def test_the_predicate_is_slsa_s() -> None:
    """The fields that SLSA v1.0 requires, and the ones that a gate asks for."""
    predicate = json.loads(attest.statement(made()))["predicate"]
    build, run = predicate["buildDefinition"], predicate["runDetails"]
    assert build["buildType"] == "urn:kfp-ci:release:v1"
    assert build["externalParameters"]["repository"] == "https://git.example/ml"
    assert build["externalParameters"]["commit"] == COMMIT
    assert build["resolvedDependencies"] == [
        {"uri": f"git+https://git.example/ml@{COMMIT}", "digest": {"gitCommit": COMMIT}},
        {"uri": "oci://python:3.12", "digest": {"sha256": "b" * 64}},
    ]
    assert run["builder"]["id"]


# -- signing and verifying -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_release_is_verified_by_us_and_without_us(kind: str) -> None:
    pen = Pen(kind)
    one = signing.sign(made(), pen)
    assert signing.verify(one, [Pen().key, pen.key]) == [pen.key.id]
    assert judge(pen.private.public_key(), one.envelopes[0]) == attest.statement(one)


def test_the_id_of_a_key_is_what_openssl_says(tmp_path: Path) -> None:
    pen = Pen("ecdsa")
    (tmp_path / "k.pub").write_bytes(pen.key.pem)
    command = ["openssl", "pkey", "-pubin", "-in", tmp_path / "k.pub", "-outform", "DER"]
    der = subprocess.run(command, check=True, capture_output=True).stdout
    assert keys.load(tmp_path / "k.pub").id == hashlib.sha256(der).hexdigest() == pen.key.id


def test_several_may_sign_and_all_that_are_believed_are_named() -> None:
    pens = [Pen(kind) for kind in KINDS]
    one = made()
    for pen in pens:
        one = signing.sign(one, pen)
    assert signing.verify(one, [pen.key for pen in pens]) == sorted(pen.key.id for pen in pens)
    assert signing.verify(one, [pens[1].key]) == [pens[1].key.id]


def test_a_missing_signature_is_a_failure() -> None:
    with pytest.raises(ReleaseSignatureError, match="is not signed") as caught:
        signing.verify(made(), [Pen().key])
    assert caught.value.exit_code == 51


def test_another_key_is_not_believed_whatever_id_it_claims() -> None:
    ours, theirs = Pen(), Pen()
    with pytest.raises(ReleaseSignatureError, match=f"there is one of {theirs.key.id[:12]}"):
        signing.verify(signing.sign(made(), theirs), [ours.key])
    theirs.key = ours.key
    with pytest.raises(ReleaseSignatureError):
        signing.verify(signing.sign(made(), theirs), [ours.key])


def test_no_key_is_believed_where_none_is_allowed() -> None:
    with pytest.raises(ReleaseSignatureError, match="the environment allows none"):
        signing.verify(signing.sign(made(), Pen()), [])


def test_a_release_with_problems_is_refused_though_somebody_signed_it() -> None:
    pen = Pen()
    with pytest.raises(ReleaseSignatureError, match="must not be promoted: the scan of x"):
        signing.verify(signing.sign(made(problems=["the scan of x is incomplete"]), pen), [pen.key])


def _envelope(one: Bundle, change: Callable[[dict[str, Any]], object]) -> Bundle:
    read = json.loads(one.envelopes[0])
    change(read)
    return dataclasses.replace(one, envelopes=[json.dumps(read).encode()])


def _payload(one: Bundle, change: Callable[[dict[str, Any]], object]) -> Bundle:
    def changed(envelope: dict[str, Any]) -> None:
        stated = json.loads(base64.b64decode(envelope["payload"]))
        change(stated)
        envelope["payload"] = base64.b64encode(json.dumps(stated).encode()).decode()

    return _envelope(one, changed)


UNSIGNED: dict[str, Callable[[Bundle], Bundle]] = {
    "one digest": lambda one: _payload(
        one, lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)
    ),
    "an extra subject": lambda one: _payload(
        one, lambda s: s["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}})
    ),
    "a missing subject": lambda one: _payload(one, lambda s: s["subject"].pop()),
    "another payload type": lambda one: _envelope(one, lambda e: e.update(payloadType="text/x")),
    "no signature in it": lambda one: _envelope(one, lambda e: e["signatures"].clear()),
    "rubbish": lambda one: dataclasses.replace(one, envelopes=[b"\xff", b"{}", b"[" * 9999]),
    "no base64": lambda one: _envelope(one, lambda e: e["signatures"][0].update(sig="???")),
    "no text": lambda one: _envelope(one, lambda e: e["signatures"][0].update(sig=1)),
    "no list": lambda one: _envelope(one, lambda e: e.update(signatures=3)),
}


@pytest.mark.parametrize("how", UNSIGNED)
def test_an_envelope_that_was_tampered_with_is_signed_by_nobody(how: str) -> None:
    pen = Pen()
    with pytest.raises(ReleaseSignatureError, match="no signature of a key that is allowed"):
        signing.verify(UNSIGNED[how](signing.sign(made(), pen)), [pen.key])


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_of_an_envelope_s_meaning_can_change(kind: str) -> None:
    pen = Pen(kind)
    one = signing.sign(made(), pen)
    payload = json.loads(one.envelopes[0])["payload"]

    @settings(max_examples=25)
    @given(st.integers(0, len(payload) - 3), st.sampled_from("AZaz09+/"))
    def changed(place: int, letter: str) -> None:
        other = payload[:place] + letter + payload[place + 1 :]
        odd = _envelope(one, lambda e: e.update(payload=other))
        if other == payload:
            assert signing.verify(odd, [pen.key])
            return
        with pytest.raises(ReleaseSignatureError):
            signing.verify(odd, [pen.key])
        with pytest.raises(InvalidSignature):
            judge(pen.private.public_key(), odd.envelopes[0])

    changed()


RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["payload", "payloadType", "signatures", "sig", "keyid"]) | st.text(), inner
    ),
)  # fmt: skip


@given(RUBBISH)
def test_whatever_lies_there_as_an_envelope_is_signed_by_nobody(rubbish: Any) -> None:
    for content in (json.dumps(rubbish), json.dumps({"payload": "", "signatures": rubbish})):
        assert signing.opened(content.encode(), [SOMEBODY.key])[1] == set()


@given(RUBBISH)
def test_whatever_a_key_signed_is_about_this_release_or_told(rubbish: Any) -> None:
    assert attest.differences(json.dumps(rubbish).encode(), made())
    assert not attest.is_about(json.dumps(rubbish).encode(), "sha256:" + "a" * 64, "x")


ABOUT: dict[str, Callable[[dict[str, Any]], object]] = {
    "says nothing of host/ml/train": lambda s: s["subject"].remove(
        next(one for one in s["subject"] if one["name"] == "host/ml/train")
    ),
    "speaks of other": lambda s: s["subject"].append(
        {"name": "other", "digest": {"sha256": "0" * 64}}
    ),
    "names a subject twice": lambda s: s["subject"].append(s["subject"][0]),
    "of another kind": lambda s: s.update(predicateType="https://slsa.dev/provenance/v0.2"),
    "of another repository or commit": lambda s: s["predicate"]["buildDefinition"][
        "externalParameters"
    ].update(commit="d" * 40),
    "of another repository or commit ": lambda s: s["predicate"]["buildDefinition"][
        "externalParameters"
    ].update(repository="https://git.example/other"),
    "of another builder": lambda s: s["predicate"]["runDetails"]["builder"].update(id="x"),
    "no statement about a build": lambda s: s.pop("subject"),
    "no statement about a build ": lambda s: s.update(subject=[{"name": [], "digest": 1}]),
}


@pytest.mark.parametrize("said", ABOUT)
def test_a_true_signature_of_something_else_is_told_as_that(said: str) -> None:
    """An allowed key signed it: it is not passed over but told."""
    pen = Pen()
    one = made()
    stated = json.loads(attest.statement(one))
    ABOUT[said](stated)
    odd = one.signed(signing.envelope(pen, json.dumps(stated).encode()))
    with pytest.raises(ReleaseSignatureError) as caught:
        signing.verify(odd, [pen.key])
    assert "is not of its content" in caught.value.what
    assert said.strip() in caught.value.what


def test_the_signature_of_another_release_is_none_of_this(tmp_path: Path) -> None:
    pen = Pen()
    other = signing.sign(made(project="other"), pen)
    with pytest.raises(ReleaseSignatureError, match="is not of its content"):
        signing.verify(made().signed(*other.envelopes), [pen.key])


def test_content_that_was_tampered_with_after_signing_is_refused() -> None:
    pen = Pen()
    one = signing.sign(made(), pen)
    odd = dataclasses.replace(one, content=one.content.replace(b'"main"', b'"Main"'))
    with pytest.raises(ReleaseSignatureError):
        signing.verify(odd, [pen.key])


# -- keys in files ---------------------------------------------------------------------


@pytest.fixture
def passphrase(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PASSPHRASE", SECRET)
    return "PASSPHRASE"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_new_key_pair_signs(tmp_path: Path, passphrase: str, kind: str) -> None:
    path = tmp_path / "release.key"
    key = keygen.generate(path, passphrase, kind)
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    signer = signing.signer(Signing(key="release.key", passphrase_env=passphrase), tmp_path)
    assert signer.key.id == key.id == keys.load(tmp_path / "release.key.pub").id
    one = signing.sign(made(), signer)
    public = serialization.load_pem_public_key((tmp_path / "release.key.pub").read_bytes())
    assert judge(public, one.envelopes[0]) == attest.statement(one)
    with pytest.raises(ConfigError, match="there already"):
        keygen.generate(path, passphrase, kind)


def test_a_key_without_a_passphrase_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("", "short"):
        monkeypatch.setenv("PASSPHRASE", value)
        with pytest.raises(CredentialsError):
            keygen.generate(tmp_path / "k", "PASSPHRASE", "ecdsa")
    assert not list(tmp_path.iterdir())


def _pem(private: Any, passphrase: str = "") -> bytes:
    return bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase.encode())
            if passphrase
            else serialization.NoEncryption(),
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_openssl_s_form_signs_too(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen = Pen(kind)
    (tmp_path / "k").write_bytes(_pem(pen.private))
    monkeypatch.setenv("KEY_FILE", os.fspath(tmp_path / "k"))
    signer = signing.signer(Signing(key_env="KEY_FILE"), Path("/nowhere"))
    assert signing.verify(signing.sign(made(), signer), [pen.key]) == [pen.key.id]


BAD_KEYS: dict[str, tuple[bytes | None, str | None, str | None, type[CIError], str]] = {
    # content, variable, its value, error, what it says
    "absent": (None, None, None, ConfigError, "cannot be read"),
    "no key": (b"hello", None, None, ConfigError, "no private key"),
    "a public key": (Pen().key.pem, None, None, ConfigError, "no private key"),
    "another curve": (_pem(ec.generate_private_key(ec.SECP384R1())), None, None, ConfigError,
                      "of a kind that is not taken"),
    "a short key": (_pem(rsa.generate_private_key(65537, 1024)), None, None, ConfigError,
                    "of a kind that is not taken"),
    "no passphrase": (_pem(Pen().private, SECRET), None, None, CredentialsError,
                      "wants a passphrase"),
    "not the passphrase": (_pem(Pen().private, SECRET), "P", "wrong", CredentialsError,
                           "does not open"),
    "one too many": (_pem(Pen().private), "P", SECRET, CredentialsError, "has no passphrase"),
    "unset": (_pem(Pen().private, SECRET), "P", None, CredentialsError, "the variable P"),
    "cosign's": (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", None, None, ConfigError,
                 "only cosign"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_KEYS)
def test_a_key_that_cannot_be_used_is_told_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    content, variable, value, error, said = BAD_KEYS[what]
    if content is not None:
        (tmp_path / "k").write_bytes(content)
    monkeypatch.delenv("P", raising=False)
    if variable and value:
        monkeypatch.setenv(variable, value)
    with pytest.raises(error, match=said) as caught:
        signing.signer(Signing(key="k", passphrase_env=variable), tmp_path)
    text = f"{caught.value} {caught.value.__cause__}"
    assert SECRET not in text
    assert "wrong" not in text
    for line in (content or b"").decode().splitlines()[1:-1]:
        assert line not in text


def test_a_variable_that_names_no_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_FILE", raising=False)
    with pytest.raises(CredentialsError, match="KEY_FILE"):
        signing.signer(Signing(key_env="KEY_FILE"), Path())


@pytest.mark.parametrize("content", [None, b"x", _pem(Pen().private)])
def test_a_public_key_that_is_none_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "k.pub").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        keys.load_all(["k.pub"], tmp_path)
    assert "BEGIN PRIVATE" not in str(caught.value)


# -- AWS KMS, by moto ------------------------------------------------------------------


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws
    from moto.kms import responses, utils

    # moto hashes whatever it is sent. KMS does not where it is told that it is a digest:
    # docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html, MessageType.
    def asked(response: Any) -> str:
        assert response._get_param("MessageType") == "DIGEST"
        return str(real(response))

    real, digest = responses.KmsResponse.sign, Prehashed(hashes.SHA256())
    monkeypatch.setattr(responses.KmsResponse, "sign", asked)
    monkeypatch.setattr(
        utils.ECDSAPrivateKey, "sign", lambda key, m, _: key.private_key.sign(m, ec.ECDSA(digest))
    )
    monkeypatch.setattr(
        utils.RSAPrivateKey,
        "sign",
        lambda key, m, _: key.private_key.sign(m, padding.PKCS1v15(), digest),
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield boto3.client("kms", region_name="eu-west-1")


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "RSA_2048"])
def test_a_key_of_kms_signs(kms: Any, spec: str) -> None:
    made_key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)["KeyMetadata"]
    signer = signing.signer(Signing(key=f"awskms:{made_key['Arn']}"), Path())
    one = signing.sign(made(), signer)
    der = kms.get_public_key(KeyId=made_key["KeyId"])["PublicKey"]
    assert signing.verify(one, [signer.key]) == [hashlib.sha256(der).hexdigest()]
    public = serialization.load_der_public_key(der)
    assert judge(public, one.envelopes[0]) == attest.statement(one)


def test_a_key_of_kms_by_its_alias_in_the_agent_s_region(
    kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/release", TargetKeyId=id)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    signer = signing.signer(Signing(key="awskms:alias/release"), Path())
    assert signing.verify(signing.sign(made(), signer), [signer.key])


def test_a_key_that_kms_has_not_or_that_we_do_not_take_is_told(kms: Any) -> None:
    arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    with pytest.raises(CIError, match="NotFound") as caught:
        signing.signer(Signing(key=f"awskms:{arn}"), Path())
    assert caught.value.exit_code in (15, 50)
    other = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P384")["KeyMetadata"]["Arn"]
    with pytest.raises(ConfigError, match="of a kind that is not taken"):
        signing.signer(Signing(key=f"awskms:{other}"), Path())


def test_a_region_that_nobody_names_is_told(kms: Any) -> None:
    with pytest.raises(CIError, match="region"):
        signing.signer(Signing(key="awskms:alias/release"), Path())


def test_sources_of_all_kinds_have_a_statement() -> None:
    for source in (d.Source(), d.Source(commit=COMMIT, dirty=True)):
        one = made(source=source, repository="")
        assert attest.differences(attest.statement(one), one) == []
