#!/bin/sh
# What a container of the agent's image does.
#
#   kfp-ci-agent COMMAND...   runs it: as Jenkins' Docker plug-ins and `docker run` want
#   kfp-ci-agent              connects to Jenkins as an inbound agent: JENKINS_URL,
#                             JENKINS_AGENT_NAME, JENKINS_SECRET; if there is need also
#                             JENKINS_AGENT_WORKDIR, JENKINS_TUNNEL, JENKINS_WEB_SOCKET=false
#
# Built on Jenkins' own inbound agent, that image's program connects.
set -eu

[ $# -eq 0 ] || [ -n "${JENKINS_SECRET:-}" ] || exec "$@"
if command -v jenkins-agent >/dev/null 2>&1; then
    exec jenkins-agent "$@"
fi
[ $# -eq 0 ] || exec "$@"

fail() {
    printf 'kfp-ci-agent: %s\n' "$1" >&2
    exit 1
}
for name in JENKINS_URL JENKINS_AGENT_NAME JENKINS_SECRET; do
    eval "[ -n \"\${$name:-}\" ]" || fail "$name is not set. Give a command, or what Jenkins' page of the agent says."
done
command -v java >/dev/null 2>&1 || fail "there is no Java here. Build the image with JAVA, or on Jenkins' inbound agent."

work=${JENKINS_AGENT_WORKDIR:-$HOME/agent}
mkdir -p "$work"
# The secret is in a file that only this user reads: command lines are for everybody's eyes.
secret=$work/.secret
(umask 077 && printf '%s' "$JENKINS_SECRET" >"$secret")
unset JENKINS_SECRET
# The controller's own, so that both speak the same version.
python3 - "${JENKINS_URL%/}/jnlpJars/agent.jar" "$work/agent.jar" <<'END' ||
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], "wb") as file:
    file.write(answer.read())
END
    fail "$JENKINS_URL gave no agent.jar. Check JENKINS_URL."
# Over the controller's own address, unless a tunnel or its agent port is asked for.
if [ -n "${JENKINS_TUNNEL:-}" ]; then
    set -- -tunnel "$JENKINS_TUNNEL"
elif [ "${JENKINS_WEB_SOCKET:-true}" = true ]; then
    set -- -webSocket
fi
exec java -jar "$work/agent.jar" -url "$JENKINS_URL" -name "$JENKINS_AGENT_NAME" \
    -secret "@$secret" -workDir "$work" "$@"
