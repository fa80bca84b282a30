"""B5: a diamond of parents, alone and beside four independent images; each sleeps a second."""

from __future__ import annotations

from collections.abc import Sequence

from measure import Side, Table, at_most, in_turn
from shared import BUSYBOX, SCAN, Bench, Ours, freshen, raw_push

# The independent ones sort first: an order that takes names as they come starts
# with them and makes the diamond wait.
ALONE = [f"alone-{number}" for number in range(4)]
BUILT_ON = {"diamond-a": [], "diamond-b": ["diamond-a"], "diamond-c": ["diamond-a"],
            "diamond-d": ["diamond-b", "diamond-c"]}  # fmt: skip
PATH = ["diamond-a", "diamond-b", "diamond-d"]
NAMES = [*ALONE, *BUILT_ON]
SLEEP = 'RUN ["/bin/busybox", "sleep", "1"]\n'


def run(bench: Bench) -> Table:
    repository = bench.repository("b5", files("b5", NAMES))
    alone = bench.repository("b5-alone", files("b5-alone", list(BUILT_ON)))
    nonce = ""

    def change() -> None:
        nonlocal nonce
        nonce = freshen(repository, NAMES)

    def change_diamond() -> None:
        freshen(alone, list(BUILT_ON))

    def path(*after: str) -> Side:
        """The critical path, one image after the other. `c` is there from before."""
        prefix = f"{bench.host}/b5-raw-{len(after)}"

        def act() -> None:
            for name in PATH:
                parents = " ".join(
                    f"--build-context b5/{parent}=docker-image://{prefix}/{parent}:"
                    + (nonce if parent in PATH else "before")
                    for parent in BUILT_ON[name]
                )
                image = f"{prefix}/{name}:{nonce}"
                built = raw_push(image, f"components/{name}", parents)
                bench.shell(f"set -- {name}; {' && '.join([built, *after])}", repository)

        bench.shell(raw_push(f"{prefix}/diamond-c:before", "components/alone-0"), repository)
        return Side(act, change, bench.pushed(f"b5-raw-{len(after)}/", len(PATH)))

    diamond = Ours(bench, alone, ("--jobs=4",), stub=True)
    four = Ours(bench, repository, ("--jobs=4",), stub=True)
    two = Ours(bench, repository, ("--jobs=2",), stub=True)
    scanning = Ours(bench, repository, ("--jobs=4",))
    pushed = bench.pushed("b5/", len(NAMES))
    sides = {
        "diamond": diamond.side(change_diamond, bench.pushed("b5-alone/", len(BUILT_ON))),
        "four": four.side(change, pushed),
        "path": path(),
        "two": two.side(change, pushed),
        "scanning": scanning.side(change, pushed),
        "path, scanned": path(SCAN),
    }
    taken = in_turn(sides, bench.runs)
    half = [seconds * 4 / 3 for seconds in taken["path"]]  # 8 images, 2 at once: 4 after another
    table = Table("B5: a diamond of parents, each sleeping 1 s: `ci build --plan`")
    goal = at_most(1.1)
    for what, mine, theirs in (
        ("the diamond alone, --jobs 4, Trivy stubbed, against the critical path",
         taken["diamond"], taken["path"]),
        ("and four alone, --jobs 4, Trivy stubbed, against the critical path",
         taken["four"], taken["path"]),
        ("and four alone, --jobs 4, scanned, against the path && trivy image",
         taken["scanning"], taken["path, scanned"]),
        ("and four alone, --jobs 2, Trivy stubbed, against 4/3 of the path", taken["two"], half),
    ):  # fmt: skip
        table.compare(what, mine, theirs, goal)
    table.notes += [
        f"the diamond alone: {diamond}",
        f"and four alone, --jobs 4, Trivy stubbed: {four}",
        f"and four alone, --jobs 2, Trivy stubbed: {two}",
    ]
    return table


def files(project: str, names: Sequence[str]) -> dict[str, str | bytes]:
    """Every image has a nonce of its own and sleeps; `d` also copies from `c`."""
    made: dict[str, str | bytes] = {}
    for name in names:
        where = f"components/{name}"
        parents = BUILT_ON.get(name, [])
        lines = [
            f"FROM {project}/{parents[0]}" if parents else "FROM scratch\nCOPY busybox /bin/busybox"
        ]
        lines += [f"COPY --from={project}/{other} /src /{other}" for other in parents[1:]]
        made[f"{where}/Dockerfile"] = "\n".join([*lines, "COPY src /src", SLEEP])
        made[f"{where}/src/nonce"] = f"{name}\n"
        if not parents:
            made[f"{where}/busybox"] = BUSYBOX
    return made
