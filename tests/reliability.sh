#!/usr/bin/env bash
# Runs the tests of the promises and writes what came of it to docs/reliability.md: `make reliability`.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

SWEEP_SIM_TABLE="$work/table.md" cargo test --locked --test sim -- --nocapture >"$work/sim.log" 2>&1 ||
  { tail -n 200 "$work/sim.log" >&2; exit 1; }
cargo test --locked --test cluster faults:: -- --nocapture >"$work/cluster.log" 2>&1 ||
  { tail -n 200 "$work/cluster.log" >&2; exit 1; }

# The tests' own words.
figures() { grep -oh 'figure: .*' "$1" | sed 's/^figure: /- /' | sort; }

{
  cat tests/reliability.head.md
  printf '\n## Interleavings of faults in the simulator\n\n'
  printf 'Test: `no_interleaving_of_faults_breaks_a_promise` (`tests/sim`). A number is in how many interleavings with such\n'
  printf 'faults the promise was put to the test.\n\n'
  cat "$work/table.md"
  printf '\n## Other runs in the simulator\n\n'
  figures "$work/sim.log"
  printf '\n## On the real control plane\n\n'
  figures "$work/cluster.log"
} >docs/reliability.md
echo "docs/reliability.md written"
