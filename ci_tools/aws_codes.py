"""Which code AWS answers with, and which it is when the credentials are wrong."""

from __future__ import annotations

REFUSED = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


def code_of(error: Exception) -> str:
    """AWS' code of a refusal, "" for any other error."""
    response = getattr(error, "response", None)
    return str((response or {}).get("Error", {}).get("Code", ""))
