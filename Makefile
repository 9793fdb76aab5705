# Everything a developer or a build host does. `make` alone lists the targets.
SHELL := /bin/sh
CARGO ?= cargo
# release for what is handed out; dev for the suites, which then compile once.
PROFILE ?= release
TARGET := x86_64-unknown-linux-gnu
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
# A different version number on the same contents, for upgrade tests.
PKG_VERSION ?= $(VERSION)

CARGO_DEB_VERSION := 3.8.0
CARGO_GENERATE_RPM_VERSION := 0.21.1

ifeq ($(PROFILE),dev)
BINARY := target/$(TARGET)/debug/decnet
else
BINARY := target/$(TARGET)/$(PROFILE)/decnet
endif
DIST ?= dist
# Where Cargo.toml's package metadata looks.
STAGE := dist/stage
# BINARY=FILE packs that program instead of building one: the suites hand over theirs.
ifeq ($(origin BINARY),command line)
BUILD_STEP :=
else
BUILD_STEP := build
endif
DEB := $(DIST)/decnet_$(PKG_VERSION)-1_amd64.deb
RPM := $(DIST)/decnet-$(PKG_VERSION)-1.x86_64.rpm
# yes packs what lies in the stage already.
STAGED ?= no
ifeq ($(STAGED),yes)
STAGE_STEP :=
else
STAGE_STEP := stage
endif

# gzip and none save time where nobody looks at the size.
DEB_COMPRESSION ?= xz
RPM_COMPRESSION ?= zstd

.DEFAULT_GOAL := help
.PHONY: help build run check fmt test test-unit test-postgres test-clients test-contract test-browser test-lan test-docker test-system bench stage deb rpm tools-deb tools-rpm

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

build: ## the static program (PROFILE=release or dev)
	$(CARGO) build --locked --profile $(PROFILE) --bin decnet

run: ## build, then run everything here with two local deckies
	$(CARGO) build --locked --bin decnet
	target/$(TARGET)/debug/decnet up --deckies 2

fmt: ## format the code
	$(CARGO) fmt

check: ## format, lints, documentation, scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	@if command -v shellcheck >/dev/null; then \
		shellcheck maintainer-scripts/* scripts/*.sh tests/system/*.sh && shellcheck -s sh rpm/*.sh; \
	else echo 'skipped: shellcheck is not installed'; fi
	@if ! command -v cargo-deny >/dev/null; then echo 'skipped: cargo-deny is not installed (cargo install cargo-deny)'; \
	elif $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny --locked check; \
	else echo 'skipped: the advisory database cannot be reached'; $(CARGO) deny --locked check licenses bans sources; fi

test: ## every suite: unit, integration, postgres, clients, contract, browser, lan, docker, system
	scripts/install-test-tools.sh
	$(MAKE) test-unit
	$(MAKE) test-postgres
	$(MAKE) test-clients
	$(MAKE) test-contract
	$(MAKE) test-browser
	$(MAKE) test-lan
	$(MAKE) test-docker
	$(MAKE) test-system

test-unit: ## unit and integration tests; no root, no network
	$(CARGO) test --locked --lib --bins --test it

test-postgres: ## everything that has a database, on a PostgreSQL server of its own
	scripts/with-postgres.sh $(CARGO) test --locked --lib --test it
	scripts/with-postgres.sh $(CARGO) test --locked --test contract -- --ignored --test-threads=1 --nocapture

test-clients: ## real client programs and real servers against the decoys
	DECNET_TEST_FTPD_ROOT=/var/cache/decnet-test/vsftpd \
	$(CARGO) test --locked --test clients -- --ignored

test-contract: ## the API against its own description
	$(CARGO) test --locked --test contract -- --ignored --test-threads=1 --nocapture

test-browser: ## the dashboard in a real browser, with real receivers
	$(CARGO) test --locked --test browser -- --ignored --test-threads=1 --nocapture

test-lan: ## deckies in namespaces, seen from an attacker's; needs root
	@if [ "$$(id -u)" -ne 0 ]; then echo 'skipped: the LAN suite needs root'; exit 0; fi; \
	$(CARGO) test --locked --test cage && \
	$(CARGO) test --locked --test lan -- --ignored --test-threads=1 --nocapture

test-docker: ## deckies in containers of a real engine on a LAN of namespaces; needs root
	@if [ "$$(id -u)" -ne 0 ]; then echo 'skipped: the docker suite needs root'; exit 0; fi; \
	$(CARGO) test --locked --test docker -- --ignored --test-threads=2 --nocapture && \
	$(CARGO) test --locked --test docker-logs -- --ignored --nocapture

test-system: ## packages under real systemd in a container root; needs root
	@if [ "$$(id -u)" -ne 0 ]; then echo 'skipped: the system suite needs root'; exit 0; fi; \
	$(CARGO) test --locked --test system -- --ignored --test-threads=1 --nocapture

bench: ## measure against the budgets
	$(CARGO) bench --locked

# What both packages carry: the stripped program and what it prints about itself.
stage: $(BUILD_STEP)
	rm -rf $(STAGE)
	mkdir -p $(STAGE)/doc
	strip -o $(STAGE)/decnet $(BINARY)
	$(STAGE)/decnet completions man >$(STAGE)/decnet.1
	gzip -9nk $(STAGE)/decnet.1
	$(STAGE)/decnet completions bash >$(STAGE)/decnet.bash
	$(STAGE)/decnet completions zsh >$(STAGE)/_decnet
	$(STAGE)/decnet completions fish >$(STAGE)/decnet.fish
	cp README.md $(STAGE)/doc/
	mkdir -p $(STAGE)/pictures
	cp docs/*.png $(STAGE)/pictures/

deb: tools-deb $(STAGE_STEP) ## dist/decnet_*.deb
	mkdir -p $(DIST)
	$(CARGO) deb --quiet --no-build --no-strip --no-dbgsym --fast --compress-type xz \
		--deb-version $(PKG_VERSION)-1 --output $(DEB)
	scripts/finish-deb.sh $(DEB) $(DEB_COMPRESSION)

rpm: tools-rpm $(STAGE_STEP) ## dist/decnet-*.rpm
	mkdir -p $(DIST)
	$(CARGO) generate-rpm --set-metadata 'version = "$(PKG_VERSION)"' \
		--payload-compress $(RPM_COMPRESSION) --output $(RPM)

tools-deb:
	@command -v cargo-deb >/dev/null || $(CARGO) install --locked --version $(CARGO_DEB_VERSION) cargo-deb

tools-rpm:
	@command -v cargo-generate-rpm >/dev/null || $(CARGO) install --locked --version $(CARGO_GENERATE_RPM_VERSION) cargo-generate-rpm
