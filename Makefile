# `make demo` and `make test` do all the set-up; see README.md.
# Debug builds: they are optimised enough for the example, and shared by the demo and the tests.
.PHONY: demo build test soak bench bench-local reliability lint crds cluster cluster-down operator

CLUSTER := tests/cluster/cluster.sh

build:
	cargo build --locked --bins --examples

# The example trainer is found on the PATH, as in its image.
demo: build
	rm -rf .sweep/digits
	PATH="$(CURDIR)/target/debug/examples:$$PATH" target/debug/sweep run examples/digits/study.yaml

# The cluster's components are built before the tests start, so that no test waits for a compiler.
test: lint build
	$(CLUSTER) build
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

# Runs what docs/reliability.md tells of, and writes its figures anew.
reliability: build
	tests/reliability.sh

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Writes crds/ anew; a test fails when they are not what the code generates.
crds:
	SWEEP_UPDATE_CRDS=1 cargo test --locked --test core crds

# A cluster for a person: our CRDs, the images of the examples, two GPUs that are not there.
cluster: build
	@set -e; eval "$$($(CLUSTER) up --node)"; kubectl="$(CLUSTER) kubectl"; \
	$$kubectl apply -f crds/ >&2; \
	if $$kubectl get node localhost >/dev/null 2>&1; then \
		images=$$(mktemp -d); trap 'rm -rf "$$images"' EXIT; \
		$(CLUSTER) image-build --user 65532 localhost/sweep:dev "$$images/sweep.tar" target/debug/sweep:/sweep; \
		$(CLUSTER) image-build --user 65532 localhost/sweep-digits:dev "$$images/digits.tar" \
			target/debug/examples/digits:/usr/bin/digits; \
		$(CLUSTER) image up "$$images/sweep.tar" >&2; \
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
		--sidecar-image localhost/sweep:dev --sidecar-pull-policy Never --listen 127.0.0.1:8080
