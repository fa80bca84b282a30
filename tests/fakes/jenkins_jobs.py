"""A FAKE of what a Jenkins controller does with jobs' configurations, for tests only.

Adds to FakeJenkins the pages that `ci jenkins setup` asks: plugins, credentials, labels,
createItem, config.xml and the scan of a multibranch job. A configuration is written again
as the real one does it (read in XStream2, RobustReflectionConverter and the classes'
fields): with each plugin's version, with what nobody posted, in the order of the fields,
as XML 1.1; a class of a plugin that is not there is dropped, with what holds it.
"""

from __future__ import annotations

import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tests.fakes.jenkins import ABOUT, FakeJenkins, Request, Response, document, page

PROJECT = "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject"
FOLDER = "com.cloudbees.hudson.plugins.folder.Folder"
OWNER = f'<owner class="{PROJECT}" reference="../.."/>'
# What owns a class, by the start of its name; in an element's name `_` is `__`.
OWNERS = {
    "org.jenkinsci.plugins.workflow.multibranch.": "workflow-multibranch",
    "jenkins.branch.": "branch-api",
    "jenkins.plugins.git.": "git",
    "org.jenkinsci.plugins.github_branch_source.": "github-branch-source",
    "org.jenkinsci.plugins.github__branch__source.": "github-branch-source",
    "com.cloudbees.hudson.plugins.folder.": "cloudbees-folder",
}
VERSIONS = {
    "cloudbees-folder": "6.1073.va_7888eb_dd514",
    "branch-api": "2.1259.v45c101731c76",
    "workflow-multibranch": "821.vc3b_4ea_780798",
    "workflow-job": "1537.vb_2c3d4e5f6a7",
    "workflow-cps": "4209.v83c4e257f1e9",
    "workflow-basic-steps": "1098.v808b_fd7f8cf4",
    "workflow-durable-task-step": "1464.v2d3f5c68f84c",
    "workflow-scm-step": "466.va_d69e602552b_",
    "pipeline-model-definition": "2.2277.v00573e73ddf1",
    "pipeline-stage-step": "322.vecffa_99f371c",
    "pipeline-input-step": "540.v14b_100d754dd",
    "pipeline-milestone-step": "138.v78ca_76831a_43",
    "git": "5.8.0",
    "github-branch-source": "1967.vdea_d580c1a_b_a_",
    "credentials-binding": "702.vfe613e537e88",
    "plain-credentials": "199.v9f8e1f741799",
    "junit": "1369.v15da_00283f06",
}
_ROOT_ORDER = (
    "actions description displayName properties folderViews healthMetrics icon "
    "orphanedItemStrategy triggers disabled sources factory"
).split()
_SOURCE_ORDER = "id apiUri remote credentialsId repoOwner repository repositoryUrl traits".split()
SCANNED = (
    "Started by user fake\n[Wed] Starting branch indexing...\n  Checking branches...\n"
    "  Checking branch main\n      'Jenkinsfile' found\n    Met criteria\n"
    "[Wed] Finished branch indexing. Indexing took 1 sec\nFinished: SUCCESS\n"
)


