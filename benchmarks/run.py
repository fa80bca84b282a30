"""Run the benchmarks and print a table each.

python benchmarks/run.py [NAME]... [--runs 5] [--write results.md]

NAME: b1 b2 b3 b3-project b4 b5 d1 d2 d3 j1 k1 k3 s1 s2 s3 s4
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import signal
import sys
from datetime import date
from pathlib import Path

from measure import Table
from shared import bench, call

BENCHMARKS = {
    "b1": "b1_plan",
    "b2": "b2_unchanged",
    "b3": "b3_cold",
    "b3-project": "b3_project",
    "b4": "b4_one_file",
    "b5": "b5_diamond",
    "d1": "d1_promotion",
    "d2": "d2_promote",
    "d3": "d3_deploy",
    "j1": "j1_scaling",
    "k1": "k1_compile",
    "k3": "k3_uploads",
    "s1": "s1_parallel",
    "s2": "s2_standing",
    "s3": "s3_database",
    "s4": "s4_large",
}


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("which", nargs="*", metavar="NAME", default=[], help="default: all")
    arguments.add_argument("--runs", type=int, default=5, help="medians are of so many (5)")
    arguments.add_argument("--write", type=Path, metavar="FILE", help="write the tables there too")
    options = arguments.parse_args()
    if unknown := set(options.which) - set(BENCHMARKS):
        arguments.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    for number in (signal.SIGINT, signal.SIGTERM):  # the environment is then taken down
        signal.signal(number, signal.default_int_handler)
    tables: list[Table] = []
    with bench(options.runs) as here:
        for name in sorted(set(options.which)) or BENCHMARKS:
            print(name, file=sys.stderr, flush=True)
            table = importlib.import_module(BENCHMARKS[name]).run(here)
            print(table, end="\n\n", flush=True)
            tables.append(table)
    if options.write:
        told = "\n\n".join([HEAD.format(machine=machine(), runs=options.runs), *map(str, tables)])
        options.write.write_text(told + "\n")


HEAD = """# Results

{machine}

Medians of {runs} runs in turn, fastest and slowest in brackets; the ratio is the
median of each turn's ratio. What is compared, and how: [README.md](README.md)."""


def machine() -> str:
    """Where and with what: versions that the programs tell themselves."""
    here = Path.cwd()
    docker = call(
        ["docker", "version", "--format", "{{.Client.Version}}/{{.Server.Version}}"], here
    )
    buildx = call(["docker", "buildx", "version"], here).split()[1]
    git = call(["git", "--version"], here).split()[-1]
    trivy = call([str(Path(sys.executable).with_name("trivy")), "--version"], here).split()[1]
    return (
        f"{date.today()}; {os.cpu_count()} cores, {platform.machine()}, "
        f"Linux {platform.release().split('-')[0]}; Python {platform.python_version()}, "
        f"Docker client/engine {docker.strip()}, buildx {buildx}, Trivy {trivy}, git {git}"
    )


if __name__ == "__main__":
    main()
