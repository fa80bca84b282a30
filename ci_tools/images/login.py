"""Our registry credentials, for the docker client.

`docker buildx build` reads docker's configuration when it pulls what a FROM
names. Where the credentials are ours (ECR), docker does not know them: it is
given a configuration directory which is the user's own with one entry more, a
credential helper for that one host.
(https://docs.docker.com/reference/cli/docker/login/#credential-helpers)
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ci_tools import storage
from ci_tools.errors import CIError, ConfigError, WriteError
from ci_tools.images.registry import Registry
from ci_tools.images.transport import Known

HELPER = "kfp-ci"
_PROGRAM = """#!/bin/sh
# Tells docker one registry's credentials; run by docker, which asks on stdin.
read -r server
case "$1 $server" in
"get "{host}|"get https://"{host}|"get https://"{host}/) exec cat {file} ;;
get*) echo "credentials not found in native keychain" ;;
*) echo "kfp-ci looks after the login of this registry" ;;
esac
exit 1
"""
_LOOK_SECONDS = 60.0


@contextlib.contextmanager
def client_environment(
    registry: Registry, scratch: Path, *, look_seconds: float = _LOOK_SECONDS
) -> Iterator[Mapping[str, str]]:
    """Variables to add for docker children, which then find our credentials.

    Contexts, plugins, builders and all other logins of the user stay. Empty
    where docker's own configuration counts anyway (any registry but ECR).

    scratch: a directory of the caller's where programs may be run; what is put
    there is gone afterwards. The credentials are in a file that only this user
    can read, and are looked at every `look_seconds`, since a token may end
    while a child runs.

    Raises CredentialsError, RegistryError, ConfigError for a docker
    configuration that does not parse, WriteError.
    """
    known = registry.credentials()
    if known is None:
        yield {}
        return
    directory = scratch / "docker"
    file = directory / "kfp-ci" / "credentials.json"
    _lay_out(directory, file, registry.host)
    _write(file, registry.host, known)
    watch = _Watch(registry, file, known, look_seconds)
    watch.start()
    try:
        yield {
            "DOCKER_CONFIG": str(directory),
            # Without it a builder that is made or chosen meanwhile would go with us.
            "BUILDX_CONFIG": os.environ.get("BUILDX_CONFIG") or str(_users() / "buildx"),
            "PATH": os.pathsep.join([str(file.parent), os.environ.get("PATH", os.defpath)]),
        }
    finally:
        watch.stop()
        shutil.rmtree(directory, ignore_errors=True)  # links are removed, not followed


class _Watch(threading.Thread):
    """Keeps the file equal to the registry's credentials."""

    def __init__(self, registry: Registry, file: Path, known: Known, look_seconds: float) -> None:
        super().__init__(daemon=True)
        self._registry, self._file, self._known = registry, file, known
        self._look_seconds = look_seconds
        self._over = threading.Event()
        self._writing = threading.Lock()

    def run(self) -> None:
        while not self._over.wait(self._look_seconds):
            # What is there may work for a while yet; who needs more will say so.
            with contextlib.suppress(CIError):
                now = self._registry.credentials()
                if now is not None and now != self._known:
                    with self._writing:
                        if not self._over.is_set():
                            _write(self._file, self._registry.host, now)
                    self._known = now

    def stop(self) -> None:
        """Nothing is written afterwards, though a question may be under way."""
        with self._writing:
            self._over.set()


def _users() -> Path:
    """The user's docker configuration, as docker finds it."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _lay_out(directory: Path, file: Path, host: str) -> None:
    """The user's configuration directory once more, with our helper."""
    users = _users()
    settings = _settings(users / "config.json")
    settings["credHelpers"] = {**(settings.get("credHelpers") or {}), host: HELPER}
    try:
        for made in (directory, file.parent):
            made.mkdir(mode=0o700, parents=True)
        for entry in users.iterdir() if users.is_dir() else ():
            if entry.name not in ("config.json", file.parent.name):
                (directory / entry.name).symlink_to(entry.absolute())
    except OSError as error:
        raise WriteError(
            f"docker's login could not be written to {directory} ({error.strerror})",
            "Free some disk space or mend the permissions",
        ) from error
    storage.write_bytes(directory / "config.json", json.dumps(settings).encode(), mode=0o600)
    program = _PROGRAM.format(host=shlex.quote(host), file=shlex.quote(str(file)))
    name = f"docker-credential-{HELPER}"
    storage.write_bytes(file.parent / name, program.encode(), mode=0o700)


def _settings(path: Path) -> dict[str, Any]:
    """The user's config.json; empty when there is none."""
    try:
        settings = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"docker's configuration {path} cannot be read ({type(error).__name__})", "Mend it"
        ) from None  # the cause could quote a login
    if not isinstance(settings, dict):
        raise ConfigError(f"docker's configuration {path} is no JSON object", "Mend it")
    return settings


def _write(file: Path, host: str, known: Known) -> None:
    """What docker's credential helper protocol answers to `get`; never half of it."""
    answer = {"ServerURL": host, "Username": known[0], "Secret": known[1]}
    storage.write_bytes(file, json.dumps(answer).encode(), mode=0o600)
