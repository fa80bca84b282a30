"""Stage `release`: everything that one commit became, in one immutable file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ci import built, choosing, evidence, publishing
from ci import compile as compiling
from ci import deploy as deploying
from ci import train as training
from ci import upload as uploading
from ci.evidence import Origin, Sboms
from ci.upload import lock_hash
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import (
    Compiled,
    Deployed,
    Document,
    Lock,
    Release,
    ReleasedImage,
    ReleasedPipeline,
    ReleasedServable,
    Revision,
    Run,
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
        list(pool.map(lambda one: deploying.hold(workspace, one, made.name), images))


def gathered(workspace: Workspace, lock: Lock, sboms: Sboms) -> Bundle:
    """The release of what the stages left, with its files, unsigned.

    Raises MissingInputError, ReleaseError as `release` says.
    """
    build = workspace.build
    compiled = workspace.read(compiling.FILE, Compiled, made_by="compile")
    uploads = storage.read_if_there(build / uploading.FILE, Uploads, made_by="upload")
    runs = storage.read_if_there(build / training.FILE, Training, made_by="train")
    deployed = storage.read_if_there(build / deploying.FILE, Deployed, made_by="deploy")
    made = assemble(
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


def assemble(
    lock: Lock,
    compiled: Compiled,
    uploads: Uploads | None,
    runs: Training | None,
    deployed: Deployed | None,
    tested: Sequence[str],
    allowed: Collection[str] = (),
    *,
    declared: Mapping[str, str] | None = None,
    asked: Mapping[str, str] | None = None,
    sboms: Mapping[str, Mapping[str, str]] | None = None,
    origin: Origin | None = None,
) -> Release:
    """The release of these documents, without a name. Pure.

    tested: labels of the training tests that must have been run. A run of another
    version than the uploaded one does not count, and is left out.
    allowed: images by digest that pipelines may name beside the lock's.
    declared: component -> service, of every servable.
    asked: component -> hash of what is declared of it now, as `deploy.declared` has it.
    sboms: component -> platform -> sha256 of its SBOM.

    Raises ReleaseError when they disagree, or when one of them is of a launch by hand.
    """
    _check_unlaunched(
        {
            built.FILE: lock,
            compiling.FILE: compiled,
            uploading.FILE: uploads,
            training.FILE: runs,
            deploying.FILE: deployed,
        }
    )
    origin, sboms = origin or Origin(), sboms or {}
    for file, environment in (
        (uploading.FILE, uploads.environment if uploads else None),
        (training.FILE, runs.environment if runs else None),
        (deploying.FILE, deployed.environment if deployed else None),
    ):
        if environment not in (None, lock.environment):
            raise ReleaseError(
                f"{file} is of environment '{environment}', {built.FILE} of '{lock.environment}'",
                "Run every stage in one environment",
            )
    for name, pipeline in compiled.pipelines.items():
        if not all(
            component in lock.components and lock.components[component].reference in pipeline.images
            for component in pipeline.components
        ):
            raise ReleaseError(
                f"pipeline '{name}' was compiled from another build than {built.FILE}",
                "Run the stages from 'pin' on again",
            )
        # Whatever the files are marked as: what runs must be what was built and judged.
        digests = {image.reference for image in lock.components.values()}
        if strange := sorted({*pipeline.images} - digests - {*allowed}):
            raise ReleaseError(
                f"pipeline '{name}' runs {', '.join(strange)}, no image of {built.FILE}",
                "Run the stages from 'pin' on again",
            )
    pipelines = {}
    for name, pipeline in compiled.pipelines.items():
        version = uploads.pipelines.get(name) if uploads else None
        if version is not None and version.sha256 != pipeline.sha256:
            raise ReleaseError(
                f"the uploaded pipeline '{name}' is not the compiled one",
                "Run 'python -m ci upload' again",
            )
        pipelines[name] = ReleasedPipeline(
            sha256=pipeline.sha256,
            file=f"pipelines/{name}.yaml",
            components=pipeline.components,
            images=pipeline.images,
            version=version.version if version else None,
            version_id=version.version_id if version else None,
        )
    versions = {version.version_id for version in uploads.pipelines.values()} if uploads else set()
    specs = {version.sha256 for version in uploads.pipelines.values()} if uploads else set()
    current = [
        msgspec.structs.replace(run, log="")  # a file of this machine, which nobody else has
        for run in (runs.runs if runs else [])
        # What passed before and is unchanged ran as an equal version of another name.
        if run.version_id in versions or (run.unchanged and run.sha256 in specs)
    ]
    if deployed is not None and asked is not None:
        _check_declared(deployed, asked)
    servables = _servables(lock, deployed.services if deployed else {}, declared)
    return Release(
        name="",
        project=lock.project,
        environment=lock.environment,
        source=lock.source,
        images={
            name: ReleasedImage(
                reference=image.reference,
                digest=image.digest,
                key=image.key,
                verdict=image.verdict,
                tests=image.tests,
                parents=image.parents,
                bases=image.bases,
                platforms=image.platforms,
                sboms=dict(sboms.get(name, {})),
            )
            for name, image in lock.components.items()
        },
        pipelines=pipelines,
        runs=current,
        servables=servables,
        repository=origin.repository,
        committed=origin.committed,
        builder=origin.builder,
        build=origin.build,
        tools=dict(origin.tools),
        plan=lock.plan,
        lock=lock_hash(lock),
        problems=_problems(lock, pipelines, servables, sboms, current, tested),
    )


def _check_unlaunched(documents: Mapping[str, Document | None]) -> None:
    """Raises ReleaseError for a file that `launch` wrote: it is of no build of CI."""
    for file, document in documents.items():
        mark = document.launched if document is not None else msgspec.UNSET
        if mark is not msgspec.UNSET:
            used = ", ".join(f"{name}={image}" for name, image in sorted(mark.named.items()))
            raise ReleaseError(
                f"{file} is of a launch by {mark.by}"
                + (f" with images that CI did not build ({used})" if mark.unpinned else "")
                + ", which is never released",
                "Push the commit, and release what CI makes of it",
            )


def _check_declared(deployed: Deployed, asked: Mapping[str, str]) -> None:
    """Raises ReleaseError for a service that was deployed as it is declared no more: nobody
    verified what a promotion would make of it."""
    for component, revision in sorted(deployed.services.items()):
        if component not in asked or deployed.declared.get(component) != asked[component]:
            raise ReleaseError(
                f"the service '{revision.service}' was deployed by another declaration than "
                "there is now, or with other sidecars",
                "Run 'python -m ci deploy' again",
            )


def _servables(
    lock: Lock, revisions: Mapping[str, Revision], declared: Mapping[str, str] | None
) -> dict[str, ReleasedServable]:
    """What is served: what was deployed, and what should have been.

    Raises ReleaseError for a revision of another build, or of no declaration.
    """
    found = {}
    for component in sorted({*revisions, *(declared or {})}):
        revision = revisions.get(component)
        image = lock.components[component].reference if component in lock.components else None
        if image is None or (revision is not None and revision.image != image):
            raise ReleaseError(
                f"the service '{revision.service if revision else component}' "
                "runs an image of another build",
                "Run 'python -m ci deploy' again",
            )
        found[component] = ReleasedServable(
            service=revision.service if revision else (declared or {})[component],
            file=f"servables/{component}.yaml",
            image=image,
            model=revision.model if revision else None,
            task_definition_sha256=revision.task_definition_sha256 if revision else "",
            revision=revision,
        )
    return found


def _problems(
    lock: Lock,
    pipelines: Mapping[str, ReleasedPipeline],
    servables: Mapping[str, ReleasedServable],
    sboms: Mapping[str, Mapping[str, str]],
    runs: Sequence[Run],
    tested: Sequence[str],
) -> list[str]:
    """Why this release must not be promoted, a sentence each."""
    problems = []
    if lock.source.commit is None:
        problems.append("it comes from no commit")
    elif lock.source.dirty:
        problems.append("the work tree had changes that are in no commit")
    scans: dict[str, list[str]] = {}
    for name, image in sorted(lock.components.items()):
        if image.verdict.status != "pass":
            scans.setdefault(image.verdict.status, []).append(name)
        if image.tests == "none":
            problems.append(f"image '{name}' has no tests")
        if not sboms.get(name):
            problems.append(f"the SBOM of '{name}' is not known")
    problems += [f"the scan of {', '.join(n)} is {status}" for status, n in scans.items()]
    problems += [
        f"the pipeline '{name}' was not uploaded"
        for name, pipeline in sorted(pipelines.items())
        if pipeline.version_id is None
    ]
    problems += [
        f"the service '{servable.service}' was not deployed"
        for _, servable in sorted(servables.items())
        if servable.revision is None
    ]
    for name in sorted(set(tested) - {run.label for run in runs}):
        problems.append(f"the training test of '{name}' was not run")
    for run in runs:
        if run.state != "SUCCEEDED" or run.unmet:
            problems.append(f"the run of '{run.label}' did not pass")
    return problems
