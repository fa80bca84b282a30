"""A FAKE of one object in S3, in memory: replaced by condition, with the store's own clock."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from ci_tools.promotion.bucket_claims import Seen


@dataclass
class FakeSlot:
    """Satisfies `bucket_claims.Slot`.

    before: called before each request, as what others do meanwhile; after: when something
    was written. lose: so many answers are lost from now on, as botocore has it: what was
    written is refused when it is repeated.
    conditions: whether the store minds them.
    """

    now: Callable[[], float] = time.time
    before: Callable[[str], None] = lambda _: None
    after: Callable[[], None] = lambda: None
    conditions: bool = True
    lose: int = 0
    content: bytes | None = None
    written: float = 0.0

    @property
    def etag(self) -> str:
        """As S3 makes it of a small object: of the content alone."""
        return "" if self.content is None else f'"{hashlib.md5(self.content).hexdigest()}"'

    def read(self) -> Seen | None:
        self.before("read")
        if self.content is None:
            return None
        return Seen(self.content, self.etag, self.now() - self.written)

    def put(self, content: bytes, instead_of: str) -> str:
        self.before("put")
        if self.conditions and self.etag != instead_of:
            return ""
        self.content, self.written = content, self.now()
        self.after()
        if self.lose:
            self.lose -= 1
            return self.put(content, instead_of)
        return self.etag
