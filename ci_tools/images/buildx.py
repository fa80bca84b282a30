"""Building with BuildKit, through `docker buildx`.

docker-py drives only the classic builder (docker-py#2230), so this one thing
goes through the command line; everything else about images uses the SDK.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ci_tools import process
from ci_tools.errors import BuildError, EngineError, ImageTestError
from ci_tools.images.secrets import Offered

CA_SECRET = "ca-bundle"  # noqa: S105 - the id under which a Dockerfile mounts it
_INSTALL = "Install Docker with its buildx plugin ('make run' does it on Debian)"


@dataclass(frozen=True)
class Request:
    """One image to build.

    tag:      the name it gets in the engine.
    contexts: reference in the Dockerfile -> pinned image that stands for it.
    secrets:  BuildKit secret id -> file.
    offered:  secrets that are not for everybody's eyes, and ssh agents.
    """

    name: str
    dockerfile: Path
    context: Path
    tag: str
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    offered: Offered = field(default_factory=lambda: Offered([], {}, []))


def check() -> None:
    """Raise EngineError unless `docker buildx` is there."""
    process.which("docker", todo=_INSTALL)
    if not process.run(["docker", "buildx", "version"], timeout=30).ok:
        raise EngineError("this docker client has no buildx, so it cannot use BuildKit", _INSTALL)


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


def build(request: Request, *, timeout: float, log: Path) -> str:
    """Build an image into the engine; its image id (the config's digest).

    Raises BuildError with BuildKit's own sentence, EngineError when the engine
    is gone.
    """
    with tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch:
        metadata = Path(scratch) / "metadata.json"
        command = [
            *_command(request),
            "--load",
            f"--tag={request.tag}",
            f"--metadata-file={metadata}",
        ]
        if request.target:
            command.append(f"--target={request.target}")
        done = _run([*command, str(request.context)], request, timeout, log)
        if not done.ok:
            raise _failed(request.name, "does not build", done, timeout, log, BuildError)
        # The file, not a log line: a digest read by regex is wrong on some
        # drivers (kbld#451).
        return msgspec.json.decode(metadata.read_bytes(), type=_Metadata).config


def test(request: Request, stage: str, *, timeout: float, log: Path) -> None:
    """Build the Dockerfile's test stage, which runs the image's own tests.

    Nothing is kept but BuildKit's cache, so unchanged tests are not run again.

    Raises ImageTestError, EngineError.
    """
    command = [*_command(request), "--output=type=cacheonly", f"--target={stage}"]
    done = _run([*command, str(request.context)], request, timeout, log)
    if not done.ok:
        raise _failed(request.name, "has failing tests", done, timeout, log, ImageTestError)


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
    command += _pairs("--build-arg", request.args)
    command += _pairs("--label", request.labels)
    command += [
        f"--build-context={reference}=docker-image://{image}"
        for reference, image in sorted(request.contexts.items())
    ]
    command += [f"--secret=id={name},src={path}" for name, path in sorted(request.secrets.items())]
    return [*command, *request.offered.options]


def _run(command: list[str], request: Request, timeout: float, log: Path) -> process.Finished:
    offered = request.offered
    return process.run(
        command, timeout=timeout, log=log, env=offered.environment, secrets=offered.hidden
    )


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
    timeout: float,
    log: Path,
    kind: type[BuildError] | type[ImageTestError],
) -> BuildError | ImageTestError | EngineError:
    if done.returncode is None:
        return kind(
            f"component '{name}' {what}: it took more than {timeout:.0f} s",
            "Raise build.timeout in ci.yaml, or find what hangs in the log",
            log=log,
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
    return kind(f"component '{name}' {what}{where} ({reason})", todo, log=log)


class _Metadata(msgspec.Struct):
    config: str = msgspec.field(name="containerimage.config.digest")
