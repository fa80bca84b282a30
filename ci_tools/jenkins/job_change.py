"""What Jenkins has of a job, and what becomes of it. Pure.

Jenkins writes a configuration again in its own way: with each plugin's version as an
attribute, with elements that nobody posted, in its own order. So configurations are
compared by what they mean, and only what we declare is put into what Jenkins has: what
an administrator added beside it stays.
"""

from __future__ import annotations

import difflib
import re
import xml.etree.ElementTree as ET
from copy import deepcopy
from typing import TypeAlias
from xml.etree.ElementTree import Element

from ci_tools.errors import JenkinsSetupError
from ci_tools.jenkins import job_xml
from ci_tools.printable import printable

_DECLARATION = re.compile(r"\A\s*<\?xml\s[^>]*\?>")
_DEEPEST = 200  # Jenkins writes some ten levels; the walks here are recursive
_SECRET_NAME = re.compile(r"passw|passphrase|secret|token|private.?key|api.?key", re.IGNORECASE)
_SECRET = re.compile(r"\{[A-Za-z0-9+/]{8,}={0,2}\}")  # as Jenkins encrypts one
_IN_ADDRESS = re.compile(r"(https?://)[^/\s@]+@|(\w+://[^/\s:@]*:)[^/\s@]*@")
HIDDEN = "***"
Meaning: TypeAlias = tuple[str, tuple[tuple[str, str], ...], str, tuple["Meaning", ...]]


def parsed(text: str) -> Element:
    """The configuration that Jenkins tells.

    Raises JenkinsSetupError for one that cannot be read: it is XML 1.1 to Jenkins, which
    may hold control characters, and nothing else has a document type.
    """
    text = _DECLARATION.sub("", text, count=1)
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it has a document type")
        root = ET.fromstring(text)  # noqa: S314 - without a document type there are no entities
        level = [root]
        for _ in range(_DEEPEST):
            level = [child for element in level for child in element]
        if level:
            raise ValueError("it is nested too deeply")
    except (ET.ParseError, ValueError) as error:
        raise JenkinsSetupError(
            f"the job's configuration in Jenkins cannot be read ({printable(str(error))})",
            "Look at the job's config.xml, or delete the job and run it again",
        ) from None
    return root


def made_by_us(existing: Element) -> bool:
    """Whether 'jenkins setup' made or adopted it: the description says so, or a source."""
    if job_xml.MARK in (existing.findtext("description") or ""):
        return True
    return any(source.findtext("id") == job_xml.SOURCE_ID for source in existing.iter("source"))


def changed(existing: Element, declared: Element) -> Element:
    """What Jenkins has, with all that is declared put into it.

    The sources' ids stay, for the jobs of the branches are bound to them.
    """
    result = deepcopy(existing)
    said = result.findtext("description") or ""
    if job_xml.MARK not in said:
        ours = declared.findtext("description") or ""
        _child(result, "description").text = f"{said}\n{ours}" if said.strip() else ours
    _put_all(result, declared, "orphanedItemStrategy")
    _put_trigger(_child(result, "triggers"), _child(declared, "triggers"))
    _put_source(result, declared)
    _put_all(result, declared, "factory")
    return result


def same(one: Element, other: Element) -> bool:
    """Whether both mean the same to Jenkins."""
    return _meaning(one) == _meaning(other)


def difference(before: Element | None, after: Element) -> list[str]:
    """A unified diff, without line ends; nothing where both mean the same.

    before: None where there is no job. Secrets are hidden, also in addresses.
    """
    if before is not None and same(before, after):
        return []
    old = [] if before is None else shown(before)
    lines = list(difflib.unified_diff(old, shown(after), "in Jenkins", "declared", lineterm=""))
    return lines or ["(what differs is a secret, and not shown)"]


def shown(root: Element) -> list[str]:
    """A configuration for people: indented, without plugins' versions and secrets."""
    copy = deepcopy(root)
    _hide(copy, secret=False)
    ET.indent(copy)
    text = ET.tostring(copy, encoding="unicode")
    return [printable(line) for line in text.split("\n")]


def _meaning(element: Element) -> Meaning:
    """Order counts among elements of one name, which are lists; nowhere else."""
    children = [_meaning(child) for child in element]
    text = element.text or ""
    attributes = sorted(item for item in element.attrib.items() if item[0] != "plugin")
    kept = "" if not text.strip() or children else text
    return (element.tag, tuple(attributes), kept, tuple(sorted(children, key=lambda it: it[0])))


