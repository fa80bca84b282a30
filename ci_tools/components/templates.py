"""Component templates: which component they name, and putting a digest there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ci_tools import yaml_safe
from ci_tools.components.references import PINNED, component_named, split
from ci_tools.config_errors import did_you_mean
from ci_tools.errors import ConfigError, TemplateError

# An anchor or a tag before a scalar is no part of what is replaced.
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
_STRING = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class ImageNode:
    """One `image:` scalar. start and end are offsets into the text, within quotes."""

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

    def stale(self, references: Mapping[str, str]) -> list[tuple[ImageNode, str]]:
        """What of it is pinned, but to another image than `references` has, with that one.

        A component by its name alone is not pinned, and so never stale.
        """
        return [
            (node, references[component])
            for node, component in self.nodes
            if component and PINNED.match(node.image) and node.image != references[component]
        ]

    def pinned(self, references: Mapping[str, str]) -> str:
        """The text with every named component replaced by its image reference.

        Only the scalar is rewritten: comments, quotes, order and white space
        stay byte for byte. Raises TemplateError where the text would not say
        what it should.
        """
        text = self.text
        for node, component in sorted(self.nodes, key=lambda pair: -pair[0].start):
            if component is not None:
                text = f"{text[: node.start]}{references[component]}{text[node.end :]}"
        wanted = [references[name] if name else node.image for node, name in self.nodes]
        if [node.image for node in image_nodes(text, self.path)] != wanted:
            raise TemplateError(
                f"no digest can be put into {self.path}", "Write each image on a line of its own"
            )
        return text


def find(
    repository: Path,
    files: Collection[str],
    directory: str,
    components: Collection[str],
    project: str,
    allowed: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> list[Template]:
    """Every `*.yaml` and `*.yml` among `files` below `directory`, in order of path.

    allowed: digest references that no component makes.
    aliases: what else an image may be, to the letter -> the component that it means.

    Raises TemplateError for one that is no component template, or that names
    neither a component nor an allowed image.
    """
    prefix = directory.rstrip("/") + "/"
    names = [
        name
        for name in sorted(files)
        if name.startswith(prefix) and name.endswith((".yaml", ".yml"))
    ]
    known = aliases or {}
    return [_read(repository, name, components, project, allowed, known) for name in names]


def aliases(
    images: Mapping[str, str], patterns: Collection[str], components: Collection[str]
) -> dict[str, str]:
    """Image as older repositories write it -> component, by `pipelines.images` and
    `pipelines.image_patterns` of ci.yaml.

    patterns: with `{component}` for a component's name, or `{COMPONENT}` for the same
    as a variable has it (`train-gpu` is TRAIN_GPU).

    Raises ConfigError for an image that would mean two components, and for a
    component that is not there.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        for name in components:
            variable = re.sub(r"[^A-Z0-9]+", "_", name.upper())
            image = pattern.replace("{component}", name).replace("{COMPONENT}", variable)
            _claim(found, image, name)
    for image, name in images.items():
        if name not in components:
            raise ConfigError(
                f"pipelines.images says that '{image}' is component '{name}', which is not there",
                f"Name one of: {', '.join(sorted(components)) or '(there is none)'}",
            )
        _claim(found, image, name)
    return found


def _claim(found: dict[str, str], image: str, name: str) -> None:
    if found.setdefault(image, name) != name:
        raise ConfigError(
            f"image '{image}' would be both component '{found[image]}' and '{name}'",
            "Mend 'pipelines.images' and 'pipelines.image_patterns' in ci.yaml",
        )


