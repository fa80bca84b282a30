"""Which stages of a Dockerfile a build reaches, and what these read from.

BuildKit resolves nothing else: a stage that the target does not need may name
an image that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ci_tools.components.references import split
from ci_tools.errors import DockerfileError

_SCRATCH = "scratch"


class Read(NamedTuple):
    """`--from=` of COPY and ADD (numbered: a stage's number will do) or of a RUN's mount."""

    reference: str
    line: int
    numbered: bool


class Work(NamedTuple):
    """What instructions need beside their stage's own base.

    arguments: names that an ARG declares.
    remotes:   URLs of ADD whose bytes nothing fixes.
    """

    reads: tuple[Read, ...] = ()
    arguments: frozenset[str] = frozenset()
    remotes: tuple[str, ...] = ()


class Stage(NamedTuple):
    """One FROM. base is another stage's name or an image reference.

    triggers: what its ONBUILD instructions do in a stage built on it.
    """

    name: str | None
    base: str
    line: int
    work: Work = Work()
    triggers: Work = Work()


class Reached(NamedTuple):
    """What a build needs.

    images: references of FROM, COPY/ADD --from and RUN --mount=from that are
            no stage of the file, in order of appearance, without `scratch`.
    """

    images: tuple[str, ...]
    arguments: frozenset[str]
    remotes: tuple[str, ...]


def _no_triggers(_: str) -> Work:
    return Work()


def target(stages: Sequence[Stage], name: str | None) -> int:
    """The number of the stage of that name, by default the last. Raises KeyError."""
    if name is None:
        return len(stages) - 1
    named = {stage.name: number for number, stage in enumerate(stages)}
    return named[name.lower()]


def reach(
    stages: Sequence[Stage],
    targets: Sequence[str | None],
    *,
    shown: str,
    triggers: Callable[[str], Work] = _no_triggers,
) -> Reached:
    """Everything that a build of these targets reads from.

    targets:  stages by name, None for the last. triggers: the ONBUILD of an
              image that a stage is built on, as far as it is known.

    Raises DockerfileError for a stage that is read before it is there, for a
    number or a variable that names no stage, for a stage called as an image.
    """
    walk = _Walk(stages, shown, triggers)
    waiting = [target(stages, name) for name in targets]
    for number in waiting:
        if number not in walk.reached:
            waiting += walk.visit(number)
    images = sorted(walk.images, key=lambda reference: walk.images[reference])
    for reference in images:
        walk.check_name(reference)
    return Reached(
        images=tuple(images),
        arguments=frozenset(walk.arguments),
        remotes=tuple(dict.fromkeys(walk.remotes)),
    )


class _Walk:
    def __init__(
        self, stages: Sequence[Stage], shown: str, triggers: Callable[[str], Work]
    ) -> None:
        self._stages = stages
        self._shown = shown
        self._triggers = triggers
        self._named = {one.name: number for number, one in enumerate(stages) if one.name}
        self.reached: set[int] = set()
        self.images: dict[str, int] = {}  # reference -> the first line that names it
        self.arguments: set[str] = set()
        self.remotes: list[str] = []

    def visit(self, number: int) -> list[int]:
        """Note a stage's images; the numbers of the stages that it needs."""
        self.reached.add(number)
        stage = self._stages[number]
        needed: list[int] = []
        base = self._base(number)
        if base is not None:
            needed.append(base)
            inherited = self._stages[base].triggers
        else:
            self._image(stage.base, stage.line)
            inherited = self._triggers(stage.base)
        for work in (inherited, stage.work):
            self.arguments |= work.arguments
            self.remotes += work.remotes
            for read in work.reads:
                # A trigger's line is in the file that declares it.
                line = read.line if work is stage.work else stage.line
                found = self._read(read, line, number)
                if found is None:
                    self._image(read.reference, line)
                else:
                    needed.append(found)
        return needed

    def check_name(self, reference: str) -> None:
        """Refuse an image called like a stage: BuildKit takes the image that it is
        told to use for the one in place of the other, instructions and all.
        """
        parts = split(reference)
        path = parts.path.removeprefix("library/")
        plain = parts.registry in ("", "docker.io") and parts.tag in ("", "latest")
        if plain and not parts.digest and path in self._named:
            raise DockerfileError(
                f"{self._shown} line {self._stages[self._named[path]].line}: the stage '{path}' "
                f"has the name of the image '{reference}' that is used here too",
                "Give the stage another name",
            )

    def _base(self, number: int) -> int | None:
        """The stage that a stage is built on: the nearest of that name before it."""
        name = self._stages[number].base.lower()
        before = range(number - 1, -1, -1)
        return next((one for one in before if self._stages[one].name == name), None)

    def _read(self, read: Read, line: int, number: int) -> int | None:
        """The stage that is read from, the last of that name; None for an image."""
        reference = read.reference
        where = f"{self._shown} line {line}"
        if "$" in reference:
            raise DockerfileError(
                f"{where}: the variable in '{reference}' cannot be replaced",
                "Put FROM ${NAME} AS <alias> above, and read from <alias>",
            )
        if reference.isdecimal():
            if not read.numbered:
                raise DockerfileError(
                    f"{where}: a mount does not know the stage {reference} by its number",
                    "Give that stage a name",
                )
            if int(reference) >= number:
                raise DockerfileError(
                    f"{where}: there is no stage {reference} before this one",
                    "Name an earlier stage",
                )
            return int(reference)
        found = self._named.get(reference.lower())
        if found is not None and found >= number:
            raise DockerfileError(
                f"{where}: the stage '{reference}' is read before it is there",
                "Move that stage up",
            )
        return found

    def _image(self, reference: str, line: int) -> None:
        if reference != _SCRATCH:
            self.images[reference] = min(line, self.images.get(reference, line))
