"""Which failures of a push or a pull are worth another try.

The wordings are the engine's (moby), BuildKit's and containerd's, from what
people reported to their projects; the tests hold them with their sources.
"""

from __future__ import annotations

import re

# BuildKit's and buildx' verdict: "ERROR: failed to solve: ...", in older ones without "ERROR".
_VERDICT = re.compile(r"^(?:ERROR|error|failed to solve[^:]*): .+$", re.M)
# docker-py's wrapping of whatever the engine says; the status is the engine's own.
_WRAPPED = re.compile(
    r"\d{3} (?:Client|Server) Error for http\+?\w*://\S+: [\w ]+ \(\"(.*)\"\)", re.S
)

# The step's own doing, whatever its output says of networks.
_STEP = re.compile(
    r"did not complete successfully|executor failed running|returned a non-zero code", re.I
)

# A repository may be called `certificate-service`, or have a tag 502.
_URL = re.compile(r"https?://[^\s\"]+")
_NAMES = re.compile(r"\S+/\S+")

_PERMANENT = re.compile(
    r"""
      denied | unauthorized | forbidden | authentication\ required
    | (?:status|code|HTTP)(?:\ code)?:?\ (?:40[1345]|413)\b
    | no\ basic\ auth\ credentials | insufficient_scope | incorrect\ username
    | not\ found | manifest\ unknown | name\ unknown | name\ invalid | does\ not\ exist
    | tag\ invalid | immutable
    | x509: | certificate | gave\ HTTP\ response\ to\ HTTPS
    | invalid\ reference | unsupported
    | no\ space\ left | context\ canceled
    # The engine or the builder itself, not a registry.
    | cannot\ connect\ to\ the\ docker\ daemon | code\ =\ Unavailable
    """,
    re.I | re.X,
)

# A push of hours can outlive its token; the next try gets a new one.
_EXPIRED = re.compile(r"authorization token has expired", re.I)

_TRANSIENT = re.compile(
    r"""
      connection\ reset | broken\ pipe | closed\ (?:network\ connection|pipe)
    | connection\ (?:timed\ out|refused) | no\ route\ to\ host | network\ is\ unreachable
    | i/o\ timeout | TLS\ handshake\ timeout | Client\.Timeout | context\ deadline\ exceeded
    | net/http:\ (?:request\ canceled|timeout) | server\ closed\ idle\ connection
    | failed\ to\ do\ request | server\ misbehaving | temporary\ failure | no\ such\ host
    | unexpected\ EOF | :\ EOF\b | ^EOF$ | http2: | stream\ error: | GOAWAY
    | toomanyrequests | too\ many\ requests | HTTP\ 429 | rate\ exceeded | throttl
    | \b50[0234]\ (?:Internal|Server\ Error|Bad\ Gateway|Service|Gateway)
    | (?:status|code|HTTP)(?:\ code)?:?\ 50[0234]\b
    | bad\ gateway | service\ (?:temporarily\ )?unavailable | gateway\ time-?out
    | internal\ server\ error
    | blob\ upload\ (?:unknown|invalid) | (?:unknown\ blob|blob\ unknown)
    | digest\ did\ not\ match | unexpected\ commit\ (?:digest|size) | failed\ size\ validation
    """,
    re.I | re.X | re.M,
)


def transient(text: str) -> bool:
    """Whether the same push or pull may succeed when it is tried again.

    text: the engine's or BuildKit's message, or the whole output of a build:
    then its verdict, the last line that is one, decides. What is not known to
    pass by itself does not, and a failed RUN step never does.
    """
    wrapped = _WRAPPED.search(text)
    if wrapped:
        text = wrapped[1]
    verdicts = _VERDICT.findall(text)
    message = verdicts[-1] if verdicts else text
    if _STEP.search(message):
        return False
    if _EXPIRED.search(message):
        return True
    if _PERMANENT.search(_NAMES.sub(" ", message)):
        return False
    return bool(_TRANSIENT.search(_URL.sub("", message)))
