#!/usr/bin/env bash
# A real Kubernetes cluster for tests, without Docker: etcd, kube-apiserver, kube-controller-manager and
# kube-scheduler as plain processes on loopback, and (as root) a real kubelet with containerd.
# See `cluster.sh help`.
#
# How nothing stays behind, whatever dies first:
#   run        the supervisor. It ends at EOF of its stdin, so a test process that holds the other end of that pipe
#              takes the cluster along even when it is SIGKILLed.
#   children   each has a parent death signal, so they die with the supervisor, also when that is SIGKILLed.
#   node       containerd, kubelet and all containers live in a PID and a mount namespace of their own. When its init
#              dies, the kernel kills every process in it, and its mounts and pod networks go along.
#   janitor    a process in a session of its own, which waits on a pipe for the supervisor's end, however it comes,
#              and then removes what the kernel does not: leftover processes, cgroups, files.
#   slot       a number that a live cluster holds locked. Ports, subnets and cgroup are named by it, so the next
#              cluster of the same slot also sweeps up after one whose janitor was killed too.
#
# Pods reach the API server by its service address, as anywhere. There is no kube-proxy: the address is one of `lo`, where
# a relay passes connections on, and it goes with the cluster.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$here/$(basename "${BASH_SOURCE[0]}")

kubernetes_version=v1.36.4
etcd_version=v3.6.14
pause_image=sweep.test/pause:1

cache=${SWEEP_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sweep-operator}
k8s_bin=$cache/k8s-$kubernetes_version
etcd_bin=$cache/etcd-$etcd_version
pause_tar=$cache/pause-$(uname -m)-$(cksum <"$here/pause.c" | cut -d' ' -f1).tar
slots=$cache/slots
up_dir=$cache/run

say() { printf 'cluster: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

usage() {
  cat <<'USAGE'
cluster.sh build                    build the components (once; 5-10 minutes) into the cache
cluster.sh run [DIR] [--node] [--restart]
                                    a cluster in the foreground, until stdin ends or TERM/INT; prints `ready kubeconfig=...`;
                                    --restart: an API server or controller manager that was killed is started again
cluster.sh up [--node]              a cluster in the background for a person; prints the KUBECONFIG line
cluster.sh down                     end it, and wait until nothing of it is left
cluster.sh image DIR ARCHIVE        load a docker or OCI archive into the node of the cluster in DIR (`up`: of that one)
cluster.sh image-build [--entrypoint PATH] [--user UID[:GID]] NAME OUT.tar FILE[:DEST]...
                                    a one-layer image from programs, with the libraries that they need
cluster.sh kubectl ARG...           the cluster's own kubectl (which-kubectl: its path)
cluster.sh check                    wait (20 s at most) until no cluster is left; else say what is, and fail

SWEEP_TEST_CACHE         where binaries and locks live (default: the user's cache folder)
KUBEBUILDER_ASSETS       a folder with kube-apiserver, etcd and kubectl to use instead of building them
SWEEP_CLUSTER_AUDIT=1    write DIR/audit.log (Metadata level)
SWEEP_CLUSTER_LOGS=PATH  copy the components' logs and the audit log there when the cluster ends
USAGE
}

# --- build -----------------------------------------------------------------------------------------------------------

# The path of a component: the user's own where KUBEBUILDER_ASSETS has it, else ours.
component() {
  case $1 in
    kube-apiserver | etcd | kubectl)
      if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]]; then
        echo "$KUBEBUILDER_ASSETS/$1"
        return
      fi
      ;;
  esac
  if [[ $1 == etcd ]]; then echo "$etcd_bin/etcd"; else echo "$k8s_bin/$1"; fi
}

built() {
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl etcd; do
    [[ -x $(component "$name") ]] || return 1
  done
  [[ -s $pause_tar ]]
}

build() {
  built && return
  local lock
  mkdir -p "$cache"
  exec {lock}>"$cache/build.lock"
  flock -n "$lock" || {
    say "another build is under way, waiting for it"
    flock "$lock"
  }
  if ! built; then
    # We hold the lock: what lies here is of a build that was killed.
    rm -rf "$cache"/build.tmp.*
    local tmp
    tmp=$(mktemp -d "$cache/build.tmp.XXXXXX")
    build_go "$tmp"
    build_pause "$tmp"
    rm -rf "$tmp"
  fi
  exec {lock}>&-
}

