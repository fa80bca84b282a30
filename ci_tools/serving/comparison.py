"""When two task definitions or services are the same thing. Pure.

AWS gives back more than it was given, in another order and with its defaults
spelt out; compared as they stand, nothing would ever be unchanged.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from ci_tools.serving.task_definition import Definition

# What describe_task_definition adds (ECS API reference, TaskDefinition).
_READ_ONLY = {
    "compatibilities",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "tags",
    "taskDefinitionArn",
    "deleteRequestedAt",
}
_ORDERED = {"command", "entryPoint", "dnsServers", "dnsSearchDomains", "links"}
_CONTAINER_DEFAULTS: Definition = {
    "cpu": 0,
    "disableNetworking": False,
    "essential": True,
    "interactive": False,
    "privileged": False,
    "pseudoTerminal": False,
    "readonlyRootFilesystem": False,
    "versionConsistency": "enabled",
}
_HEALTH_DEFAULTS: Definition = {"interval": 30, "timeout": 5, "retries": 3, "startPeriod": 0}
_PLATFORM_DEFAULTS = {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(vcpu|gb)?\s*", re.IGNORECASE)
_SHOWN = ("MODEL_URI", "MODEL_SHA256")


def normalise(definition: Definition) -> Definition:
    """A task definition in its one canonical form, whether rendered or read back.

    Read-only fields, tags, empty values and defaults are gone, lists without
    an order are sorted, cpu and memory are integers (CPU units and MiB).
    """
    kept = {key: value for key, value in definition.items() if key not in _READ_ONLY}
    kept["containerDefinitions"] = [
        _container(container, kept.get("networkMode", ""))
        for container in kept.get("containerDefinitions") or []
    ]
    for key in ("cpu", "memory"):
        if kept.get(key):
            kept[key] = _number(kept[key])
    if kept.get("runtimePlatform"):
        kept["runtimePlatform"] = _without(kept["runtimePlatform"], _PLATFORM_DEFAULTS)
    kept = _without(kept, {"enableFaultInjection": False})
    canonical = _canonical(kept)
    return canonical if isinstance(canonical, dict) else {}


def sha256(definition: Definition) -> str:
    """A hash that equal definitions share in any account, region and registry.

    Of the normalised definition without account and region in ARNs and without
    the log's region; an image counts by its digest.
    """
    portable = _portable(normalise(definition))
    return hashlib.sha256(json.dumps(portable, sort_keys=True).encode()).hexdigest()


def difference(a: Definition, b: Definition) -> list[str]:
    """What changes from `a` to `b`, a line each; empty for equal definitions.

    Values of environment variables are not shown: a definition made by hand
    may hold a secret there.
    """
    return _differences(_by_name(normalise(a)), _by_name(normalise(b)), "")


def _container(container: Definition, network: str) -> Definition:
    kept = _without(container, _CONTAINER_DEFAULTS)
    kept["portMappings"] = [_port(port, network) for port in kept.get("portMappings") or []]
    if kept.get("healthCheck"):
        kept["healthCheck"] = _without(kept["healthCheck"], _HEALTH_DEFAULTS)
    kept["mountPoints"] = [
        _without(mount, {"readOnly": False}) for mount in kept.get("mountPoints") or []
    ]
    return kept


def _port(port: Definition, network: str) -> Definition:
    kept = _without(port, {"protocol": "tcp"})
    if network == "awsvpc":  # there they are always equal
        kept.pop("hostPort", None)
    return kept


def _without(values: Definition, defaults: Definition) -> Definition:
    """Without the keys that say what is true anyway."""
    return {
        key: value
        for key, value in values.items()
        if value is not None and not (key in defaults and defaults[key] == value)
    }


def _number(size: str | int) -> int:
    match = _SIZE.fullmatch(str(size))
    if not match:
        raise ValueError(f"not a task size: {size!r}")
    return round(float(match[1]) * (1024 if match[2] else 1))


def _canonical(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        made = {name: _canonical(item, name) for name, item in sorted(value.items())}
        return {name: item for name, item in made.items() if item not in (None, "", [], {})}
    if isinstance(value, list):
        if key in _ORDERED:
            return list(value)
        if key == "environment":  # an empty value is a value here, elsewhere it is absence
            pairs = sorted((pair["name"], pair.get("value") or "") for pair in value)
            return [{"name": name, "value": item} for name, item in pairs]
        return sorted((_canonical(item) for item in value), key=lambda i: json.dumps(i))
    return value


_ARN_PLACE = re.compile(r"(arn:aws[a-z-]*:[a-z0-9-]+):[a-z0-9-]*:[0-9]*:")


def _portable(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {n: _portable(v, n) for n, v in value.items() if n != "awslogs-region"}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if isinstance(value, str):
        if key == "image":
            return value.rpartition("@")[2]
        return _ARN_PLACE.sub(r"\1:::", value)
    return value


def _by_name(value: Any, key: str = "") -> Any:
    """Lists of named things as mappings, so that a difference names the thing."""
    if key == "environment":
        return {
            pair["name"]: pair["value"] if pair["name"] in _SHOWN else _Hidden(pair["value"])
            for pair in value
        }
    if key == "options":  # of a log driver: some take a token
        return {n: v if n.startswith("awslogs-") else _Hidden(v) for n, v in value.items()}
    if isinstance(value, dict):
        return {name: _by_name(item, name) for name, item in value.items()}
    if (
        isinstance(value, list)
        and value
        and all(isinstance(i, dict) and "name" in i for i in value)
    ):
        return {i["name"]: _by_name({k: v for k, v in i.items() if k != "name"}) for i in value}
    return value


class _Hidden(str):
    """A value that is compared but not shown."""

    __slots__ = ()


def _differences(a: Any, b: Any, where: str) -> list[str]:
    if a == b:
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            line
            for name in sorted({*a, *b})
            for line in _differences(a.get(name), b.get(name), f"{where}.{name}" if where else name)
        ]
    return [f"{where}: {_show(a)} -> {_show(b)}"]


def _show(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, dict):
        return "(set)"
    if isinstance(value, _Hidden):
        return "(value not shown)"
    return value if isinstance(value, str) else json.dumps(value)
