# The two commands of the README are `make demo` and `make test`; both set up everything they need in $(VENV).
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# Modules are compiled when they are first imported: most never are, and compiling all takes two minutes.
INSTALL := $(PIP) install --quiet --no-compile
RUST := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)
PACKAGE := pyproject.toml $(shell find python -name '*.py' -o -name '*.pyi' -o -name '*.npz' -o -name '*.json' -o -name '*.safetensors')
# What the commands below leave; `make clean` deletes it.
MADE := dist demo-out demo-train-out demo-predict-out aot-out studies-out target
AOT_OUT ?= aot-out
# Tests run in as many processes; `make test JOBS=0` runs them in one.
JOBS ?= auto
# Wheels are built for the Python of the environment, whatever is on PATH.
export PYO3_PYTHON := $(abspath $(BIN)/python)

.PHONY: help demo demo-train demo-predict studies-small aot test test-rust test-python fuzz lint bench codecs models wheel smoke clean

help:
	@echo 'make demo    tokenize the real densities in tests/data, show, verify, audit, decode them back'
	@echo 'make demo-train    train the tiny model on them, some minutes on two cores'
	@echo 'make demo-predict  predict crystals nobody trained on with the model in the package'
	@echo 'make test    the tests, Rust and Python'
	@echo 'make lint    formatting, clippy, ruff, mypy, stubs'
	@echo 'make fuzz    damage files of every format, and look what their readers make of that; CASES=, SEED='
	@echo 'make bench   benchmarks with their baselines'
	@echo 'make studies-small  the studies of docs/studies again, some hours; DATA=/path/to/rho_gga, STUDY=layouts'
	@echo 'make aot     compile the training step for a TPU slice without one; TABLE=1 the table of docs/tpu.md (hours)'
	@echo 'make codecs  the codecs in the package, to the byte; DATA=/path/to/rho_gga makes sketches and floors again'
	@echo 'make models  the models in the package, trained again (some minutes); DATA=/path/to/rho_gga'
	@echo 'make wheel   a wheel in dist/;  make smoke installs it into a clean environment and tries it'
	@echo 'make clean   delete the environment and what the commands above left; nothing that git tracks'

# An environment, then tomat in it: built in release mode, with the pins that were tried.
$(VENV)/.created:
	@command -v cargo >/dev/null || { echo 'tomat needs Rust 1.91 or newer: install it with rustup (cargo is not on PATH)' >&2; exit 1; }
	python=$$(scripts/find_python.sh) && "$$python" -m venv $(VENV)
	pwd > $@

$(VENV)/.installed: $(VENV)/.created constraints.txt $(RUST) $(PACKAGE)
	@echo 'building tomat (the first time takes some minutes) ...'
	rm -rf $(VENV)/wheel
	$(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/wheel .
	$(INSTALL) --no-deps --force-reinstall $(VENV)/wheel/*.whl
	$(INSTALL) -c constraints.txt $(VENV)/wheel/*.whl
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(INSTALL) -c constraints.txt "$$(echo $(VENV)/wheel/*.whl)[dev]"
	touch $@

$(VENV)/.train: $(VENV)/.installed
	@echo 'installing Levanter and JAX (1.8 GB, a minute or two) ...'
	$(INSTALL) -c constraints.txt "$$(echo $(VENV)/wheel/*.whl)[train,plot,structures]"
	touch $@

# Beside the environment, not in it: see the script.
$(VENV)/.torch: constraints.txt scripts/torch_on_cpu.py | $(VENV)/.dev
	@echo 'installing PyTorch (1.2 GB) ...'
	$(BIN)/python scripts/torch_on_cpu.py $(VENV)/torch
	touch $@

$(VENV)/.aot: $(VENV)/.installed
	@echo 'installing Levanter, JAX and libtpu (2.5 GB, some minutes) ...'
	$(INSTALL) -c constraints.txt "$$(echo $(VENV)/wheel/*.whl)[tpu-aot]"
	touch $@

# Results gather in the file: what is in it is not compiled again.
aot: $(VENV)/.aot
	$(BIN)/python training/aot.py --runs $(if $(TABLE),table,tiny) --out $(AOT_OUT)/$(if $(TABLE),table,tiny).json

demo-train: $(VENV)/.train
	$(BIN)/python scripts/demo_train.py

demo-predict: $(VENV)/.installed
	$(BIN)/python scripts/demo_predict.py

demo: $(VENV)/.installed
	$(BIN)/python scripts/demo.py

# Trainings of hours on two cores; what is finished is not done again.
studies-small: $(VENV)/.train
	$(BIN)/python -m training.studies.small $(STUDY) --out studies-out --check docs/studies/results \
		--data $(or $(DATA),$(error give the densities: make studies-small DATA=/path/to/rho_gga))
ifndef STUDY
	$(BIN)/python -m training.studies.small_artefact sg15-pbe $(DATA) --out studies-out/small-artefact
	$(BIN)/tomat eval promolecule $(DATA) --pictures 0 --out studies-out/promolecule
	$(BIN)/python -m training.studies.evaluation_subsets studies-out/promolecule --mode promolecule --prefix qe \
		--out studies-out/evaluation-subsets.json
endif

test: test-rust test-python

test-rust: $(VENV)/.created
	cargo test --workspace --quiet

test-python: $(VENV)/.dev $(VENV)/.torch
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

# Damaged files of every format; 100,000 of them are part of the tests.
fuzz: $(VENV)/.dev
	JAX_PLATFORMS=cpu $(BIN)/python tests/fuzz.py --cases $(or $(CASES),1000000) --seed $(or $(SEED),0)

lint: $(VENV)/.dev
	scripts/ignored_in_git.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests:tests/lm $(BIN)/mypy tests benches scripts training
	$(BIN)/python -m mypy.stubtest --ignore-disjoint-bases tomat._core

bench: $(VENV)/.dev
	cargo bench --workspace
	$(BIN)/python benches/bars.py

codecs: $(VENV)/.installed
	$(BIN)/python training/make_codecs.py $(if $(DATA),--data $(DATA)) $(if $(MORE),--more $(MORE))

models: $(VENV)/.train
	$(BIN)/python training/make_models.py --data $(or $(DATA),$(error give the densities: make models DATA=/path/to/rho_gga))

wheel: $(VENV)/.installed
	mkdir -p dist
	cp $(VENV)/wheel/*.whl dist/

smoke: $(VENV)/.installed
	scripts/smoke.sh $(VENV)/wheel/*.whl

# An environment is deleted where this Makefile, in this folder, made it, and no folder in which git tracks something.
clean:
	@tracked=$$(git ls-files -- $(MADE) 2>/dev/null | head -n 3); [ -z "$$tracked" ] || \
		{ echo "make clean would delete what git tracks: $$tracked" >&2; exit 1; }
	rm -rf $(MADE)
	[ "$$(cat $(VENV)/.created 2>/dev/null)" != "$$(pwd)" ] || rm -rf $(VENV)
