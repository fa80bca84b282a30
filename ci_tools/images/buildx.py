"""Building with BuildKit, through `docker buildx`.

docker-py drives only the classic builder (docker-py#2230), so this one thing
goes through the command line; everything else about images uses the SDK.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools import process, typed
from ci_tools.errors import BuildError, EngineError, ImageTestError
from ci_tools.images.secrets import Offered
from ci_tools.images.transient import transient

CA_SECRET = "ca-bundle"  # noqa: S105 - the id under which a Dockerfile mounts it
_START = "Start Docker ('make run' installs and starts it on Debian), or set DOCKER_HOST"
_INSTALL = "Install Docker with its buildx plugin ('make run' does it on Debian)"


@dataclass(frozen=True)
class Request:
    """One image to build.

    contexts: reference in the Dockerfile -> pinned image that stands for it.
    secrets:  BuildKit secret id -> file.
    offered:  secrets that are not for everybody's eyes, and ssh agents.
    env:      variables for buildx, such as where the registry's credentials are.
    epoch:    seconds since 1970 for every time in the image, so that the same
              sources give the same bytes (https://reproducible-builds.org/specs/source-date-epoch/).
    cached:   whether layers that are there already will do.
    """

    name: str
    dockerfile: Path
    context: Path
    target: str | None = None
    platforms: Sequence[str] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    offered: Offered = field(default_factory=lambda: Offered([], {}, []))
    env: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    cached: bool = True
    cache_from: Sequence[str] = ()
    cache_to: str | None = None


class Metadata(msgspec.Struct):
    """What buildx says of an image it made (its `--metadata-file`).

    digest: the manifest's or index', or in the engine's own store the config's,
            which is what that engine calls the image's id.
    """

    digest: str = msgspec.field(name="containerimage.digest")


@dataclass(frozen=True)
class Watch:
    """How a build is watched: its seconds, its log, and who is told each line."""

    timeout: float
    log: Path
    on_line: Callable[[str], None] | None = None


class Driver(NamedTuple):
    """The builder in use. containerd: whether the engine keeps images in containerd,
    whose store can do what the engine's own cannot, such as keeping layers in a
    registry (https://docs.docker.com/build/cache/backends/)."""

    name: str
    containerd: bool = False

    @property
    def is_engine(self) -> bool:
        return self.name == "docker"


def driver() -> Driver:
    """The driver of the builder that buildx would use (its own default, or
    BUILDX_BUILDER, on the engine of DOCKER_HOST).

    Raises EngineError where there is no buildx or no such builder.
    """
    process.which("docker", todo=_INSTALL)
    done = process.run(["docker", "buildx", "inspect"], timeout=60)
    found = _DRIVER.search(done.output)
    if found is not None:
        containerd = found["name"] == "docker" and _CONTAINERD in done.output
        return Driver(found["name"], containerd)
    if "Cannot connect to the Docker daemon" in done.output:
        raise EngineError("no Docker engine answers", _START)
    if not process.run(["docker", "buildx", "version"], timeout=30).ok:
        raise EngineError("this docker client has no buildx, so it cannot use BuildKit", _INSTALL)
    raise EngineError(
        f"the builder that buildx is set to cannot be used ({done.tail(1) or 'no answer'})",
        "Look at 'docker buildx ls', and choose another with 'docker buildx use'",
    )


_DRIVER = re.compile(r"^Driver:[ \t]+(?P<name>\S+)", re.M)
_CONTAINERD = "worker.containerd.namespace"  # a label that only containerd's worker has


def ca_bundle() -> Path | None:
    """This machine's CA bundle, so that builds trust what the machine trusts.

    Where TLS is intercepted a `RUN pip install` fails without it. It is offered
    as a BuildKit secret, which enters neither the image nor the cache key.
    """
    candidates = [
        os.environ.get("SSL_CERT_FILE"),
        os.environ.get("REQUESTS_CA_BUNDLE"),
        ssl.get_default_verify_paths().cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def build(request: Request, output: Sequence[str], watch: Watch) -> Metadata:
    """Build an image. output: buildx' options that say where it goes.

    Returns what buildx wrote about it. Raises BuildError with BuildKit's own
    sentence, EngineError when the engine is gone.
    """
    with tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch:
        metadata = Path(scratch) / "metadata.json"
        command = [*_command(request), *output, f"--metadata-file={metadata}"]
        if not request.cached:
            command.append("--no-cache")
        if request.target:
            command.append(f"--target={request.target}")
        command += [f"--cache-from=type=registry,ref={ref}" for ref in request.cache_from]
        if request.cache_to:
            # As one manifest with OCI types: ECR takes no other
            # (https://github.com/aws/containers-roadmap/issues/876).
            command.append(
                f"--cache-to=type=registry,ref={request.cache_to},mode=max,"
                "image-manifest=true,oci-mediatypes=true,ignore-error=true"
            )
        done = _run(request, command, watch)
        if not done.ok:
            raise _failed(request.name, "does not build", done, watch, BuildError)
        # The file, not a log line: a digest read by regex is wrong on some
        # drivers (kbld#451).
        return typed.decode(metadata.read_bytes(), Metadata)


def test(request: Request, stage: str, watch: Watch) -> None:
    """Build the Dockerfile's test stage, which runs the image's own tests.

    Nothing is kept but BuildKit's cache, so unchanged tests are not run again, unless
    layers that are there will not do; what the tests stand on was then just made.

    Raises ImageTestError, EngineError.
    """
    command = [*_command(request), "--output=type=cacheonly", f"--target={stage}"]
    if not request.cached:
        command.append(f"--no-cache-filter={stage}")
    done = _run(request, command, watch)
    if not done.ok:
        raise _failed(request.name, "has failing tests", done, watch, ImageTestError)


def _run(request: Request, command: Sequence[str], watch: Watch) -> process.Finished:
    return process.run(
        [*command, str(request.context)],
        timeout=watch.timeout,
        log=watch.log,
        env={**request.env, **request.offered.environment},
        secrets=request.offered.hidden,
        on_line=watch.on_line,
    )


def _command(request: Request) -> list[str]:
    command = [
        "docker",
        "buildx",
        "build",
        "--progress=plain",
        # Provenance would wrap the image in an index whose digest changes with
        # every build (moby/buildkit#3421).
        "--provenance=false",
        "--sbom=false",
        f"--file={request.dockerfile}",
    ]
    if request.platforms:
        command.append(f"--platform={','.join(request.platforms)}")
    arguments = dict(request.args)
    if request.epoch is not None:
        arguments.setdefault("SOURCE_DATE_EPOCH", str(request.epoch))
    command += _pairs("--build-arg", arguments)
    command += _pairs("--label", request.labels)
    command += [
        f"--build-context={reference}=docker-image://{image}"
        for reference, image in sorted(request.contexts.items())
    ]
    command += [f"--secret=id={name},src={path}" for name, path in sorted(request.secrets.items())]
    return [*command, *request.offered.options]


def _pairs(option: str, values: Mapping[str, str]) -> Sequence[str]:
    return [f"{option}={name}={value}" for name, value in sorted(values.items())]


_SOLVE = re.compile(r"^(?:ERROR|error): (?:failed to (?:build|solve): )*(?P<reason>.+)$", re.M)
_STEP = re.compile(r"^ > (?P<step>\[.+\].*):$", re.M)
_NOISE = re.compile(
    r"failed to compute cache key: |process \"(.+)\" did not complete successfully: "
)


def _failed(
    name: str,
    what: str,
    done: process.Finished,
    watch: Watch,
    kind: type[BuildError] | type[ImageTestError],
) -> BuildError | ImageTestError | EngineError:
    if done.returncode is None:
        return kind(
            f"component '{name}' {what}: it took more than {watch.timeout:.0f} s",
            "Raise build.timeout in ci.yaml, or find what hangs in the log",
            log=watch.log,
        )
    if "Cannot connect to the Docker daemon" in done.output:
        return EngineError(f"the Docker engine went away while '{name}' was built", "Start it")
    reasons = _SOLVE.findall(done.output)
    reason = _NOISE.sub("", reasons[-1]) if reasons else done.tail(1)
    step = _STEP.search(done.output)
    where = f" at {step['step']}" if step else ""
    todo = "Mend the Dockerfile or what it copies, then build again"
    if "no space left on device" in done.output:
        reason, todo = "the disk is full", "Free some space: docker system prune"
    elif kind is ImageTestError:
        todo = "Read the test's output in the log and mend the component"
    return kind(
        f"component '{name}' {what}{where} ({reason})",
        todo,
        log=watch.log,
        again=kind is BuildError and transient(done.output),
    )
