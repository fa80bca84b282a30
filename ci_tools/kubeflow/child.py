"""Both ends of the process that pipelines are compiled or run in: one request, one answer.

`python -m ci_tools.kubeflow.child compile|run ANSWER` reads its request as JSON
from standard input and writes its answer to the file ANSWER, so that whatever
the pipeline's own code prints cannot be mistaken for it. No answer means that
the process was ended before it could give one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import ci_tools
from ci_tools import process


def ask(
    verb: str,
    request: dict[str, Any],
    *,
    timeout: float,
    private_home: bool = False,
) -> tuple[process.Finished, dict[str, Any] | None]:
    """Run the child process; its answer, or None when it ended without one.

    private_home: give it an empty home, for kfp keeps a context (namespace,
    cookies) in ~/.config/kfp, which would leak from one build into the next.
    Who pulls images needs the real one, for the registry's credentials.
    """
    with tempfile.TemporaryDirectory(prefix="kfp-ci-") as directory:
        answer = Path(directory, "answer.json")
        package = str(Path(ci_tools.__file__).parents[1])
        finished = process.run(
            [sys.executable, "-m", "ci_tools.kubeflow.child", verb, answer],
            cwd=Path(directory),  # and not the repository, whose yaml.py would become ours
            env={
                **({"HOME": directory, "XDG_CONFIG_HOME": directory} if private_home else {}),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [package, os.environ.get("PYTHONPATH")])
                ),
                "PYTHONDONTWRITEBYTECODE": "1",  # nothing is left in the sources
                "PYTHONHASHSEED": "0",
                "PYTHONUNBUFFERED": "1",
            },
            stdin=json.dumps(request).encode(),
            timeout=timeout,
        )
        # The answer of a process that was stopped or broke may be half-written.
        whole = finished.ok and answer.is_file()
        return finished, json.loads(answer.read_bytes()) if whole else None


def main(arguments: list[str]) -> int:
    """0 when an answer was written, whatever it says."""
    verb, answer = arguments[0], Path(arguments[1])
    request: dict[str, Any] = json.load(sys.stdin.buffer)
    if verb == "compile":
        gc.set_threshold(100_000)  # kfp's modules stay: there is nothing to find among them
        from ci_tools.kubeflow.compile_child import compile_files

        result = compile_files(**request)
    elif verb == "run":
        from ci_tools.kubeflow.run_child import run_pipeline

        result = run_pipeline(**request)
    else:
        raise SystemExit(f"unknown verb {verb!r}")
    answer.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking down what kfp imported takes a tenth of a compilation
