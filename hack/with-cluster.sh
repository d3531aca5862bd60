#!/usr/bin/env bash
# Runs a command against a cluster that has the images: with KUBECONFIG set, that cluster (LOAD says how images get there,
# such as LOAD="kind load image-archive"); otherwise the local one, which is started if it is down.
#
#   hack/with-cluster.sh keep COMMAND...   leaves a cluster that it started up
#   hack/with-cluster.sh once COMMAND...   takes a cluster that it started down again, and loads the servers of the tests as well
set -euo pipefail
mode=$1
shift
images=(bin/images/certwright.tar bin/images/certwright-agent.tar bin/images/demo.tar)
[ "$mode" = keep ] || images=(bin/images/*.tar)
if [ -n "${KUBECONFIG:-}" ]; then
  [ -z "${LOAD:-}" ] || for image in "${images[@]}"; do $LOAD "$image"; done
  exec "$@"
fi
if ! bin/cluster status >/dev/null 2>&1; then
  [ "$mode" = keep ] || trap 'bin/cluster down' EXIT
fi
bin/cluster up
bin/cluster load "${images[@]}"
KUBECONFIG=$(bin/cluster kubeconfig)
export KUBECONFIG PATH="$(dirname "$KUBECONFIG")/bin:$PATH" CERTWRIGHT_LOCAL=1
"$@"
