"""`pipelines` of `ci.yaml`, and the Kubeflow of an environment."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta

from ci_tools.config_base import Name, Parameter, Seconds, Section, check_address

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


class PipelineBranches(Section):
    """What branches and pull requests upload gets names of its own in Kubeflow, as
    `training--feature-x-1a2b3c4d`, which `ci pipelines prune` deletes when the
    branch is gone. main: patterns of the branches that share main's.
    """

    main: tuple[str, ...] = ("main", "master")


class Pipelines(Section):
    """directory: where pipelines and their *.test.yaml files are looked for: a folder,
    or several folders and patterns as in .gitignore (`src/**/pipeline.py`).

    allow_images: images by digest that no component of this repository makes.
    images: image as a template has it, to the letter (`${TRAIN_IMAGE}`) -> component.
    image_patterns: the same for all components, by `{component}`, its name, or
    `{COMPONENT}`, its name as a variable (TRAIN_GPU): `${REGISTRY}/{component}:${TAG}`.
    branches: without it all branches upload to the same pipelines.
    jobs: training tests at once (default: 4 on a server, 1 embedded).
    """

    directory: str | list[str] = "pipelines"
    templates: str = "component_specs"
    allow_images: list[Annotated[str, Meta(pattern=r"@sha256:[0-9a-f]{64}$")]] = []
    images: dict[str, Name] = {}
    image_patterns: list[Annotated[str, Meta(pattern=r"\{(component|COMPONENT)\}")]] = []
    jobs: Annotated[int, Meta(ge=1)] | None = None
    named: dict[Name, Pipeline] = {}
    branches: PipelineBranches | None = None


# Of an environment variable. A token that is written here by mistake has dots or dashes.
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


class DexLogin(Section):
    """A login at Dex by user and password, as a browser does it.

    user_env, password_env: names of the environment variables that hold them.
    connector: which of Dex's ways to log in, where it offers several.
    address: Dex's scheme://host, where it is not Kubeflow's own.
    """

    user_env: Variable
    password_env: Variable
    connector: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")] = "local"
    address: str | None = None

    def __post_init__(self) -> None:
        if self.address is not None:
            check_address("dex.address", self.address)


class KubeflowServer(Section):
    """A Kubeflow Pipelines server, and who we are to it: names, never secrets.

    token_env, token_file: where a bearer token is; by default $KFP_TOKEN, and in
    a pod of the cluster its service account's token.
    cookies_env, cookies_file: where the text of a Cookie header is.
    client_certificate, client_key: PEM files, for servers that demand them.
    ca_bundle: PEM file of the authority that signed the server's certificate.
    Files may be written as `$NAME`: an environment variable that holds the path.
    They are read again when the server refuses what they held.

    shared: pipelines are put in no namespace, where all users see them; runs
    and schedules stay in `namespace`.
    allow_floating_schedules: upload a new version although a schedule that names
    none would run it from then on (loudly). Only the latest version then counts
    as unchanged.
    """

    endpoint: str
    namespace: str | None = None
    experiment: str = "ci"
    token_env: Variable | None = None
    token_file: str | None = None
    cookies_env: Variable | None = None
    cookies_file: str | None = None
    dex: DexLogin | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    ca_bundle: str | None = None
    shared: bool = False
    allow_floating_schedules: bool = False

    def __post_init__(self) -> None:
        check_address("endpoint", self.endpoint)
        ways = ("token_env", "token_file", "cookies_env", "cookies_file", "dex")
        declared = [way for way in ways if getattr(self, way) is not None]
        if len(declared) > 1:
            raise ValueError(f"{' and '.join(declared)} contradict each other: keep one")
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("a client_key needs its client_certificate")
