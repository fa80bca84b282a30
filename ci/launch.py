"""`launch`: one pipeline, by hand, with the images that CI built.

Nothing here is of a build: it leaves the work tree and `build/` alone, uploads
under a name that no stage uses, and marks every file it writes, so that
`release` refuses each of them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from ci import built, judging, launch_build, launch_images, launched
from ci import compile as compiling
from ci import pin as pinning
from ci import train as training
from ci import upload as uploading
from ci.following import Following
from ci.workspace import Workspace
from ci_tools import kubeflow, published, storage
from ci_tools.config import Pipeline
from ci_tools.config_errors import name_one
from ci_tools.documents import (
    ByHand,
    Compiled,
    CompiledPipeline,
    Json,
    Lock,
    Run,
    Training,
    Upload,
    Uploads,
)
from ci_tools.errors import CIError, ConfigError, NoPublishedLockError
from ci_tools.kubeflow import arguments, branches, compiler, ir, wanted

_NOBODY = "no-image.invalid"  # stands for an image that there is not, while compiling
_TAG_LIMIT = 63  # characters of a tag's key and value, of the API server


class Launched(NamedTuple):
    """folder: where its files are. url: the run's. training: the run, as `train` writes
    them; without any where nobody waited for it."""

    folder: Path
    url: str
    training: Training


class _LeftError(Exception):
    """Nobody waits for this run."""


def launch(
    workspace: Workspace,
    pipeline: str,
    *,
    parameters: Mapping[str, object],
    images: Mapping[str, str],
    builds: Collection[str] = (),
    commit: str | None = None,
    wait: bool = True,
) -> Launched:
    """Compile one pipeline with CI's images, upload it apart, run it and wait for it.

    images: component -> the image that is used instead of CI's, for this launch only.
    builds: components that are built here, into the engine, from the sources as they are.
    commit: whose images; by default those of HEAD, else of its merge base with main.

    Writes a directory below the machine's state. The run's end is in what is
    returned: `train.raise_failures` tells what it means.

    Raises NoPublishedLockError and others as `published.find`; ConfigError for an
    unknown pipeline, component or parameter and for an image that cannot be had;
    CompileError, UnpinnedImageError; what Kubeflow, registry and engine raise.
    """
    repository = published.Repository(workspace.repository, workspace.config, workspace.project)
    kubeflow.check_names(pipeline, kubeflow.version_name(workspace.source, ""))  # it names a folder
    launch_images.check_known(workspace, [*images, *builds])
    found = published.find(repository, workspace.environment_name, workspace.home, commit)
    workspace.console.event(
        f"images are those that CI built for {found.why}, in environment "
        f"'{found.place.environment}'"
    )
    environment = workspace.config.environment(workspace.environment_name)
    server = environment.kubeflow
    if server is None and not wait:
        raise ConfigError(
            "a run on this machine lasts no longer than the command that runs it",
            "Wait for it, or launch on a server with --env",
        )
    folder = workspace.home / launched.FOLDER
    folder /= launched.folder_name(pipeline, secrets.token_hex(2))
    if builds:
        launch_images.check_builds(images, builds, server)
        own = launch_build.built(workspace, repository, found, builds, folder / "logs")
        images = {**images, **own}
    chosen = launch_images.chosen(workspace, images, server, found.place.registry)
    compiled = _compiled(workspace, pipeline, folder, found.lock, chosen)
    given = {**_declared(workspace, pipeline).parameters, **parameters}
    arguments.checked(pipeline, ir.parameters(ir.load(folder / compiled.path)), given)
    launch_images.tell(workspace, repository, found, compiled, images)
    launch_images.have(workspace, found, compiled, on_engine=server is None)
    mark = ByHand(by=launched.user(), commit=found.commit, unpinned=chosen, named=dict(images))
    found.lock.launched = mark
    storage.write(folder / built.FILE, found.lock)
    storage.write(folder / compiling.FILE, Compiled(pipelines={pipeline: compiled}, launched=mark))
    client = kubeflow.connect(environment, workspace.home)
    upload = _uploaded(workspace, client, pipeline, folder, compiled, mark)
    storage.write(
        folder / uploading.FILE,
        Uploads(
            environment=workspace.environment_name, pipelines={pipeline: upload}, launched=mark
        ),
    )
    begun: list[Run] = []
    try:
        runs = [_run(workspace, client, pipeline, folder, upload, given, begun, wait=wait)]
    except _LeftError:
        runs = []
    result = Training(environment=workspace.environment_name, runs=runs, launched=mark)
    storage.write(folder / training.FILE, result)
    return Launched(folder, begun[0].url, result)


def dry_run(
    workspace: Workspace,
    pipeline: str,
    *,
    parameters: Mapping[str, object],
    images: Mapping[str, str],
    builds: Collection[str] = (),
    commit: str | None = None,
) -> list[str]:
    """What `launch` would do, a line each. Asks nobody; compiles with keys for digests."""
    launch_images.check_known(workspace, [*images, *builds])
    one = compiling.dry_run(workspace).pipelines
    if pipeline not in one:
        raise _no_pipeline(pipeline, list(one))
    whose = f"commit {commit}" if commit else "this commit, or its merge base with main"
    given = {**_declared(workspace, pipeline).parameters, **parameters}
    lines = [
        f"{pipeline}: would run as {apart(workspace, pipeline)} with {given or 'its defaults'}"
    ]
    for component in one[pipeline].components:
        own = "built here" if component in builds else images.get(component)
        lines.append(f"  {component}: " + (f"{own} (unpinned)" if own else f"CI's of {whose}"))
    return lines


def apart(workspace: Workspace, pipeline: str) -> str:
    """The name that a launch has in Kubeflow: no stage ever uploads under it, so that
    nobody's latest version changes."""
    return branches.name_of(launched.mark_of(workspace, pipeline))