def _hide(element: Element, *, secret: bool) -> None:
    element.attrib.pop("plugin", None)
    name = element.tag.rpartition(".")[2]
    secret = secret or bool(_SECRET_NAME.search(name) and not name.lower().endswith("id"))
    text = (element.text or "").strip()
    if text and not len(element):
        element.text = HIDDEN if secret else _without_secrets(element.text or "")
    elif not text:
        element.text = None  # white space of elements that are gone
    for key, value in element.attrib.items():
        element.set(key, _without_secrets(value))
    for child in element:
        _hide(child, secret=secret)


def _without_secrets(text: str) -> str:
    text = _SECRET.sub(f"{{{HIDDEN}}}", text)
    return _IN_ADDRESS.sub(lambda match: f"{match[1] or match[2]}{HIDDEN}@", text)


def _put_all(parent: Element, declared: Element, tag: str) -> None:
    """Set every child that is declared of an element of one class; of another class the
    whole element is ours."""
    ours = _child(declared, tag)
    theirs = parent.find(tag)
    if theirs is None or theirs.get("class") != ours.get("class"):
        _replace(parent, theirs, ours)
        return
    for child in ours:
        if len(child) == 0 and not child.attrib:
            _child(theirs, child.tag).text = child.text


def _put_trigger(theirs: Element, ours: Element) -> None:
    """Ours is the periodic scan, or that there is none. A spec is of Jenkins' own making
    while the interval is the same."""
    now, wanted = theirs.find(job_xml.TRIGGER), ours.find(job_xml.TRIGGER)
    if wanted is None:
        for element in theirs.findall(job_xml.TRIGGER):
            theirs.remove(element)
    elif now is None or now.findtext("interval") != wanted.findtext("interval"):
        _replace(theirs, now, wanted)


def _put_source(result: Element, declared: Element) -> None:
    ours = next(declared.iter(job_xml.SOURCE))
    wanted = _child(ours, "source")
    branch_source = _source_of_ours(result, wanted)
    if branch_source is None:
        _list_of_sources(result).append(deepcopy(ours))
        return
    now = branch_source.find("source")
    if now is None or now.get("class") != wanted.get("class"):
        identity = now.findtext("id") if now is not None else None
        _replace(branch_source, now, wanted)
        _child(_child(branch_source, "source"), "id").text = identity or job_xml.SOURCE_ID
        return
    for child in wanted:
        if child.tag == "id":
            _child(now, "id").text = now.findtext("id") or child.text
        elif child.tag == "traits":
            _put_traits(_child(now, "traits"), child)
        else:
            _child(now, child.tag).text = child.text


def _source_of_ours(result: Element, wanted: Element) -> Element | None:
    """The source with our id; else the only one, or the one of the same repository."""
    sources = [it for it in result.iter(job_xml.SOURCE) if it.find("source") is not None]
    by_id = [it for it in sources if it.findtext("source/id") == job_xml.SOURCE_ID]
    if by_id or len(sources) == 1:
        return (by_id or sources)[0]
    keys = [key for key in ("remote", "repoOwner", "repository") if wanted.find(key) is not None]
    return next(
        (
            it
            for it in sources
            if all(it.findtext(f"source/{key}") == wanted.findtext(key) for key in keys)
        ),
        None,
    )


def _list_of_sources(result: Element) -> Element:
    """Where sources are: in `data` of the list's own class, or plainly in the list."""
    sources = result.find("sources")
    if sources is None or (len(sources) == 0 and "class" not in sources.attrib):
        made = Element("sources", {"class": job_xml.SOURCES})
        _replace(result, sources, made)
        sources = _child(result, "sources")
        owner = {"class": job_xml.PROJECT, "reference": "../.."}
        sources.extend([Element("data"), Element("owner", owner)])
    return sources if sources.find(job_xml.SOURCE) is not None else _child(sources, "data")


def _put_traits(theirs: Element, ours: Element) -> None:
    """Of the kinds that we always declare, exactly ours; of others what is declared."""
    for trait in list(theirs):
        wanted = ours.find(trait.tag)
        if wanted is None and trait.tag not in job_xml.TRAITS:
            continue
        if wanted is None:
            theirs.remove(trait)
        elif not same(trait, wanted):
            _replace(theirs, trait, wanted)
    theirs.extend(deepcopy(it) for it in ours if theirs.find(it.tag) is None)


def _child(parent: Element, tag: str) -> Element:
    """The child of that name, made where it is missing."""
    found = parent.find(tag)
    if found is None:
        found = ET.SubElement(parent, tag)
    return found


def _replace(parent: Element, old: Element | None, new: Element) -> None:
    """Put a copy of `new` where `old` is, or at the end."""
    copy = deepcopy(new)
    if old is None:
        parent.append(copy)
    else:
        parent[list(parent).index(old)] = copy
