"""The steps of one image: build, test, scan, push, in this order, so that
nothing bad is ever pushed; or only its verdict, where the registry has it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from ci.workspace import Workspace
from ci_tools.documents import (
    FailedImage,
    Ingredients,
    Lock,
    LockedImage,
    PlannedComponent,
    Verdict,
)
from ci_tools.errors import (
    CIError,
    EngineError,
    ParentFailedError,
    ScanFailedError,
    ScanIncompleteError,
)
from ci_tools.images import buildx
from ci_tools.images.engine import Engine
from ci_tools.images.registry import Registry
from ci_tools.report import junit
from ci_tools.scanner import gate
from ci_tools.scanner.trivy import Trivy

Step = Literal["parent", "build", "test", "scan", "push"]


@dataclass
class Session:
    """What all images of one run share. engine: None while nobody needs one.

    ingredients: component -> what its key is made of, for the lock.
    """

    workspace: Workspace
    registry: Registry
    trivy: Trivy
    previous: Lock | None
    ingredients: Mapping[str, Ingredients]
    engine: Engine | None = None


@dataclass(frozen=True)
class Outcome:
    image: LockedImage | FailedImage
    suite: junit.Suite


class ImageWork:
    """One image on its way into the lock."""

    def __init__(self, session: Session, planned: PlannedComponent) -> None:
        self._session = session
        self._workspace = session.workspace
        self._planned = planned
        self._component = session.workspace.components[planned.name]
        self._log = session.workspace.build / "logs" / f"{planned.name}.log"
        self._suite = junit.Suite(planned.name)
        self._step: Step = "parent"

    def needs_engine(self) -> bool:
        """Whether there is anything to build or to scan."""
        return self._planned.digest is None or self._kept() is None

    def run(self, parents: Mapping[str, Outcome]) -> Outcome:
        """All steps. What goes wrong with this image is returned, not raised."""
        started = time.monotonic()
        console = self._workspace.console
        image: LockedImage | FailedImage
        try:
            references = self._references(parents)
            image = self._present() if self._planned.digest else self._built(references)
            image.ingredients = self._session.ingredients[self._planned.name]
            image.seconds = round(time.monotonic() - started, 3)
            console.event(f"{self._planned.name}: {_told(image)}")
        except CIError as error:
            log = error.log or (self._log if self._log.exists() else None)
            image = FailedImage(
                step=self._step,
                message=error.what,
                todo=error.todo,
                exit_code=error.exit_code,
                log=str(log or ""),
                seconds=round(time.monotonic() - started, 3),
            )
            self._suite.failed(self._step, str(error))
            console.error(str(error))
        return Outcome(image, self._suite)

    def _references(self, parents: Mapping[str, Outcome]) -> dict[str, str]:
        """Parent -> its image by digest. Raises ParentFailedError."""
        failed = [name for name, one in parents.items() if isinstance(one.image, FailedImage)]
        if failed:
            raise ParentFailedError(
                f"component '{self._planned.name}' was not built because "
                f"{', '.join(failed)} failed",
                f"Mend {', '.join(failed)}",
            )
        return {
            name: one.image.reference
            for name, one in parents.items()
            if isinstance(one.image, LockedImage)
        }

    def _kept(self) -> LockedImage | None:
        """What the last lock says of this very image, while its verdict stands."""
        previous = self._session.previous
        kept = previous.components.get(self._planned.name) if previous else None
        if kept is None or (kept.key, kept.digest) != (self._planned.key, self._planned.digest):
            return None
        trivy, build = self._session.trivy, self._workspace.build
        database = trivy.database_at_hand()
        if not gate.still_valid(kept.verdict, self._workspace.config.scan, trivy.version, database):
            return None
        files = (build / kept.verdict.report, build / kept.verdict.sbom)
        return kept if all(path.is_file() for path in files) else None

    def _present(self) -> LockedImage:
        """The image of a key that the registry has, with a verdict that stands."""
        kept = self._kept()
        if kept is not None:
            self._step = "scan"
            self._refuse(kept.verdict)
            self._suite.passed("build", 0.0)
            kept.built = False
            return kept
        digest = self._planned.digest or ""
        self._log.unlink(missing_ok=True)
        with self._working("scan"):
            reference = f"{self._session.registry.host}/{self._planned.repository}@{digest}"
            image_id = self._engine.pull(reference, self._session.registry)
            verdict = self._scan(image_id)
        return self._locked(digest, image_id, verdict, built=False)

    def _built(self, parents: Mapping[str, str]) -> LockedImage:
        planned, settings = self._planned, self._workspace.config.build
        request = request_for(self._workspace, planned, parents)
        self._log.unlink(missing_ok=True)
        with self._working("build"):
            image_id = buildx.build(request, timeout=settings.timeout, log=self._log)
        declared = self._component.test
        if declared is not None:
            with self._working("test"):
                self._engine.test(
                    planned.name, image_id, declared, timeout=settings.timeout, log=self._log
                )
        elif planned.test_target is not None:
            with self._working("test"):
                buildx.test(request, planned.test_target, timeout=settings.timeout, log=self._log)
        with self._working("scan"):
            verdict = self._scan(image_id)
        with self._working("push"):
            digest = self._engine.digest_pushed(
                self._session.registry, planned.repository, planned.key, image_id
            )
        return self._locked(digest, image_id, verdict, built=True)

    def _scan(self, image_id: str) -> Verdict:
        """Scan, write report and SBOM, judge. Raises what the gate refuses."""
        policy, trivy, build = (
            self._workspace.config.scan,
            self._session.trivy,
            self._workspace.build,
        )
        report = Path("reports") / self._planned.name / "trivy.json"
        sbom = report.with_name("sbom.cdx.json")
        trivy.scan(image_id, build / report, timeout=policy.timeout, log=self._log)
        trivy.sbom(build / report, build / sbom, log=self._log)
        found = gate.read((build / report).read_bytes())
        verdict = gate.judge(found, image_id, policy, trivy.version, trivy.database)
        verdict.report, verdict.sbom = report.as_posix(), sbom.as_posix()
        self._refuse(verdict)
        return verdict

    def _refuse(self, verdict: Verdict) -> None:
        if verdict.status == "fail":
            raise ScanFailedError(
                f"component '{self._planned.name}' does not pass the scan: {verdict.reason}",
                "Take the secret out, or update the package; the report tells all",
                log=self._workspace.build / verdict.report,
            )
        allowed = self._workspace.environment.allow_incomplete_scan
        if verdict.status == "incomplete" and not allowed:
            raise ScanIncompleteError(
                f"component '{self._planned.name}' was not scanned completely: {verdict.reason}",
                "Give scan.database in ci.yaml a mirror that answers",
            )

    def _locked(self, digest: str, image_id: str, verdict: Verdict, *, built: bool) -> LockedImage:
        planned = self._planned
        pushed = self._session.registry.image(planned.repository, digest)
        tested = self._component.test is not None or planned.test_target is not None
        return LockedImage(
            repository=f"{self._session.registry.host}/{planned.repository}",
            digest=digest,
            config=image_id,
            key=planned.key,
            size=pushed.size if pushed else 0,
            verdict=verdict,
            parents=planned.parents,
            bases=planned.bases,
            tests="passed" if tested else "none",
            built=built,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    @property
    def _engine(self) -> Engine:
        if self._session.engine is None:
            raise EngineError("an engine is needed but none was connected", "Report this")
        return self._session.engine

    @contextmanager
    def _working(self, step: Step) -> Iterator[None]:
        self._step = step
        started = time.monotonic()
        with self._workspace.console.working(self._planned.name, step):
            yield
        self._suite.passed(step, time.monotonic() - started)


def request_for(
    workspace: Workspace, planned: PlannedComponent, parents: Mapping[str, str]
) -> buildx.Request:
    """What BuildKit is asked for. parents: component -> its image.

    Raises ConfigError for a secret that is not there, CredentialsError.
    """
    bundle = buildx.ca_bundle()
    component = workspace.components[planned.name]
    contexts = {reference: parents[name] for reference, name in component.parents.items()}
    contexts |= {reference: image for reference, image in planned.bases.items() if image}
    labels = {"kfp-ci.key": planned.key}
    if workspace.source.commit:
        labels["org.opencontainers.image.revision"] = workspace.source.commit
    return buildx.Request(
        name=planned.name,
        dockerfile=workspace.repository / planned.dockerfile,
        context=workspace.repository / planned.context,
        tag=f"{workspace.registry.host}/{planned.repository}:{planned.key}",
        target=planned.target,
        args=component.args,
        contexts=contexts,
        labels=labels,
        secrets={buildx.CA_SECRET: bundle} if bundle else {},
        offered=workspace.secrets.offered(),
    )


def _told(image: LockedImage) -> str:
    what = "built" if image.built else "already built"
    return (
        f"{what}, {image.digest[:19]}, {image.size / 1e6:.1f} MB, "
        f"scan {image.verdict.status}, {image.seconds:.1f} s"
    )
