"""B5: a diamond of parents and four independent images, each sleeping a second."""

from __future__ import annotations

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
    repository = bench.repository("b5", files())
    nonce = ""

    def change() -> None:
        nonlocal nonce
        nonce = freshen(repository, NAMES)

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

    four = Ours(bench, repository, ("--jobs=4",), stub=True)
    default = Ours(bench, repository, stub=True)
    scanning = Ours(bench, repository, ("--jobs=4",))
    pushed = bench.pushed("b5/", len(NAMES))
    sides = {
        "four": four.side(change, pushed),
        "path": path(),
        "default": default.side(change, pushed),
        "scanning": scanning.side(change, pushed),
        "path, scanned": path(SCAN),
    }
    taken = in_turn(sides, bench.runs)
    half = [seconds * 4 / 3 for seconds in taken["path"]]  # 8 images, 2 at once: 4 after another
    table = Table("B5: a diamond of four and four alone, each sleeping 1 s: `ci plan && ci build`")
    goal = at_most(1.1)
    for what, mine, theirs in (
        ("--jobs 4, Trivy stubbed, against the critical path", taken["four"], taken["path"]),
        ("--jobs 4, scanned, against the path && trivy image",
         taken["scanning"], taken["path, scanned"]),
        ("2 at once, Trivy stubbed, against 4/3 of the path", taken["default"], half),
    ):  # fmt: skip
        table.compare(what, mine, theirs, goal)
    table.notes += [f"--jobs 4, Trivy stubbed: {four}", f"2 at once, Trivy stubbed: {default}"]
    return table


def files() -> dict[str, str | bytes]:
    """Every image has a nonce of its own and sleeps; `d` also copies from `c`."""
    made: dict[str, str | bytes] = {}
    for name in NAMES:
        where = f"components/{name}"
        parents = BUILT_ON.get(name, [])
        lines = [f"FROM b5/{parents[0]}" if parents else "FROM scratch\nCOPY busybox /bin/busybox"]
        lines += [f"COPY --from=b5/{parent} /src /{parent}" for parent in parents[1:]]
        made[f"{where}/Dockerfile"] = "\n".join([*lines, "COPY src /src", SLEEP])
        made[f"{where}/src/nonce"] = f"{name}\n"
        if not parents:
            made[f"{where}/busybox"] = BUSYBOX
    return made
