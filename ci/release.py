"""Stage `release`: everything that one commit became, in one immutable file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ci import assembling, built, choosing, evidence, holding, publishing
from ci import compile as compiling
from ci import deploy as deploying
from ci import train as training
from ci import upload as uploading
from ci.evidence import Sboms
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import (
    Compiled,
    Deployed,
    Lock,
    Release,
    Training,
    Uploads,
)
from ci_tools.errors import ReleaseError
from ci_tools.release import bundle as bundles
from ci_tools.release.bundle import Bundle

FILE = "release.json"
DIRECTORY = "release"
_AT_ONCE = 8


def release(workspace: Workspace, *, publish: bool = True, strict: bool = False) -> Release:
    """Gather the stages' files into a release that is named by its content.

    Reads images.lock.json, pipelines.json with its IR, the servables' declarations
    and, where they are, uploads.json, train.json and deploy.json; writes
    release.json and, as it is signed and published, the bundle `release/`.

    What must keep it from being promoted is listed in `problems`; such a release is
    published, for one wants to look at it, but not signed.
    publish: put it into the registry. strict: no release where there are problems.

    Raises MissingInputError, or ReleaseError when an image failed, the files
    are of different builds or, if strict, there are problems; and what signing and
    publishing raise.
    """
    # Should this fail, nobody must find what an earlier build released.
    for old in (FILE, f"{DIRECTORY}/{bundles.CONTENT}"):
        (workspace.build / old).unlink(missing_ok=True)
    lock = workspace.read(built.FILE, Lock, made_by="build")
    if lock.failed:
        raise ReleaseError(
            f"there is no release while images fail ({', '.join(sorted(lock.failed))})",
            "Mend them and run the stages again",
        )
    sboms = evidence.sboms(workspace, lock)
    bundle = gathered(workspace, lock, sboms)
    problems = bundle.release.problems
    if problems and strict:
        raise ReleaseError(
            f"there is no release of this: {'; '.join(problems)}",
            "Mend that and run the stages again, or leave out --strict to have it marked",
        )
    if publish:
        _hold_revisions(workspace, bundle.release)
        _hold_images(workspace, bundle.release)
    bundle = publishing.publish(workspace, bundle, sboms, send=publish)
    bundles.write(bundle, workspace.build / DIRECTORY)
    workspace.write(FILE, bundle.release)
    return bundle.release


def _hold_revisions(workspace: Workspace, made: Release) -> None:
    """Mark the revisions that a release names, which are never deregistered from then on.

    Raises ServiceError, CredentialsError: no release is published of what may go.
    """
    revisions = [one.revision for one in made.servables.values() if one.revision is not None]
    named = [one.task_definition for one in revisions if one.task_definition is not None]
    if not named:
        return
    services = deploying.prediction_services(workspace)
    for task_definition in named:
        services.mark_release(task_definition, made.name)


def _hold_images(workspace: Workspace, made: Release) -> None:
    """Keep the images of a release from expiring: it may be promoted any day, but where it
    has problems, for then it never is.

    Raises RegistryError, PushError, CredentialsError: no release is published of what may go.
    """
    if made.problems:
        return
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        images = [image.reference for image in made.images.values()]
        list(pool.map(lambda one: holding.hold(workspace, one, made.name), images))


def gathered(workspace: Workspace, lock: Lock, sboms: Sboms) -> Bundle:
    """The release of what the stages left, with its files, unsigned.

    Raises MissingInputError, ReleaseError as `release` says.
    """
    build = workspace.build
    compiled = workspace.read(compiling.FILE, Compiled, made_by="compile")
    uploads = storage.read_if_there(build / uploading.FILE, Uploads, made_by="upload")
    runs = storage.read_if_there(build / training.FILE, Training, made_by="train")
    deployed = storage.read_if_there(build / deploying.FILE, Deployed, made_by="deploy")
    made = assembling.assemble(
        lock,
        compiled,
        uploads,
        runs,
        deployed,
        choosing.tested(workspace),
        workspace.config.pipelines.allow_images,
        declared={name: one.service for name, one in workspace.servables.items()},
        asked=deploying.declared(workspace, lock),
        sboms={
            name: {platform: sbom.sha256 for platform, sbom in several.items()}
            for name, several in sboms.items()
        },
        origin=evidence.origin(workspace, lock),
    )
    return bundles.of(made, evidence.files(workspace, compiled))


def dry_run(workspace: Workspace) -> list[str]:
    """What a release of this work tree would hold. Asks nobody."""
    source = workspace.source
    parts = {
        "images": list(workspace.components),
        "pipelines": list(compiling.dry_run(workspace).pipelines),
        "services": [servable.service for servable in workspace.servables.values()],
    }
    lines = [f"would release {workspace.project} at commit {source.commit or '(none)'}"]
    lines += [f"  {kind}: {', '.join(sorted(names)) or 'none'}" for kind, names in parts.items()]
    lines += publishing.dry_run(workspace)
    if source.dirty:
        lines.append("  not to be promoted: the work tree has changes that are in no commit")
    return lines
