# Two commands do everything on a fresh Debian 12 with a Rust toolchain: `make demo` and `make test`.

VENV = target/venv/bin

# No path of this machine in the binary, so that it is the same wherever it is built.
CARGO_HOME ?= $(HOME)/.cargo
RELEASE = RUSTFLAGS="--remap-path-prefix=$(CURDIR)=fairstalk --remap-path-prefix=$(CARGO_HOME)=cargo" \
	cargo build --release --locked

.PHONY: demo test test-rust test-e2e lint bench build deb setup clean

demo: setup  ## A Django application served by fairstalk: a bulk user and a dozen quiet ones
	$(RELEASE)
	$(VENV)/python examples/demo.py

test: test-rust test-e2e  ## Every test

test-rust: setup
	cargo test --locked

test-e2e: setup
	cargo build --locked
	$(VENV)/python -m pytest tests

lint:  ## What CI asks of the sources
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

bench: setup  ## fairstalk beside stock Celery on this machine; rewrites docs/benchmarks.md
	$(RELEASE)
	$(VENV)/python benches/bench.py

build:
	$(RELEASE)

deb: build  ## target/debian/fairstalk_VERSION_ARCH.deb; another version with DEB_VERSION=
	mkdir -p target/pages
	packaging/deb.sh target/release/fairstalk target/pages

setup:  ## redis-server and a Python environment in target/venv
	@sh tests/setup.sh

clean:
	rm -rf target
