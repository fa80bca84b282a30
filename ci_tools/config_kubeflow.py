"""`pipelines` of `ci.yaml`, and the Kubeflow of an environment."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta

from ci_tools.config_base import Name, Parameter, Seconds, Section

Share = Annotated[float, Meta(ge=0, le=1e300)]
Retries = Annotated[int, Meta(ge=0, le=10)]


class Tolerance(Section):
    """How far a value may be behind that of main's last passed run of the same test.

    relative: a share of main's value, 0.02 for two per cent; of nought it is nought.
    absolute: in the value's own unit, added to it.
    """

    relative: Share = 0.0
    absolute: Share = 0.0


class AgainstMain(Tolerance, kw_only=True):
    """better: whether a higher or a lower value is. Being better is never too far."""

    better: Literal["higher", "lower"]


class Bound(Section):
    """What a metric must be: its bounds, both inclusive, and how it compares with main's."""

    min: float | None = None
    max: float | None = None
    main: AgainstMain | None = None

    def __post_init__(self) -> None:
        for bound in (self.min, self.max):
            if bound is not None and not math.isfinite(bound):
                raise ValueError("a bound is a finite number")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no value is at least {self.min:g} and at most {self.max:g}")


class Pipeline(Section):
    """A pipeline and its training test, which is called `default`.

    train:   run it in `ci run --train`; more tests stand in *.test.yaml files.
    timeout: seconds for a run, which is then cancelled.
    retries: runs more, after one that failed for reasons of the infrastructure.
    """

    file: str | None = None
    function: str | None = None
    train: bool = False
    parameters: dict[str, Parameter] = {}
    expect: dict[str, Bound] = {}
    timeout: Seconds = 3600
    retries: Retries = 1


class Pipelines(Section):
    """directory: where pipelines and their *.test.yaml files are looked for.

    allow_images: images by digest that no component of this repository makes.
    jobs: training tests at once (default: 4 on a server, 1 embedded).
    """

    directory: str = "pipelines"
    templates: str = "component_specs"
    allow_images: list[Annotated[str, Meta(pattern=r"@sha256:[0-9a-f]{64}$")]] = []
    jobs: Annotated[int, Meta(ge=1)] | None = None
    named: dict[Name, Pipeline] = {}


class KubeflowServer(Section):
    """token_env: name of the environment variable that holds a bearer token."""

    endpoint: str
    namespace: str | None = None
    experiment: str = "ci"
    token_env: str = "KFP_TOKEN"  # noqa: S105 - the name of a variable
    ca_bundle: str | None = None
