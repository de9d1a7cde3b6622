#!/usr/bin/env bash
# The programs that the tests of chart, alerts, GitOps and supply chain need, built once into the user's cache folder,
# in a folder named by their version. `tools.sh build [NAME...]` builds what is missing, `tools.sh path NAME` says where.
set -euo pipefail

cache=${SWEEP_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sweep-operator}/tools

# name, how it is built, package, version; of a Go module's files: the folder
tools() {
  cat <<'TOOLS'
helm3 go helm.sh/helm/v3/cmd/helm v3.21.4
helm4 go helm.sh/helm/v4/cmd/helm v4.2.4
helm-docs go github.com/norwoodj/helm-docs/cmd/helm-docs v1.14.2
promtool go github.com/prometheus/prometheus/cmd/promtool v0.316.0
glua go github.com/yuin/gopher-lua/cmd/glua v1.1.2
actionlint go github.com/rhysd/actionlint/cmd/actionlint v1.7.12
prometheus-operator-crds files github.com/prometheus-operator/prometheus-operator v0.85.0 example/prometheus-operator-crd
cargo-deny cargo cargo-deny 0.20.2
cargo-cyclonedx cargo cargo-cyclonedx 0.5.9
TOOLS
}

find_tool() {
  tools | awk -v name="$1" '$1 == name { print; found = 1 } END { exit !found }' || {
    echo "tools.sh: no tool $1; there are: $(tools | cut -d' ' -f1 | xargs)" >&2
    exit 2
  }
}

path() {
  local name how package version folder
  read -r name how package version folder < <(find_tool "$1")
  echo "$cache/$name-$version/$name"
}

build() {
  local name how package version folder to tmp lock
  read -r name how package version folder < <(find_tool "$1")
  to=$cache/$name-$version
  [[ -e $to/$name ]] && return
  mkdir -p "$cache"
  # Two test runs on one machine build a thing once.
  exec {lock}>"$cache/$name.lock"
  flock "$lock"
  if [[ ! -e $to/$name ]]; then
    echo "tools.sh: building $name $version (once)" >&2
    tmp=$(mktemp -d "$cache/tmp.XXXXXX")
    case $how in
      go)
        (cd "$tmp" && GOBIN=$tmp GOFLAGS="" CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "$package@$version") || return
        # What is built is named as its package.
        [[ -x $tmp/$name ]] || mv "$tmp/$(basename "$package")" "$tmp/$name"
        ;;
      files)
        (cd "$tmp" && GOFLAGS="" GOMODCACHE=$tmp/mod go mod download "$package@$version") || return
        cp -R "$tmp/mod/$package@$version/$folder" "$tmp/$name"
        chmod -R u+w "$tmp"
        ;;
      cargo)
        (cd "$tmp" && cargo install --quiet --locked --root "$tmp" --target-dir "$tmp/target" "$package@$version") || return
        mv "$tmp/bin/$name" "$tmp/$name"
        rm -rf "$tmp/target" "$tmp/bin" "$tmp"/.crates*
        ;;
    esac
    mkdir -p "$to"
    mv "$tmp/$name" "$to/$name"
    rm -rf "$tmp"
  fi
  exec {lock}>&-
}

case ${1:-} in
  path) path "${2:?tools.sh path NAME}" ;;
  build)
    shift
    (($#)) || mapfile -t names < <(tools | cut -d' ' -f1)
    for name in "$@" "${names[@]}"; do build "$name"; done
    ;;
  *)
    echo "usage: tools.sh build [NAME...] | tools.sh path NAME" >&2
    exit 2
    ;;
esac
