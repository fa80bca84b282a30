"""Component templates: which component they name, and putting a digest there."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ci_tools import yaml_safe
from ci_tools.components.references import PINNED, component_named
from ci_tools.errors import TemplateError


@dataclass(frozen=True)
class ImageNode:
    """One `image:` scalar. start and end are offsets into the text."""

    image: str
    start: int
    end: int
    line: int


@dataclass(frozen=True)
class Template:
    """A component template. component is None when its images are all external.

    path: relative to the repository, with `/`.
    """

    path: str
    text: str
    nodes: tuple[tuple[ImageNode, str | None], ...]

    @property
    def components(self) -> list[str]:
        return sorted({component for _, component in self.nodes if component})

    def pinned(self, references: Mapping[str, str]) -> str:
        """The text with every named component replaced by its image reference.

        Only the scalar is rewritten: comments, quoting elsewhere, order and
        white space stay byte for byte.
        """
        text = self.text
        for node, component in sorted(self.nodes, key=lambda pair: -pair[0].start):
            if component is not None:
                text = f"{text[: node.start]}{references[component]}{text[node.end :]}"
        return text


def find(
    repository: Path,
    files: Collection[str],
    directory: str,
    components: Collection[str],
    project: str,
    allowed: Collection[str] = (),
) -> list[Template]:
    """Every `*.yaml` and `*.yml` among `files` below `directory`, in order of path.

    allowed: digest references that no component makes.

    Raises TemplateError for one that is no component template, or that names
    neither a component nor an allowed image.
    """
    prefix = directory.rstrip("/") + "/"
    names = [
        name
        for name in sorted(files)
        if name.startswith(prefix) and name.endswith((".yaml", ".yml"))
    ]
    return [_read(repository, name, components, project, allowed) for name in names]


def image_nodes(text: str, shown: str) -> list[ImageNode]:
    """The image scalars of a v1 component or of a v2 one (a compiled IR).

    Raises TemplateError.
    """
    try:
        root = yaml_safe.compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise TemplateError(f"{shown} does not parse{where}", "Mend the YAML") from error
    v1 = _child(_child(_child(root, "implementation"), "container"), "image")
    executors = _child(_child(root, "deploymentSpec"), "executors")
    nodes = [v1] if v1 is not None else []
    if isinstance(executors, yaml.MappingNode):
        nodes += [
            image
            for _, executor in executors.value
            if (image := _child(_child(executor, "container"), "image")) is not None
        ]
    if not nodes or not all(isinstance(node, yaml.ScalarNode) and node.value for node in nodes):
        raise TemplateError(
            f"{shown} is no component template: it has no implementation.container.image",
            "Mend it, or keep other YAML elsewhere",
        )
    return [
        ImageNode(node.value, node.start_mark.index, node.end_mark.index, node.start_mark.line + 1)
        for node in nodes
    ]


def _read(
    repository: Path, name: str, components: Collection[str], project: str, allowed: Collection[str]
) -> Template:
    try:
        text = (repository / name).read_bytes().decode("utf-8")  # keeps CRLF as it is
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{name} cannot be read ({error})", "Mend the file") from error
    pairs = []
    for node in image_nodes(text, name):
        component = component_named(node.image, components, project)
        if component is None and not (PINNED.match(node.image) and node.image in allowed):
            near = difflib.get_close_matches(node.image, list(components), n=1)
            raise TemplateError(
                f"{name} line {node.line}: image '{node.image}' is no component of this repository",
                f"Did you mean '{near[0]}'"
                if near
                else f"Name one of: {', '.join(sorted(components)) or '(there is none)'}; "
                "or allow the image by digest under 'pipelines.allow_images' in ci.yaml",
            )
        pairs.append((node, component))
    return Template(name, text, tuple(pairs))


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return value  # type: ignore[no-any-return]
    return None
