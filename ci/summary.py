"""What a run came to, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import msgspec

from ci.console import counted
from ci_tools.documents import Deployed, Lock, Release, Revision, Training, Uploads


@dataclass(frozen=True)
class Summary:
    lock: Lock
    uploads: Uploads
    training: Training | None
    deployed: Deployed | None
    release: Release

    def as_json(self) -> object:
        """One object with a key for each stage."""
        return {
            "images": msgspec.to_builtins(self.lock.components),
            "built": [name for name, image in self.lock.components.items() if image.built],
            "pipelines": msgspec.to_builtins(self.uploads.pipelines),
            "runs": msgspec.to_builtins(self.training.runs) if self.training else [],
            "services": msgspec.to_builtins(self.deployed.services) if self.deployed else {},
            "release": {"name": self.release.name, "problems": self.release.problems},
        }

    def print(self, stream: IO[str], warnings: Sequence[str]) -> None:
        """Tables: images, pipelines, training, services, release."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False)

        def table(title: str, *columns: str) -> Table:
            made = Table(
                title=title,
                title_justify="left",
                box=box.SIMPLE_HEAD,
                pad_edge=False,
                min_width=len(title),
            )
            for column in columns:
                right = column in ("size", "time", "value")
                made.add_column(column, justify="right" if right else "left", no_wrap=True)
            return made

        images = table("Images", "component", "digest", "size", "time", "scan", "tests", "")
        for name, image in sorted(self.lock.components.items()):
            images.add_row(
                name,
                image.digest[:19],
                f"{image.size / 1e6:.1f} MB",
                f"{image.seconds:.1f} s",
                image.verdict.status,
                image.tests,
                "built" if image.built else "already built",
            )
        console.print(images)
        pipelines = table("Pipelines", "pipeline", "version", "IR sha256", "")
        for name, version in sorted(self.uploads.pipelines.items()):
            done = "uploaded" if version.created else "unchanged"
            pipelines.add_row(name, version.version, version.sha256[:12], done)
        console.print(pipelines)
        for run in self.training.runs if self.training else []:
            title = f"Training: {run.label} {run.state.lower()} in {run.seconds:.1f} s"
            if run.unchanged:
                title = f"Training: {run.label} not run, {run.notes[0]}"
            metrics = table(title, "metric", "value")
            for metric, value in sorted(run.metrics.items()):
                metrics.add_row(metric, f"{value:.4g}")
            if run.metrics:
                console.print(metrics)
            else:
                console.print(f"{title}; it reported no metrics", style="italic")
        for service in self.deployed.services.values() if self.deployed else []:
            console.print(f"Service {service.service}: {service.url}", style="italic")
            done = "a new revision" if service.changed else "unchanged"
            console.print(f"  {done}, {(service.task_definition or '').rpartition('/')[2]}")
            for answer in _answers(service):
                console.print(f"  {answer}", soft_wrap=True)
            console.print()
        built = sum(image.built for image in self.lock.components.values())
        console.print(
            f"{counted(built, 'image')} built, {len(self.lock.components) - built} already built, "
            f"{self.lock.seconds:.1f} s" + ("" if built else ": nothing needed building"),
            style="bold",
        )
        console.print(f"Release {self.release.name}", soft_wrap=True)
        for problem in self.release.problems:
            console.print(f"  not to be promoted: {problem}", style="yellow", soft_wrap=True)
        for warning in warnings:
            console.print(f"WARNING: {warning}", style="bold yellow", soft_wrap=True)


def _answers(service: Revision) -> list[str]:
    """Each smoke request with what the service answered, a line each."""
    return [
        f"{request['method']} {request['path']} -> {request['status']} "
        f"{msgspec.json.encode(request.get('answer')).decode()}"
        for request in service.smoke.get("requests", [])
    ]
