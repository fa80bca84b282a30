"""Build secrets: what a RUN step may read, and nothing else may show.

A value reaches BuildKit through the docker client's own environment or from a
file; never through a command line, a log, a key or a file of ours.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ci_tools import aws, typed
from ci_tools.config import BuildSecret
from ci_tools.errors import ConfigError, CredentialsError

_VARIABLE = "KFP_CI_SECRET_"
_HIDDEN_LINE = 8  # characters; a shorter line is as likely `[global]` as a secret
_HIDDEN_FILE = 1 << 16  # bytes; what is longer is no password


class Offered(NamedTuple):
    """What a build is started with.

    options: for `docker buildx build`; no value is among them.
    environment: variables to add for that child.
    hidden: strings to blank out of its output.
    """

    options: list[str]
    environment: dict[str, str]
    hidden: list[str]

    def __repr__(self) -> str:
        return f"Offered({self.options})"  # so that no value is ever in a log


class Secrets:
    """The secrets of one run, looked up once. Safe to use from several threads.

    declared: `build.secrets` of ci.yaml; a plain string is a file.
    ssh: `build.ssh` of ci.yaml.
    dry_run: nothing is looked up; only the options tell.
    client: makes a Secrets Manager client for a region; replaced in tests.
    """

    def __init__(
        self,
        declared: Mapping[str, str | BuildSecret],
        ssh: Sequence[str] = (),
        *,
        dry_run: bool = False,
        client: Callable[[str | None], Any] | None = None,
    ) -> None:
        self._declared = {
            name: BuildSecret(file=secret) if isinstance(secret, str) else secret
            for name, secret in declared.items()
        }
        self._ssh = list(ssh)
        self._dry_run = dry_run
        self._client = client or _secrets_manager
        self._lock = threading.Lock()
        self._offered: Offered | None = None
        self._fetched: dict[str, str] = {}

    def offered(self) -> Offered:
        """What each build is started with.

        The first call asks AWS, once for each secret; nobody asks before there
        is something to build.

        Raises ConfigError for a variable, file, secret or field that is not
        there, CredentialsError where AWS refuses or does not answer.
        """
        with self._lock:
            if self._offered is None:
                self._offered = self._looked_up()
            return self._offered

    def _looked_up(self) -> Offered:
        options: list[str] = []
        environment: dict[str, str] = {}
        hidden: set[str] = set()
        for number, (name, secret) in enumerate(sorted(self._declared.items())):
            if secret.file is not None:
                path = _path(secret.file)
                if not self._dry_run:
                    hidden |= _lines(_content(name, path), _HIDDEN_LINE)
                options.append(_option(id=name, src=str(path)))
                continue
            variable = secret.env or f"{_VARIABLE}{number}"
            options.append(_option(id=name, env=variable))
            if self._dry_run:
                continue
            value = self._value(name, secret)
            if secret.env is None:
                environment[variable] = value
            hidden |= {value, value.strip()} | _lines(value, _HIDDEN_LINE)
        for one in self._ssh:
            options.append(f"--ssh={_ssh(one, check=not self._dry_run)}")
        # The longest first: a part that is blanked out would hide the whole.
        return Offered(options, environment, sorted(hidden - {""}, key=lambda s: (-len(s), s)))

    def _value(self, name: str, secret: BuildSecret) -> str:
        if secret.env is not None:
            value = os.environ.get(secret.env)
            if value is None:
                raise ConfigError(
                    f"ci.yaml: build secret '{name}' is in the variable {secret.env}, "
                    "which is not set",
                    f"Set {secret.env}, or mend build.secrets",
                )
            return value
        source = secret.aws or ""
        if source not in self._fetched:
            self._fetched[source] = self._fetch(name, source)
        return _field(name, source, self._fetched[source], secret.key)

    def _fetch(self, name: str, source: str) -> str:
        # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
        region = source.split(":")[3] if source.startswith("arn:") else None
        whom = f"Secrets Manager, asked for build secret '{name}' ({source}),"
        # GetSecretValue of a secret with its own key needs kms:Decrypt too.
        needs = "secretsmanager:GetSecretValue on it, and kms:Decrypt on its key"
        with aws.translated(whom, needs, CredentialsError):
            client = self._client(region)
            try:
                answer = client.get_secret_value(SecretId=source)
            except client.exceptions.ResourceNotFoundException:
                raise ConfigError(
                    f"ci.yaml: build secret '{name}' is not in Secrets Manager ({source})",
                    "Make it there, or mend build.secrets; another account's needs its ARN",
                ) from None
        if "SecretString" not in answer:
            raise ConfigError(
                f"ci.yaml: build secret '{name}' is binary in Secrets Manager ({source})",
                "Store it as text",
            )
        return str(answer["SecretString"])


def _secrets_manager(region: str | None) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "secretsmanager",
        region_name=region,
        config=Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10),
    )


def _field(name: str, source: str, text: str, key: str | None) -> str:
    """One field of a JSON secret, or the whole. Raises ConfigError, telling no value."""
    if key is None:
        return text
    try:
        fields = typed.decode(text, dict[str, Any])
    except msgspec.MsgspecError:
        raise ConfigError(
            f"ci.yaml: build secret '{name}' names the key '{key}' of {source}, "
            "which is no JSON object",
            "Leave 'key' out, or store it as JSON",
        ) from None
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        what = "has no text there" if key in fields else f"holds only {', '.join(sorted(fields))}"
        raise ConfigError(
            f"ci.yaml: build secret '{name}' names the key '{key}' of {source}, which {what}",
            "Mend build.secrets, or the secret",
        )
    return str(value)


def _content(name: str, path: Path) -> str:
    """The text of a secret's file; "" where it is no short text."""
    try:
        with path.open("rb") as stream:
            return stream.read(_HIDDEN_FILE).decode("utf-8", "ignore")
    except OSError as error:
        raise ConfigError(
            f"ci.yaml: the file of build secret '{name}' cannot be read ({path}: {error.strerror})",
            "Put it there, or mend build.secrets",
        ) from error


def _lines(text: str, least: int) -> set[str]:
    """BuildKit prints a number before each line, so that each is looked for alone."""
    return {line.strip() for line in text.splitlines() if len(line.strip()) >= least}


def _ssh(declared: str, *, check: bool) -> str:
    """buildx' own form: `default`, or `id=socket-or-key[,...]`. Raises ConfigError."""
    name, _, sources = declared.partition("=")
    paths = [_path(one) for one in sources.split(",") if one]
    if check and not paths and not os.environ.get("SSH_AUTH_SOCK"):
        raise ConfigError(
            f"ci.yaml: build.ssh offers an agent as '{name}', but none runs",
            f"Start one (eval $(ssh-agent); ssh-add), or name a key: '{name}=~/.ssh/id_ed25519'",
        )
    for path in paths if check else ():
        if not path.exists():
            raise ConfigError(
                f"ci.yaml: what build.ssh offers as '{name}' is not there ({path})",
                "Put the key or the agent's socket there, or mend build.ssh",
            )
    return f"{name}={','.join(map(str, paths))}" if paths else name


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the home of a user who does not exist
        return Path(text)


def _option(**fields: str) -> str:
    """buildx reads a line of CSV: a comma in a path is quoted."""
    return f"--secret={_csv(f'{name}={value}' for name, value in fields.items())}"


def _csv(fields: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