build_go() {
  local tmp=$1 name commands=() ldflags="-s -w" package
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
    [[ -x $(component "$name") ]] || commands+=("k8s.io/kubernetes/cmd/$name")
  done
  # Without the version Helm's kubeVersion check fails, and clients see v0.0.0.
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    ldflags+=" -X $package.gitVersion=$kubernetes_version -X $package.gitTreeState=clean"
    ldflags+=" -X $package.gitMajor=1 -X $package.gitMinor=36"
  done
  if ((${#commands[@]})); then
    command -v go >/dev/null || die "go is needed to build Kubernetes $kubernetes_version (or set KUBEBUILDER_ASSETS)"
    say "building Kubernetes $kubernetes_version: ${commands[*]##*/} (once, some minutes)"
    mkdir "$tmp/k8s"
    (cd "$here/tools/kubernetes" &&
      CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags "$ldflags" -o "$tmp/k8s/" "${commands[@]}")
    mkdir -p "$k8s_bin"
    mv "$tmp"/k8s/* "$k8s_bin/"
  fi
  if [[ ! -x $(component etcd) ]]; then
    command -v go >/dev/null || die "go is needed to build etcd $etcd_version"
    say "building etcd $etcd_version"
    (cd "$here/tools/etcd" &&
      CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags "-s -w" -o "$tmp/etcd" go.etcd.io/etcd/server/v3)
    mkdir -p "$etcd_bin"
    mv "$tmp/etcd" "$etcd_bin/"
  fi
}

build_pause() {
  [[ -s $pause_tar ]] && return
  cc -static -Os -o "$1/pause" "$here/pause.c"
  image_build "$pause_image" "$1/pause.tar" "$1/pause:/pause"
  mv "$1/pause.tar" "$pause_tar"
}

# --- images ----------------------------------------------------------------------------------------------------------

# Makes what `docker save` would: manifest.json, a config and one layer. Needs tar and sha256sum only.
image_build() {
  local entrypoint="" user="" name out spec file dest first="" tmp digest architecture
  while [[ ${1:-} == --* ]]; do
    case $1 in
      --entrypoint) entrypoint=$2 ;;
      --user) user=$2 ;;
      *) die "image-build: unknown option $1" ;;
    esac
    shift 2
  done
  (($# >= 3)) || die "image-build: NAME OUT.tar FILE[:DEST]... are needed"
  name=$1 out=$2
  shift 2
  tmp=$(mktemp -d)
  mkdir -p "$tmp/root/etc" "$tmp/image"
  mkdir -m 1777 "$tmp/root/tmp"
  printf 'root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n' >"$tmp/root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$tmp/root/etc/group"
  for spec in "$@"; do
    file=${spec%%:*}
    dest=/bin/$(basename "$file")
    [[ $spec == *:* ]] && dest=${spec#*:}
    first=${first:-$dest}
    mkdir -p "$tmp/root$(dirname "$dest")"
    install -m 755 "$file" "$tmp/root$dest"
    # Debug builds are mostly debug information; what is no program is left as it is.
    strip --strip-debug "$tmp/root$dest" 2>/dev/null || true
    copy_libraries "$file" "$tmp/root"
  done
  case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
  esac
  # Fixed order, owner and time: the same files give the same image.
  tar -C "$tmp/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$tmp/image/layer.tar" .
  digest=$(sha256sum "$tmp/image/layer.tar" | cut -d' ' -f1)
  cat >"$tmp/image/config.json" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z",
 "config":{"Entrypoint":["${entrypoint:-$first}"],"User":"$user","WorkingDir":"/",
  "Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$digest"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}
JSON
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$name" >"$tmp/image/manifest.json"
  tar -C "$tmp/image" --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$out" manifest.json config.json layer.tar
  rm -rf "$tmp"
}

# Copies the shared libraries of a program, and its loader, to where it looks for them.
copy_libraries() {
  local library
  # ldd fails on static programs and scripts: these need nothing.
  { ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true; } | sort -u | while read -r library; do
    [[ -f $library && ! -e $2$library ]] || continue
    mkdir -p "$2$(dirname "$library")"
    install -m 755 "$(readlink -f "$library")" "$2$library"
  done
}

# ctr inside the node's namespaces: its containerd has no socket outside of them.
node_ctr() {
  local init
  init=$(cat "$1/node.pid" 2>/dev/null) || die "the cluster in $1 has no node"
  shift
  nsenter -t "$init" -m -p -- ctr -a /run/containerd/containerd.sock -n k8s.io "$@"
}

image_import() {
  # By stdin, since the node sees tmpfs where the archive may lie (/run).
  node_ctr "$1" images import - <"$2" >/dev/null
}

# --- run: the supervisor ---------------------------------------------------------------------------------------------

# Fixed file descriptors, so that every child can be kept from inheriting them:
#   3 the stdin whose EOF ends us   7 the pipe to the janitor   8 the lock on our slot (the janitor keeps it)
launch() {
  # Call it with `&` only: it replaces the background shell, which makes the component our own child, and us the parent
  # whose death kills it. The variable marks everything of this cluster for the janitor.
  exec env SWEEP_CLUSTER_ID="$id" setpriv --pdeathsig KILL "$@" 3<&- 7>&- 8>&-
}

# A foreground command that a signal can interrupt: bash runs traps during `wait`, but not while it runs a command.
step() {
  launch "$@" </dev/null &
  wait $!
}

component_process() {
  local name=$1
  shift
  launch "$@" </dev/null >>"$dir/logs/$name.log" 2>&1 &
  processes[$!]=$name
  commands[$name]=$(printf '%q ' "$@")
  # For tests that stop or kill a component.
  echo $! >"$dir/pids/$name"
}

# The API server's address for pods, from a range that is reserved for tests (RFC 2544), as the pods' own.
service_address() { echo "198.19.$slot.1"; }

# Those of other Services too, which tests may add.
remove_service_addresses() {
  local address
  command -v ip >/dev/null || return 0
  { ip -o address show dev lo | grep -o "198\.19\.$slot\.[0-9]*/32" || true; } | while read -r address; do
    ip address del "$address" dev lo || true
  done
}

start_relay() {
  component_process relay socat "TCP-LISTEN:443,bind=$(service_address),reuseaddr,fork,backlog=128" "TCP:127.0.0.1:$port"
}

listening() { (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Takes the first free slot, and with it ports and a pod subnet that no other cluster uses.
take_slot() {
  mkdir -p "$slots"
  for slot in {0..99}; do
    exec 8>>"$slots/$slot.lock"
    flock -n 8 || continue
    port=$((21000 + slot * 10))
    # Another user's cluster, or any other program, may sit there.
    if ! listening $port && ! listening $((port + 1)) && ! listening $((port + 2)) && ! listening $((port + 3)); then
      # Whatever still carries this slot's name belongs to a cluster that was killed with its janitor.
      if [[ -s $slots/$slot.made ]]; then rm -rf -- "$(cat "$slots/$slot.made")"; fi
      rm -f "$slots/$slot.made"
      remove_cgroups "sweep-test-$slot"
      remove_service_addresses
      return
    fi
  done
  die "no free slot: are 100 clusters running? (locks in $slots)"
}

run() {
  local given="" want_node=no made=no restart=no
  while (($#)); do
    case $1 in
      --node) want_node=yes ;;
      --restart) restart=yes ;;
      -*) die "run: unknown option $1" ;;
      *) given=$1 ;;
    esac
    shift
  done
  exec 3<&0 </dev/null
  id=$$-$RANDOM$RANDOM
  declare -A processes=() commands=()

  # From here a signal ends the script, and the janitor sees that.
  trap 'exit 143' TERM HUP
  trap 'exit 130' INT
  # shellcheck disable=SC2016
  launch bash -c 'while read -r _; do :; done; kill -TERM "$1"' _ $$ 0<&3 >/dev/null 2>&1 &
  watcher=$!
  step "$self" build

  take_slot
  if [[ -z $given ]]; then
    dir=$(mktemp -d "${TMPDIR:-/tmp}/sweep-cluster.XXXXXX")
    made=yes
  elif [[ -e $given ]]; then
    dir=$(cd "$given" && pwd)
  else
    mkdir -p "$given"
    dir=$(cd "$given" && pwd)
    made=yes
  fi
  if [[ $made == yes ]]; then echo "$dir" >"$slots/$slot.made"; fi
  exec 7> >(exec setsid bash "$self" __janitor "$id" "$dir" "$slot" "$made" 3<&- 7>&- 2>&2)
  janitor=$!
  trap finish EXIT
  # Only root may read the keys and tokens.
  chmod 700 "$dir"
  mkdir -p "$dir"/{logs,etcd,pki,pids}
  node_reason=""
  if [[ $want_node == yes ]]; then node_reason=$(node_obstacle); fi
  if [[ $want_node == yes && -z $node_reason ]]; then start_containerd; fi
  start_control_plane
  local report="node=no"
  if [[ $want_node == yes ]]; then
    if [[ -z $node_reason ]] && start_kubelet; then
      report="node=yes"
    else
      report="node=no node-skipped=$node_reason"
    fi
  fi
  echo "$report" >"$dir/ready"
  printf 'ready kubeconfig=%s %s\n' "$dir/kubeconfig" "$report"
  # No process of ours ends by itself, so the first that does is a failure (signals come by the traps).
  local ended=""
  while [[ -z ${processes[${ended:-none}]:-} ]]; do
    wait -n -p ended || true
    # The watcher at EOF: its signal is on the way.
    [[ -n ${ended:-} ]] || sleep 0.2
    # Tests of faults kill these two; a real cluster's kubelet would start them again.
    if [[ $restart == yes && ${processes[${ended:-none}]:-} =~ ^kube-(apiserver|controller-manager)$ ]]; then
      local name=${processes[$ended]}
      unset "processes[$ended]"
      eval "component_process $name ${commands[$name]}"
      ended=""
    fi
  done
  failed "${processes[$ended]} ended by itself"
}

failed() {
  say "$*; the last lines of each log:"
  tail -n 5 "$dir"/logs/*.log >&2 || true
  exit 1
}

finish() {
  trap '' TERM INT HUP
  # Closing the pipe sets the janitor to work; we end when it has.
  exec 7>&-
  wait "$janitor" 2>/dev/null || true
}

# Waits for a command to succeed; gives up at once when a component is gone. Leaves the reason in `problem`.
await() {
  local what=$1 seconds=$2 end process
  shift 2
  end=$((SECONDS + seconds))
  until step "$@" >/dev/null 2>&1; do
    for process in "${!processes[@]}"; do
      if ! kill -0 "$process" 2>/dev/null; then
        problem="${processes[$process]} ended while waiting for $what"
        return 1
      fi
    done
    if ((SECONDS >= end)); then
      problem="no $what after $seconds s"
      return 1
    fi
    sleep 0.1
  done
}

certificates() {
  local pki=$dir/pki
  openssl() { command openssl "$@" 2>>"$dir/logs/openssl.log"; }
  new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$pki/$1.key"; }
  # issue NAME SUBJECT EXTENSIONS
  issue() {
    new_key "$1"
    openssl req -new -key "$pki/$1.key" -subj "$2" -out "$pki/$1.csr"
    openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 30 \
      -extfile <(printf '%b' "$3") -out "$pki/$1.crt"
  }
  new_key ca
  openssl req -x509 -new -key "$pki/ca.key" -subj "/CN=sweep-test" -days 30 -out "$pki/ca.crt"
  issue server "/CN=localhost" "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$(service_address)\n"
  issue kubelet-client "/O=system:masters/CN=kube-apiserver" "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n"
  new_key service-accounts
  openssl pkey -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub"
}

# kubeconfig FILE USER GROUPS: adds a token, and writes the file that uses it.
kubeconfig() {
  local token
  token=$(command openssl rand -hex 16)
  printf '%s,%s,%s,"%s"\n' "$token" "$2" "$2" "$3" >>"$dir/pki/tokens.csv"
  cat >"$dir/$1" <<YAML
apiVersion: v1
kind: Config
current-context: sweep-test
contexts:
  - {name: sweep-test, context: {cluster: sweep-test, user: sweep-test}}
clusters:
  - name: sweep-test
    cluster:
      server: https://127.0.0.1:$port
      certificate-authority-data: $(base64 -w0 <"$dir/pki/ca.crt")
users:
  - {name: sweep-test, user: {token: $token}}
YAML
}

start_control_plane() {
  local etcd_url=http://127.0.0.1:$((port + 1)) etcd_peer=http://127.0.0.1:$((port + 2)) audit=()
  umask 077
  component_process etcd "$(component etcd)" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" \
    --listen-peer-urls "$etcd_peer" --initial-advertise-peer-urls "$etcd_peer" --initial-cluster "default=$etcd_peer"
  certificates
  kubeconfig kubeconfig admin system:masters
  kubeconfig controller-manager.kubeconfig system:kube-controller-manager system:masters
  kubeconfig scheduler.kubeconfig system:kube-scheduler ""
  # The kubelet gets a node's rights and no more, as in a real cluster.
  kubeconfig kubelet.kubeconfig system:node:localhost system:nodes
  if [[ ${SWEEP_CLUSTER_AUDIT:-} == 1 ]]; then
    printf 'apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n' \
      >"$dir/audit-policy.yaml"
    audit=(--audit-policy-file "$dir/audit-policy.yaml" --audit-log-path "$dir/audit.log")
  fi
  # OwnerReferencesPermissionEnforcement is what OpenShift adds: an operator that lacks update on finalizers fails here too.
  component_process kube-apiserver "$(component kube-apiserver)" \
    --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$port" --etcd-servers "$etcd_url" \
    --cert-dir "$dir/pki" --tls-cert-file "$dir/pki/server.crt" --tls-private-key-file "$dir/pki/server.key" \
    --token-auth-file "$dir/pki/tokens.csv" --authorization-mode Node,RBAC \
    --enable-admission-plugins OwnerReferencesPermissionEnforcement --allow-privileged \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$dir/pki/service-accounts.pub" \
    --service-account-signing-key-file "$dir/pki/service-accounts.key" \
    --service-cluster-ip-range "198.19.$slot.0/24" --endpoint-reconciler-type none \
    --kubelet-preferred-address-types Hostname --kubelet-certificate-authority "$dir/pki/ca.crt" \
    --kubelet-client-certificate "$dir/pki/kubelet-client.crt" --kubelet-client-key "$dir/pki/kubelet-client.key" \
    --profiling=false "${audit[@]}"
  local kubectl=("$(component kubectl)" --kubeconfig "$dir/kubeconfig")
  await "kube-apiserver" 120 "${kubectl[@]}" get --raw /readyz || failed "$problem"
  component_process kube-controller-manager "$(component kube-controller-manager)" \
    --kubeconfig "$dir/controller-manager.kubeconfig" --leader-elect=false --secure-port 0 \
    --kube-api-qps 200 --kube-api-burst 400 --node-monitor-period 1s --root-ca-file "$dir/pki/ca.crt" \
    --service-account-private-key-file "$dir/pki/service-accounts.key"
  component_process kube-scheduler "$(component kube-scheduler)" \
    --kubeconfig "$dir/scheduler.kubeconfig" --leader-elect=false --secure-port 0 --kube-api-qps 200 --kube-api-burst 400
  # No pod can be created before its service account is there.
  await "service account default/default" 120 "${kubectl[@]}" -n default get serviceaccount default ||
    failed "$problem"
}

# --- the node --------------------------------------------------------------------------------------------------------

cni_plugins() {
  local candidate
  for candidate in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
    if [[ -x $candidate/ptp && -x $candidate/host-local && -x $candidate/loopback ]]; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Why there can be no node here; nothing when there can. Installs what is missing, where it may.
node_obstacle() {
  local missing=() error
  if [[ $(id -u) != 0 ]]; then
    echo "not root"
    return
  fi
  command -v containerd >/dev/null || missing+=(containerd)
  command -v runc >/dev/null || missing+=(runc)
  cni_plugins >/dev/null || missing+=(containernetworking-plugins)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v socat >/dev/null || missing+=(socat)
  if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null; then
      echo "${missing[*]} not installed, and no apt-get"
      return
    fi
    say "installing ${missing[*]}"
    if ! { step apt-get update -qq &&
      step env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2; then
      echo "apt-get could not install ${missing[*]}"
      return
    fi
  fi
  error=$(unshare --mount --pid --fork mount -t tmpfs none /mnt 2>&1) || {
    echo "no namespaces or mounts: ${error##*$'\n'}"
    return
  }
  error=$(mkdir_cgroups 2>&1) || {
    echo "cgroups are not writable: ${error##*$'\n'}"
    return
  }
  error=$(ip address add "$(service_address)/32" dev lo 2>&1) || echo "no address can be added to lo: ${error##*$'\n'}"
}

# The roots of all cgroup hierarchies: one on v2, one for each controller on v1.
cgroup_roots() {
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    echo /sys/fs/cgroup
  else
    printf '%s\n' /sys/fs/cgroup/*/
  fi
}

mkdir_cgroups() {
  local root
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    # The kernel refuses this where the root of a container holds processes: nothing could be limited then.
    echo "+cpu +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
  fi
  while read -r root; do
    # cpu and cpuacct may be links to one hierarchy.
    mkdir -p "${root%/}/sweep-test-$slot"
  done < <(cgroup_roots)
}

remove_cgroups() {
  local root end=$((SECONDS + 5)) left
  # Processes that were just killed hold their cgroup for a moment.
  while :; do
    left=no
    while read -r root; do
      [[ -d ${root%/}/$1 ]] || continue
      find "${root%/}/$1" -depth -type d -exec rmdir {} + 2>/dev/null || left=yes
    done < <(cgroup_roots)
    if [[ $left == no ]] || ((SECONDS >= end)); then return; fi
    sleep 0.05
  done
}

start_containerd() {
  local snapshotter=overlayfs plugins
  plugins=$(cni_plugins)
  mkdir -p "$dir"/{cni,containerd,kubelet,pod-logs,overlay/{lower,upper,work,all}}
  # Inside a container DIR may lie on an overlay itself, which cannot carry another.
  unshare --mount mount -t overlay none -o \
    "lowerdir=$dir/overlay/lower,upperdir=$dir/overlay/upper,workdir=$dir/overlay/work" "$dir/overlay/all" 2>/dev/null ||
    snapshotter=native
  rm -rf "$dir/overlay"
  # ptp without masquerading: no bridge and no iptables rule, and the veth goes with the pod's network namespace.
  cat >"$dir/cni/10-sweep.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "sweep-test-$slot", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {
    "type": "host-local", "dataDir": "$dir/cni/state", "subnet": "198.18.$slot.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  # restrict_oom_score_adj: where the OOM score may not be lowered, runc would die of trying.
  # disable_apparmor: its profile would be loaded into the host's kernel, and stay.
  cat >"$dir/containerd.toml" <<TOML
version = 2
root = "$dir/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$pause_image"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "$snapshotter"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$plugins"
conf_dir = "$dir/cni"
TOML
  cat >"$dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $((port + 3))
readOnlyPort: 0
healthzPort: 0
tlsCertFile: $dir/pki/server.crt
tlsPrivateKeyFile: $dir/pki/server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $dir/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
podLogsDir: $dir/pod-logs
volumePluginDir: $dir/volume-plugins
resolvConf: $dir/resolv.conf
cgroupDriver: cgroupfs
cgroupRoot: /sweep-test-$slot
cgroupsPerQOS: true # else containerd puts containers under /k8s.io, where nobody could tell whose they are
failCgroupV1: false
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
localStorageCapacityIsolation: false
evictionHard: {}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
makeIPTablesUtilChains: false
maxPods: 200
serializeImagePulls: false
nodeStatusUpdateFrequency: 1s
syncFrequency: 10s
fileCheckFrequency: 0s
httpCheckFrequency: 0s
eventRecordQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
YAML
  # The host's file may name a resolver under /run, which the node does not see; tests need no DNS.
  echo "nameserver 127.0.0.1" >"$dir/resolv.conf"
  # --kill-child: the death signal reaches the namespace's init too, and with it everything inside.
  component_process node unshare --mount --pid --fork --kill-child=KILL --propagation private \
    bash "$self" __node "$dir" "$(component kubelet)"
  node_process=$!
}

start_kubelet() {
  local kubectl=("$(component kubectl)" --kubeconfig "$dir/kubeconfig")
  start_relay
  : >"$dir/start-kubelet"
  # A new node is tainted until the controller manager has seen it ready.
  # shellcheck disable=SC2016
  await "node localhost" 60 "${kubectl[@]}" get node localhost &&
    await "ready node" 60 "${kubectl[@]}" wait --for=condition=Ready --timeout=2s node/localhost &&
    await "node without taints" 60 bash -c '[[ -z $("$@") ]]' _ \
      "${kubectl[@]}" get node localhost -o 'jsonpath={.spec.taints}' && return
  # Not every machine lets a kubelet live; the control plane alone is still of use.
  node_reason=$problem
  say "$node_reason; the last lines of the node's logs:"
  tail -n 5 "$dir"/logs/{node,containerd,kubelet}.log >&2 || true
  unset "processes[$node_process]"
  kill -KILL "$node_process" 2>/dev/null || true
  return 1
}

# The init of the node's namespaces.
node_main() {
  dir=$1
  local kubelet=$2 hidden file keep
  # /proc is still the host's here, so this is the PID that the others know us by.
  read -r hidden _ </proc/self/stat
  echo "$hidden" >"$dir/node.pid"
  # containerd, CNI and the kubelet have paths of their own under these that no option moves. Hidden, nothing of it gets
  # onto the host, and two clusters do not meet.
  mount -t tmpfs sweep-test /mnt
  for hidden in /run /var/lib /var/log; do
    for keep in "$dir" "$cache"; do
      [[ $keep/ == "$hidden"/* ]] || continue
      mkdir -p "/mnt/$keep"
      mount --bind "$keep" "/mnt/$keep"
    done
  done
  for hidden in /run /var/lib /var/log; do
    mount -t tmpfs -o mode=755 sweep-test "$hidden"
    for keep in "$dir" "$cache"; do
      [[ $keep/ == "$hidden"/* ]] || continue
      mkdir -p "$keep"
      mount --move "/mnt/$keep" "$keep"
    done
  done
  mount -t proc proc /proc
  # The kubelet and the ptp plugin set these for the whole machine. They leave alone what has their value, so show them
  # files that have it.
  mkdir /run/sysctl
  while read -r file hidden; do
    [[ -e /proc/sys/$file ]] || continue
    echo "$hidden" >"/run/sysctl/${file//\//.}"
    mount --bind "/run/sysctl/${file//\//.}" "/proc/sys/$file"
  done <<'SYSCTL'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
net/ipv4/ip_forward 1
SYSCTL
  # Volumes with mount propagation need shared mounts; these are shared inside the node only.
  mount --make-rshared /
  mkdir -p /run/containerd
  containerd --config "$dir/containerd.toml" >"$dir/logs/containerd.log" 2>&1 &
  local tries
  for tries in {1..200}; do
    if ctr -a /run/containerd/containerd.sock version >/dev/null 2>&1; then break; fi
    sleep 0.1
    ((tries < 200)) || die "containerd does not answer"
  done
  ctr -a /run/containerd/containerd.sock -n k8s.io images import "$pause_tar"
  while [[ ! -e $dir/start-kubelet ]]; do sleep 0.1; done
  "$kubelet" --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubelet.kubeconfig" --root-dir "$dir/kubelet" \
    --cert-dir "$dir/pki" --hostname-override localhost >"$dir/logs/kubelet.log" 2>&1 &
  # As init we also reap orphans (containerd's shims); bash does that by itself.
  local ended=""
  wait -n -p ended || true
  die "containerd or kubelet ended (process $ended)"
}

# --- the janitor -----------------------------------------------------------------------------------------------------

janitor() {
  local id=$1 dir=$2 slot=$3 made=$4 end init found=()
  trap '' INT TERM HUP
  # Blocks until nobody holds the other end any more.
  cat >/dev/null
  end=$((SECONDS + 8))
  while :; do
    mapfile -t found < <(marked_processes "$id")
    ((${#found[@]})) || break
    # All at once and without asking: nothing here has to be saved.
    kill -KILL "${found[@]}" 2>/dev/null || true
    ((SECONDS < end)) || break
    sleep 0.05
  done
  # The node's init is a zombie, or gone, only when the kernel has ended all in its namespace.
  init=$(cat "$dir/node.pid" 2>/dev/null || true)
  while [[ -n $init ]] && grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$init/status" && ((SECONDS < end)); do
    sleep 0.05
  done
  remove_cgroups "sweep-test-$slot"
  remove_service_addresses
  if [[ -n ${SWEEP_CLUSTER_LOGS:-} ]]; then
    mkdir -p "$SWEEP_CLUSTER_LOGS"
    cp -r "$dir"/logs/. "$SWEEP_CLUSTER_LOGS/" || true
    if [[ -e $dir/audit.log ]]; then cp "$dir/audit.log" "$SWEEP_CLUSTER_LOGS/"; fi
  fi
  if [[ $made == yes ]]; then
    rm -rf -- "$dir"
  else
    # The folder was there before us: logs stay.
    rm -rf -- "$dir"/{etcd,pki,pids,cni,containerd,kubelet,pod-logs,volume-plugins,overlay} "$dir"/*.{kubeconfig,toml,yaml,conf,pid} \
      "$dir"/{kubeconfig,ready,start-kubelet}
  fi
  rm -f "$slots/$slot.made"
}

# Everything that was started with our mark, in whatever PID namespace it is. Containers do not carry it: they are gone
# with their namespace's init, which does.
marked_processes() {
  local file
  { grep -lsz "^SWEEP_CLUSTER_ID=$1\$" /proc/[0-9]*/environ || true; } | while read -r file; do
    file=${file#/proc/}
    echo "${file%/environ}"
  done
}

# --- for a person ----------------------------------------------------------------------------------------------------

is_up() { [[ -s $up_dir/pid ]] && kill -0 "$(cat "$up_dir/pid")" 2>/dev/null; }

up() {
  local option=("$@") pid
  [[ $# == 0 || $* == --node ]] || die "up: only --node is known"
  build
  if ! is_up; then
    rm -rf "$up_dir"
    mkdir -p "$up_dir"
    chmod 700 "$up_dir"
    mkfifo "$up_dir/stdin"
    # Opened for reading and writing it never ends: `down` ends this one.
    setsid bash "$self" run "$up_dir/cluster" "${option[@]}" 0<>"$up_dir/stdin" >"$up_dir/out" 2>"$up_dir/err" &
    pid=$!
    echo $pid >"$up_dir/pid"
    until grep -qs '^ready ' "$up_dir/out"; do
      if ! kill -0 $pid 2>/dev/null; then
        cat "$up_dir/err" >&2
        die "the cluster did not start"
      fi
      sleep 0.2
    done
  fi
  if grep -q node-skipped= "$up_dir/out"; then say "no node: $(sed -n 's/.*node-skipped=//p' "$up_dir/out")"; fi
  echo "export KUBECONFIG=$up_dir/cluster/kubeconfig"
}

down() {
  local pid
  if is_up; then
    pid=$(cat "$up_dir/pid")
    kill -TERM "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  fi
  rm -rf "$up_dir"
}

check() {
  local end=$((SECONDS + 20)) lock left slot
  while :; do
    left=""
    for lock in "$slots"/*.lock; do
      [[ -e $lock ]] || continue
      slot=$(basename "$lock" .lock)
      if ! flock -n "$lock" true; then
        left+="cluster of slot $slot is alive; "
      elif [[ -e $slots/$slot.made ]]; then
        left+="$(cat "$slots/$slot.made") is left; "
      fi
    done
    if command -v ip >/dev/null; then
      left+=$(ip -o address show dev lo | grep -o '198\.19\.[0-9]*\.[0-9]*/32' | sed 's/$/ is left on lo; /' || true)
    fi
    left+=$(find /sys/fs/cgroup -maxdepth 2 -name 'sweep-test-*' -printf '%p is left; ' 2>/dev/null || true)
    if [[ -z $left ]]; then return; fi
    ((SECONDS < end)) || die "${left%; }"
    sleep 0.2
  done
}

command=${1:-help}
shift || true
case $command in
  build) build ;;
  run) run "$@" ;;
  up) up "$@" ;;
  down) down ;;
  image)
    [[ $# == 2 ]] || die "image: DIR ARCHIVE are needed"
    if [[ $1 == up ]]; then image_import "$up_dir/cluster" "$2"; else image_import "$1" "$2"; fi
    ;;
  image-build) image_build "$@" ;;
  kubectl) exec "$(component kubectl)" "$@" ;;
  which-kubectl) component kubectl ;;
  check) check ;;
  __node) node_main "$@" ;;
  __janitor) janitor "$@" ;;
  help | -h | --help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
