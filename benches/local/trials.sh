#!/bin/bash
# CPU per trial of `sweep run` with many trials beside few: trials.sh [SAMPLER [FEW [MANY]]]. SWEEP is the binary,
# PARALLELISM how many trials run at once. The CPU is that of the run, its supervisors and its trainers, user and system.
set -eu
sampler=${1:-random} few=${2:-500} many=${3:-4000}
sweep=$(realpath "${SWEEP:-target/debug/sweep}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# The CPU of a sweep of $1 trials, in seconds.
cpu() {
    rm -rf .sweep
    cat > study.yaml <<YAML
apiVersion: sweep-operator.dev/v1alpha1
kind: Study
metadata: {name: trials}
spec:
  objectives: [{metric: acc, direction: Maximize}]
  parameters: [{name: x, double: {min: 0, max: 1}}]
  sampler: {$sampler: {}}
  metrics: {stdout: {}}
  maxTrials: $1
  parallelism: ${PARALLELISM:-4}
  jobTemplate: {spec: {template: {spec: {containers: [{name: trainer, image: none, command: [sh, -c, 'echo acc=\$x']}]}}}}
YAML
    local TIMEFORMAT='%U %S'
    { time "$sweep" run study.yaml > log 2>&1 || { cat log >&2; exit 1; }; } 2>&1 | awk '{print $1 + $2}'
}

first=$(cpu "$few")
# Warm, and twice, since it is short.
second=$(cpu "$few")
long=$(cpu "$many")
awk -v sampler="$sampler" -v few="$few" -v many="$many" -v a="$first" -v b="$second" -v c="$long" 'BEGIN {
    short = 1000 * (a + b) / 2 / few; long = 1000 * c / many
    printf "%s: %.2f ms per trial at %d, %.2f ms at %d: ratio %.2f\n", sampler, short, few, long, many, long / short
}'
