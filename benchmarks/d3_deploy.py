"""D3: a new revision of a service, against the raw calls of ECS that do the same."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from functools import partial
from pathlib import Path

from measure import Goal, Side, Table, in_turn, seconds
from shared import BUSYBOX, Bench, call, write

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
COPY health /www/health
CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
"""
SERVABLE = """\
service: {service}
health_check: {{command: [/bin/busybox, "true"]}}
environment: {{TURN: "{turn}"}}
"""
# Registers what runs with another variable, updates the service, waits until all its
# tasks are the new ones, and asks for the page. No checks, no diff, no way back.
RAW = """
import sys, time, urllib.request
import boto3
endpoint, cluster, service, url, turn = sys.argv[1:]
ecs = boto3.client("ecs", endpoint_url=endpoint, region_name="us-east-1",
                   aws_access_key_id="x", aws_secret_access_key="x")
now = ecs.describe_services(cluster=cluster, services=[service])["services"][0]
task = ecs.describe_task_definition(taskDefinition=now["taskDefinition"])["taskDefinition"]
kept = ("family", "containerDefinitions", "cpu", "memory", "networkMode", "volumes",
        "requiresCompatibilities", "executionRoleArn", "taskRoleArn", "runtimePlatform")
task = {key: task[key] for key in kept if task.get(key)}
for variable in task["containerDefinitions"][0]["environment"]:
    if variable["name"] == "TURN":
        variable["value"] = turn
made = ecs.register_task_definition(**task)["taskDefinition"]["taskDefinitionArn"]
ecs.update_service(cluster=cluster, service=service, taskDefinition=made)
while True:
    now = ecs.describe_services(cluster=cluster, services=[service])["services"][0]
    first = next(it for it in now["deployments"] if it["status"] == "PRIMARY")
    if (first["taskDefinition"] == made and first.get("rolloutState") == "COMPLETED"
            and first["runningCount"] >= now["desiredCount"] > 0):
        break
    time.sleep(0.25)
while True:
    try:
        assert urllib.request.urlopen(url + "/health", timeout=5).status == 200
        break
    except OSError:
        time.sleep(0.25)
"""


def run(bench: Bench) -> Table:
    ours, url = service(bench, "d3")
    _, raw_url = service(bench, "d3-raw")
    turns = itertools.count(1)
    sides = {
        "ours": Side(partial(deploy, bench, ours, "d3", turns)),
        "raw": Side(partial(raw, bench, "d3-raw", raw_url, turns)),
    }
    taken = in_turn(sides, bench.runs)
    table = Table("D3: a new revision of a service in ministack: `ci deploy`")
    mine, theirs = taken["ours"], taken["raw"]
    table.compare("against register, update, wait and one request by boto3", mine, theirs)
    over = [one - other for one, other in zip(mine, theirs, strict=True)]
    goal = Goal(2.0, "< 2 s more")
    table.add("more than those calls", seconds(over), "", "", goal, statistics.median(over))
    again = in_turn(
        {"ours": Side(partial(bench.ci, ours, "deploy"))},
        bench.runs,
    )["ours"]
    table.add("nothing changed: diff and smoke test", seconds(again), "", "", None)
    table.notes.append(f"the service answers at {url.rpartition('/')[2]} through a load balancer")
    table.notes.append(bench.profile(ours, "deploy"))
    return table


def service(bench: Bench, name: str) -> tuple[Path, str]:
    """A repository whose service runs, and where that answers."""
    repository = bench.repository(
        name,
        {
            "servable/Dockerfile": DOCKERFILE,
            "servable/busybox": BUSYBOX,
            "servable/health": "ok\n",
            "servable/servable.yaml": SERVABLE.format(service=name, turn=0),
        },
    )
    bench.ci(repository, "build", "--plan", stub=True)
    bench.ci(repository, "deploy")
    deployed = json.loads((repository / "build" / "deploy.json").read_text())
    return repository, deployed["services"]["servable"]["url"]


def deploy(bench: Bench, repository: Path, name: str, turns: itertools.count[int]) -> None:
    text = SERVABLE.format(service=name, turn=next(turns))
    write(repository, {"servable/servable.yaml": text})
    bench.ci(repository, "deploy")


def raw(bench: Bench, name: str, url: str, turns: itertools.count[int]) -> None:
    endpoint = url.split("/_alb")[0]
    command = [sys.executable, "-c", RAW, endpoint, "local", name, url, str(next(turns))]
    call(command, bench.scratch, bench.environment())
