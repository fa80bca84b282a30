"""The scan report of a run: what is in every image, for people and for their tools.

Written whatever failed, since a report is needed most where the gate refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ci import lint, verdicts
from ci.session import Found, Session
from ci.workspace import Workspace
from ci_tools import storage, typed
from ci_tools.components import shards
from ci_tools.config import Branches
from ci_tools.documents import SCHEMA, Finding, Lock, ScannedImage, ScanReport, timestamp
from ci_tools.errors import CIError, MissingInputError
from ci_tools.images import moving
from ci_tools.images.registry import Registry
from ci_tools.report import junit, scan_junit
from ci_tools.scanner import gate, layers

_HOME = "reports/scans"  # below the project's; no component's path has so many parts
KIND = "application/vnd.kfp-ci.scan-report.v1+json"
FOLDER = Path("reports")
FILE = FOLDER / "scan.json"
JUNIT = FOLDER / "scan.xml"


def prepare() -> None:
    """Load what writes reports, while images are built: it takes as long as a small one."""
    from ci_tools.report import page

    page.prepare()


def write(
    session: Session, lock: Lock, members: Sequence[str], shard: tuple[int, int] | None
) -> None:
    """Write the report of a build, below `reports/` of the build directory.

    members: the components of this run. shard: then only its part, for `merge`.
    Nothing is written where every verdict was kept and so is what was told of it.
    """
    workspace = session.workspace
    before = read(workspace.build / FILE)
    if shard is None and not session.scans and before and _same(before, workspace, lock):
        return
    images: list[ScannedImage] = []
    for name in members:
        found = session.scans.get(name)
        if found is None and name in lock.components:
            found = verdicts.of_kept(session, name, lock.components[name])
        images += [_placed(workspace, lock, one) for one in found or ()]
    report = ScanReport(
        project=lock.project,
        environment=lock.environment,
        source=lock.source,
        created=timestamp(),
        trivy=session.trivy.version,
        database=session.trivy.databases.at_hand().updated,
        policy=workspace.scan_policy.hash,
        images=images,
        dockerfiles=lint.remarks(workspace),
    )
    if shard is not None:
        storage.write(workspace.build / shards.report_of(shard, FILE.as_posix()), report)
        # For Jenkins to show though another shard fails and nothing is merged.
        tests = workspace.build / shards.report_of(shard, JUNIT.as_posix())
        junit.write(tests, scan_junit.suites(report))
        return
    _finish(workspace, session.registry, report, before)


def join(workspace: Workspace, sources: Mapping[Path, Lock]) -> None:
    """Write the report of all shards. sources: their locks, each with its reports beside it."""
    parts = []
    for path, part in sources.items():
        number, count = part.shard.split("/")
        shard = (int(number), int(count))
        found = read(path.parent / shards.report_of(shard, FILE.as_posix()))
        if found is not None:
            parts.append(found)
    if parts:
        from ci_tools.report import scan as written

        report = written.join(parts)
        report.created = timestamp()
        registry = Registry.of(workspace.registry)
        _finish(workspace, registry, report, read(workspace.build / FILE))


def _finish(
    workspace: Workspace, registry: Registry, report: ScanReport, before: ScanReport | None
) -> None:
    """Write it, compared with the branch's last one, which it becomes for the next."""
    from ci_tools.report import scan as written

    policy = workspace.scan_policy
    report.waivers = gate.notes(
        policy, by_component(report.images), gate.today(), whole=_whole(report, workspace)
    )
    for note in report.waivers:
        where = "".join(f" of {part}" for part in (note.package, note.component) if part)
        workspace.console.event(
            f"the waiver of {note.id}{where} ({note.owner}) "
            + {
                "expired": f"has expired on {note.expires}",
                "unused": "is of no use: nothing that it waives was found",
                "expires soon": f"ends on {note.expires}",
            }[note.problem]
        )
    own, *others = _places(workspace)
    try:
        before = _last(registry, [own, *others]) or before
        moving.put(registry, *own, KIND, msgspec.json.encode(report))
    except CIError as error:
        workspace.console.event(f"the scan report stays on this machine: {error.what}")
    written.write(workspace.build / FOLDER, report, before)


def _places(workspace: Workspace) -> list[tuple[str, str]]:
    """Repository and tag of the branch's report, and of main's, which a new branch is
    compared with."""
    apart = workspace.branch_apart
    own = apart or workspace.source.branch or "unknown"
    branches = workspace.registry.branches or Branches()
    every = [(workspace.repository_of(_HOME, apart=apart is not None), own)]
    every += [(workspace.repository_of(_HOME), main) for main in branches.main]
    return list(dict.fromkeys((home, moving.tag_of(branch)) for home, branch in every))


def _last(registry: Registry, places: Sequence[tuple[str, str]]) -> ScanReport | None:
    for repository, tag in places:
        raw = moving.get(registry, repository, tag, KIND)
        if raw is None:
            continue
        try:
            found = typed.decode(raw, ScanReport)
        except msgspec.MsgspecError:
            continue
        if found.schema == SCHEMA:
            return found
    return None


def _whole(report: ScanReport, workspace: Workspace) -> bool:
    """Whether every component's image was looked into."""
    return {image.component for image in report.images} >= set(workspace.components)


def by_component(images: Sequence[ScannedImage]) -> dict[str, list[Finding]]:
    """What was found in each component's images."""
    found: dict[str, list[Finding]] = {}
    for image in images:
        found.setdefault(image.component, []).extend(one.finding for one in image.findings)
    return found


def _placed(workspace: Workspace, lock: Lock, found: Found) -> ScannedImage:
    """With what the repository knows of it: its Dockerfile, and who made which layer."""
    image, name = found.image, found.image.component
    component = workspace.components[name]
    image.dockerfile = component.dockerfile
    locked = lock.components.get(name)
    image.reference = locked.reference if locked else ""
    try:
        text = (workspace.repository / component.dockerfile).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return image  # it was built from it a moment ago; then nothing is known of lines
    origins = layers.origins(
        found.record.layers, text, arguments=component.args, target=component.target
    )
    image.lines, image.bases = origins.lines, origins.bases
    image.parents = sorted({one for one in origins.bases.values() if one in component.parents})
    return image


def _same(before: ScanReport, workspace: Workspace, lock: Lock) -> bool:
    """Whether a report of an earlier run says what this one's would."""
    told = {image.reference for image in before.images}
    return (
        before.policy == workspace.scan_policy.hash
        and before.environment == lock.environment
        and told == {image.reference for image in lock.components.values()}
        and not lock.failed
    )


def read(path: Path) -> ScanReport | None:
    """An earlier report, if there is one that can be read."""
    try:
        return storage.read_if_there(path, ScanReport, made_by="build")
    except MissingInputError:
        return None  # damaged, or of another version: as if it were not there
