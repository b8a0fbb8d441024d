# Two commands do everything on a fresh Debian 12 with a Rust toolchain: `make demo` and `make test`.

VENV = target/venv/bin

ROUNDS = 300

.PHONY: demo test test-rust test-e2e chaos lint bench build setup clean

demo: setup  ## A Django application served by fairstalk: a bulk user and a dozen quiet ones
	cargo build --release --locked
	$(VENV)/python examples/demo.py

test: test-rust test-e2e  ## Every test

test-rust: setup
	cargo test --locked

test-e2e: setup
	cargo build --locked
	$(VENV)/python -m pytest tests

chaos: setup  ## A campaign of kills: ROUNDS=300, SEED=… repeats one, DAEMONS=1 or 2, STOCK=1 adds a Celery worker
	cargo build --locked
	cd tests && ../$(VENV)/python -m chaos --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(if $(DAEMONS),--daemons $(DAEMONS)) $(if $(STOCK),--stock $(STOCK))

lint:  ## What CI asks of the sources
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

bench: setup  ## fairstalk beside stock Celery on this machine; rewrites docs/benchmarks.md
	cargo build --release --locked
	$(VENV)/python benches/bench.py

build:
	cargo build --release --locked

setup:  ## redis-server and a Python environment in target/venv
	@sh tests/setup.sh

clean:
	rm -rf target
