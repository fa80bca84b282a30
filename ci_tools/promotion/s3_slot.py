"""One object in S3 that is replaced by condition."""

from __future__ import annotations

import contextlib
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ci_tools import aws
from ci_tools.aws_codes import code_of
from ci_tools.promotion.bucket_claims import Seen

_LARGEST = 1 << 16  # bytes of a claim that are read
_MISSING = {"NoSuchKey", "404"}
# The second where two wrote at the same moment.
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", *_MISSING}


class S3Slot:
    """Satisfies `bucket_claims.Slot`. uri: `s3://bucket/prefix`; name: of the object below
    it. Needs s3:GetObject, s3:PutObject and s3:ListBucket, without which S3 calls missing
    objects forbidden. Raises RegistryError, CredentialsError."""

    def __init__(self, uri: str, name: str) -> None:
        parts = urlsplit(uri)
        key = "/".join(part for part in (parts.path.strip("/"), name) if part)
        self._where = {"Bucket": parts.netloc, "Key": key}
        self._client = aws.client("s3")

    def __str__(self) -> str:
        return f"s3://{self._where['Bucket']}/{self._where['Key']}"

    def read(self) -> Seen | None:
        from botocore.exceptions import ClientError

        with aws.translated(str(self), "s3:GetObject and s3:ListBucket on it"):
            try:
                answer = self._client.get_object(**self._where)
                content = bytes(answer["Body"].read(_LARGEST))
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise
        return Seen(content, answer["ETag"], _age(answer))

    def put(self, content: bytes, instead_of: str) -> str:
        from botocore.exceptions import ClientError

        condition = {"IfMatch": instead_of} if instead_of else {"IfNoneMatch": "*"}
        with aws.translated(str(self), "s3:PutObject on it"):
            try:
                answer = self._client.put_object(
                    **self._where, Body=content, ContentType="application/json", **condition
                )
            except ClientError as error:
                if code_of(error) in _REFUSED:
                    return ""
                raise
        return str(answer["ETag"])


def _age(answer: Any) -> float:
    """Seconds since an object was written, by the clock of who answers: ours may be wrong."""
    now = time.time()
    with contextlib.suppress(KeyError, TypeError, ValueError):
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    return max(0.0, now - float(answer["LastModified"].timestamp()))
