# `make demo` and `make test` do all the set-up; see README.md.
# Debug builds: they are optimised enough for the example, and shared by the demo and the tests.
.PHONY: demo build image test soak bench bench-local scale scale-reports reliability lint deny sbom crds charts cluster cluster-down operator

CLUSTER := tests/cluster/cluster.sh

build:
	cargo build --locked --bins --examples

# The image that is shipped, for ARCH (amd64 or arm64), as an archive that `ctr images import` and `docker load` read. It
# is one static program; buildah puts it together without a network. For the other architecture: `rustup target add`, and
# Debian's gcc-aarch64-linux-gnu or gcc-x86-64-linux-gnu.
ARCH ?= $(if $(filter aarch64,$(shell uname -m)),arm64,amd64)
CPU := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)
RUST_ARCH := $(CPU)-unknown-linux-gnu
LINKER := $(if $(filter $(CPU),$(shell uname -m)),,CARGO_TARGET_$(shell echo $(RUST_ARCH) | tr a-z- A-Z_)_LINKER=$(CPU)-linux-gnu-gcc)
IMAGE ?= localhost/sweep-operator:dev
IMAGE_DIR := $(or $(CARGO_TARGET_DIR),target)/image
COMMIT := $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

image: $(IMAGE_DIR)/linux-$(ARCH)/sweep
	@command -v buildah >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah >&2; } || \
		{ echo 'buildah is needed to build the image' >&2; exit 1; }
	@set -e; storage=$$(mktemp -d); trap 'rm -rf "$$storage"' EXIT; \
	buildah() { command buildah --root "$$storage/root" --runroot "$$storage/run" --storage-driver vfs "$$@"; }; \
	buildah bud --quiet --isolation chroot --pull-never --timestamp 0 --platform linux/$(ARCH) \
		--build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --tag $(IMAGE) -f Containerfile $(IMAGE_DIR) >/dev/null; \
	rm -f $(IMAGE_DIR)/sweep-operator-$(ARCH).tar; \
	buildah push --quiet $(IMAGE) docker-archive:$(IMAGE_DIR)/sweep-operator-$(ARCH).tar:$(IMAGE) >/dev/null; \
	ls -l $(IMAGE_DIR)/sweep-operator-$(ARCH).tar

$(IMAGE_DIR)/linux-$(ARCH)/sweep: FORCE
	$(LINKER) RUSTFLAGS="-C target-feature=+crt-static" SWEEP_COMMIT=$(COMMIT) \
		cargo build --locked --profile image --bin sweep --target $(RUST_ARCH)
	install -D $(or $(CARGO_TARGET_DIR),target)/$(RUST_ARCH)/image/sweep $@
FORCE:

# The example trainer is found on the PATH, as in its image.
demo: build
	rm -rf .sweep/digits
	PATH="$(CURDIR)/target/debug/examples:$$PATH" target/debug/sweep run examples/digits/study.yaml

# The cluster's components are built before the tests start, so that no test waits for a compiler.
# Without root there is no node, and so no use for the image.
test: lint deny build
	@if [ "$$(id -u)" = 0 ] || command -v buildah >/dev/null; then $(MAKE) image; \
		else echo 'SKIPPED: no image is built: neither root nor buildah' >&2; fi
	$(CLUSTER) build
	tests/tools.sh build
	tests/install/earlier.sh
	cargo test --locked

# Interleavings of faults by the hundred thousand, in an optimised build; hours.
soak:
	SWEEP_SIM_COUNT=$${SWEEP_SIM_COUNT:-100000} cargo test --locked --release --test sim no_interleaving -- --nocapture

# Time of a proposal, for docs/benchmarks.md; what is timed proposes what the tests of the debug build have recorded.
bench:
	cargo test --locked --release --test core samplers::
	cargo bench --locked --bench samplers

# CPU per trial of `sweep run` with 4,000 trials beside 500, for docs/benchmarks.md; minutes.
bench-local: build
	benches/local/trials.sh random

# A sweep of many trials beside a bare loop of Jobs, on a control plane of its own with kwok for the nodes; and trials that run
# for long and report once a second. Minutes. `make scale TRIALS=5000 PARALLELISM=100 LIFE=10s`; the other variables:
# `benches/scale/scale.sh help`.
scale:
	@benches/scale/scale.sh trials

scale-reports:
	@benches/scale/scale.sh reports

# Runs what docs/reliability.md tells of, and writes its figures anew.
reliability: build image
	tests/reliability.sh

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Licences, bans and sources of what the binary is made of; known weaknesses where their database can be had.
deny:
	tests/deny.sh

# What the binary is made of, as CycloneDX; the same for each architecture. The tool writes beside Cargo.toml, with this
# machine's path.
sbom:
	tests/tools.sh build cargo-cyclonedx
	mkdir -p target/image
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) "$$(tests/tools.sh path cargo-cyclonedx)" cyclonedx \
		--quiet --format json --spec-version 1.5 --describe binaries --no-build-deps --target x86_64-unknown-linux-gnu
	sed 's|path+file://[^"#]*#||g' sweep_bin.cdx.json > target/image/sweep-operator.cdx.json
	rm sweep_bin.cdx.json

# Writes crds/ and docs/api.md anew; tests fail when they are not what the code generates.
crds:
	SWEEP_UPDATE_CRDS=1 cargo test --locked --test core crds

# Writes what is made from the chart and the CRDs anew; a test fails when it is not what the chart renders.
charts:
	charts/render.sh

# A cluster for a person: our CRDs, the images of the examples, two GPUs that are not there.
cluster: build image
	@set -e; eval "$$($(CLUSTER) up --node)"; kubectl="$(CLUSTER) kubectl"; \
	$$kubectl apply -f crds/ >&2; \
	if $$kubectl get node localhost >/dev/null 2>&1; then \
		images=$$(mktemp -d); trap 'rm -rf "$$images"' EXIT; \
		$(CLUSTER) image-build --user 65532 localhost/sweep-digits:dev "$$images/digits.tar" \
			target/debug/examples/digits:/usr/bin/digits; \
		$(CLUSTER) image up $(IMAGE_DIR)/sweep-operator-$(ARCH).tar >&2; \
		$(CLUSTER) image up "$$images/digits.tar" >&2; \
		$$kubectl patch node localhost --subresource=status --type=json \
			-p '[{"op":"add","path":"/status/capacity/nvidia.com~1gpu","value":"2"}]' >&2; \
	else echo 'no node here (see above): Studies are accepted, their pods stay pending' >&2; fi; \
	echo "# then: make operator, in another terminal. Without a kubectl of your own: $$kubectl" >&2; \
	echo "export KUBECONFIG=$$KUBECONFIG"

cluster-down:
	@$(CLUSTER) down

# The operator beside the cluster of `make cluster`, until Ctrl-C.
operator: build
	eval "$$($(CLUSTER) up --node)" && exec target/debug/sweep operator \
		--sidecar-image $(IMAGE) --sidecar-pull-policy Never --listen 127.0.0.1:8080
