"""Where things are on a controller: names of jobs, and the paths they have in URLs. Pure."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from ci_tools import config_base
from ci_tools.errors import ConfigError

# What the branch plugin replaces in a branch's name to make a job's name of it, so that
# it stays one part of a path. All else may stand in a name, `%` only as the escape.
_ESCAPED = {ord(it): f"%{ord(it):02X}" for it in "#%/?[]\\"}
_DOTS = {".": "%2E", "..": "%2E."}


def controller(text: str, given_as: str) -> str:
    """A controller's address without the slash at its end. given_as: how, for messages.

    Raises ConfigError, which never quotes an address that may hold a password.
    """
    try:
        config_base.check_address(given_as, text)
    except ValueError as error:
        raise ConfigError(
            str(error),
            "Give JENKINS_USER and JENKINS_TOKEN, or an entry of netrc or of the keyring, "
            "and an address as https://jenkins.example.com",
        ) from None  # the cause might quote it
    return text.rstrip("/")


def branch_job(branch: str) -> str:
    """The name of the job that a multibranch job makes for a branch.

    `feature/x` -> `feature%2Fx`; in a URL its `%` is escaped once more.
    """
    return _DOTS.get(branch) or branch.translate(_ESCAPED)


def job_path(name: str) -> str:
    """`team/ml/feature%2Fx`, a job's full name -> its path `job/team/job/ml/...`.

    Raises ConfigError for a name that is none.
    """
    parts = name.strip("/").split("/")
    if not all(parts) or {".", ".."} & set(parts) or not name.isprintable():
        raise ConfigError(
            f"'{name}' is no job's name",
            "Write a job with its folders, as team/clinical-ml; a branch is given by --branch",
        )
    # Whatever the name holds, it stays a part of the path: a `%` too is escaped.
    return "/".join(f"job/{quote(part, safe='')}" for part in parts)


def is_job(url: str, path: str) -> bool:
    """Whether a URL that a controller told is that of the job at `path`.

    Its host counts for nothing: a controller calls itself by another name than we do.
    """
    try:
        told = urlsplit(url).path
    except ValueError:
        return False
    return f"/{told.strip('/')}".endswith(f"/{path}") and told.count("/job/") == path.count("job/")
