"""Quantities as Kubernetes reads them, and what of them a machine gives."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.kubeflow.local import limits
from ci_tools.kubeflow.local.limits import Limits, Machine

MACHINE = Machine(processors=2, memory=8 * 1024**3, gpus=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("2", 2),
        ("256Mi", 256 * 1024**2),
        ("1G", 10**9),
        ("2Gi", 2 * 1024**3),
        ("1.5Gi", 3 * 512 * 1024**2),
        ("64Ki", 65536),
        ("1k", 1000),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("1Ei", 1024**6),
        ("5e-1", Fraction(1, 2)),
        ("100n", Fraction(1, 10**7)),
        ("0", 0),
    ],
)
def test_quantities(text: str, value: int | Fraction) -> None:
    assert limits.quantity(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "1 G",
        "1K",
        "1KB",
        "256mb",
        "1GB",
        "1,5",
        "-1",
        "-500m",
        "0x10",
        "1e999",
        "nan",
        "inf",
        "1.2.3",
        "Gi",
        "1Gi\n",
        "\u0661",
    ],
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(limits.QuantityError):
        limits.quantity(text)


@given(st.integers(0, 10**6), st.sampled_from("Ki Mi Gi Ti k M G T".split()))
def test_a_suffix_is_a_factor(number: int, suffix: str) -> None:
    assert limits.quantity(f"{number}{suffix}") == number * limits.quantity(f"1{suffix}")


def of(resources: dict[str, Any], machine: Machine = MACHINE, **values: str) -> Limits:
    def fill(text: str) -> str:
        return values.get(text.removeprefix("{{").removesuffix("}}"), text)

    return limits.of(resources, fill, machine)


def test_none_without_a_limit() -> None:
    assert of({}) == Limits()
    assert of({"resourceCpuRequest": "1", "resourceMemoryRequest": "1Gi"}) == Limits()


def test_the_string_wins_over_the_deprecated_number() -> None:
    found = of({"cpuLimit": 2.0, "resourceCpuLimit": "500m", "memoryLimit": 1.5})
    assert (found.nano_cpus, found.memory_bytes, found.memory) == (
        500_000_000,
        1_500_000_000,
        "1.5G",
    )


def test_a_placeholder_is_filled_in() -> None:
    found = of(
        {"resourceMemoryLimit": "{{memory}}", "resourceCpuLimit": "{{cpu}}"},
        memory="256Mi",
        cpu="1",
    )
    assert (found.nano_cpus, found.memory_bytes) == (10**9, 256 << 20)
    with pytest.raises(limits.QuantityError, match="'lots' is no Kubernetes quantity"):
        of({"resourceMemoryLimit": "{{memory}}"}, memory="lots")


def test_more_than_the_machine_has_is_capped_and_said() -> None:
    found = of({"resourceCpuLimit": "96", "resourceMemoryLimit": "1Ti"})
    assert (found.nano_cpus, found.memory_bytes) == (2 * 10**9, MACHINE.memory)
    assert found.notes == (
        "its limit of 96 processors is capped to 2",
        "its limit of 1Ti of memory is capped to 8192Mi",
    )
    (note,) = of({"resourceMemoryRequest": "64Gi"}).notes
    assert "64Gi of memory, more than this machine has" in note


def test_less_than_the_engine_can_is_its_least() -> None:
    assert of({"resourceCpuLimit": "1m"}).nano_cpus == 10_000_000


GPU = {"accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "{{count}}"}}


def test_accelerators() -> None:
    with pytest.raises(limits.QuantityError, match=r"2 x nvidia\.com/gpu"):
        of(GPU, count="2")
    assert of(GPU, count="0") == Limits()
    assert of(GPU, MACHINE._replace(gpus=True), count="2").gpus == 2
    with pytest.raises(limits.QuantityError, match="no whole number"):
        of(GPU, MACHINE._replace(gpus=True), count="500m")
    with pytest.raises(limits.QuantityError, match="tpu"):
        of({"accelerator": {"type": "tpu", "count": 1}}, MACHINE._replace(gpus=True))
