"""The embedded environment: a registry and an AWS stand-in on this machine.

    endpoints = up(home_directory())
    settings = environment(endpoints, {"iris": Served(8080, "/healthz")})

Everything listens on 127.0.0.1 only, keeps its port from one start to the next,
and outlives the session that started it until `down`.
"""

from ci_tools.local.aws import ensure_cluster, ensure_load_balancer
from ci_tools.local.bases import Substitute, recorded, substitute
from ci_tools.local.lifecycle import Endpoints, Served, Status, down, environment, status, up
from ci_tools.local.state import home_directory

__all__ = [
    "Endpoints",
    "Served",
    "Status",
    "Substitute",
    "down",
    "ensure_cluster",
    "ensure_load_balancer",
    "environment",
    "home_directory",
    "recorded",
    "status",
    "substitute",
    "up",
]
