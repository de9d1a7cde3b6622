#!/usr/bin/env bash
# What the binary may be made of (deny.toml): licences, bans and sources always; known weaknesses where the advisory
# database can be fetched, or an earlier copy of it is at hand. With SWEEP_REQUIRE_ADVISORIES=1 it must be.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/tools.sh build cargo-deny
deny=$(tests/tools.sh path cargo-deny)

"$deny" --locked -L error check licenses bans sources

copies=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if why=$(timeout 120 "$deny" -L error fetch db 2>&1); then
  "$deny" --locked -L error check advisories
elif compgen -G "$copies/*/.git" >/dev/null; then
  echo "deny.sh: the advisory database cannot be fetched; checking with the copy in $copies" >&2
  "$deny" --locked -L error check --disable-fetch advisories
elif [[ ${SWEEP_REQUIRE_ADVISORIES:-} == 1 ]]; then
  echo "deny.sh: the advisory database cannot be fetched: $why" >&2
  exit 1
else
  echo "deny.sh: SKIPPED advisories: no advisory database can be fetched, and none is at hand ($copies)" >&2
fi
