"""The credentials that the Jenkinsfile binds, and what Jenkins has of them. Pure.

Only those are bound that the controller's environment variable KFP_CI_CREDENTIALS
names, separated by spaces: agents that have a role of their own need none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ci_tools.config_errors import did_you_mean
from ci_tools.jenkins.plugins import Verdict
from ci_tools.printable import printable

VARIABLE = "KFP_CI_CREDENTIALS"
Kind = Literal["usernamePassword", "string", "file"]
# What Jenkins calls each kind, in English, which the request asks for.
KINDS: dict[Kind, str] = {
    "usernamePassword": "Username with password",
    "string": "Secret text",
    "file": "Secret file",
}


class Binding(NamedTuple):
    """variables: that the Jenkinsfile binds it to. why: what needs it."""

    id: str
    kind: Kind
    variables: tuple[str, ...]
    why: str


_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
BINDINGS = (
    Binding("kfp-ci-dev-aws", "usernamePassword", _AWS, "AWS of dev: registry and service"),
    Binding("kfp-ci-prod-aws", "usernamePassword", _AWS, "AWS of prod: registry and service"),
    Binding("kfp-ci-dev-kubeflow", "string", ("KFP_TOKEN",), "Kubeflow of dev"),
    Binding("kfp-ci-prod-kubeflow", "string", ("KFP_TOKEN",), "Kubeflow of prod"),
    Binding("kfp-ci-release-key", "file", ("KFP_CI_SIGNING_KEY",), "signing releases"),
    Binding(
        "kfp-ci-release-passphrase",
        "string",
        ("KFP_CI_SIGNING_PASSPHRASE",),
        "the key's passphrase",
    ),
)


class Wanted(NamedTuple):
    """kind: None where any will do."""

    id: str
    kind: Kind | None
    why: str


def wanted(remote: str | None, named: str) -> tuple[list[Wanted], list[str]]:
    """What must be there, and problems with the names themselves.

    remote: id of the credentials that read the repository. named: KFP_CI_CREDENTIALS.
    """
    known = {binding.id: binding for binding in BINDINGS}
    needed = [Wanted(remote, None, "reading the repository")] if remote else []
    problems = []
    for name in dict.fromkeys(named.split()):
        if name in known:
            needed.append(Wanted(name, known[name].kind, known[name].why))
        else:
            near = did_you_mean(name, list(known)) or f"known are {', '.join(known)}"
            problems.append(f"{VARIABLE} names '{printable(name)}', which no stage binds ({near})")
    return needed, problems


def stored(document: Any) -> dict[str, str] | None:
    """Id -> kind, in Jenkins' words, from credentials/api/json of one place.

    None where nothing may be seen: whoever may look sees a store, if an empty one.
    """
    stores = document.get("stores") if isinstance(document, dict) else None
    if not isinstance(stores, dict) or not stores:
        return None
    found: dict[str, str] = {}
    for store in stores.values():
        domains = store.get("domains") if isinstance(store, dict) else None
        for domain in domains.values() if isinstance(domains, dict) else []:
            listed = domain.get("credentials") if isinstance(domain, dict) else None
            for one in listed if isinstance(listed, list) else []:
                if isinstance(one, dict) and isinstance(one.get("id"), str):
                    found[one["id"]] = str(one.get("typeName") or "")
    return found


def verdict(needed: Iterable[Wanted], looked: Sequence[Mapping[str, str] | None]) -> Verdict:
    """looked: what the job can use, of its own folder first; None for what may not be seen."""
    problems, notes = [], []
    unseen = any(place is None for place in looked)
    for one in needed:
        place = next((it for it in looked if it is not None and one.id in it), None)
        if place is not None:
            kind = place[one.id]
            right = KINDS.get(one.kind) if one.kind else None
            if right and kind in KINDS.values() and kind != right:
                problems.append(f"credentials '{one.id}' are a '{kind}', not a '{right}'")
        elif unseen:
            notes.append(f"whether there are credentials '{one.id}' could not be looked at")
        else:
            problems.append(f"credentials '{one.id}' are missing: {one.why}")
    return Verdict(problems, notes)