@dataclass
class FakeJobs:
    """items: full name -> config.xml, as the controller wrote it.

    plugins: name -> version; disabled, unloaded: of them.
    credentials: of a place ("" for the system, else a folder) -> id -> kind.
    unseen: the places whose credentials we may not see.
    labels: name -> nodes, clouds, offline.
    scans: what the next scan writes into its log, piece by piece, a look each.
    forgetting: elements that this controller does not keep, for no reason given.
    refusing: this many next configurations get no answer, and are not kept.
    """

    fake: FakeJenkins
    items: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=lambda: dict(VERSIONS))
    disabled: set[str] = field(default_factory=set)
    unloaded: set[str] = field(default_factory=set)
    credentials: dict[str, dict[str, str]] = field(default_factory=lambda: {"": {}})
    unseen: set[str] = field(default_factory=set)
    labels: dict[str, tuple[list[str], list[str], bool]] = field(default_factory=dict)
    scans: list[str] = field(default_factory=lambda: [SCANNED])
    forgetting: set[str] = field(default_factory=set)
    refusing: int = 0
    log: str | None = None
    _shown: int = 0
    _scans: int = 0
    _scanning: bool = False

    def __post_init__(self) -> None:
        item = r"((?:/job/[^/]+)+)"
        place = r"((?:/job/[^/]+)*)"
        route = self.fake.route
        route("GET", r"/pluginManager/api/json", self._plugins)
        route("GET", place + r"/credentials/api/json", self._credentials)
        route("GET", r"/label/([^/]+)/api/json", self._label)
        route("POST", place + r"/createItem", self._create)
        route("GET", item + r"/config\.xml", self._config)
        route("POST", item + r"/config\.xml", self._reconfigure)
        route("GET", item + r"/api/json", self._about)
        route("POST", item + r"/build", self._build)
        route("GET", item + r"/indexing/consoleText", self._console)

    def put(self, name: str, xml: str) -> None:
        """An item that is there, as if this controller had written it."""
        self.items[name] = self.rewritten(xml)

    @property
    def changes(self) -> list[str]:
        """The requests that change something."""
        return [line for line in self.fake.seen if line.startswith("POST ")]

    # Pages --------------------------------------------------------------------------

    def _plugins(self, request: Request, _: re.Match[str]) -> Response:
        if refused := self.fake.missing(request, "Overall/SystemRead"):
            return refused
        listed = [
            {
                "shortName": name,
                "version": version,
                "enabled": name not in self.disabled,
                "active": name not in self.disabled | self.unloaded,
                "longName": f"fake {name}",
            }
            for name, version in self.plugins.items()
        ]
        return document({"_class": "hudson.LocalPluginManager", "plugins": listed})

    def _credentials(self, request: Request, match: re.Match[str]) -> Response:
        place = _name(match[1])
        if place and place not in self.items:
            return page(ABOUT, 404)
        listed = [
            {"id": name, "typeName": kind, "displayName": f"{name}/****** (fake)"}
            for name, kind in self.credentials.get(place, {}).items()
        ]
        store = {"domains": {"_": {"credentials": listed}}}
        name = "folder" if place else "system"
        deep = request.query.get("depth") == "3"
        stores = {} if place in self.unseen else {name: store if deep else {}}
        return document({"_class": "ViewCredentialsAction", "stores": stores})

    def _label(self, _request: Request, match: re.Match[str]) -> Response:
        name = urllib.parse.unquote(match[1])
        nodes, clouds, offline = self.labels.get(name, ([], [], True))
        return document(
            {
                "_class": "hudson.model.labels.LabelAtom",
                "name": name,
                "nodes": [{"nodeName": node} for node in nodes],
                "clouds": [{"_class": cloud} for cloud in clouds],
                "offline": offline,
            }
        )

    def _create(self, request: Request, match: re.Match[str]) -> Response:
        if refused := self.fake.missing(request, "Job/Create"):
            return refused
        folder, name = _name(match[1]), request.query.get("name", "")
        if folder and folder not in self.items:
            return page(ABOUT, 404)
        if folder and f"<{FOLDER}" not in self.items[folder]:
            return page(f"{ABOUT}. {folder} takes no items", 400)
        path = f"{folder}/{name}" if folder else name
        if path in self.items or not name or set(name) & set("?*/\\%!@#$^&|<>[]:;"):
            return page(f"{ABOUT}. A job cannot be called so, or is there", 400)
        if not request.headers.get("content-type", "").startswith(("application/xml", "text/xml")):
            return page(f"{ABOUT}. No mode given", 400)
        return self._kept(path, request)

    def _config(self, request: Request, match: re.Match[str]) -> Response:
        xml = self.items.get(_name(match[1]))
        if xml is None:
            return page(ABOUT, 404)
        if refused := self.fake.missing(request, "Job/ExtendedRead"):
            return refused
        return Response(200, {"Content-Type": "application/xml"}, xml.encode())

    def _reconfigure(self, request: Request, match: re.Match[str]) -> Response:
        if refused := self.fake.missing(request, "Job/Configure"):
            return refused
        path = _name(match[1])
        if path not in self.items:
            return page(ABOUT, 404)
        if _parsed(request.body).tag != _parsed(self.items[path].encode()).tag:
            return page(f"{ABOUT}. Expecting another class", 500)
        return self._kept(path, request)

    def _kept(self, path: str, request: Request) -> Response:
        if self.refusing > 0:
            self.refusing -= 1
            return Response(lost=True)
        try:
            self.items[path] = self.rewritten(request.body.decode())
        except ET.ParseError:
            return page(f"{ABOUT}. Not XML", 500)
        if self.fake.losing > 0:
            self.fake.losing -= 1
            return Response(lost=True)
        if f"<{PROJECT}" in self.items[path]:
            self._scan()
        return Response(200)

    def _about(self, request: Request, match: re.Match[str]) -> Response:
        xml = self.items.get(_name(match[1]))
        if xml is None:
            return page(ABOUT, 404)
        kinds = {"flow-definition": "org.jenkinsci.plugins.workflow.job.WorkflowJob"}
        tag = _parsed(xml.encode()).tag
        name = _name(match[1])
        return document({"_class": kinds.get(tag, tag), "name": name.rpartition("/")[2]})

    def _build(self, request: Request, match: re.Match[str]) -> Response:
        if refused := self.fake.missing(request, "Job/Build"):
            return refused
        path = _name(match[1])
        if path not in self.items:
            return page(ABOUT, 404)
        if "<disabled>true</disabled>" in self.items[path]:
            return page(f"{ABOUT}. {path} cannot be recomputed", 500)
        self._scan()
        return Response(302, {"Location": f"{self.fake.url}{match[1]}/"})

    def _scan(self) -> None:
        self._scanning, self._shown = True, 0
        self._scans += 1

    def _console(self, request: Request, match: re.Match[str]) -> Response:
        if _name(match[1]) not in self.items:
            return page(ABOUT, 404)
        if self._scanning:
            # The first look may still meet the log of the scan before.
            self._shown += 1
            if self._shown > 1:
                # Jenkins writes the second in which it began.
                self.log = f"Scan {self._scans} of a fake.\n" + "".join(
                    self.scans[: self._shown - 1]
                )
                self._scanning = self._shown - 1 < len(self.scans)
        text = self.log if self.log is not None else "No such file: indexing.log"
        return Response(200, {"Content-Type": "text/plain;charset=UTF-8"}, text.encode())

    # What becomes of a configuration --------------------------------------------------

    def rewritten(self, xml: str) -> str:
        root = _parsed(xml.encode())
        if root.tag == PROJECT:
            self._loaded(root)
        return f"<?xml version='1.1' encoding='UTF-8'?>\n{self._written(root, 0, None)}\n"

    def _loaded(self, root: ET.Element) -> None:
        for parent in list(root.iter()):
            for child in list(parent):
                if self._unknown(child) or child.tag in self.forgetting:
                    parent.remove(child)
        for parent in list(root.iter("data")):
            for child in list(parent):
                if child.find("source") is None:  # BranchSource.readResolve throws
                    parent.remove(child)
        for default in ("<properties/>", "<healthMetrics/>", "<triggers/>"):
            _default(root, default)
        _default(
            root,
            '<folderViews class="jenkins.branch.MultiBranchProjectViewHolder">'
            f"{OWNER}</folderViews>",
        )
        _default(root, f'<icon class="jenkins.branch.MetadataActionFolderIcon">{OWNER}</icon>')
        _default(root, "<disabled>false</disabled>")
        orphans = root.find("orphanedItemStrategy")
        if orphans is not None:
            _default(orphans, "<abortBuilds>false</abortBuilds>")
        used = {it.findtext("id") for it in root.iter("source")}
        for source in root.iter("source"):
            if not source.findtext("id"):
                number = next(str(n) for n in range(1, 100) if str(n) not in used)
                used.add(number)
                _default(source, "<id/>")
                found = source.find("id")
                assert found is not None
                found.text = number
            _ordered(source, _SOURCE_ORDER)
        _ordered(root, _ROOT_ORDER)

    def _unknown(self, element: ET.Element) -> bool:
        return any(
            (plugin := _owner(name)) is not None and plugin not in self.plugins
            for name in (element.tag, element.get("class", ""))
        )

    def _written(self, element: ET.Element, depth: int, within: str | None) -> str:
        """As XStream prints it; a plugin's version where the plugin is another's."""
        plugin = _owner(element.get("class", "")) or _owner(element.tag)
        attributes = {key: value for key, value in element.attrib.items() if key != "plugin"}
        if plugin and plugin != within and "reference" not in attributes:
            attributes["plugin"] = f"{plugin}@{self.plugins.get(plugin, '1.0-fake')}"
        told = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
        start = f"{'  ' * depth}<{element.tag}{told}"
        children = [self._written(child, depth + 1, plugin or within) for child in element]
        if children:
            return "\n".join([f"{start}>", *children, f"{'  ' * depth}</{element.tag}>"])
        if element.text is None or not element.text.strip():
            return f"{start}/>"
        text = escape(element.text, {"\r": "&#xd;"})
        return f"{start}>{text}</{element.tag}>"


def _parsed(xml: bytes) -> ET.Element:
    return ET.fromstring(re.sub(rb"\A<\?xml[^>]*\?>", b"", xml))


def _name(path: str) -> str:
    """`/job/team/job/ml` -> `team/ml`."""
    return "/".join(urllib.parse.unquote(part) for part in path.split("/")[2::2])


def _owner(name: str) -> str | None:
    return next((plugin for start, plugin in OWNERS.items() if name.startswith(start)), None)


def _default(parent: ET.Element, xml: str) -> None:
    made = ET.fromstring(xml)
    if parent.find(made.tag) is None:
        parent.append(made)


def _ordered(parent: ET.Element, order: list[str]) -> None:
    place: Callable[[ET.Element], Any] = lambda it: (  # noqa: E731
        order.index(it.tag) if it.tag in order else len(order)
    )
    parent[:] = sorted(parent, key=place)
