"""Releases in S3, for who has no way to the registry, or wants them beside it.

    s3://bucket/prefix/releases/release-<64 hex>.tar   a bundle in one file, for ever
    s3://bucket/prefix/commits/<commit>                the name of its newest release
    s3://bucket/prefix/locks/<project>/<environment>.json  who promotes (bucket_claims)

One object is there or it is not: no half release. Needs s3:GetObject, s3:PutObject
and s3:ListBucket, without which S3 calls missing objects forbidden.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, cast
from urllib.parse import urlsplit

from ci_tools import aws
from ci_tools.aws_codes import code_of
from ci_tools.errors import ReleaseError, ReleaseNotFoundError
from ci_tools.release import bundle
from ci_tools.release.bundle import Bundle

_NEVER = datetime.min.replace(tzinfo=timezone.utc)
_MISSING = {"NoSuchKey", "404"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}


class Bucket:
    """uri: `s3://bucket/prefix`. Its region is found by S3 itself, or AWS_REGION's."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.uri = uri.rstrip("/")
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._client = aws.client("s3")

    def publish(self, made: Bundle) -> str:
        """Put a release there; its address. One that is there stays as it is.

        Raises ReleaseError, also where something else has its name; CredentialsError.
        """
        release = made.release
        key = self._key("releases", f"{release.name}.tar")
        new = self._put(key, bundle.packed(made))
        if not new:
            held = self.find(release.name)
            if (held.content, held.files) != (made.content, made.files):
                raise ReleaseError(
                    f"{self.uri} has something else that is called {release.name}",
                    "Find out who put it there; a release is never replaced",
                )
        commit = release.source.commit
        if commit and not release.source.dirty:
            pointer = self._key("commits", commit)
            # Older than the release: that was put there, and then somebody was killed.
            if new or (self._time(pointer) or _NEVER) < (self._time(key) or _NEVER):
                self._put(pointer, release.name.encode(), over=True)
        return f"s3://{self._bucket}/{key}"

    def find(self, what: str) -> Bundle:
        """A release by its whole name, or by its commit. Nothing is read of it yet.

        Raises ReleaseNotFoundError, ReleaseSignatureError, ReleaseError, CredentialsError.
        """
        name = what
        if bundle.is_commit(what):
            name = (self._content(self._key("commits", what)) or b"").decode("ascii", "replace")
        content = None
        if bundle.is_name(name):
            content = self._content(self._key("releases", f"{name}.tar"))
        if content is None:
            raise ReleaseNotFoundError(
                f"there is no release '{what[:80]}' in {self.uri}",
                "Name a release or a commit in full, of those that were published there",
            )
        return bundle.unpacked(content, f"{self.uri}: {name}", wanted=what)

    def _key(self, *parts: str) -> str:
        return "/".join(part for part in (self._prefix, *parts) if part)

    def _put(self, key: str, content: bytes, *, over: bool = False) -> bool:
        """Whether it was written; not where there is one and it may not be replaced."""
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {} if over else {"IfNoneMatch": "*"}
        with aws.translated(self.uri, "s3:PutObject on it", ReleaseError):
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **condition)
            except ClientError as error:
                if code_of(error) in _TAKEN:
                    return False
                raise
        return True

    def _content(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with aws.translated(self.uri, "s3:GetObject and s3:ListBucket on it", ReleaseError):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
                return bytes(answer["Body"].read())
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise

    def _time(self, key: str) -> datetime | None:
        """When an object was written, by S3's clock; None where there is none."""
        from botocore.exceptions import ClientError

        with aws.translated(self.uri, "s3:GetObject and s3:ListBucket on it", ReleaseError):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
                return cast("datetime", answer["LastModified"])
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise
