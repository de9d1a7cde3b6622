#!/usr/bin/env bash
# How a sweep of thousands of trials does beside a bare loop that keeps as many Jobs in flight, on one control plane: etcd,
# kube-apiserver, kube-controller-manager and kube-scheduler as real processes on loopback, kwok as 100 nodes of 8 GPUs, and
# `load` for the rest (see load/main.go). `scale.sh trials` prints the table of `make scale`, `scale.sh reports` that of
# `make scale-reports`; the settings are variables, see below. Everything ends with this script, and its files go.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
cluster=$root/tests/cluster/cluster.sh
cache=${SWEEP_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sweep-operator}

usage() {
  cat <<'USAGE'
scale.sh trials     a bare loop of Jobs, then a Study: rates, places, CPU, memory, calls
scale.sh reports    trials that run for long and report once a second: CPU without a pruner and with each

TRIALS        how many trials (trials: 300; reports: 100)
PARALLELISM   trials: how many at once (50)
LIFE          trials: how long a pod runs (2s)
EVERY         how often a trainer reports (a quarter of LIFE; reports: 1s)
SAMPLER       the Study's sampler (random)
HISTORY       how many finished Jobs are kept (100, where the operator can; else all, on both sides)
TTL           ttlSecondsAfterFinished (86400)
PRUNERS       reports: which, one after the other (none median hyperband)
DURATION      reports: for how many seconds they are measured, for each pruner (30)
COUNT         no: the API is called directly, and calls are not counted (yes)
OPERATOR      a `sweep` to run instead of building this one
LOGS          a folder for the processes' logs
USAGE
}

say() { printf 'scale: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# build_go FOLDER PACKAGE: prints where the program is, once it is built; what it is built from names its folder.
build_go() {
  local name=${2##*/} to lock
  [[ $2 == . ]] && name=$1
  to=$cache/scale-$name-$(cd "$here/$1" && cat ./* | cksum | cut -d' ' -f1)
  if [[ ! -x $to/$name ]]; then
    command -v go >/dev/null || die "go is needed to build $name"
    mkdir -p "$to"
    exec {lock}>"$to.lock"
    flock "$lock"
    if [[ ! -x $to/$name ]]; then
      say "building $name (once)"
      (cd "$here/$1" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags "-s -w" -o "$to/$name.new" "$2")
      mv "$to/$name.new" "$to/$name"
    fi
    exec {lock}>&-
  fi
  echo "$to/$name"
}

# start NAME COMMAND...: in the background; it dies with this script, however that ends.
pids=()
names=()
start() {
  local name=$1
  shift
  setpriv --pdeathsig KILL "$@" </dev/null >>"$dir/logs/$name.log" 2>&1 &
  pids+=($!)
  names+=("$name=$!")
}

# await WHAT COMMAND...: until it succeeds, a minute at most.
await() {
  local what=$1 end=$((SECONDS + 60)) i
  shift
  until "$@" >/dev/null 2>&1; do
    for i in "${!pids[@]}"; do
      kill -0 "${pids[i]}" 2>/dev/null || failed "${names[i]%=*} ended while $what was waited for"
    done
    ((SECONDS < end)) || failed "no $what after a minute"
    sleep 0.2
  done
}

failed() {
  tail -n 5 "$dir"/logs/*.log >&2 || true
  die "$*"
}

finish() {
  local pid
  trap '' INT TERM HUP
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  # Without the shell's word on each that was killed.
  { wait; } 2>/dev/null
  if [[ -n ${LOGS:-} ]]; then
    mkdir -p "$LOGS"
    cp "$dir"/logs/* "$LOGS/" || true
  fi
  rm -rf "$dir"
}

# kubeconfig NAME USER GROUPS: adds a token, and writes the file that uses it.
kubeconfig() {
  local token
  token=$(openssl rand -hex 16)
  printf '%s,%s,%s,"%s"\n' "$token" "$2" "$2" "$3" >>"$dir/tokens.csv"
  cat >"$dir/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: scale
contexts:
  - {name: scale, context: {cluster: scale, user: scale}}
clusters:
  - {name: scale, cluster: {server: "https://127.0.0.1:$api_port", insecure-skip-tls-verify: true}}
users:
  - {name: scale, user: {token: $token}}
YAML
}

start_control_plane() {
  local k8s etcd apiserver kubectl etcd_url controllers
  # The folder of those that only cluster.sh builds; the three others may be the user's own.
  k8s=$cache/$(sed -n 's/^kubernetes_version=/k8s-/p' "$cluster")
  etcd=${KUBEBUILDER_ASSETS:-}/etcd
  [[ -x $etcd ]] || etcd=$cache/$(sed -n 's/^etcd_version=/etcd-/p' "$cluster")/etcd
  apiserver=${KUBEBUILDER_ASSETS:-}/kube-apiserver
  [[ -x $apiserver ]] || apiserver=$k8s/kube-apiserver
  kubectl=$("$cluster" which-kubectl)

  mkdir "$dir/certificates"
  openssl genrsa -out "$dir/accounts.key" 2048 2>/dev/null
  openssl rsa -in "$dir/accounts.key" -pubout -out "$dir/accounts.pub" 2>/dev/null
  kubeconfig admin admin system:masters
  kubeconfig scheduler system:kube-scheduler ""
  # Both sides are this user: not exempt from the API server's fairness, as an administrator would be.
  kubeconfig user system:serviceaccount:sweep-system:sweep-operator system:serviceaccounts

  etcd_url=http://127.0.0.1:$etcd_port
  start etcd "$etcd" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn --quota-backend-bytes 8589934592 \
    --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" --initial-cluster "default=http://127.0.0.1:$peer_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port"
  start kube-apiserver "$apiserver" --etcd-servers "$etcd_url" --secure-port "$api_port" --bind-address 127.0.0.1 \
    --advertise-address 127.0.0.1 --cert-dir "$dir/certificates" --token-auth-file "$dir/tokens.csv" --authorization-mode RBAC \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$dir/accounts.pub" \
    --service-account-signing-key-file "$dir/accounts.key" --service-cluster-ip-range 10.0.0.0/24 \
    --disable-admission-plugins ServiceAccount --endpoint-reconciler-type none --kubelet-preferred-address-types InternalIP \
    --max-requests-inflight 3000 --max-mutating-requests-inflight 1500
  kubectl=("$kubectl" --kubeconfig "$dir/admin.kubeconfig")
  await "API server" "${kubectl[@]}" get --raw /readyz
  # What concerns Jobs and their pods; limits that are not what is measured.
  controllers=job-controller,garbage-collector-controller,namespace-controller,ttl-after-finished-controller,node-lifecycle-controller
  start kube-controller-manager "$k8s/kube-controller-manager" --kubeconfig "$dir/admin.kubeconfig" --leader-elect=false \
    --secure-port 0 --controllers "$controllers" --service-account-private-key-file "$dir/accounts.key" \
    --kube-api-qps 500 --kube-api-burst 1000 --concurrent-job-syncs 50 --concurrent-ttl-after-finished-syncs 20 --concurrent-gc-syncs 20
  start kube-scheduler "$k8s/kube-scheduler" --kubeconfig "$dir/scheduler.kubeconfig" --leader-elect=false --secure-port 0 \
    --kube-api-qps 1000 --kube-api-burst 2000
  start kwok "$kwok" --kubeconfig "$dir/admin.kubeconfig" --config "$here/kwok.yaml" --manage-all-nodes=true \
    --node-ip 127.0.0.1 --node-port "$kubelet_port" --server-address "127.0.0.1:$kwok_port" --node-lease-duration-seconds 40
  "${kubectl[@]}" create clusterrolebinding user --clusterrole cluster-admin \
    --user system:serviceaccount:sweep-system:sweep-operator >/dev/null
  "${kubectl[@]}" apply --server-side -f - <<<"$crds" >/dev/null
}

mode=${1:-help}
case $mode in
  trials | reports) ;;
  help | -h | --help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac

"$cluster" build
kwok=$(build_go kwok sigs.k8s.io/kwok/cmd/kwok)
load=$(build_go load .)
operator=${OPERATOR:-}
if [[ -z $operator ]]; then
  (cd "$root" && cargo build --locked --release --bin sweep)
  operator=${CARGO_TARGET_DIR:-$root/target}/release/sweep
fi
operator=$(realpath "$operator")
[[ -x $operator ]] || die "$operator is no program"

if [[ $mode == trials ]]; then
  trials=${TRIALS:-300} parallelism=${PARALLELISM:-50} life=${LIFE:-2s} every=${EVERY:-}
else
  trials=${TRIALS:-100} parallelism=${TRIALS:-100} life=24h every=${EVERY:-1s}
fi
history=${HISTORY:-}
crds=$("$operator" crd)
if [[ $crds != *finishedJobsHistoryLimit* ]]; then
  [[ -z $history ]] || die "HISTORY: this operator has no finishedJobsHistoryLimit"
  say "the operator has no finishedJobsHistoryLimit: all finished Jobs are kept, on both sides"
  history=-1
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/sweep-scale.XXXXXX")
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$dir/logs"
read -r etcd_port peer_port api_port kubelet_port kwok_port < <("$load" ports 5)
start_control_plane
# The operator's memory is what it is in its image. All else is in Go, which does not read these.
while read -r variable; do export "${variable?}"; done < <(sed -n 's/^ENV //p' "$root/Containerfile" | tr ' ' '\n')
# In the background, as signals are heard while it is waited for.
setpriv --pdeathsig TERM "$load" "$mode" -folder "$dir" -operator "$operator" -kubelet "127.0.0.1:$kubelet_port" \
  -trials "$trials" -parallelism "$parallelism" -life "$life" -every "$every" -sampler "${SAMPLER:-random}" -history "${history:-100}" \
  -ttl "${TTL:-86400}" -pruners "${PRUNERS:-none median hyperband}" -seconds "${DURATION:-30}" -count "${COUNT:-yes}" \
  "${names[@]}" </dev/null &
pids+=($!)
wait $! || die "the measurement failed; LOGS=FOLDER keeps the processes' logs"
