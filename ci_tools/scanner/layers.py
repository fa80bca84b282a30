"""Which line of a Dockerfile made which layer of its image.

BuildKit writes one entry of history for each instruction of the stages that an
image consists of, above those of the base; RUN, COPY, ADD and WORKDIR make a
layer each, even an empty one. So layers and instructions are paired from the
top, and each pair's texts are compared: where they differ nothing more is said.
The texts: frontend/dockerfile/dockerfile2llb/convert.go of moby/buildkit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ci_tools.components import dockerfile, stages
from ci_tools.documents import Layer
from ci_tools.errors import DockerfileError

if TYPE_CHECKING:
    from dockerfile import Command

_MAKE_LAYERS = ("RUN", "COPY", "ADD", "WORKDIR")
_SCRATCH = "scratch"
_WRITTEN_BY_BUILDKIT = r"(?: # buildkit)?"
_UNCERTAIN = re.compile(r"""[$"'\\`<]""")  # expanded, unquoted or a heredoc: not as written


class Origins(NamedTuple):
    """What is known of an image's layers, by diff id; a layer may be in neither.

    lines: line of the Dockerfile; of a base's layer the line of its FROM.
    bases: name in FROM of the image that a layer came with.
    """

    lines: dict[str, int]
    bases: dict[str, str]


class _Made(NamedTuple):
    """One layer as the Dockerfile has it made. optional: it may be none at all."""

    line: int
    pattern: re.Pattern[str]
    optional: bool = False


def layers(history: Iterable[Mapping[str, object]], diff_ids: Sequence[str]) -> list[Layer]:
    """The layers of an image's config, the lowest first.

    history: as in the config (https://github.com/opencontainers/image-spec/blob/main/config.md);
    where it does not fit the diff ids, layers have no `created_by`.
    """
    texts = [str(one.get("created_by", "")) for one in history if not one.get("empty_layer")]
    if len(texts) != len(diff_ids):
        texts = [""] * len(diff_ids)
    return [Layer(diff_id=one, created_by=text) for one, text in zip(diff_ids, texts, strict=True)]


def origins(
    layers: Sequence[Layer],
    text: str,
    *,
    arguments: Mapping[str, str] | None = None,
    target: str | None = None,
    platform: str = dockerfile.PLATFORM,
) -> Origins:
    """Where an image's layers come from, as far as it is certain.

    layers:    the image's, the lowest first.
    text:      the Dockerfile that it was built from.
    arguments: build arguments. target: the stage that was built, None for the last.

    What a base brought by ONBUILD counts as the base's. Nothing is raised: of a
    Dockerfile or history that cannot be read nothing is known.
    """
    try:
        parsed = dockerfile.parse(text, arguments or {}, platform=platform)
        chain = _chain(parsed.stages, stages.target(parsed.stages, target))
        made = _made(text, chain)
    except (DockerfileError, KeyError, ValueError):
        return Origins({}, {})
    known, below = _paired(layers, made)
    root = parsed.stages[chain[0]]
    if below is not None and root.base != _SCRATCH:
        known += [(layer.diff_id, root.line, root.base) for layer in layers[:below]]
    # Layers of one content have one diff id, wherever they come from.
    told = Counter(diff_id for diff_id, _, _ in set(known))
    every = Counter(layer.diff_id for layer in layers)
    seen = Counter(diff_id for diff_id, _, _ in known)
    certain = [one for one in known if told[one[0]] == 1 and seen[one[0]] == every[one[0]]]
    return Origins(
        lines={diff_id: line for diff_id, line, _ in certain},
        bases={diff_id: base for diff_id, _, base in certain if base},
    )


