"""A FAKE of a Jenkins controller, for tests only. It runs nothing, and says so.

What it obeys was read in Jenkins' sources (ParameterizedJobMixIn, Queue, CrumbFilter,
branch-api's NameEncoder, pipeline-model-definition's ModelConverterAction) and seen on
a real one: a build request gets a queue item (201 with a Location), equal requests in
the queue become one item, an item that has left the queue is gone after a while (or a
restart), parameters are unknown (400) before the first build, those that no definition
names are dropped, a POST with a password needs a crumb of the same web session (403
without, API tokens need none), a branch is a job whose name has `%2F` for a slash, and
the console is read from byte N on.

Nothing hangs on time: each look at a queue item takes its next step, and each look at
a console shows the next piece of it. With the last piece the build is over.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION = "2.528-fake"
ABOUT = "this is a fake Jenkins: nothing runs here"
LOCKED = "<html><body>A fake. Unlock Jenkins: <p>/var/jenkins_home/secrets/initialAdminPassword"
LOGIN = f'<html><body>{ABOUT}<form action="j_spring_security_check" name="login">'


@dataclass
class Request:
    """path: as it was sent, without the query. user: None where nobody is logged in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    user: str | None = None

    @property
    def form(self) -> dict[str, str]:
        told = urllib.parse.parse_qs(self.body.decode("latin-1"), keep_blank_values=True)
        return {name: values[0] for name, values in told.items()}


