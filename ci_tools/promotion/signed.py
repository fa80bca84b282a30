"""Whether a record of a promotion is what who may sign says it is. Pure but for the signing.

What is signed is an in-toto statement about the sha256 of the record's bytes, in a DSSE
envelope as a release's is. It says of what kind it is, so that no signature of a release
passes for one of a record, nor the other way round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from ci_tools.documents import Promotion
from ci_tools.release import attest, signing
from ci_tools.release.keys import Key
from ci_tools.release.signing import Signer

KIND = "urn:kfp-ci:promotion:v1"


def envelope(signer: Signer, content: bytes, record: Promotion) -> bytes:
    """A signature of a record. content: its bytes as they are kept. Raises what signing
    raises."""
    subject = {
        "name": f"promotions/{record.environment}/{record.id}",
        "digest": {"sha256": _sha256(content)},
    }
    predicate = {
        "environment": record.environment,
        "release": record.release,
        "action": record.action,
        "outcome": record.outcome,
        "by": record.by,
    }
    return signing.envelope(signer, attest.encoded([subject], KIND, predicate))


def problem(content: bytes, envelope: bytes | None, allowed: Collection[Key]) -> str:
    """Why a record is not to be believed, a clause; "" where an allowed key signed it."""
    if envelope is None:
        return "it is not signed"
    payload, ids, hints = signing.opened(envelope, allowed)
    if not ids:
        by = ", ".join(sorted({hint[:12] for hint in hints if hint})) or "an unknown key"
        return f"no key that is allowed signed it, but {by}"
    if not attest.is_about(payload, _sha256(content), KIND):
        return "its signature is of something else"
    return ""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
