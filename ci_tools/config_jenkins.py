"""`jenkins` of `ci.yaml`: the controller that builds this repository."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ci_tools.config_base import Section, check_address


class Jenkins(Section):
    """The controller that builds this repository, for `ci jenkins`. Who we are to it
    is in the environment, in netrc or in the keyring, never here.

    url: as `https://jenkins.example.com`, or with the path that it is served under.
    job: the multibranch job's full name, as `team/clinical-ml`.
    """

    url: Annotated[str, Meta(min_length=1)] | None = None
    job: Annotated[str, Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if self.url is not None:
            check_address("jenkins.url", self.url)
