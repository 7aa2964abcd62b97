# `make` lists the commands. Everything that they install is in .tools/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help tools rust build demo demo-pool run test test-backend test-deploy test-rust test-bench test-browser bench bench-smoke bench-tools bench-pool chaos fuzz mutants image-check compose-check network-check contract lint screenshots clean-tools

TOOLS := $(CURDIR)/.tools
VENV_PYTHON := $(TOOLS)/venv/bin/python

# Where the integration tests and the drivers find the real parts.
export PATH := $(TOOLS)/bin:$(PATH)
export NATS_SERVER_BIN ?= $(TOOLS)/bin/nats-server
export ROTEL_AGENT_BIN ?= $(TOOLS)/bin/rotel-agent
export BACKEND_PYTHON ?= $(VENV_PYTHON)

# The tests wait more than they compute: for processes to start, and for the times that are promised. What they
# measure takes a busy machine into account.
export RUST_TEST_THREADS ?= $(shell echo $$((4 * $$(nproc 2>/dev/null || echo 2))))

# One set of flags for build and test, so that nothing is compiled twice.
WITH_SIMULATOR := --workspace --features simulator

# For the same reason: the build script of `waproto` writes a file that it also watches. The next cargo would take that for a
# change, and compile it and the client library above it once more.
SETTLED := find "$${CARGO_TARGET_DIR:-target}" -path '*/build/waproto-*/out/*' -exec touch -d @0 {} + 2>/dev/null || true

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: rust ## chat with the assistant through a simulated WhatsApp; nothing else is needed
	@# The one waits for the network while the other computes. If the tools fail, their second try has the last word.
	@deploy/tools/install.sh & cargo build $(WITH_SIMULATOR) || { wait; exit 1; }; wait $$! || deploy/tools/install.sh
	@$(VENV_PYTHON) deploy/demo/demo.py

demo-pool: rust ## the same with two edges without a disk: the one that has the number is killed in the middle of a conversation
	@deploy/tools/install.sh & cargo build $(WITH_SIMULATOR) || { wait; exit 1; }; wait $$! || deploy/tools/install.sh
	@$(VENV_PYTHON) deploy/demo/demo_pool.py

run: tools rust ## link a real WhatsApp number (QR code in the terminal) and answer it
	cargo build
	@$(VENV_PYTHON) deploy/demo/run.py

test: test-backend test-deploy test-rust test-browser test-bench ## all tests

test-backend: tools ## the reference backend's tests
	cd deploy/backend && $(VENV_PYTHON) -m pytest

test-deploy: tools ## compose.yaml, the Dockerfiles, the Kubernetes manifests and the Helm chart, without an engine or a cluster
	cd deploy/tests && $(VENV_PYTHON) -m pytest

test-rust: tools build ## the connector's and the simulator's tests, on real parts
	cargo test $(WITH_SIMULATOR) --no-fail-fast
	@# What promises something within two seconds: with nothing beside it.
	cargo test $(WITH_SIMULATOR) --test promises -- --ignored alone:: --test-threads=1

test-browser: tools build ## the console in a browser without a window, on real parts
	cd tests/browser && $(VENV_PYTHON) -m pytest

screenshots: tools build ## draw docs/console/*.png anew
	cd tests/browser && PYTHONPATH=$(CURDIR)/deploy/demo $(VENV_PYTHON) screenshots.py

test-bench: bench-smoke ## the benchmark's harness: order, losses and duplicates, and that its table renders

chaos: tools build ## the promises under fire; SEED=n, SEEDS=n, JOBS=n, FAULTS=kills|..., POOL=1, CLUSTER=1: see docs/delivery.md
	@cargo test $(WITH_SIMULATOR) --quiet --test chaos -- rounds

bench: tools rust bench-tools ## measure everything beside its peers, 30 minutes; SUITE=a,b, QUICK=1, JSON=path, BASE=revision: see docs/performance.md
	@tests/bench/bench.sh

bench-smoke: tools build ## every suite of the benchmark tiny, judged for correctness only
	@$(CURDIR)/target/debug/whatsapp-bench run --smoke

bench-tools: tools
	@tests/bench/peers/install.sh

bench-pool: tools ## what an idle account costs one edge of a pool: memory and processor with 10, 50 and 200, judged; a release build
	cargo build --release $(WITH_SIMULATOR)
	WHATSAPP_CONNECTOR_BIN=$(CURDIR)/target/release/whatsapp-connector cargo test $(WITH_SIMULATOR) --quiet --test promises -- \
		--ignored --exact --nocapture pool_size::what_idle_accounts_cost

fuzz: rust ## random bytes for every decoder; FUZZ_SECONDS=n (600 for each target), TARGET=name: see CONTRIBUTING.md
	@deploy/tools/fuzz.sh

mutants: rust ## change the files that decide in small ways, and see that a test notices; FILE=path takes one: see CONTRIBUTING.md
	@deploy/tools/mutants.sh

image-check: tools rust ## build deploy/Dockerfile in a clean Debian and run it; root, debootstrap and a long while
	@$(VENV_PYTHON) deploy/image/check.py

compose-check: tools rust ## build the images and run compose.yaml as docs say, where a container engine answers; FULL=1, KEEP=1: see CONTRIBUTING.md
	@$(VENV_PYTHON) -u deploy/containers/compose_check.py $(PART)

network-check: tools rust ## cut the lines between NATS, edges, forwarders and WhatsApp, where a container engine answers; FULL=1, ROUND=, KEEP=1
	@$(VENV_PYTHON) -u tests/network/network_check.py

contract: tools ## write docs/asyncapi.yaml and the tables of kinds in docs/subjects.md anew, of docs/kinds.yaml
	@$(VENV_PYTHON) deploy/contract/contract.py

lint: tools rust ## formatting, clippy, rustdoc and what may be in a build; every warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@$(SETTLED)
	cargo clippy $(WITH_SIMULATOR) --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc $(WITH_SIMULATOR) --no-deps
	$(VENV_PYTHON) deploy/tools/check-crates.py
	if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

build: rust ## the connector with its simulator feature, and the simulator
	cargo build $(WITH_SIMULATOR)
	@$(SETTLED)

tools: ## install nats-server and the Python parts into .tools/
	@deploy/tools/install.sh

clean-tools: ## remove .tools/
	rm -rf $(TOOLS)

rust:
	@deploy/tools/check-rust.sh
	@$(SETTLED)
