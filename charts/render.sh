#!/usr/bin/env bash
# Writes what is made from the chart and the CRDs: the chart's copy of the CRDs, its README.md, and install.yaml.
# `render.sh DIR` writes them into a copy of this folder; a test holds what is committed against that.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/../tests/tools.sh
to=${1:-$here}
chart=$to/sweep-operator
namespace=sweep-operator-system

"$tools" build helm4 helm-docs
helm=$("$tools" path helm4)

if [[ $to != "$here" ]]; then
  mkdir -p "$to"
  cp -R "$here/sweep-operator" "$to"
fi

mkdir -p "$chart/files/crds"
cp "$here"/../crds/*.yaml "$chart/files/crds/"

"$("$tools" path helm-docs)" --chart-search-root "$chart" --sort-values-order file --log-level warning

{
  cat <<YAML
# Made from the chart by charts/render.sh. \`kubectl apply -f install.yaml\` installs and upgrades it;
# \`kubectl delete -f install.yaml\` deletes the CRDs, too, and with them all Studies and Trials of the cluster.
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    app.kubernetes.io/name: sweep-operator
    app.kubernetes.io/instance: sweep-operator
    app.kubernetes.io/part-of: sweep-operator
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/audit: restricted
    pod-security.kubernetes.io/warn: restricted
YAML
  "$helm" template sweep-operator "$chart" --namespace $namespace --kube-version 1.33 --skip-tests --set crds.keep=false |
    grep -vE '^ *(helm\.sh/chart: |app\.kubernetes\.io/managed-by: Helm$)|^# Source: '
} >"$to/install.yaml"
