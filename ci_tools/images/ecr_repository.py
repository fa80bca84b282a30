"""What an ECR repository is to be like: made so by us, or told when it is not so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ci_tools import config

if TYPE_CHECKING:
    from mypy_boto3_ecr.type_defs import RepositoryTypeDef

RELEASES = "release-*"  # tags of images that a release names
SERVING = "release-serving-"  # and a digest's begin: of images that a service was given
ATTACHED = "attached-"  # and the digest: of what refers to an image
# More than a repository can hold (ECR's quota is 100,000), so that no image is ever over it.
_NEVER = 1_000_000


def creation(settings: config.Ecr, *, mutable: bool = False) -> dict[str, Any]:
    """CreateRepository's arguments, less the name.

    Tags are immutable whatever the settings say: a tag is a key, and no later
    build may replace what a key names. mutable: for what has no keys.
    """
    encryption = {"encryptionType": "AES256"}
    if settings.encryption != "AES256":
        encryption = {"encryptionType": "KMS", "kmsKey": settings.encryption}
    return {
        "imageTagMutability": "MUTABLE" if mutable else "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": settings.scan_on_push},
        "encryptionConfiguration": encryption,
    }


def lifecycle_policy(settings: config.Ecr) -> str:
    """What expires, as JSON.

    Releases never do: the first rule claims their tags and never fires, and "an
    image that matches the tagging requirements of a rule cannot be expired by a
    rule with a lower priority". The images of an index have no tag but stay as
    long as it does: "if an image is referenced by a manifest list, it cannot be
    expired without the manifest list being deleted first".
    (Amazon ECR user guide, LifecyclePolicies.html, "Lifecycle policy evaluation rules")

    A rule with several patterns takes images that have all of them (the same
    guide, lifecycle_policy_parameters.html), so that each rule has one.

    What refers to an image (attestation, SBOM, record of a scan) goes with it: "when
    reference artifacts are present in a repository, Amazon ECR lifecycle policies
    automatically expire or archive those artifacts within 24 hours of the deletion or
    archival of the subject image" (LifecyclePolicies.html, where the other rules are).
    That says not that a rule about untagged images spares them before, and users saw rules
    count signatures as images (github.com/aws/containers-roadmap, issue 2613). So each has
    a tag here (`upload.attachment`), and with it a rule that never fires. So has what hangs
    on an image by a tag `sha256-<hex>`, as cosign's older signatures do.
    """
    days = {"countType": "sinceImagePushed", "countUnit": "days"}
    rules: list[tuple[str, dict[str, Any]]] = [
        ("releases stay", _never(RELEASES)),
        ("what refers to an image goes with it", _never(f"{ATTACHED}*")),
        ("what is attached to an image by a tag stays", _never("sha256-*")),
        (
            "images that no tag names any more",
            {"tagStatus": "untagged", **days, "countNumber": settings.untagged_days},
        ),
    ]
    if settings.expire_days is not None:
        rules.append(
            (
                "images of keys that no release names",
                {
                    "tagStatus": "tagged",
                    "tagPatternList": ["*"],
                    **days,
                    "countNumber": settings.expire_days,
                },
            )
        )
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": number,
                    "description": description,
                    "selection": selection,
                    "action": {"type": "expire"},
                }
                for number, (description, selection) in enumerate(rules, start=1)
            ]
        }
    )


def _never(pattern: str) -> dict[str, Any]:
    """A selection of tags that takes none away, and keeps other rules from them."""
    return {
        "tagStatus": "tagged",
        "tagPatternList": [pattern],
        "countType": "imageCountMoreThan",
        "countNumber": _NEVER,
    }


def differences(found: RepositoryTypeDef, settings: config.Ecr) -> list[str]:
    """In what a repository is less than we would have made it, a sentence each.

    found: what DescribeRepositories says of it.
    """
    name = found.get("repositoryUri") or found["repositoryName"]
    told = []
    mutability = found.get("imageTagMutability", "MUTABLE")
    if mutability != "IMMUTABLE":
        told.append(
            f"{name} lets tags be replaced ({mutability}), so that a key may come to name another "
            "image: make its tags immutable (ecr:PutImageTagMutability)"
        )
    scans = found.get("imageScanningConfiguration", {}).get("scanOnPush", False)
    if settings.scan_on_push and not scans:
        told.append(
            f"{name} does not scan what is pushed: turn scan on push on, or set "
            "registry.ecr.scan_on_push to false in ci.yaml where the registry's own settings scan"
        )
    return told