@dataclass
class Response:
    """lost: the connection is closed instead, after all was done."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    lost: bool = False


Handler = Callable[[Request, "re.Match[str]"], Response]


def document(value: Any, status: int = 200) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def page(text: str, status: int = 200) -> Response:
    return Response(status, {"Content-Type": "text/html;charset=utf-8"}, text.encode())


@dataclass
class Play:
    """What one build does.

    waits:     why it waits in the queue: a reason a look.
    cancelled: it is cancelled there.
    console:   its pieces, one a look.
    stages:    what the stage-view plugin tells of it; None: it is not installed.
    artifacts: path -> content. fingerprints: whether they are recorded.
    """

    result: str = "SUCCESS"
    waits: Sequence[str] = ()
    cancelled: bool = False
    console: Sequence[bytes] = (b"A fake build.\n",)
    stages: list[dict[str, Any]] | None = None
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    fingerprints: bool = True


@dataclass
class Job:
    """parameters: name -> default; None before the Jenkinsfile was read once.
    choose: what a build with these parameters does, instead of the next of `plays`.
    """

    name: str
    parameters: dict[str, str] | None = None
    declared: dict[str, str] = field(default_factory=dict)
    plays: list[Play] = field(default_factory=list)
    builds: list[Build] = field(default_factory=list)
    buildable: bool = True
    choose: Callable[[dict[str, str]], Play] | None = None


@dataclass
class Build:
    number: int
    queue_id: int
    user: str
    parameters: dict[str, str]
    play: Play
    timestamp: int
    shown: int = 0  # pieces of the console
    result: str | None = None

    @property
    def console(self) -> bytes:
        return b"".join(self.play.console[: self.shown])


@dataclass
class Item:
    id: int
    job: Job
    user: str
    parameters: dict[str, str]
    play: Play
    waits: list[str]
    since: int
    build: Build | None = None
    cancelled: bool = False


@dataclass
class FakeJenkins:
    """The controller's state and what a test may script.

    users:      name -> (API token, password). anonymous: whether others may read.
    crumbs:     whether a POST with a password needs one.
    forbidden:  permissions that nobody has, as `Job/Build`.
    locked:     its set-up was never finished.
    login:      "", or how what stands before it asks for a login: redirect, page.
    losing:     this many next build requests are done, and get no answer.
    refusing:   this many next build requests get no answer, and are not done.
    restart_at: pieces of a console after which the controller restarts once;
                restarting: requests that meet it while it does.
    expiring:   an item that has left the queue is gone at once.
    linter:     errors that it finds in any Jenkinsfile; None: the plugin is missing.
    slow:       seconds before each answer.
    prefix:     path that it is served under, as `/jenkins`.
    seen:       every request, as `METHOD path`, without the query.
    queries:    every query that was not empty.
    """

    users: dict[str, tuple[str, str]] = field(
        default_factory=lambda: {"ci": ("11fake0token", "fake-password")}
    )
    anonymous: bool = False
    crumbs: bool = True
    forbidden: set[str] = field(default_factory=set)
    locked: bool = False
    login: str = ""
    losing: int = 0
    refusing: int = 0
    restart_at: int | None = None
    restarting: int = 0
    expiring: bool = False
    linter: list[str] | None = field(default_factory=list)
    slow: float = 0.0
    prefix: str = ""
    jobs: dict[str, Job] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    restarts: int = 0
    url: str = ""
    _routes: list[tuple[str, re.Pattern[str], Handler]] = field(default_factory=list)
    _sessions: dict[str, str] = field(default_factory=dict)  # of a cookie: its crumb
    _next_item: int = 100
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        job, number = r"/((?:job/[^/]+/)*job/[^/]+)", r"/([0-9]+|last\w*Build)"
        self.route("GET", r"/whoAmI/api/json", self._who)
        self.route("GET", r"/me/api/json", self._me)
        self.route("GET", r"/api/json", self._root)
        self.route("GET", r"/login", self._login_page)
        self.route("GET", r"/crumbIssuer/api/json", self._issue_crumb)
        self.route("POST", r"/pipeline-model-converter/validateJenkinsfile", self._validate)
        self.route("GET", r"/queue/api/json", self._queue)
        self.route("GET", r"/queue/item/([0-9]+)/api/json", self._item)
        self.route("POST", r"/queue/cancelItem", self._cancel)
        self.route("GET", job + r"/api/json", self._job)
        self.route("POST", job + r"/(build|buildWithParameters)", self._start)
        self.route("GET", job + number + r"/api/json", self._build)
        self.route("GET", job + number + r"/logText/progressiveText", self._console)
        self.route("GET", job + number + r"/wfapi/describe/?", self._stages)
        self.route("GET", job + number + r"/artifact/(.*)", self._artifact)
        self.route("POST", job + number + r"/stop", self._stop)

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Answer `method` on a path, as sent, that the whole of the regex matches.

        The newest route that fits is taken.
        """
        self._routes.insert(0, (method, re.compile(path), handler))

    def add(
        self,
        name: str,
        *plays: Play,
        parameters: dict[str, str] | None = None,
        built: bool = True,
    ) -> Job:
        """A job `folder/name`. parameters: what its Jenkinsfile declares.

        built: whether it was read once, so that the job knows them.
        """
        declared = parameters or {}
        job = Job(name, declared if built else None, declared, list(plays))
        self.jobs[name] = job
        return job

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None, *, port: int = 0) -> Iterator[FakeJenkins]:
        """On a port of the loopback, a free one by default; `url` says where."""
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        server.daemon_threads = True
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}{self.prefix}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    # What stands before every route ------------------------------------------------

    def answer(self, request: Request) -> Response:
        if not request.path.startswith(f"{self.prefix}/"):
            return page(f"{ABOUT}, and nothing outside of {self.prefix}", 404)
        request.path = request.path.removeprefix(self.prefix)
        with self._lock:
            self.seen.append(f"{request.method} {request.path}")
            if request.query:
                self.queries.append(urllib.parse.urlencode(request.query))
            if refused := self._met(request):
                return refused
            for method, pattern, handler in self._routes:
                if method == request.method and (match := pattern.fullmatch(request.path)):
                    return handler(request, match)
        return page(f"{ABOUT}, and not this page either", 404)

    def _met(self, request: Request) -> Response | None:
        """What meets a request before its page does, if anything."""
        if self.restarting > 0:
            self.restarting -= 1
            if self.restarting % 2:
                return Response(lost=True)
            return page(f"<title>{ABOUT}: Jenkins is getting ready to work</title>", 503)
        if self.login == "redirect":
            return Response(302, {"Location": "https://sso.example.com/login?secret=1"})
        if self.login == "page":
            return page(LOGIN)
        if self.locked:
            return page(LOCKED, 200 if request.path == "/login" else 403)
        wrong = self._identified(request)
        if wrong:
            return wrong
        known = request.user is not None or self.anonymous
        if not known and request.path not in ("/whoAmI/api/json", "/login"):
            return page(f"<html>{ABOUT}. Authentication required", 403)
        return self._without_crumb(request)

    def _identified(self, request: Request) -> Response | None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        user, _, secret = base64.b64decode(given).decode().partition(":")
        if secret not in self.users.get(user, ()):
            return page(f"<html>{ABOUT}. Invalid password/token for user: {user}", 401)
        request.user = user
        return None

    def _without_crumb(self, request: Request) -> Response | None:
        excluded = request.path.startswith("/pipeline-model-converter/")
        if request.method != "POST" or not self.crumbs or excluded:
            return None
        given = request.headers.get("authorization", "").partition(" ")[2]
        secret = base64.b64decode(given).decode().partition(":")[2]
        if request.user and secret == self.users[request.user][0]:
            return None
        right = self._sessions.get(_session(request))
        if right and request.headers.get("jenkins-crumb") == right:
            return None
        return page(f"<html>{ABOUT}. No valid crumb was included in the request", 403)

    def missing(self, request: Request, permission: str) -> Response | None:
        """The refusal, where nobody has the permission."""
        if permission not in self.forbidden:
            return None
        said = f"{request.user or 'anonymous'} is missing the {permission} permission"
        answer = page(f"<html>{ABOUT}. {said}", 403)
        answer.headers["X-You-Are-Authenticated-As"] = request.user or "anonymous"
        answer.headers["X-Required-Permission"] = permission
        return answer

    def expire_crumbs(self) -> None:
        self._sessions.clear()

    # The controller ----------------------------------------------------------------

    def _who(self, request: Request, _: re.Match[str]) -> Response:
        name = request.user or "anonymous"
        return document(
            {"name": name, "anonymous": request.user is None, "authenticated": True, "fake": ABOUT}
        )

    def _me(self, request: Request, _: re.Match[str]) -> Response:
        return document({"id": request.user, "fullName": request.user})

    def _root(self, _request: Request, _: re.Match[str]) -> Response:
        jobs = [{"name": job.name} for job in self.jobs.values() if "/" not in job.name]
        return document({"mode": "NORMAL", "description": ABOUT, "jobs": jobs})

    def _login_page(self, _request: Request, _: re.Match[str]) -> Response:
        return page(LOGIN)

    def _issue_crumb(self, _request: Request, _: re.Match[str]) -> Response:
        if not self.crumbs:
            return page(ABOUT, 404)
        session, crumb = uuid.uuid4().hex, uuid.uuid4().hex
        self._sessions[session] = crumb
        answer = document({"crumb": crumb, "crumbRequestField": "Jenkins-Crumb"})
        answer.headers["Set-Cookie"] = f"JSESSIONID.fake={session}; Path=/; HttpOnly"
        return answer

    def _validate(self, request: Request, _: re.Match[str]) -> Response:
        if self.linter is None:
            return page(ABOUT, 404)
        if not request.form.get("jenkinsfile"):
            errors = ["No content found for 'jenkinsfile' parameter"]
        else:
            errors = self.linter
        if not errors:
            return document({"status": "ok", "data": {"result": "success"}})
        told = {"result": "failure", "errors": [{"error": error} for error in errors]}
        return document({"status": "ok", "data": told})

    def restart(self, requests: int = 4) -> None:
        """What is in memory only is lost: sessions, and items that have left the queue."""
        self.restarts += 1
        self.restarting = requests
        self._sessions.clear()
        self.items = {number: item for number, item in self.items.items() if item.build is None}

    # The queue ---------------------------------------------------------------------

    def _start(self, request: Request, match: re.Match[str]) -> Response:
        job = self._named(match[1])
        if job is None:
            return page(ABOUT, 404)
        if refused := self.missing(request, "Job/Build"):
            return refused
        if self.refusing > 0:
            self.refusing -= 1
            return Response(lost=True)
        if not job.buildable:
            return page(f"{ABOUT}. {job.name} is not buildable", 409)
        if match[2] == "buildWithParameters":
            if not job.parameters:
                return page(f"<html>{ABOUT}. {job.name} is not parameterized", 400)
            sent = {**request.query, **request.form}
            given = {name: sent.get(name, default) for name, default in job.parameters.items()}
        else:
            given = dict(job.parameters or {})
        self.forms.append(request.form)
        item = self.put(job, request.user or "anonymous", given)
        if self.losing > 0:
            self.losing -= 1
            return Response(lost=True)
        return Response(201, {"Location": f"{self.url}/queue/item/{item.id}/"})

    def put(self, job: Job, user: str, parameters: dict[str, str]) -> Item:
        """An item in the queue: the one that waits there already, if it is equal."""
        for item in self.items.values():
            if item.job is job and not item.build and item.parameters == parameters:
                return item
        if job.choose:
            play = job.choose(parameters)
        else:
            play = job.plays.pop(0) if len(job.plays) > 1 else (job.plays or [Play()])[0]
        self._next_item += 1
        since = int(time.time() * 1000)
        item = Item(self._next_item, job, user, parameters, play, list(play.waits), since)
        self.items[item.id] = item
        return item

    def leave(self, item: Item) -> None:
        """Out of the queue: a build, unless it is cancelled."""
        if item.play.cancelled:
            item.cancelled = True
            return
        job = item.job
        job.parameters = job.declared
        number, now = len(job.builds) + 1, int(time.time() * 1000)
        item.build = Build(number, item.id, item.user, item.parameters, item.play, now)
        job.builds.append(item.build)
        if self.expiring:
            del self.items[item.id]

    def _queue(self, _request: Request, _: re.Match[str]) -> Response:
        waiting = [self._told(item) for item in self.items.values() if not item.build]
        return document({"items": [item for item in waiting if not item.get("cancelled")]})

    def _item(self, _request: Request, match: re.Match[str]) -> Response:
        item = self.items.get(int(match[1]))
        if item is None:
            return page(ABOUT, 404)
        if item.waits:
            told = self._told(item)
            item.waits.pop(0)
            return document(told)
        if item.build is None and not item.cancelled:
            self.leave(item)
        if self.expiring and not item.cancelled:
            return page(ABOUT, 404)
        return document(self._told(item))

    def _told(self, item: Item) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": item.id,
            "task": {"name": item.job.name, "url": self._job_url(item.job)},
            "inQueueSince": item.since,
            "why": item.waits[0] if item.waits else None,
            "stuck": False,
            "blocked": False,
            "actions": self._actions(item.user, item.parameters),
        }
        if item.build:
            url = f"{self._job_url(item.job)}{item.build.number}/"
            told |= {"executable": {"number": item.build.number, "url": url}}
            told |= {"cancelled": False}
        elif item.cancelled:
            told |= {"cancelled": True}
        return told

    def _cancel(self, request: Request, _: re.Match[str]) -> Response:
        item = self.items.get(int({**request.query, **request.form}.get("id", "0")))
        if item is None or item.build:
            return page(ABOUT, 404)
        item.cancelled = True
        return Response(204)

    @staticmethod
    def _actions(user: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        given = [{"name": name, "value": value} for name, value in parameters.items()]
        cause = {"_class": "hudson.model.Cause$UserIdCause", "userId": user}
        cause["shortDescription"] = f"Started by user {user}"
        return [{"parameters": given}, {"causes": [cause]}, {}]

    # Jobs and builds ---------------------------------------------------------------

    def _named(self, path: str) -> Job | None:
        parts = [urllib.parse.unquote(part) for part in path.split("/")[1::2]]
        return self.jobs.get("/".join(parts))

    def _job_url(self, job: Job) -> str:
        parts = (urllib.parse.quote(part, safe="") for part in job.name.split("/"))
        return f"{self.url}/" + "".join(f"job/{part}/" for part in parts)

    def _job(self, request: Request, match: re.Match[str]) -> Response:
        job = self._named(match[1])
        path = "/".join(urllib.parse.unquote(part) for part in match[1].split("/")[1::2])
        below = [name.removeprefix(f"{path}/") for name in self.jobs if name.startswith(f"{path}/")]
        if job is None and not below:
            return page(ABOUT, 404)
        if refused := self.missing(request, "Job/Read"):
            refused.status = 404  # Jenkins does not even say that it exists
            return refused
        if job is None:
            kind = "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject"
            jobs = [{"name": name} for name in below if "/" not in name]
            return document({"_class": kind, "fullName": path, "jobs": jobs})
        defined = [
            {"name": name, "defaultParameterValue": {"name": name, "value": value}}
            for name, value in (job.parameters or {}).items()
        ]
        builds = [self._shown(job, build) for build in reversed(job.builds)]
        return document({
            "_class": "org.jenkinsci.plugins.workflow.job.WorkflowJob",
            "name": job.name.rsplit("/", 1)[-1],
            "fullName": job.name,
            "url": self._job_url(job),
            "buildable": job.buildable,
            "nextBuildNumber": len(job.builds) + 1,
            "property": [{}, {"parameterDefinitions": defined}] if defined else [{}],
            "builds": builds,
            "lastBuild": builds[0] if builds else None,
        })  # fmt: skip

    def _found(self, match: re.Match[str]) -> tuple[Job, Build] | None:
        job = self._named(match[1])
        if job is None:
            return None
        if match[2].startswith("last"):
            return (job, job.builds[-1]) if job.builds else None
        wanted = [build for build in job.builds if build.number == int(match[2])]
        return (job, wanted[0]) if wanted else None

    def _build(self, _request: Request, match: re.Match[str]) -> Response:
        found = self._found(match)
        return document(self._shown(*found)) if found else page(ABOUT, 404)

    def _shown(self, job: Job, build: Build) -> dict[str, Any]:
        play, over = build.play, build.result is not None
        archived = play.artifacts if over else {}
        return {
            "number": build.number,
            "url": f"{self._job_url(job)}{build.number}/",
            "queueId": build.queue_id,
            "building": not over,
            "inProgress": not over,
            "result": build.result,
            "timestamp": build.timestamp,
            "duration": 1000 if over else 0,
            "estimatedDuration": -1,
            "displayName": f"#{build.number}",
            "fullDisplayName": f"{job.name} #{build.number}",
            "description": ABOUT,
            "actions": self._actions(build.user, build.parameters),
            "artifacts": [
                {"relativePath": path, "fileName": path.rsplit("/", 1)[-1]} for path in archived
            ],
            "fingerprint": [
                {"fileName": path.rsplit("/", 1)[-1], "hash": _md5(content)}
                for path, content in archived.items()
                if play.fingerprints
            ],
        }

    def _console(self, request: Request, match: re.Match[str]) -> Response:
        found = self._found(match)
        if found is None:
            return page(ABOUT, 404)
        build = found[1]
        if build.result is None and build.shown == self.restart_at:
            self.restart_at = None
            self.restart()
            return Response(lost=True)
        if build.result is None:
            build.shown += 1
            if build.shown >= len(build.play.console):
                build.shown = len(build.play.console)
                build.result = build.play.result
        start, text = int(request.query.get("start", "0")), build.console
        start = 0 if start > len(text) else start  # a log that has become shorter
        headers = {"Content-Type": "text/plain;charset=utf-8", "X-Text-Size": str(len(text))}
        if build.result is None:
            headers["X-More-Data"] = "true"
        return Response(200, headers, text[start:])

    def _stages(self, _request: Request, match: re.Match[str]) -> Response:
        found = self._found(match)
        if found is None or found[1].play.stages is None:
            return page(ABOUT, 404)
        return document({"id": str(found[1].number), "stages": found[1].play.stages})

    def _artifact(self, _request: Request, match: re.Match[str]) -> Response:
        found = self._found(match)
        content = found[1].play.artifacts.get(urllib.parse.unquote(match[3])) if found else None
        if content is None:
            return page(ABOUT, 404)
        return Response(200, {"Content-Type": "application/octet-stream"}, content)

    def _stop(self, _request: Request, match: re.Match[str]) -> Response:
        found = self._found(match)
        if found is None:
            return page(ABOUT, 404)
        job, build = found
        if build.result is None:
            build.play = Play("ABORTED", console=[build.console + b"Aborted, the fake says.\n"])
            build.shown = 0
        return Response(302, {"Location": f"{self._job_url(job)}{build.number}/"})


def _session(request: Request) -> str:
    cookies = SimpleCookie(request.headers.get("cookie", ""))
    return next((it.value for name, it in cookies.items() if name.startswith("JSESSIONID")), "")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()  # as Jenkins' fingerprints are


def _handler(fake: FakeJenkins) -> type[BaseHTTPRequestHandler]:
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            path, _, query = self.path.partition("?")
            asked = urllib.parse.parse_qs(query, keep_blank_values=True)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = {name: values[0] for name, values in asked.items()}
            if fake.slow:
                time.sleep(fake.slow)
            answer = fake.answer(Request(self.command, path, told, headers, body))
            if answer.lost:
                self.close_connection = True
                return
            self.send_response(answer.status)
            length = str(len(answer.body))
            sent = {"X-Jenkins": VERSION, "Content-Length": length, **answer.headers}
            for name, value in sent.items():
                self.send_header(name, value)
            with contextlib.suppress(OSError):  # who asked may have gone
                self.end_headers()
                self.wfile.write(answer.body)
            if sent["Content-Length"] != length:  # broken off
                self.close_connection = True

        do_GET = do_POST = _any

        def log_message(self, *_: Any) -> None:
            pass

    return Answers