def tags(mark: ByHand) -> dict[str, str]:
    """How a version that was launched by hand is marked, within the server's limits."""
    found = {"launched-by": mark.by, "images-of": mark.commit[:_TAG_LIMIT]}
    if mark.unpinned:
        found["unpinned"] = ",".join(sorted(mark.unpinned))[:_TAG_LIMIT]
    return found


def _compiled(
    workspace: Workspace, pipeline: str, folder: Path, lock: Lock, images: Mapping[str, str]
) -> CompiledPipeline:
    """The IR of one pipeline in the folder, proven to name nothing but these images."""
    settings = workspace.config.pipelines
    references = {name: f"{_NOBODY}/{name}@sha256:{'0' * 64}" for name in workspace.components}
    references |= {name: image.reference for name, image in lock.components.items()}
    references |= images
    templates = workspace.templates
    specs = folder / pinning.SPECS
    pinning.copy_all({t.path: t.pinned(references) for t in templates}, settings.templates, specs)
    out = folder / compiling.DIRECTORY
    with workspace.console.working(pipeline, "compiling"):
        known = compiler.compile_all(
            workspace.repository,
            workspace.files,
            settings,
            specs,
            out,
            os.cpu_count() or 1,
            compiling.kept(workspace, specs),
            only=pipeline,
        )
    if pipeline not in known:
        raise _no_pipeline(pipeline, list(known))
    one = known[pipeline].pipeline
    for other in out.glob("*.yaml"):
        if other != folder / one.path:
            other.unlink()
    one.components = sorted(name for name, image in references.items() if image in one.images)
    missing = [name for name in one.components if references[name].startswith(f"{_NOBODY}/")]
    if missing:
        raise NoPublishedLockError(
            f"pipeline '{pipeline}' needs {', '.join(missing)}, of which CI's lock of commit "
            f"{(lock.source.commit or '')[:12]} has no image",
            "Push this commit and let CI build it, or build the image and pass "
            f"--image {missing[0]}=IMAGE",
        )
    unused = [name for name in images if name not in one.components]
    if unused:
        raise ConfigError(
            f"pipeline '{pipeline}' has no step of component '{unused[0]}'",
            f"It has steps of: {', '.join(one.components) or '(none)'}",
        )
    good = {image.reference for image in lock.components.values()}
    allowed = set(settings.allow_images)
    ir.prove_images(known[pipeline].images, good, allowed, one.source, images.values())
    return one


def _uploaded(
    workspace: Workspace,
    client: kubeflow.Kubeflow,
    pipeline: str,
    folder: Path,
    compiled: CompiledPipeline,
    mark: ByHand,
) -> Upload:
    """The one place that uploads: under a name apart, with the mark."""
    source, sha256 = workspace.source, compiled.sha256
    version = kubeflow.version_name(source, sha256)
    marks = tags(mark)
    told = wanted.described(compiled.description, source, sha256, lock="", build="")
    name = apart(workspace, pipeline)
    upload = client.upload(
        wanted.Wanted(
            name=name,
            ir_path=folder / compiled.path,
            sha256=sha256,
            # Ends otherwise than CI's: no unchanged pipeline is ever found under it.
            version=f"{version}-unpinned" if mark.unpinned else version,
            description="\n".join([told, *(f"{key}={value}" for key, value in marks.items())]),
            display_name=wanted.display_name_of(source),
            tags=wanted.tags_of(workspace.project, source, sha256, lock="", build="", marks=marks),
            mark=launched.mark_of(workspace, pipeline),
        )
    )
    workspace.console.event(f"{name}: {upload.version}  {upload.url}")
    return upload


def _run(
    workspace: Workspace,
    client: kubeflow.Kubeflow,
    pipeline: str,
    folder: Path,
    upload: Upload,
    parameters: Json,
    begun: list[Run],
    *,
    wait: bool,
) -> Run:
    """The one place that runs: this very version, to its end. begun: gets the run at once.

    Raises _LeftError once it runs, where nobody is to wait for it.
    """
    name = apart(workspace, pipeline)

    def started(run: Run) -> None:
        begun.append(run)
        workspace.console.event(f"{name} runs: {run.url}")
        if not wait:
            raise _LeftError

    with workspace.console.live(), workspace.console.working(pipeline, "running"):
        run = client.launch(
            name,
            upload,
            parameters=parameters,
            job_name=f"{name} {upload.version}",
            timeout=_declared(workspace, pipeline).timeout,
            log=folder / "run.log",
            watch=Following(workspace.console, pipeline),
            announce=started,
        )
    judging.leave_out_non_finite(run)
    workspace.console.event(f"{name}: {run.state.lower()} in {run.seconds:.1f} s")
    return run


def _declared(workspace: Workspace, pipeline: str) -> Pipeline:
    return workspace.config.pipelines.named.get(pipeline, Pipeline())


def _no_pipeline(pipeline: str, available: list[str]) -> CIError:
    return ConfigError(
        f"there is no pipeline '{pipeline}' to launch", name_one(pipeline, available)
    )
