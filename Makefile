# Two commands do everything on a fresh Debian 12 with a Rust toolchain: `make demo` and `make test`.

VENV = target/venv/bin
VENV_OLDEST = target/venv-5.3/bin
# What of the tests for applications runs with the oldest Celery, too.
OLDEST = tests/compat/test_canvas.py tests/compat/test_codec.py tests/compat/test_results.py tests/compat/test_signals.py

# No path of this machine in the binary, so that it is the same wherever it is built.
CARGO_HOME ?= $(HOME)/.cargo
RELEASE = RUSTFLAGS="--remap-path-prefix=$(CURDIR)=fairstalk --remap-path-prefix=$(CARGO_HOME)=cargo" \
	cargo build --release --locked

# The system tests boot containers. Where there is no sudo either, they are skipped, and say so.
AS_ROOT := $(shell [ "$$(id -u)" -eq 0 ] || command -v sudo)

# Blows of a campaign. KILLS=… counts only the kills among them.
ROUNDS = $(if $(KILLS),0,300)

# The suites wait for events, but a machine that runs two of them at once makes the waits long.
.NOTPARALLEL:

.PHONY: demo test test-rust test-e2e test-compat test-system chaos lint bench bench-fairness build pages deb setup clean

demo: setup  ## A Django application served by fairstalk: a bulk user and a dozen quiet ones
	$(RELEASE)
	$(VENV)/python examples/demo.py

test: test-rust test-e2e test-compat test-system  ## Every test

test-rust: setup
	cargo test --locked

test-e2e:
	@sh tests/setup.sh package browser valgrind
	cargo build --locked
	cargo build --locked --example pages --example probe
	$(VENV)/python -m pytest tests/e2e tests/package

test-compat: setup  ## What applications rely on, under celery worker and under fairstalk, with the newest and the oldest Celery
	cargo build --locked
	$(VENV)/python -m pytest tests/compat --dist loadfile
	$(VENV_OLDEST)/python -m pytest $(OLDEST) --dist loadfile

test-system: pages  ## The package in a booted Debian container; needs root or sudo
	@sh tests/setup.sh package
	cargo build --locked
	$(AS_ROOT) env FAIRSTALK_SYSTEM_TESTS="$$FAIRSTALK_SYSTEM_TESTS" PYTHONDONTWRITEBYTECODE=1 \
		$(VENV)/python -m pytest tests/system -n 2 --dist loadfile

chaos: setup  ## A campaign of kills: ROUNDS=300 or KILLS=…, SEED=… repeats one, DAEMONS=1 or 2, STOCK=1 adds a Celery worker
	cargo build --locked
	cd tests && ../$(VENV)/python -m chaos --rounds $(ROUNDS) $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(DAEMONS),--daemons $(DAEMONS)) $(if $(STOCK),--stock $(STOCK))

lint:  ## What CI asks of the sources
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

bench: setup  ## fairstalk beside stock Celery on this machine; rewrites docs/benchmarks.md
	$(RELEASE) --bin fairstalk --example probe
	$(VENV)/python benches/bench.py

bench-fairness: setup  ## Who waits for whom, beside stock Celery; rewrites docs/benchmarks.md and its picture
	$(RELEASE) --bin fairstalk --example probe
	$(VENV)/python benches/bench.py --fairness

build:
	$(RELEASE)

pages:  ## Man pages and completions in target/pages
	cargo run --locked --quiet --example pages -- target/pages

deb: build pages  ## target/debian/fairstalk_VERSION_ARCH.deb; another version with DEB_VERSION=
	packaging/deb.sh target/release/fairstalk target/pages

setup:  ## redis-server and a Python environment in target/venv
	@sh tests/setup.sh

clean:
	if [ -d target/system ]; then $(AS_ROOT) rm -rf target/system; fi
	rm -rf target
