"""Names, parameters and answers that want to be commands: the Jenkinsfile's `sh` steps are
run by a real bash, with the environment that they would have, and do nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.groovy import jenkinsfile
from tests.groovy.jenkinsfile import Scenario
from tests.groovy.scenarios import scenario

TEXT = jenkinsfile.JENKINSFILE.read_text()
HOSTILE = [
    "$(touch {0})`touch {0}`${{IFS}}|touch {0}",
    "\"; touch {0}; \"'; touch {0}; '",
    "x\ntouch {0}\n../../../{0}%0atouch {0}",
]
NAMES = {  # what a stranger names, besides parameters: the event says which there are
    "branch": ["BRANCH_NAME", "BUILD_TAG", "JOB_NAME"],
    "pull request": ["CHANGE_BRANCH", "CHANGE_AUTHOR", "CHANGE_TITLE", "CHANGE_FORK"],
    "main": ["BUILD_TAG", "GIT_AUTHOR_NAME"],
    "tag": ["BRANCH_NAME", "TAG_NAME", "BUILD_TAG"],
}
TEXTS = ("KFP_CI_PIPELINES", "KFP_CI_PARAMETERS", "KFP_CI_FORCE", "KFP_CI_MAX_SHARDS")
STUB = r"""#!/bin/bash
printf '%q ' "${0##*/}" "$@" >>'CALLS'
echo >>'CALLS'
[ "$*" != '-m ci jenkins shards' ] || printf '1/2\n2/2\n'
"""


def hostile(folder: Path, event: str, text: str) -> Scenario:
    """A build in a real shell, with stubs for our commands that write down what they get."""
    for path in (".venv/bin/python", "scripts/bootstrap.sh"):
        stub = folder / "sources" / path
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(STUB.replace("CALLS", str(folder / "calls")))
        stub.chmod(0o755)
    return scenario(
        f"{event}: {text}",
        event,
        shell=True,
        checkout=str(folder / "sources"),
        files={"Jenkinsfile": ""},
        variables=dict.fromkeys(NAMES[event], text),
        parameters=dict.fromkeys(TEXTS, text),
        input={"by": text, "groups": ["kfp-ci-promoters"]},
    )


def test_hostile_texts_do_nothing_in_a_real_shell(tmp_path: Path) -> None:
    marker = tmp_path / "PWNED"
    texts = ["harmless", *(text.format(marker) for text in HOSTILE)]
    folders = {
        (event, text): tmp_path / f"{number}-{event}"
        for number, text in enumerate(texts)
        for event in NAMES
    }
    played = [hostile(folder, *key) for key, folder in folders.items()]
    played.append(
        {
            **hostile(tmp_path / "proof", "main", texts[1]),
            "name": "proof",
            "text": TEXT.replace(
                "'python -m ci train'", '"python -m ci train ${params.KFP_CI_PIPELINES}"'
            ),
        }
    )
    found = jenkinsfile.run(played[:-1])
    for (event, text), folder in folders.items():
        run = found[f"{event}: {text}"]
        assert (run.errors, run.problems, run.result) == ([], [], "SUCCESS"), (event, text)
        calls = (folder / "calls").read_text()
        assert calls == (folders[event, "harmless"] / "calls").read_text(), (event, text)
        assert calls.count("python -m ci") >= (2 if event == "tag" else 8)
        seen = [one["environment"]["KFP_CI_FORCE"] for one in run.of("sh")]
        assert set(seen) == {text.strip()}
    assert not list(tmp_path.rglob("PWNED*"))
    jenkinsfile.run(played[-1:])  # were it interpolated, this test would see it
    assert marker.exists()
