"""Base images made from Debian packages where no public registry answers.

On a closed network `FROM python:3.11-slim` cannot be pulled, but Debian's packages
often can. A stand-in is Debian's minimal system with the interpreter where the
official image has it (`python`, `pip` and site-packages below /usr/local). It is
not the official image, so it is loud: it lives in a repository of its own
(`bases/`), is recorded in bases.json and comes with a note for the summary. It
never pretends to be another minor version of Python.
"""

from __future__ import annotations

import hashlib
import platform
import re
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools import process, storage
from ci_tools.documents import Document
from ci_tools.errors import EngineError, LocalEnvironmentError, MissingInputError
from ci_tools.local import daemon, state

_PROBE_SECONDS = 3
_PROBE_KEPT_SECONDS = 3600.0
_BUILD_SECONDS = 1800.0
_BUILDX = ("--push", "--provenance=false", "--progress=plain")
_MADE_FROM = "Debian packages"
# Nothing in the image is younger than this (Debian 12's release day), so that equal
# packages make equal bytes, and equal bytes an equal digest, on any machine.
_EPOCH = 1686355200
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)


class Recipe(NamedTuple):
    """What is made. kind: `python` or `debian`. python: its minor version."""

    kind: str
    suite: str
    python: str


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


# Suite -> Debian's number, its Python. The first is the one for a bare `python:slim`.
_SUITES = {"bookworm": ("12", "3.11"), "trixie": ("13", "3.13")}
_REFERENCE = re.compile(r"(?:docker\.io/)?(?:library/)?(?P<kind>python|debian):(?P<tag>[\w.-]+)")
_PYTHON_TAG = re.compile(r"(?:(?P<version>3(?:\.\d+){0,2})-)?slim(?:-(?P<suite>[a-z]+))?")
_DEBIAN_TAG = re.compile(r"(?P<suite>[a-z]+|\d+)(?:\.\d+)?-slim")


def recipe(reference: str) -> Recipe | None:
    """How to make a stand-in for an image reference; None for what has none.

    A reference by digest has none: it says which bytes it wants.
    Raises LocalEnvironmentError for a Python or a Debian that Debian's packages
    do not make.
    """
    named = _REFERENCE.fullmatch(reference)
    if named is None:
        return None
    tag = (_PYTHON_TAG if named["kind"] == "python" else _DEBIAN_TAG).fullmatch(named["tag"])
    if tag is None:
        return None
    suite = tag["suite"]
    minor = None
    if named["kind"] == "python":
        parts = (tag["version"] or "3").split(".")
        minor = ".".join(parts[:2]) if len(parts) > 1 else None
    for codename, (number, python) in _SUITES.items():
        if suite in (None, codename, number) and minor in (None, python):
            return Recipe(named["kind"], codename, python)
    made = ", ".join(f"Python {python} on {name}" for name, (_, python) in _SUITES.items())
    raise LocalEnvironmentError(
        f"no public registry answers for {reference}, and Debian's packages make only {made}",
        "Write one of those in the FROM line, or give the engine a registry mirror that answers",
    )


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
    if _REFERENCE.fullmatch(reference) is None or _public_registry_answers(reference, home):
        return None
    how = recipe(reference)
    if how is None:
        return None
    with state.locked(home, "bases"):
        known = _load(home)
        base = known.bases.get(reference)
        repository = f"{registry_host}/bases/{how.kind}"
        tag = f"{how.suite}-{_fingerprint(how)}"
        digest = _digest(registry_host, how.kind, tag)
        if digest is None:
            _make(how, f"{repository}:{tag}", home)
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
                made_from=_MADE_FROM,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
            known.bases[reference] = base
            storage.write(home / "bases.json", known)
    return Substitute(
        image,
        f"{reference} is a stand-in made from {_MADE_FROM} (Debian {how.suite}, "
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
            f"the Docker engine does not answer ({error})",
            "Start Docker ('make run' installs and starts it on Debian), or set DOCKER_HOST",
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
    answer = daemon.get(port, f"/v2/bases/{kind}/manifests/{tag}", {"Accept": _MANIFESTS})
    if answer is None or answer.status != 200:
        return None
    return answer.headers.get("docker-content-digest")


def bootstrap_command(how: Recipe, tar: Path) -> list[str]:
    """mmdebstrap's arguments for the file system of one stand-in.

    Documentation, manuals and translations are left out; copyright files stay.
    """
    python = how.kind == "python"
    left_out = ("man", "doc", "info", "locale", "lintian", "bug")
    include = ["ca-certificates", *(["python3", "python3-venv"] if python else [])]
    return [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(include)}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in left_out),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        # A virtual environment in /usr/local is what the official image looks like:
        # python and pip on PATH, packages of the system's pip left alone.
        *(['--customize-hook=chroot "$1" python3 -m venv /usr/local'] if python else []),
        '--customize-hook=find "$1/usr" -depth -name __pycache__ -exec rm -rf {} +',
        "--skip=output/dev",  # the engine brings its own
        how.suite,
        str(tar),
        *_sources(how.suite),
    ]


def dockerfile(how: Recipe) -> str:
    """What turns the file system into an image."""
    lines = ["FROM scratch", "ADD base.tar /", f'LABEL kfp-ci.made-from="{_MADE_FROM}"']
    if how.kind == "python":
        lines += [
            "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
            'CMD ["python3"]',
        ]
    else:
        lines += ['CMD ["bash"]']
    return "\n".join(lines) + "\n"


def _fingerprint(how: Recipe) -> str:
    """Names the recipe, so that another one makes another tag."""
    made_by = [*bootstrap_command(how, Path("base.tar")), dockerfile(how), platform.machine()]
    return hashlib.sha256("\0".join(made_by).encode()).hexdigest()[:12]


def _sources(suite: str) -> list[str]:
    """This machine's own package sources where they are of that suite (a company's
    mirror, security updates); else mmdebstrap's default."""
    try:
        release = Path("/etc/os-release").read_text()
    except OSError:
        return []
    if f"VERSION_CODENAME={suite}" not in release.splitlines():
        return []
    files = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
    return [str(path) for path in files if path.is_file() and path.stat().st_size][:1]


def _make(how: Recipe, tagged: str, home: Path) -> None:
    log = home / "logs" / f"base-{how.kind}-{how.suite}.log"
    process.which("mmdebstrap", todo="Install it: scripts/bootstrap.sh, as root on Debian")
    with tempfile.TemporaryDirectory(prefix="base-", dir=home) as name:
        context = Path(name)
        context.chmod(0o755)  # mmdebstrap gives up root where it can
        (context / "Dockerfile").write_text(dockerfile(how))
        for what, command in (
            ("mmdebstrap", bootstrap_command(how, context / "base.tar")),
            ("docker buildx", ["docker", "buildx", "build", *_BUILDX, "--tag", tagged, name]),
        ):
            done = process.run(
                command,
                timeout=_BUILD_SECONDS,
                env={"SOURCE_DATE_EPOCH": str(_EPOCH)},
                log=log,
            )
            if not done.ok:
                raise LocalEnvironmentError(
                    f"no base image could be made from {_MADE_FROM} for {tagged}: "
                    f"{what} said: {done.tail(1)[:300]}",
                    "Read the log; Debian's packages must be reachable, and without root "
                    "user namespaces must be allowed",
                    log=log,
                )
