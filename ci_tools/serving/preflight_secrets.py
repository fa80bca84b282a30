"""Do the secrets of a task exist, and their JSON keys? Never shows a value."""

from __future__ import annotations

import json

from ci_tools.aws_codes import code_of
from ci_tools.serving.asked import Asked, Findings, refused

_GONE = ("ResourceNotFoundException", "InvalidRequestException")  # the latter: being deleted


def check(asked: Asked, found: Findings, *, container: str, variable: str, arn: str) -> None:
    """One variable of one container. arn: as ECS takes it, with key, stage and version."""
    where = f"{variable} of container '{container}'"
    parts = arn.split(":")
    if parts[2] == "ssm":
        _parameter(asked, found, where, arn.partition(":parameter")[2])
        return
    secret = ":".join(parts[:7])
    key, stage, version = [*parts[7:], "", "", ""][:3]
    client = asked.client("secretsmanager")
    try:
        described = client.describe_secret(SecretId=secret)
    except Exception as error:
        if code_of(error) not in _GONE:
            raise
        found.problems.append(f"{where}: there is no secret {secret}")
        return
    if described.get("DeletedDate"):
        found.problems.append(f"{where}: the secret {secret} is being deleted")
        return
    stages = described.get("VersionIdsToStages") or {}
    if stages and version and version not in stages:
        found.problems.append(f"{where}: the secret {secret} has no version '{version}'")
        return
    if stages and stage and not any(stage in names for names in stages.values()):
        found.problems.append(f"{where}: the secret {secret} has no version of stage '{stage}'")
        return
    if key:
        _key(asked, found, where, secret, key, stage, version)


def _key(
    asked: Asked, found: Findings, where: str, secret: str, key: str, stage: str, version: str
) -> None:
    order = {"SecretId": secret}
    order |= {"VersionStage": stage} if stage else {}
    order |= {"VersionId": version} if version else {}
    try:
        answer = asked.client("secretsmanager").get_secret_value(**order)
    except Exception as error:
        if code_of(error) == "ResourceNotFoundException":
            found.problems.append(f"{where}: the secret {secret} has no value")
        elif refused(error):
            found.remarks.append(
                f"{where}: whether the secret has the key '{key}' we may not look up"
            )
        else:
            raise
        return
    try:
        keys = set(json.loads(answer.get("SecretString", "")))
    except (ValueError, TypeError):
        found.problems.append(
            f"{where}: the key '{key}' is asked of the secret {secret}, which is not a JSON object"
        )
        return
    if key not in keys:
        found.problems.append(f"{where}: the secret {secret} has no key '{key}'")


def _parameter(asked: Asked, found: Findings, where: str, name: str) -> None:
    client = asked.client("ssm")
    # One at the root is called without the slash that its ARN has.
    names = [name] if name.count("/") > 1 else [name, name.lstrip("/")]
    # The one call about parameters that answers without a value.
    answer = client.describe_parameters(
        ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": names}]
    )
    if not answer["Parameters"]:
        found.problems.append(f"{where}: there is no parameter {name}")
