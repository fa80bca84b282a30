"""`pipelines` of `ci.yaml`, and the Kubeflow of an environment."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ci_tools.config_base import Name, Parameter, Seconds, Section


class Bound(Section):
    """A metric's bounds, both inclusive."""

    min: float | None = None
    max: float | None = None


class Pipeline(Section):
    """A pipeline and its training test. `train: true` runs it in `ci run --train`."""

    file: str | None = None
    function: str | None = None
    train: bool = False
    parameters: dict[str, Parameter] = {}
    expect: dict[str, Bound] = {}
    timeout: Seconds = 3600


class PipelineBranches(Section):
    """What branches and pull requests upload gets names of its own in Kubeflow, as
    `training--feature-x-1a2b3c4d`, which `ci pipelines prune` deletes when the
    branch is gone. main: patterns of the branches that share main's.
    """

    main: tuple[str, ...] = ("main", "master")


class Pipelines(Section):
    """directory: where pipelines are looked for: a folder, or several folders and
    patterns as in .gitignore (`src/**/pipeline.py`).

    allow_images: images by digest that no component of this repository makes.
    images: image as a template has it, to the letter (`${TRAIN_IMAGE}`) -> component.
    image_patterns: the same for all components, by `{component}`, its name, or
    `{COMPONENT}`, its name as a variable (TRAIN_GPU): `${REGISTRY}/{component}:${TAG}`.
    branches: without it all branches upload to the same pipelines.
    """

    directory: str | list[str] = "pipelines"
    templates: str = "component_specs"
    allow_images: list[Annotated[str, Meta(pattern=r"@sha256:[0-9a-f]{64}$")]] = []
    images: dict[str, Name] = {}
    image_patterns: list[Annotated[str, Meta(pattern=r"\{(component|COMPONENT)\}")]] = []
    named: dict[Name, Pipeline] = {}
    branches: PipelineBranches | None = None


class KubeflowServer(Section):
    """token_env: name of the environment variable that holds a bearer token.

    shared: pipelines are put in no namespace, where all users see them; runs
    and schedules stay in `namespace`.
    allow_floating_schedules: upload a new version although a schedule that names
    none would run it from then on (loudly). Only the latest version then counts
    as unchanged.
    """

    endpoint: str
    namespace: str | None = None
    experiment: str = "ci"
    token_env: str = "KFP_TOKEN"  # noqa: S105 - the name of a variable
    ca_bundle: str | None = None
    shared: bool = False
    allow_floating_schedules: bool = False
