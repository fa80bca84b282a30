"""What the pages for users show is what the tool takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci_tools import config
from ci_tools.config import Config
from ci_tools.scanner.policy import Policy
from ci_tools.serving import declaration

ROOT = Path(__file__).parents[2]


def shown(page: str) -> list[str]:
    """The YAML that a page shows."""
    text = (ROOT / page).read_text()
    return re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_a_servable() -> None:
    [text] = [one for one in shown("docs/writing-components.md") if one.startswith("service:")]
    servable = declaration.of(text.encode(), "local")
    assert servable.service == "prediction"
    assert servable.model is not None


@pytest.mark.parametrize(
    ("page", "first"),
    [
        ("docs/writing-components.md", "pipelines:"),
        ("docs/kubeflow.md", "pipelines:"),
        ("docs/promoting.md", "environments:"),
        ("docs/scanning.md", "lint:"),
    ],
)
def test_ci_yaml(page: str, first: str) -> None:
    texts = [one for one in shown(page) if one.startswith(first)]
    assert texts
    for text in texts:
        config.convert(config.data(text.encode(), page), Config, name=page)


def test_a_scan_policy() -> None:
    whole = [one for one in shown("docs/scanning.md") if one.startswith(("severities", "envir"))]
    assert len(whole) == 2
    for text in whole:
        config.convert(config.data(text.encode(), "docs/scanning.md"), Policy, name="it")
