"""Compiled pipelines (IR) as data: what they run, what they take, what they are.

Pure functions of the YAML that the compiler wrote; kfp is never imported. The
first document of the file is the pipeline spec, an optional second one holds
what concerns a platform (`platforms:`, written by kfp-kubernetes).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ci_tools import yaml_safe
from ci_tools.documents import JsonValue
from ci_tools.errors import MissingInputError, UnpinnedImageError

_PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
_IMAGE_KEYS = frozenset({"image", "imageUri"})


class Ir(NamedTuple):
    """One parsed IR file. platforms: the second document, {} without one."""

    spec: dict[str, Any]
    platforms: dict[str, Any]


class TaskImage(NamedTuple):
    """One image of one executor.

    tasks: every task that runs the executor, as `dag/task` below the root;
           empty for an executor that no task uses.
    image: the string as it stands in the IR, "" where none is given.
    """

    executor: str
    tasks: tuple[str, ...]
    image: str


class Parameter(NamedTuple):
    """One pipeline input. type: the IR's own word (STRING, NUMBER_INTEGER, ...)."""

    type: str
    required: bool
    default: JsonValue = None
    description: str = ""


def load(path: Path) -> Ir:
    """Read an IR file. Raises MissingInputError when it is no IR."""
    try:
        return parse(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path.name, str(error)) from error


def parse(text: str, name: str) -> Ir:
    """Parse an IR; `name` stands for it in errors. Raises MissingInputError."""
    try:
        documents = [part for part in yaml_safe.load_all(text) if part is not None]
    except yaml.YAMLError as error:
        raise _damaged(name, "not YAML") from error
    return of(documents, name)


def of(documents: list[Any], name: str) -> Ir:
    """The IR made of its parsed documents. Raises MissingInputError."""
    if not 1 <= len(documents) <= 2 or not all(isinstance(part, dict) for part in documents):
        raise _damaged(name, f"{len(documents)} documents where one or two are expected")
    spec, platforms = documents[0], documents[1] if len(documents) == 2 else {}
    if not isinstance(spec.get("pipelineInfo"), dict) or not isinstance(spec.get("root"), dict):
        raise _damaged(name, "no 'pipelineInfo' and 'root' in its first document")
    return Ir(spec, platforms)


def from_server(spec: object, name: str) -> Ir:
    """The IR in an API server's `pipeline_spec`. Raises MissingInputError.

    A spec with platforms comes wrapped together with them, as
    {"pipeline_spec": ..., "platform_spec": ...}.
    """
    if isinstance(spec, dict) and "pipeline_spec" in spec:
        platforms = spec.get("platform_spec")
        return of([spec["pipeline_spec"], *([platforms] if platforms else [])], name)
    return of([spec], name)


def pipeline_name(ir: Ir) -> str:
    """`pipelineInfo.name`."""
    return str(ir.spec["pipelineInfo"].get("name", ""))


def description(ir: Ir) -> str:
    return str(ir.spec["pipelineInfo"].get("description", ""))


def canonical_sha256(ir: Ir) -> str:
    """64 hex over the parsed content: equal for equal pipelines.

    Key order, layout, comments and 3 against 3.0 (protobuf knows one number
    type, and the API server writes them anew) make no difference.

    `sdkVersion` is left out: it names the compiler, not the pipeline, and two
    patch releases of kfp that compile to the same steps make the same pipeline.
    Where the SDK does reach a step (a lightweight component installs it), it
    stands in the step's command and is part of the hash.
    """
    spec = {key: value for key, value in ir.spec.items() if key != "sdkVersion"}
    content = _normal({"spec": spec, "platforms": ir.platforms})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def executor_images(ir: Ir) -> list[TaskImage]:
    """Every image that the pipeline can start, over all executors, sorted.

    Executors are read where they are defined, so that loops, conditions, exit
    handlers and nested pipelines need no special case. Importers start no
    container. Any `image` or `imageUri` below an executor counts, in the
    platform documents too, whatever kind of executor it is.
    """
    tasks = _tasks_by_executor(ir.spec)
    found: list[TaskImage] = []
    for executor, body in _executors(ir.spec):
        images = [] if "importer" in body else list(_images_in(body)) or [""]
        found += [TaskImage(executor, tasks.get(executor, ()), image) for image in images]
    for platform in _mapping(ir.platforms.get("platforms")).values():
        for executor, body in _executors(_mapping(platform)):
            found += [
                TaskImage(executor, tasks.get(executor, ()), image) for image in _images_in(body)
            ]
    return sorted(found)


