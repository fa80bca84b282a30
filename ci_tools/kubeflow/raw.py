"""What reads of Kubeflow outside its API need: one plain request, logged in as the API is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Answer(Protocol):
    """What came back, whatever its status is."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...


class Connection(Protocol):
    def raw(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        origin: bool = False,
    ) -> Answer:
        """One request with the API's credentials. Statuses are answers, not errors.

        path:   below the endpoint, or with `origin` below its scheme://host.

        Raises KubeflowError when nobody answers, CredentialsError where the
        credentials themselves cannot be had.
        """


def header(answer: Answer, name: str) -> str:
    """A header's value whatever its case, "" without one."""
    return next((value for key, value in answer.headers.items() if key.lower() == name), "")


def is_page(answer: Answer) -> bool:
    """Whether a web page came: a login form, or what a proxy shows for an unknown address."""
    return "text/html" in header(answer, "content-type").lower()
