"""Signing a release, and telling who did: DSSE envelopes, by securesystemslib.

What is signed is the pre-authentication encoding of a payload and its type
(github.com/secure-systems-lab/dsse, protocol.md). A key id in an envelope is a hint
that anybody can write: it decides nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from ci_tools.errors import ReleaseSignatureError
from ci_tools.release import attest
from ci_tools.release.bundle import CONTENT, Bundle
from ci_tools.release.keys import Key
from ci_tools.release.signers import Signer, signer

__all__ = ["Signer", "envelope", "opened", "sign", "signer", "verify"]

PAYLOAD = "application/vnd.in-toto+json"
_LARGEST = 64 << 20  # bytes of an envelope


def envelope(signer: Signer, payload: bytes) -> bytes:
    """A DSSE envelope around an in-toto statement, as JSON."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Signature  # type: ignore[attr-defined]

    made = Envelope(payload, PAYLOAD, {})
    signature = signer.sign(made.pae())
    made.signatures[signer.key.id] = Signature(signer.key.id, signature.hex())
    return json.dumps(made.to_dict(), separators=(",", ":")).encode()


def sign(bundle: Bundle, signer: Signer) -> Bundle:
    """The release with our signature beside those that it has."""
    return bundle.signed(envelope(signer, attest.statement(bundle)))


def verify(bundle: Bundle, allowed_keys: Collection[Key]) -> list[str]:
    """The ids of the allowed keys that signed this very release, sorted; one at least.

    Every signature is verified before anything that it signs is read. Envelopes of
    other keys are passed over; one by an allowed key that is about something else is not.

    Raises ReleaseSignatureError, also for a release that says of itself that it must
    not be promoted.
    """
    signed: set[str] = set()
    strangers: set[str] = set()
    for one in bundle.envelopes:
        payload, ids, hints = opened(one, allowed_keys)
        strangers |= {*hints} - {*ids}
        if not ids:
            continue
        odd = attest.differences(payload, bundle)
        if odd:
            raise ReleaseSignatureError(
                f"the signature of {_called(bundle)} is not of its content: {'; '.join(odd)}",
                "Do not use it; build and release the commit again",
            )
        signed |= ids
    if not signed:
        raise _unsigned(bundle, strangers, allowed_keys)
    if bundle.release.problems:
        raise ReleaseSignatureError(
            f"{bundle.release.name} must not be promoted: {'; '.join(bundle.release.problems)}",
            "Mend that and release again",
        )
    return sorted(signed)


def opened(envelope: bytes, keys: Collection[Key]) -> tuple[bytes, set[str], list[str]]:
    """An envelope's payload, which of the keys signed it, and the key ids that it claims.

    The payload is not to be read where no key signed it. What is no envelope of an
    in-toto statement is signed by nobody.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    if len(envelope) > _LARGEST:
        return b"", set(), []
    try:
        data = json.loads(envelope)
        hints = [str(one.get("keyid", ""))[:64] for one in data["signatures"]]
        for number, one in enumerate(data["signatures"]):
            one["keyid"] = str(number)  # or securesystemslib refuses two with one hint, or none
        read = Envelope.from_dict(data)
    except (ValueError, LookupError, TypeError, AttributeError, FormatError, RecursionError):
        return b"", set(), []
    if read.payload_type != PAYLOAD:
        return b"", set(), hints
    pae = read.pae()
    ids = {
        key.id
        for key in keys
        if any(key.signed(pae, bytes.fromhex(one.signature)) for one in read.signatures.values())
    }
    return read.payload, ids, hints


def _unsigned(
    bundle: Bundle, strangers: Collection[str], allowed: Collection[Key]
) -> ReleaseSignatureError:
    name = _called(bundle)
    if not allowed:
        return ReleaseSignatureError(
            f"no key may sign {name}: the environment allows none",
            "Name the public keys in ci.yaml: environments.NAME.promotion.keys",
        )
    if not bundle.envelopes:
        return ReleaseSignatureError(
            f"{name} is not signed",
            "See with 'python -m ci releases show --env ENV' whether it tells why it must not be "
            "promoted; else release it where ci.yaml has 'signing' for the environment",
        )
    by = ", ".join(sorted(one[:12] for one in strangers if one)) or "an unknown key"
    return ReleaseSignatureError(
        f"{name} has no signature of a key that is allowed (there is one of {by})",
        "Sign it with an allowed key, or allow that key in ci.yaml if you know whose it is",
    )


def _called(bundle: Bundle) -> str:
    """What to call a release that is not to be read yet."""
    return bundle.wanted or f"the release whose {CONTENT} has sha256 {bundle.sha256[:12]}"
