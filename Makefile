# What a newcomer types. `make help` lists it.

PREFIX ?= /usr/local
DESTDIR ?=
CNI_BIN_DIR ?= /opt/cni/bin
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/release/caracal
# What tests start as a process; built as for the tests, so that nothing is compiled twice.
TEST_BIN := $(abspath $(TARGET_DIR))/debug/caracal
TABLES := testdata/policy/kubernetes-truth-tables.json.gz testdata/policy/calico-cases.json
# Names under which `make install` links the program into the bin folder.
LINKS := calicoctl calicoq calico-felix calico-node calico-typha calico-confd calico-kube-controllers calico-apiserver
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help lab build test nightly bench install clean setup setup-test

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: build ## build, bring up a network of three nodes, apply policies, probe it
	@bash scripts/lab.sh $(BIN)

# Static, because the CNI plugin is copied onto hosts with an older C library. Only the last link needs the flags, and
# only there does it leave procedural macros alone. At a fixed place, as Go programs are, because each of the many short runs
# would relocate 1.5 MiB of pointers first.
build: setup ## the release program, target/release/caracal
	CARACAL_COMMIT=$(COMMIT) $(CARGO) rustc --release --locked --package caracal --bin caracal -- -C target-feature=+crt-static -C relocation-model=static

test: setup-test ## all tests (as root they include the kernel's)
	$(CARGO) build --locked --workspace --bin caracal
	CARACAL_BIN=$(TEST_BIN) $(CARGO) test --locked --workspace --no-fail-fast
	for table in $(TABLES); do $(TEST_BIN) policy-check $$table --family both || exit 1; done

# Every step, even if one before it failed; skips are held against testdata/allowed-skips.txt.
nightly: setup-test ## the tests with many more random cases, all truth tables by packets, 1 000 pod starts (as root)
	CARACAL_BIN=$(TEST_BIN) $(CARGO) xtask nightly $(TABLES)

bench: build ## the figures; ARGS='NAME --json FILE'
	$(CARGO) xtask bench $(ARGS)

$(BIN):
	$(MAKE) build

install: $(BIN) ## the program, its links and the CNI plugins (PREFIX, DESTDIR, CNI_BIN_DIR)
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(CNI_BIN_DIR)"
	install -m 0755 "$(BIN)" "$(DESTDIR)$(PREFIX)/bin/caracal"
	for name in $(LINKS); do ln -sfn caracal "$(DESTDIR)$(PREFIX)/bin/$$name"; done
	for name in calico calico-ipam; do \
		install -m 0755 "$(BIN)" "$(DESTDIR)$(CNI_BIN_DIR)/.$$name.new" && \
		mv -f "$(DESTDIR)$(CNI_BIN_DIR)/.$$name.new" "$(DESTDIR)$(CNI_BIN_DIR)/$$name" || exit 1; \
	done

clean: ## what was built
	$(CARGO) clean

setup:
	@bash scripts/setup.sh runtime

setup-test:
	@bash scripts/setup.sh test