def image_nodes(text: str, shown: str) -> list[ImageNode]:
    """The image scalars of a v1 component or of a v2 one (a compiled IR).

    A second document, which holds what concerns a platform, names no component: the
    proof of what is compiled reads it. Raises TemplateError.
    """
    mark = 1 if text.startswith("\ufeff") else 0  # libyaml does not count it
    try:
        documents = yaml_safe.compose_all(text[mark:])
    except yaml.YAMLError as error:
        problem = getattr(error, "problem_mark", None)
        where = f" at line {problem.line + 1}" if problem else ""
        raise TemplateError(f"{shown} does not parse{where}", "Mend the YAML") from error
    root = documents[0] if documents else None
    holders = [_child(_child(root, "implementation", shown), "container", shown)]
    executors = _child(_child(root, "deploymentSpec", shown), "executors", shown)
    if len(documents) > (2 if executors else 1):
        raise TemplateError(
            f"{shown} holds {len(documents)} YAML documents", "Keep one component in a file"
        )
    if isinstance(executors, yaml.MappingNode):
        holders += [_child(executor, "container", shown) for _, executor in executors.value]
    pairs = [pair for holder in holders if (pair := _pair(holder, "image", shown)) is not None]
    if not pairs:
        raise TemplateError(
            f"{shown} is no component template: it has no implementation.container.image",
            "Mend it, or keep other YAML elsewhere",
        )
    # Executors that share one anchored mapping share its image.
    nodes = {pair[1].start_mark.index: _image_node(text, mark, pair, shown) for pair in pairs}
    return list(nodes.values())


def _image_node(text: str, mark: int, pair: tuple[yaml.Node, yaml.Node], shown: str) -> ImageNode:
    """Where the scalar of `image: scalar` is. Raises TemplateError where it is none."""
    key, node = pair
    line = key.start_mark.line + 1
    start, end = node.start_mark.index + mark, node.end_mark.index + mark
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise TemplateError(f"{shown} line {line}: 'image' names no image", "Name a component")
    if (
        node.style in ("|", ">")
        or node.tag != _STRING
        or text[key.end_mark.index + mark : start].strip() != ":"  # an alias is elsewhere
    ):
        raise TemplateError(
            f"{shown} line {line}: 'image' must be a plain or quoted string",
            "Write it out, without an alias, a tag or a block",
        )
    properties = _PROPERTIES.match(text, start, end)
    start = properties.end() if properties else start
    if node.style:
        start, end = start + 1, end - 1
    return ImageNode(node.value, start, end, text.count("\n", 0, start) + 1)


def _read(
    repository: Path,
    name: str,
    components: Collection[str],
    project: str,
    allowed: Collection[str],
    aliases: Mapping[str, str],
) -> Template:
    try:
        text = (repository / name).read_bytes().decode("utf-8")  # keeps CRLF as it is
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{name} cannot be read ({error})", "Mend the file") from error
    pairs = []
    for node in image_nodes(text, name):
        component = aliases.get(node.image) or component_named(node.image, components, project)
        if component is None and not (PINNED.match(node.image) and node.image in allowed):
            word = split(node.image).path.rpartition("/")[2]
            raise TemplateError(
                f"{name} line {node.line}: image '{node.image}' is no component of this repository",
                did_you_mean(word, list(components))
                or f"Name one of: {', '.join(sorted(components)) or '(there is none)'}; "
                "or allow the image by digest under 'pipelines.allow_images' in ci.yaml",
            )
        pairs.append((node, component))
    return Template(name, text, tuple(pairs))


def _child(node: yaml.Node | None, key: str, shown: str) -> yaml.Node | None:
    pair = _pair(node, key, shown)
    return pair[1] if pair else None


def _pair(node: yaml.Node | None, key: str, shown: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The key and value nodes of `key` in a mapping.

    Raises TemplateError for a key that is there twice: loaders take the last
    one, people read the first.
    """
    if not isinstance(node, yaml.MappingNode):
        return None
    pairs = [
        (name, value)
        for name, value in node.value
        if isinstance(name, yaml.ScalarNode) and name.value == key
    ]
    if len(pairs) > 1:
        line = pairs[1][0].start_mark.line + 1
        raise TemplateError(f"{shown} line {line}: '{key}' is there twice", "Take one out")
    return pairs[0] if pairs else None
