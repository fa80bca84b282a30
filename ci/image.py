"""The phases of one image: build, check (its tests, the scan), push, in this
order, so that nothing bad ever gets a key; or only its verdict, where the
registry has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from ci import findings, verdicts
from ci.cases import Cases
from ci.request import request_for
from ci.session import Session
from ci_tools import process
from ci_tools.documents import FailedImage, Ingredients, LockedImage, PlannedComponent, timestamp
from ci_tools.errors import CancelledError, CIError, EngineError, ParentFailedError, ScanFailedError
from ci_tools.images import attempts, builders, buildx
from ci_tools.images.builders import Builder, Made
from ci_tools.images.progress import Progress
from ci_tools.local import state
from ci_tools.report import junit

Step = Literal["parent", "cancelled", "build", "test", "scan", "push"]
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    image: LockedImage | FailedImage
    suite: junit.Suite


class ImageWork:
    """One image on its way into the lock. A phase returns whether to go on; what
    goes wrong with this image is kept as its outcome, never raised."""

    def __init__(self, session: Session, planned: PlannedComponent) -> None:
        self._session = session
        self._workspace = session.workspace
        self._planned = planned
        self._component = session.workspace.components[planned.name]
        self._log = session.workspace.build / "logs" / f"{planned.name}.log"
        self._tested = self._component.test is not None or planned.test_target is not None
        self._cases = Cases(planned.name, tested=self._tested)
        self._step: Step = "parent"
        self._made: Made | None = None
        self._scanned: verdicts.Scanned | None = None
        self._ingredients: Ingredients | None = None
        self._timings: dict[str, float] = {}
        self._left = float(self._component.timeout or self._workspace.config.build.timeout)
        self._began: float | None = None
        self.outcome: Outcome | None = None

    def left(self, expected: float) -> float:
        """Of the seconds that it was expected to take, those still to come."""
        if self.outcome is not None:
            return 0.0
        spent = 0.0 if self._began is None else time.monotonic() - self._began
        return max(expected - spent, 0.0)

    @property
    def missing(self) -> bool:
        """Whether the registry lacks the key, so that there is something to build."""
        return self._planned.digest is None

    @property
    def context(self) -> str | None:
        """What a child's build may name before this image is in the lock, if anything."""
        if not self.missing:
            host, planned = self._session.registry.host, self._planned
            return f"{host}/{planned.repository}@{planned.digest}"
        return self._made.context if self._made else None

    @property
    def reference(self) -> str | None:
        """The image by digest, once it is in the lock."""
        image = self.outcome.image if self.outcome else None
        return image.reference if isinstance(image, LockedImage) else None

    # Phases, each in a thread of the schedule ----------------------------------

    def present(self) -> bool:
        """The image of a key that the registry has, with a verdict that stands."""
        return self._phase(self._present)

    def build(self, parents: Mapping[str, ImageWork]) -> bool:
        """parents: those of this run."""
        return self._phase(lambda: self._build(parents))

    def check(self) -> bool:
        return self._phase(self._check)

    def push(self) -> bool:
        return self._phase(self._push)

    def blocked(self, by: list[str]) -> None:
        """It is not to be had, because those before it failed."""
        if self.outcome is None:
            self._step = "parent"
            self._failed(ParentFailedError.of(self._planned.name, by))

    def cancelled(self) -> None:
        """It was not begun or not ended, because another failed and that ends the run."""
        if self.outcome is None:
            self._step = "cancelled"
            self._failed(
                CancelledError(
                    f"component '{self._planned.name}' was not built because another failed first",
                    "Mend that one, or build without --fail-fast",
                )
            )

    def _phase(self, does: Callable[[], object]) -> bool:
        if self.outcome is not None:
            return False
        try:
            does()
        except CIError as error:
            if self._session.halted.is_set():
                self.cancelled()
            elif not process.stopping():  # else it is our own doing, and no verdict
                self._failed(error)
            return False
        return True

    def _present(self) -> None:
        kept = verdicts.kept(self._session, self._planned)
        if kept is not None:
            self._step = "scan"
            verdicts.refuse(self._workspace, self._planned.name, kept.verdict)
            self._cases.passed("scan", 0.0)
            kept.built = False
            kept.seconds = 0.0
            self._done(kept)
            return
        self._log.unlink(missing_ok=True)
        digest = self._planned.digest or ""
        with self._working("scan"):
            self._made = builders.present(self._session.registry, self._planned.repository, digest)
            self._scanned = self._scan(self._made)
        self._ingredients = self._session.ingredients(self._planned.name)
        self._done(self._locked(digest, built=False))

    def _build(self, parents: Mapping[str, ImageWork]) -> None:
        planned = self._planned
        images = {name: one.context or one.reference or "" for name, one in parents.items()}
        self._log.unlink(missing_ok=True)
        with self._working("build"):
            self._request = request_for(
                self._workspace,
                planned,
                {**self._session.parents, **images},
                self._session.env,
                exports_cache=self._builder.exports_cache,
            )
            self._made = self._persistently(
                lambda: self._builder.build(planned.repository, self._request, self._watch())
            )
            # Looked at again now: an image of other files would be under a key of these.
            self._ingredients = self._session.ingredients(planned.name)

    def _check(self) -> None:
        made, planned, declared = self._have(), self._planned, self._component.test
        if declared is not None:
            with self._working("test"):
                self._builder.test(made, planned.name, declared, self._watch())
        elif planned.test_target is not None:
            with self._working("test"):
                buildx.test(self._request, planned.test_target, self._watch())
        with self._working("scan"):
            try:
                self._scanned = self._scan(made)
            except ScanFailedError:
                self._quarantine(made)
                raise

    def _quarantine(self, made: Made) -> None:
        """Keep a refused image where it can be looked at, if that is wanted."""
        planned, workspace = self._planned, self._workspace
        if not self._session.quarantine:
            return
        apart = workspace.quarantine_of(planned.name)
        try:
            reference = self._builder.quarantine(made, planned.repository, apart, planned.key)
        except CIError as error:  # it was refused all the same, and that is what is told
            workspace.console.event(f"{planned.name}: not in quarantine ({error.what})")
        else:
            workspace.console.event(f"{planned.name}: in quarantine, {reference}")

    def _push(self) -> None:
        planned, made = self._planned, self._have()
        with self._working("push"), self._alone():
            pushed = self._persistently(
                lambda: self._builder.push(made, planned.repository, planned.key)
            )
        if pushed.adopted:
            # Of one key there is one image: another job was faster, so it is theirs
            # that must pass.
            self._workspace.console.event(
                f"{planned.name}: another build of this key was faster, its image is taken"
            )
            with self._working("scan"):
                self._made = builders.present(
                    self._session.registry, planned.repository, pushed.digest
                )
                self._scanned = self._scan(self._made)
        self._done(self._locked(pushed.digest, built=not pushed.adopted))

    # ----------------------------------------------------------------------------

    def _scan(self, made: Made) -> verdicts.Scanned:
        planned = self._planned
        return verdicts.scan(
            self._session, planned.name, planned.repository, made.subjects, self._log
        )

    def _locked(self, digest: str, *, built: bool) -> LockedImage:
        planned, scanned = self._planned, self._scanned
        if scanned is None:
            raise AssertionError("an image is locked after its scan")
        for sbom in scanned.sboms:
            sbom.result()
        pushed = self._session.registry.images(planned.repository, digest)
        digests = {platform: image.digest for platform, image in pushed.items()}
        self._session.behind(
            findings.publish, self._session.registry, planned.repository, scanned, digests
        )
        return LockedImage(
            repository=f"{self._session.registry.host}/{planned.repository}",
            digest=digest,
            config=next(iter(pushed.values())).config if len(pushed) == 1 else "",
            key=planned.key,
            size=sum(image.size for image in pushed.values()),
            verdict=scanned.verdict,
            parents=planned.parents,
            bases=planned.bases,
            tests="passed" if self._tested else "none",
            built=built,
            seconds=round(sum(self._timings.values()), 3),
            timings=self._build_timings(),
            created=timestamp(),
            platforms={platform: image.config for platform, image in sorted(pushed.items())},
        )

    def _build_timings(self) -> dict[str, float]:
        """Step -> seconds of the build that made the image, be it an earlier one."""
        if self.missing:
            return {step: round(spent, 3) for step, spent in self._timings.items()}
        previous = self._session.previous
        kept = previous.components.get(self._planned.name) if previous else None
        return kept.timings if kept is not None and kept.key == self._planned.key else {}

    def _done(self, image: LockedImage) -> None:
        if image.ingredients is None:
            image.ingredients = self._ingredients
        self.outcome = Outcome(image, self._cases.suite())
        self._workspace.console.event(f"{self._planned.name}: {_told(image)}")
        self._workspace.console.finished(self._planned.name, True)

    def _failed(self, error: CIError) -> None:
        log = error.log or (self._log if self._log.exists() else None)
        image = FailedImage(
            step=self._step,
            message=error.what,
            todo=error.todo,
            exit_code=error.exit_code,
            log=str(log or ""),
            seconds=round(sum(self._timings.values()), 3),
        )
        self._cases.failed(self._step, str(error))
        self.outcome = Outcome(image, self._cases.suite())
        self._workspace.console.error(str(error))
        self._workspace.console.finished(self._planned.name, False)

    def _persistently(self, action: Callable[[], T]) -> T:
        return attempts.persistently(
            action,
            attempts=self._workspace.config.build.attempts,
            told=lambda text: self._workspace.console.event(f"{self._planned.name}: {text}"),
        )

    def _watch(self) -> buildx.Watch:
        """One budget of seconds for all that is built and tested of an image."""
        spent = sum(self._timings.get(step, 0.0) for step in ("build", "test"))
        console, name, steps = self._workspace.console, self._planned.name, Progress()

        def read(line: str) -> None:
            steps.read(line)
            if (step := steps.current) is not None:
                console.detail(name, step.label, minor=step.minor)

        return buildx.Watch(
            timeout=max(self._left - spent, 1.0),
            log=self._log,
            on_line=read,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other run on this machine pushes this key meanwhile: an embedded
        registry has no immutable tags that would see to it."""
        if not self._workspace.embedded:
            yield
            return
        with state.locked(self._workspace.home, f"push-{self._planned.key[:2]}"):
            yield

    def _have(self) -> Made:
        if self._made is None:
            raise AssertionError("an image is checked and pushed after it is built")
        return self._made

    @property
    def _builder(self) -> Builder:
        if self._session.builder is None:
            raise EngineError("a builder is needed but none was connected", "Report this")
        return self._session.builder

    @contextmanager
    def _working(self, step: Step) -> Iterator[None]:
        self._step = step
        started = time.monotonic()
        self._began = self._began or started
        try:
            with self._workspace.console.working(self._planned.name, step):
                yield
        finally:
            spent = time.monotonic() - started
            self._timings[step] = self._timings.get(step, 0.0) + spent
        self._cases.passed(step, spent)


def _told(image: LockedImage) -> str:
    what = "built" if image.built else "already built"
    if image.ingredients is not None and image.ingredients.forced:
        what += f" (forced by {image.ingredients.forced})"
    return (
        f"{what}, {image.digest[:19]}, {image.size / 1e6:.1f} MB, "
        f"scan {image.verdict.status}, {image.seconds:.1f} s"
    )