def _paired(
    layers: Sequence[Layer], made: Sequence[_Made]
) -> tuple[list[tuple[str, int, str]], int | None]:
    """Diff id, line and "" of each layer from the top that is certain; and how many
    layers the base has, None where that is not known."""
    known: list[tuple[str, int, str]] = []
    left = len(layers)
    for number in range(len(made) - 1, -1, -1):
        one, layer = made[number], layers[left - 1] if left else None
        if layer and one.pattern.fullmatch(layer.created_by):
            if one.optional and number and made[number - 1].pattern.fullmatch(layer.created_by):
                return known, None
            known.append((layer.diff_id, one.line, ""))
            left -= 1
        elif not one.optional:
            return known, None
    return known, left


def _chain(all_stages: Sequence[stages.Stage], number: int) -> list[int]:
    """The stages that a stage consists of, the lowest first."""
    chain = [number]
    while True:
        name, before = all_stages[chain[0]].base.lower(), range(chain[0] - 1, -1, -1)
        base = next((one for one in before if all_stages[one].name == name), None)
        if base is None:
            return chain
        chain.insert(0, base)


def _made(text: str, chain: Sequence[int]) -> list[_Made]:
    """The layers that the instructions of these stages make, the lowest first."""
    own: dict[int, list[_Made]] = {number: [] for number in chain}
    triggered: dict[int, list[_Made]] = {number: [] for number in chain}
    number = -1
    for command in dockerfile.commands(text):
        name = command.cmd.upper()
        if name == "FROM":
            number += 1
        elif number not in own:
            continue
        elif name == "WORKDIR":
            own[number] += _workdir(command)
        elif name in _MAKE_LAYERS:
            body = _run(command) if name == "RUN" else _copied(command)
            own[number].append(_Made(command.start_line, _pattern(name, body)))
        elif name == "ONBUILD" and (command.sub_cmd or "").upper() in _MAKE_LAYERS:
            pattern = _pattern((command.sub_cmd or "").upper(), ".*")
            triggered[number].append(_Made(command.start_line, pattern))
    found: list[_Made] = []
    for place, stage in enumerate(chain):
        if place:
            found += triggered[chain[place - 1]]
        found += own[stage]
    return found


def _pattern(name: str, body: str) -> re.Pattern[str]:
    return re.compile(f"{name} {body}{_WRITTEN_BY_BUILDKIT}", re.S)


def _run(command: Command) -> str:
    """`[|1 A=b] [/bin/sh -c] what is run`; arguments and SHELL are not compared."""
    if command.json:
        return f"(?:.* )?{re.escape(' '.join(command.value))}"
    text = " ".join(command.value)
    if not command.heredocs:
        return f"(?:.* )?{re.escape(text)}"
    # A heredoc alone is the script itself, or a file where it begins with `#!`.
    # Its leading tabs may be gone (`<<-`), so only its words are compared.
    scripts = (word for heredoc in command.heredocs for word in heredoc.content.split())
    content = r"\s+".join(map(re.escape, scripts))
    files = "|".join(re.escape(f"/dev/pipes/{heredoc.name}") for heredoc in command.heredocs)
    if len(command.heredocs) == 1:
        return rf"(?:.*\s)?(?:{content}\s*(?:{re.escape(command.heredocs[0].name)})?|{files})"
    return ".*<<.*"


def _workdir(command: Command) -> list[_Made]:
    """History has the whole path, whatever the Dockerfile's is relative to. Of the
    root directory no layer is made."""
    path = " ".join(command.value)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if _UNCERTAIN.search(path) or ".." in parts or not (parts or path.startswith("/")):
        return [_Made(command.start_line, _pattern("WORKDIR", ".*"), optional=True)]
    if not parts:
        return []
    body = ("" if path.startswith("/") else ".*") + "/" + "/".join(map(re.escape, parts))
    return [_Made(command.start_line, _pattern("WORKDIR", body))]


def _copied(command: Command) -> str:
    """Sources, then the destination, without what options say."""
    *sources, destination = command.value
    if any(word.startswith("<<") for word in sources):
        return f".*{_word(destination)}"
    words = " ".join(_word(word) for word in sources)
    return rf"(?:--\S+ )*{words} {_word(destination)}"


def _word(word: str) -> str:
    return ".*" if _UNCERTAIN.search(word) else re.escape(word)
