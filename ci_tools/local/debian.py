"""Images made from Debian packages: which can be, of what, and how.

A recipe never pretends to be another minor version of Python.
"""

from __future__ import annotations

import hashlib
import platform
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from ci_tools import process
from ci_tools.errors import LocalEnvironmentError

_BUILD_SECONDS = 1800.0
_BUILDX = ("--push", "--provenance=false", "--progress=plain")
MADE_FROM = "Debian packages"
# Nothing in the image is younger than this (Debian 12's release day), so that equal
# packages make equal bytes, and equal bytes an equal digest, on any machine.
_EPOCH = 1686355200


class Recipe(NamedTuple):
    """What is made. kind: `python` or `debian`. python: its minor version."""

    kind: str
    suite: str
    python: str


# Suite -> Debian's number, its Python. The first is the one for a bare `python:slim`.
_SUITES = {"bookworm": ("12", "3.11"), "trixie": ("13", "3.13")}
_REFERENCE = re.compile(r"(?:docker\.io/)?(?:library/)?(?P<kind>python|debian):(?P<tag>[\w.-]+)")
_PYTHON_TAG = re.compile(r"(?:(?P<version>3(?:\.\d+){0,2})-)?slim(?:-(?P<suite>[a-z]+))?")
_DEBIAN_TAG = re.compile(r"(?P<suite>[a-z]+|\d+)(?:\.\d+)?-slim")


def is_public(reference: str) -> bool:
    """Whether a reference names the public `python` or `debian`, of whatever tag."""
    return _REFERENCE.fullmatch(reference) is not None


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
    lines = ["FROM scratch", "ADD base.tar /", f'LABEL kfp-ci.made-from="{MADE_FROM}"']
    if how.kind == "python":
        lines += [
            "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
            'CMD ["python3"]',
        ]
    else:
        lines += ['CMD ["bash"]']
    return "\n".join(lines) + "\n"


def fingerprint(how: Recipe) -> str:
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


def make(how: Recipe, tagged: str, home: Path) -> None:
    """Make the image and push it as `tagged`. home: of the local environment, for the log.

    Raises LocalEnvironmentError.
    """
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
                    f"no base image could be made from {MADE_FROM} for {tagged}: "
                    f"{what} said: {done.tail(1)[:300]}",
                    "Read the log; Debian's packages must be reachable, and without root "
                    "user namespaces must be allowed",
                    log=log,
                )
