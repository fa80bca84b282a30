"""Kubernetes quantities, and what of a step's resources this machine gives it.

The source of the syntax is Kubernetes' `resource.Quantity`; of which field wins,
the driver's `getPodResource` (the string over the deprecated number).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,2}))?",
    re.ASCII,
)
_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    **{letter: Fraction(1000 ** (2 + power)) for power, letter in enumerate("MGTPE")},
    **{f"{letter}i": Fraction(1024 ** (1 + power)) for power, letter in enumerate("KMGTPE")},
}
_NANO = 10**9
_LEAST_NANO_CPUS = _NANO // 100  # the engine's own minimum


class QuantityError(ValueError):
    """Resources that cannot be had, as a sentence."""


class Machine(NamedTuple):
    """What the engine has. memory: bytes. gpus: its runtime can hand out NVIDIA's."""

    processors: int
    memory: int
    gpus: bool


class Limits(NamedTuple):
    """Of one container. 0: none. memory: as it was written, for messages.

    notes: what a cluster would do otherwise, a sentence each.
    """

    nano_cpus: int = 0
    memory_bytes: int = 0
    memory: str = ""
    gpus: int = 0
    notes: tuple[str, ...] = ()


def quantity(text: str) -> Fraction:
    """`500m`, `1.5`, `256Mi`, `1G`, `2e3` as a number of cores or bytes.

    Raises QuantityError for anything that Kubernetes refuses, and for less than 0.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise QuantityError(f"'{text}' is no Kubernetes quantity (as 500m, 1.5, 256Mi or 2G)")
    number = Fraction(match["number"])
    if match["exponent"]:
        number *= Fraction(10) ** int(match["exponent"])
    number *= _SUFFIXES.get(match["suffix"] or "", Fraction(1))
    if number < 0:
        raise QuantityError(f"'{text}' is less than 0")
    return number


def of(resources: Mapping[str, Any], fill: Callable[[str], str], machine: Machine) -> Limits:
    """A container's limits on this machine.

    resources: `container.resources` of an executor.
    fill:      gives a placeholder its value, as the driver does for a pod.

    Raises QuantityError for a quantity that is none, and for an
    accelerator that this machine does not have.
    """
    notes: list[str] = []
    cpu = _ask(resources, "CpuLimit", "", fill)
    memory = _ask(resources, "MemoryLimit", "G", fill)
    for what, least in (
        ("Cpu", Fraction(machine.processors)),
        ("Memory", Fraction(machine.memory)),
    ):
        wanted = _ask(resources, f"{what}Request", "G" if what == "Memory" else "", fill)
        if wanted and quantity(wanted) > least:
            notes.append(
                f"asks for {wanted} of {_WORDS[what]}, more than this machine has: "
                "a cluster would look for a bigger node"
            )
    nano_cpus = int(quantity(cpu) * _NANO) if cpu else 0
    if nano_cpus > machine.processors * _NANO:
        notes.append(f"its limit of {cpu} processors is capped to {machine.processors}")
        nano_cpus = machine.processors * _NANO
    memory_bytes = int(quantity(memory)) if memory else 0
    if memory_bytes > machine.memory:
        notes.append(f"its limit of {memory} of memory is capped to {machine.memory >> 20}Mi")
        memory_bytes = machine.memory
    return Limits(
        nano_cpus=max(nano_cpus, _LEAST_NANO_CPUS) if nano_cpus else 0,
        memory_bytes=memory_bytes,
        memory=memory if memory_bytes else "",
        gpus=_gpus(resources.get("accelerator", {}), fill, machine),
        notes=tuple(notes),
    )


_WORDS = {"Cpu": "processors", "Memory": "memory"}


def _ask(resources: Mapping[str, Any], what: str, unit: str, fill: Callable[[str], str]) -> str:
    """A quantity as text, "" where none is asked for."""
    if text := resources.get(f"resource{what}"):
        return fill(str(text)).strip()
    number = resources.get(what[0].lower() + what[1:])
    return f"{number}{unit}" if number else ""


def _gpus(accelerator: Mapping[str, Any], fill: Callable[[str], str], machine: Machine) -> int:
    kind = fill(str(accelerator.get("resourceType") or accelerator.get("type") or ""))
    text = fill(str(accelerator.get("resourceCount") or accelerator.get("count") or ""))
    count = quantity(text) if text else Fraction(0)
    if not kind or not count:
        return 0
    if count.denominator != 1:
        raise QuantityError(f"it asks for {text} accelerators, which is no whole number")
    if not machine.gpus or not _is_nvidia(kind):
        raise QuantityError(
            f"it asks for {count} x {kind}, which this engine cannot give; "
            "make the count a pipeline parameter, and 0 here"
        )
    return int(count)


def _is_nvidia(kind: str) -> bool:
    return "nvidia" in kind.lower()
