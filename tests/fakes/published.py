"""A repository whose CI publishes its locks to a FAKE registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ci_tools import config, published
from ci_tools import documents as d
from ci_tools.components import discovery, keys
from tests.fakes.registry import FakeRegistry


class Repositories(FakeRegistry):
    """With tags that are a repository's own, as everywhere."""

    def _reply(self, method: str, path: str, kind: str, body: bytes) -> Any:
        name = path.removeprefix("/v2/").partition("/manifests/")[0]
        every, own = self.tags, f"{name}/"
        self.tags = {tag.removeprefix(own): it for tag, it in every.items() if tag.startswith(own)}
        try:
            return super()._reply(method, path, kind, body)
        finally:
            self.tags = {**every, **{f"{own}{tag}": it for tag, it in self.tags.items()}}


class Project:
    """A repository whose CI, environment `dev`, publishes to a fake registry."""

    def __init__(self, repository: Any, host: str, **registry: Any) -> None:
        self.repository, self.host = repository, host
        self.kubeflow: dict[str, Any] = {}
        self.digest = "sha256:" + "a" * 64
        self.declare(**registry)
        repository.write("train/Dockerfile", "FROM scratch\nCOPY . /\n")

    def declare(self, **registry: Any) -> None:
        dev = {"registry": {"host": self.host, **registry}, **self.kubeflow}
        self.repository.write(
            "ci.yaml", json.dumps({"project": "ml", "environments": {"dev": dev}})
        )

    @property
    def root(self) -> Path:
        root: Path = self.repository.root
        return root

    @property
    def settings(self) -> config.Registry:
        found = config.load(self.root).environments["dev"].registry
        assert found is not None
        return found

    def lock(self, commit: str | None, **more: Any) -> d.Lock:
        components = discovery.discover(self.root, config.load(self.root), "ml")
        computed = keys.compute(self.root, components, {})
        images = {
            name: d.LockedImage(
                repository=f"{self.host}/{self.settings.repository('ml', name)}",
                digest=self.digest, config="sha256:c", key=key, size=1,
                verdict=d.Verdict(status="pass", trivy="1", database="today", policy="p"),
            )
            for name, (key, _) in computed.items()
        }  # fmt: skip
        fields: dict[str, Any] = {
            "project": "ml", "environment": "dev", "components": images,
            "source": d.Source(commit=commit, branch="main"), **more,
        }  # fmt: skip
        return d.Lock(**fields)

    def publish(self, commit: str, *, apart: bool = False, **more: Any) -> str:
        return published.publish(self.settings, self.lock(commit, **more), apart=apart)

    def find(self, asked: str | None = None, environment: str = "dev") -> published.Found:
        home = self.root.parent / "home"
        return published.find(published.opened(self.root), environment, home, asked)

    def clone(self, *options: str) -> Project:
        """As another person has it."""
        other = type(self.repository)(self.root.parent / "clone")
        self.repository.git("clone", "-q", *options, self.root.as_uri(), str(other.root))
        made = object.__new__(Project)
        made.repository, made.host, made.digest = other, self.host, self.digest
        return made
