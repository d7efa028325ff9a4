# The two commands of the README are `make demo` and `make test`; both set up everything they need in $(VENV).
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
RUST := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)
PACKAGE := pyproject.toml $(shell find python -name '*.py' -o -name '*.pyi' -o -name '*.npz' -o -name '*.json')
# Tests run in as many processes; `make test JOBS=0` runs them in one.
JOBS ?= auto
# Wheels are built for the Python of the environment, whatever is on PATH.
export PYO3_PYTHON := $(abspath $(BIN)/python)

.PHONY: help demo demo-train demo-predict aot test test-rust test-python lint bench codecs wheel smoke clean

help:
	@echo 'make demo    tokenize the real densities in tests/data, show, verify, decode them back'
	@echo 'make demo-train    train the tiny model on them, some minutes on two cores'
	@echo 'make demo-predict  predict a crystal it has not seen, with report and honest error'
	@echo 'make test    the tests, Rust and Python'
	@echo 'make lint    formatting, clippy, ruff, mypy, stubs'
	@echo 'make bench   benchmarks with their baselines'
	@echo 'make codecs  the codecs in the package, to the byte; DATA=/path/to/rho_gga makes sketches and floors again'
	@echo 'make wheel   a wheel in dist/;  make smoke installs it into a clean environment and tries it'

# An environment, then tomat in it: built in release mode, with the pins that were tried.
$(VENV)/.created:
	@command -v cargo >/dev/null || { echo 'tomat needs Rust 1.91 or newer: install it with rustup (cargo is not on PATH)' >&2; exit 1; }
	python=$$(scripts/find_python.sh) && "$$python" -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created constraints.txt $(RUST) $(PACKAGE)
	@echo 'building tomat (the first time takes some minutes) ...'
	rm -rf $(VENV)/wheel
	$(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/wheel .
	$(PIP) install --quiet --no-deps --force-reinstall $(VENV)/wheel/*.whl
	$(PIP) install --quiet -c constraints.txt $(VENV)/wheel/*.whl
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt "$$(echo $(VENV)/wheel/*.whl)[dev]"
	touch $@

$(VENV)/.train: $(VENV)/.installed
	@echo 'installing Levanter and JAX (1.8 GB, a minute or two) ...'
	$(PIP) install --quiet -c constraints.txt "$$(echo $(VENV)/wheel/*.whl)[train,plot,structures]"
	touch $@

demo-train: $(VENV)/.train
	$(BIN)/python scripts/demo_train.py

demo-predict: $(VENV)/.train
	$(BIN)/python scripts/demo_predict.py

demo: $(VENV)/.installed
	$(BIN)/python scripts/demo.py

test: test-rust test-python

test-rust: $(VENV)/.created
	cargo test --workspace --quiet

test-python: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

lint: $(VENV)/.dev
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests $(BIN)/mypy tests benches scripts training
	$(BIN)/python -m mypy.stubtest --ignore-disjoint-bases tomat._core

bench: $(VENV)/.dev
	cargo bench --workspace
	$(BIN)/python benches/end_to_end.py
	$(BIN)/python benches/prediction.py
	JAX_PLATFORMS=cpu $(BIN)/python benches/loader.py
	JAX_PLATFORMS=cpu $(BIN)/python benches/loss.py
	JAX_PLATFORMS=cpu $(BIN)/python benches/model_prediction.py --preset tiny --patch-size 7 --codec l1-1k-e_per_A3 --patches 64 --batch 8

codecs: $(VENV)/.installed
	$(BIN)/python training/make_codecs.py $(if $(DATA),--data $(DATA)) $(if $(MORE),--more $(MORE))

wheel: $(VENV)/.installed
	mkdir -p dist
	cp $(VENV)/wheel/*.whl dist/

smoke: $(VENV)/.installed
	scripts/smoke.sh $(VENV)/wheel/*.whl

clean:
	rm -rf $(VENV) dist demo-out demo-train-out demo-predict-out target
