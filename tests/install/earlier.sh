#!/usr/bin/env bash
# The program `sweep` of the last commit without a chart, built once into the user's cache folder; prints its path. Where
# that commit is not in this checkout it prints nothing, and says so.
set -euo pipefail
commit=2f70b11
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${SWEEP_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sweep-operator}
to=$cache/sweep-$commit

if [[ ! -x $to/sweep ]]; then
  git cat-file -e "$commit^{commit}" 2>/dev/null || {
    echo "earlier.sh: no commit $commit here: a shallow clone?" >&2
    exit 0
  }
  mkdir -p "$cache"
  exec 9>"$cache/sweep-$commit.lock"
  flock 9
  if [[ ! -x $to/sweep ]]; then
    echo "earlier.sh: building sweep of $commit (once, some minutes)" >&2
    tmp=$(mktemp -d "$cache/tmp.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    git archive "$commit" | tar -x -C "$tmp"
    (cd "$tmp" && CARGO_TARGET_DIR=$tmp/target cargo build --quiet --locked --bin sweep >&2)
    mkdir -p "$to"
    strip --strip-debug -o "$to/sweep.new" "$tmp/target/debug/sweep"
    mv "$to/sweep.new" "$to/sweep"
  fi
fi
echo "$to/sweep"
