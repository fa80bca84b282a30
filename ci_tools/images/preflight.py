"""Before a long build: would its pushes be taken? (skaffold#5717 asks for it.)

The proof is a blob upload that is begun and given up: it needs what a push
needs, and moves no bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images.direct import Answer
from ci_tools.images.ecr import Ecr
from ci_tools.images.transport import Transport, said

_AT_ONCE = 16


def check(http: Transport, ecr: Ecr | None, repositories: Collection[str]) -> list[str]:
    """See Registry.preflight. All repositories are asked at once.

    ecr: makes the repositories that are missing; None where a push does so.

    Raises the error of the first repository, in order, that has one.
    """

    def one(repository: str) -> list[str]:
        told = [] if ecr is None else ecr.prepare(repository)
        _prove(http, ecr, repository)
        return told

    wanted = sorted(set(repositories))
    if not wanted:
        return []
    # One question before many: who is away, or does not know us, is waited for once.
    if ecr is not None:
        ecr.credentials()
    with contextlib.suppress(CredentialsError):  # which the repository's own error tells better
        http.ask("GET", "/v2/")
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        # All are waited for: a repository half made would be in the way later.
        futures = [pool.submit(one, repository) for repository in wanted]
    return [sentence for future in futures for sentence in future.result()]


def _prove(http: Transport, ecr: Ecr | None, repository: str) -> None:
    """Begin an upload, and give it up. Raises the errors of `check`."""
    name = f"{http.host}/{repository}"
    if ecr is None:
        todo = f"Log in with an account that may push: docker login {http.host}"
    else:
        todo = ecr.may_push(repository)
    try:
        answer = http.ask("POST", f"/v2/{repository}/blobs/uploads/")
    except CredentialsError as error:
        raise CredentialsError(f"{name} takes no push: {error.what}", todo) from error
    status = answer.status_code
    if status == 202:
        _give_up(http, answer)
        return
    why = said(answer)
    if status in (401, 403):
        raise CredentialsError(f"{name} refuses our push ({why})", todo)
    if status == 404:
        raise PushError(
            f"{name} takes no push: there is no such repository ({why})",
            "Make it, or the project that it is in, or mend registry.prefix in ci.yaml",
        )
    if status == 405:
        raise PushError(
            f"{name} takes no push: the registry is read-only ({why})",
            "Wait until its maintenance is over, or name the registry that takes pushes",
        )
    raise RegistryError(
        f"the registry {http.host} answers {why} to a push to {repository}",
        "Look into the registry's log",
    )


def _give_up(http: Transport, begun: Answer) -> None:
    """Cancel an upload. Not all registries can (ECR answers 405), and all drop
    what was begun and not ended after a while, so a failure is none of ours.
    """
    location = begun.headers.get("Location")
    if not location:
        return
    try:
        http.ask("DELETE", location)
    except (RegistryError, CredentialsError):
        return