def prove(ir: Ir, pinned: set[str], allowed: set[str], file: str) -> None:
    """`prove_images` of all images of a pipeline."""
    prove_images(executor_images(ir), pinned, allowed, file)


def prove_images(
    images: Sequence[TaskImage],
    pinned: set[str],
    allowed: set[str],
    file: str,
    overridden: Collection[str] = (),
) -> None:
    """Every image is exactly one of the lock or of the allow list, by digest.

    images:          of a pipeline, as `executor_images` tells them.
    pinned, allowed: references `repository@sha256:<64 hex>`.
    file:            how errors name the IR.
    overridden:      images of one launch by hand, whatever they look like.

    Raises UnpinnedImageError naming every offending task and image: a tag, an
    unexpanded `${VARIABLE}`, a run-time placeholder, another build's digest.
    """
    good = {reference for reference in pinned | allowed if _PINNED.fullmatch(reference)}
    good |= {*overridden}
    bad = [found for found in images if found.image not in good]
    if not bad:
        return
    sentences = "; ".join(
        f"task '{', '.join(found.tasks) or found.executor}' runs "
        f"{repr(found.image) if found.image else 'no image'} ({_why(found.image)})"
        for found in bad
    )
    raise UnpinnedImageError(
        f"{file}: {sentences}",
        "Load the component from a template that 'pin' knows; or name the image by digest "
        "where it is used, and list that under 'pipelines.allow_images' in ci.yaml",
    )


def parameters(ir: Ir) -> dict[str, Parameter]:
    """The pipeline's input parameters, in the IR's order."""
    inputs = _mapping(_mapping(ir.spec["root"].get("inputDefinitions")).get("parameters"))
    found = {}
    for name, value in inputs.items():
        body = _mapping(value)
        kind = str(body.get("parameterType", "PARAMETER_TYPE_ENUM_UNSPECIFIED"))
        default = body.get("defaultValue")
        found[str(name)] = Parameter(
            type=kind,
            required=not body.get("isOptional", False) and default is None,
            default=_integral(default) if kind == "NUMBER_INTEGER" else default,
            description=str(body.get("description", "")),
        )
    return found


def _why(image: str) -> str:
    if not image:
        return "its executor names none"
    if "${" in image:
        return "a variable that nothing expands"
    if "{{" in image:
        return "a placeholder that is only filled at run time"
    if _PINNED.fullmatch(image):
        return "a digest that is neither of this build nor on the allow list"
    return "not a digest: a tag can move"


def _executors(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    executors = _mapping(_mapping(document.get("deploymentSpec")).get("executors"))
    for name, body in executors.items():
        yield str(name), _mapping(body)


def _images_in(node: object) -> Iterator[str]:
    """Values of image keys below `node`; `env` entries are {name, value} pairs, never these."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _IMAGE_KEYS:
                yield value if isinstance(value, str) else json.dumps(value, default=str)
            else:
                yield from _images_in(value)
    elif isinstance(node, list):
        for item in node:
            yield from _images_in(item)


def _tasks_by_executor(spec: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Executor -> the tasks that run it, through any depth of nested dags."""
    components = _mapping(spec.get("components"))
    found: dict[str, list[str]] = {}

    def walk(component: dict[str, Any], path: str, open_: frozenset[str]) -> None:
        for name, value in _mapping(_mapping(component.get("dag")).get("tasks")).items():
            reference = str(_mapping(_mapping(value).get("componentRef")).get("name", ""))
            if reference in open_:  # a hand-made IR could nest a dag in itself
                continue
            target = _mapping(components.get(reference))
            if executor := target.get("executorLabel"):
                found.setdefault(str(executor), []).append(f"{path}{name}")
            walk(target, f"{path}{name}/", open_ | {reference})

    walk(_mapping(spec.get("root")), "", frozenset())
    return {executor: tuple(sorted(names)) for executor, names in found.items()}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _integral(value: JsonValue) -> JsonValue:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return _integral(value)


def _damaged(name: str, why: str) -> MissingInputError:
    return MissingInputError(
        f"{name} is not a compiled pipeline ({why})", "Run 'python -m ci compile' to make it"
    )
