"""What kfp-kubernetes asks of a cluster, and what of it a step gets here.

A secret, config map or volume claim is a directory of this machine:
`cluster/secrets/NAME/KEY`, `cluster/config_maps/NAME/KEY` and `cluster/volumes/NAME`
in the embedded Kubeflow's home. One that is missing fails the step with the path
to make, where a cluster would leave its pod waiting for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ci_tools.kubeflow.local import limits
from ci_tools.kubeflow.local.resolve import InputError

Resolve = Callable[[Mapping[str, Any], str], Any]
"""The value of an InputParameterSpec; its second argument names it in errors."""

_PLACEMENT = {  # where and how a pod is scheduled: nothing that its program sees
    "nodeSelector": "node selector",
    "tolerations": "tolerations",
    "nodeAffinity": "node affinity",
    "podAffinity": "pod affinity",
    "podMetadata": "pod metadata",
    "imagePullPolicy": "image pull policy",
    "imagePullSecret": "image pull secrets",
    "securityContext": "security context",
}
_UNDERSTOOD = frozenset(
    {
        "secretAsEnv",
        "secretAsVolume",
        "configMapAsEnv",
        "configMapAsVolume",
        "pvcMount",
        "emptyDirMounts",
        "enabledSharedMemory",
        "activeDeadlineSeconds",
        *_PLACEMENT,
    }
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Surroundings(NamedTuple):
    """A container's surroundings.

    secrets:  variables of the environment that no command line may show.
    deadline: seconds for one attempt, 0 for none.
    """

    environment: dict[str, str]
    secrets: frozenset[str]
    volumes: dict[str, dict[str, str]]
    tmpfs: dict[str, str]
    shared_memory: int
    deadline: float
    notes: tuple[str, ...]


def executor(platforms: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """What `platforms`, the IR's second document, says of one executor."""
    kubernetes = platforms.get("platforms", {}).get("kubernetes", {})
    found: Mapping[str, Any] = (
        kubernetes.get("deploymentSpec", {}).get("executors", {}).get(label) or {}
    )
    return found


def unknown(config: Mapping[str, Any]) -> list[str]:
    """Features that would change what a step sees, and cannot be had here."""
    return sorted(key for key in config if key not in _UNDERSTOOD)


def surroundings(config: Mapping[str, Any], home: Path, resolve: Resolve) -> Surroundings:
    """Surroundings of one step.

    home: the directory that stands for the cluster.

    Raises InputError for a secret, config map or key that is not there, and for
    names that are paths.
    """
    environment: dict[str, str] = {}
    volumes: dict[str, dict[str, str]] = {}
    for kind, word, variables, mounts in (
        ("secret", "secrets", "secretAsEnv", "secretAsVolume"),
        ("configMap", "config_maps", "configMapAsEnv", "configMapAsVolume"),
    ):
        for item in config.get(variables, []):
            directory = home / word / _name(item, kind, resolve)
            for pair in item.get("keyToEnv", []):
                file = directory / _safe(pair[f"{kind}Key"])
                if file.is_file():
                    environment[pair["envVar"]] = file.read_text(encoding="utf-8")
                elif not item.get("optional"):
                    raise _missing(file)
        for item in config.get(mounts, []):
            directory = home / word / _name(item, kind, resolve)
            if directory.is_dir():
                volumes[str(directory)] = {"bind": item["mountPath"], "mode": "ro"}
            elif not item.get("optional"):
                raise _missing(directory)
    for item in config.get("pvcMount", []):
        volume = home / "volumes" / _name(item, "pvc", resolve) / _inside(item.get("subPath", ""))
        volume.mkdir(parents=True, exist_ok=True)
        volumes[str(volume)] = {"bind": item["mountPath"], "mode": "rw"}
    return Surroundings(
        environment=environment,
        secrets=frozenset(
            pair["envVar"] for it in config.get("secretAsEnv", []) for pair in it["keyToEnv"]
        ),
        volumes=volumes,
        tmpfs={
            item["mountPath"]: "mode=1777"
            + (f",size={_bytes(item['sizeLimit'])}" if item.get("sizeLimit") else "")
            for item in config.get("emptyDirMounts", [])
        },
        shared_memory=_shared_memory(config.get("enabledSharedMemory")),
        deadline=float(config.get("activeDeadlineSeconds", 0)),
        notes=tuple(
            f"this machine has no use for its {word}"
            for key, word in _PLACEMENT.items()
            if config.get(key)
        ),
    )


def _name(item: Mapping[str, Any], kind: str, resolve: Resolve) -> str:
    """The name in its new form (a parameter) or in one of the deprecated ones."""
    if spec := item.get(f"{kind}NameParameter"):
        return _safe(resolve(spec, f"the name of a {kind}"))
    if kind == "pvc" and "constant" not in item:
        return _safe(resolve(item, "the name of a volume claim"))
    return _safe(item.get("constant" if kind == "pvc" else f"{kind}Name"))


def _safe(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a name that Kubernetes knows")
    return name


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise InputError(f"'{path}' leaves the volume")
    return path


def _missing(path: Path) -> InputError:
    return InputError(
        f"it needs {path.parent.name}/{path.name} of the cluster; put it at {path} to run here"
    )


def _bytes(text: str) -> int:
    return int(limits.quantity(text))


def _shared_memory(config: Mapping[str, Any] | None) -> int:
    """Without a size Kubernetes' memory volume has no limit, but the container's own."""
    if config is None:
        return 0
    return _bytes(config["size"]) if config.get("size") else 1 << 30
