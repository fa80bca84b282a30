"""Base images made from Debian packages where no public registry answers.

On a closed network `FROM python:3.11-slim` cannot be pulled, but Debian's packages
often can. A stand-in is Debian's minimal system with the interpreter where the
official image has it (`python`, `pip` and site-packages below /usr/local). It is
not the official image, so it is loud: it lives in a repository of its own
(`bases/`), is recorded in bases.json and comes with a note for the summary. It
never pretends to be another minor version of Python.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools import storage
from ci_tools.documents import Document, timestamp
from ci_tools.errors import EngineError, LocalEnvironmentError, MissingInputError
from ci_tools.images import manifests
from ci_tools.local import daemon, debian, state

_PROBE_SECONDS = 3
_PROBE_KEPT_SECONDS = 3600.0


class Base(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One stand-in. image: by digest. created: RFC 3339 in UTC."""

    image: str
    made_from: str
    created: str


class Bases(Document, kw_only=True):
    """bases.json: reference as a Dockerfile writes it -> stand-in."""

    bases: dict[str, Base] = {}


class Substitute(NamedTuple):
    """image: by digest. note: one sentence for the summary; print it."""

    image: str
    note: str


def recorded(home: Path) -> dict[str, str]:
    """Reference -> stand-in by digest, as made so far. No network.

    Raises LocalEnvironmentError for a damaged bases.json.
    """
    return {reference: base.image for reference, base in _load(home).bases.items()}


def substitute(reference: str, registry_host: str, home: Path) -> Substitute | None:
    """A stand-in for an external base image; None when the real one can be asked for.

    reference: as the Dockerfile writes it. registry_host: the embedded registry,
    `127.0.0.1:<port>`. A stand-in that the registry still holds is used again.

    Raises LocalEnvironmentError when nothing answers for the reference and no
    stand-in of that version can be made, EngineError, WriteError.
    """
    if not debian.is_public(reference) or _public_registry_answers(reference, home):
        return None
    how = debian.recipe(reference)
    if how is None:
        return None
    with state.locked(home, "bases"):
        known = _load(home)
        base = known.bases.get(reference)
        repository = f"{registry_host}/bases/{how.kind}"
        tag = f"{how.suite}-{debian.fingerprint(how)}"
        digest = _digest(registry_host, how.kind, tag)
        if digest is None:
            debian.make(how, f"{repository}:{tag}", home)
            digest = _digest(registry_host, how.kind, tag)
        if digest is None:
            raise LocalEnvironmentError(
                f"{repository}:{tag} was pushed but {registry_host} does not hold it",
                "Run 'python -m ci local status'",
            )
        image = f"{repository}@{digest}"
        if base is None or base.image != image:
            base = Base(
                image=image,
                made_from=debian.MADE_FROM,
                created=timestamp(),
            )
            known.bases[reference] = base
            storage.write(home / "bases.json", known)
    return Substitute(
        image,
        f"{reference} is a stand-in made from {debian.MADE_FROM} (Debian {how.suite}, "
        f"Python {how.python}), because no public registry answers: {image}",
    )


def _load(home: Path) -> Bases:
    path = home / "bases.json"
    try:
        return storage.read_if_there(path, Bases, made_by="local up") or Bases()
    except MissingInputError as error:
        raise LocalEnvironmentError(error.what, f"Delete {path}; it is made again") from error


def _public_registry_answers(reference: str, home: Path) -> bool:
    """Whether the engine gets an answer about a public image, remembered for an hour.

    The engine is asked, since its mirrors and proxies decide what a build can pull.
    """
    now = time.time()
    probe = state.load(home).probes.get("public")
    if probe is not None and 0 <= now - probe.asked < _PROBE_KEPT_SECONDS:
        return probe.reachable
    reachable = _ask_engine(reference)
    with state.locked(home):
        known = state.load(home)
        known.probes["public"] = state.Probe(reachable=reachable, asked=now)
        state.save(home, known)
    return reachable


def _ask_engine(reference: str) -> bool:
    import docker
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        client = docker.from_env(timeout=_PROBE_SECONDS)
    except DockerException as error:
        raise EngineError(
            f"the Docker engine does not answer ({error})", "Start it: scripts/bootstrap.sh"
        ) from error
    try:
        client.api.inspect_distribution(reference)  # type: ignore[no-untyped-call]
    except APIError as error:
        # "Not found" and "denied" are answers; the engine says 5xx for none.
        status = error.response.status_code if error.response is not None else 500
        return status < 500
    except RequestException:
        return False  # no answer in time
    finally:
        client.close()
    return True


def _digest(registry_host: str, kind: str, tag: str) -> str | None:
    port = int(registry_host.rpartition(":")[2])
    answer = daemon.get(port, f"/v2/bases/{kind}/manifests/{tag}", {"Accept": manifests.ACCEPTED})
    if answer is None or answer.status != 200:
        return None
    return answer.headers.get("docker-content-digest")
