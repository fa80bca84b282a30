"""Nothing but what we say decides what Trivy finds.

Of itself Trivy reads `trivy.yaml`, `.trivyignore` and `trivy-secret.yaml` in the
directory that it runs in, which is the repository, and a variable TRIVY_<OPTION> for
each of its options. Each of them can take a finding away, be it a secret, without a
reason, an owner or an end; and what was found is kept for every other agent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# An empty name is no file. A server has no file of findings to ignore.
NO_CONFIG = "--config="
NO_FILES = (NO_CONFIG, "--ignorefile=")
NO_RULES = "--secret-config="

# How it comes to images and databases, and how fast; not what it finds there.
_ACCESS = frozenset(
    f"TRIVY_{name}"
    for name in (
        "USERNAME", "PASSWORD", "REGISTRY_TOKEN", "INSECURE", "NON_SSL", "CACERT", "DOCKER_HOST",
        "PODMAN_HOST", "DB_REPOSITORY", "JAVA_DB_REPOSITORY", "CHECKS_BUNDLE_REPOSITORY",
        "PARALLEL",
    )
)  # fmt: skip


def variables(own: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """Variables for a Trivy program, as `process.run` takes them: ours, and None for
    each of this process' that would have a say in what it finds."""
    set_aside = (name for name in os.environ if name.startswith("TRIVY_") and name not in _ACCESS)
    return {**dict.fromkeys(set_aside), **(own or {})}
