"""An image in Jenkins' test view: `image.<component>`, a case for each of its steps.

Jenkins knows a test by its names, so they are the same in every build: a step that
was not taken, because the registry has the image or an earlier one failed, is a
case that was skipped.
"""

from __future__ import annotations

from ci_tools.report import junit

_STEPS = ("build", "test", "scan", "push")
_TAKEN = "the registry has the image"
_BEFORE = "an earlier step failed"


class Cases:
    """tested: whether the image has tests of its own."""

    def __init__(self, component: str, *, tested: bool) -> None:
        self._name = f"image.{component}"
        self._steps = [step for step in _STEPS if tested or step != "test"]
        self._passed: dict[str, float] = {}
        self._failure: tuple[str, str] | None = None

    def passed(self, step: str, seconds: float) -> None:
        """A step that was taken twice counts once: an image whose key another build
        pushed first is scanned again."""
        self._passed[step] = self._passed.get(step, 0.0) + seconds

    def failed(self, step: str, message: str) -> None:
        """step: also "parent" and "cancelled", which is of an image that was not begun."""
        self._failure = (step if step in self._steps else self._steps[0], message)

    def suite(self) -> junit.Suite:
        suite = junit.Suite(self._name)
        failing, message = self._failure or ("", "")
        late = False
        for step in self._steps:
            if step == failing:
                suite.failed(step, message, self._passed.get(step, 0.0))
                late = True
            elif step in self._passed:
                suite.passed(step, self._passed[step])
            else:
                suite.skipped(step, _BEFORE if late else _TAKEN)
        return suite


def orphan(component: str, message: str, *, tested: bool) -> junit.Suite:
    """The suite of an image whose parent failed, whatever became of its own steps."""
    cases = Cases(component, tested=tested)
    cases.failed("parent", message)
    return cases.suite()
