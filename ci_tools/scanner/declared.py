"""Where a repository's scan policy is declared: in ci.yaml or in a file of its own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ci_tools import config, typed
from ci_tools.config_errors import did_you_mean
from ci_tools.errors import ConfigError
from ci_tools.scanner.policy import FILE, Policy


def load(repository: Path, scan: config.Scan, environments: Collection[str]) -> Policy:
    """The policy of scan-policy.yaml, or of ci.yaml's `scan:` where there is no such file.

    environments: those that a policy may speak of.
    Raises ConfigError, also where both declare something.
    """
    policy: Policy = scan
    path, name = repository / FILE, config.FILE
    if path.exists():
        own = [
            field
            for field in Policy.__struct_fields__
            if getattr(scan, field) != getattr(Policy(), field)
        ]
        if own:
            raise ConfigError(
                f"{config.FILE} and {FILE} both declare the scan policy ({', '.join(own)})",
                f"Move what 'scan:' says of it into {FILE}",
            )
        policy, name = config.parse(path, Policy), FILE
    for environment in policy.environments:
        if environment not in environments:
            raise ConfigError(
                f"{name} has a scan policy for environment '{environment}', which is not declared",
                did_you_mean(environment, list(environments))
                or f"Declare it under 'environments:' of {config.FILE}",
            )
    return typed.convert(
        {field: getattr(policy, field) for field in Policy.__struct_fields__}, Policy
    )
