# Everything here sets itself up: Python 3.11 or newer, make and pip are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What a run may be given: make ablation-humanoid SEEDS=5 STEPS=1000000 DEVICE=cuda WORKERS=4 ARGS=--keep-replay
OPTIONS := $(if $(SEEDS),--seeds $(SEEDS)) $(if $(STEPS),--steps $(STEPS)) $(if $(DEVICE),--device $(DEVICE)) \
	$(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

.PHONY: help setup ablation ablation-halfcheetah ablation-hopper ablation-humanoid figures test \
	test-slow mutations parity lint clean

help:
	@echo "make ablation              the five axes of SAC, small networks, minutes on a laptop"
	@echo "make ablation-halfcheetah  the same at full size on HalfCheetah-v5 (also -hopper, -humanoid)"
	@echo "                           each takes SEEDS=, STEPS=, DEVICE=, WORKERS=, ARGS="
	@echo "make figures               tables, figures and reports again from results/, without training"
	@echo "make parity                SAC here and in Stable-Baselines3, trained under the same settings"
	@echo "make test, make lint       checks; make test-slow compiles every structure in experiments/,"
	@echo "                           make mutations plants bugs and names the test that catches each"
	@echo "make clean                 removes the virtual environment and the compiled code"

setup: $(READY)

# The pins are exact; torch brings what its build needs (CUDA libraries where there is a GPU build).
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("sac_bench needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

ablation: $(READY)
	$(BIN)/sac-bench run experiments/ablation-quick.toml $(OPTIONS)

ablation-halfcheetah ablation-hopper ablation-humanoid: ablation-%: $(READY)
	$(BIN)/sac-bench run experiments/ablation-$*.toml $(OPTIONS)

figures: $(READY)
	$(BIN)/sac-bench report

test: $(READY)
	$(BIN)/python -m pytest -n 2

# Compiled against eager for every structure in experiments/, and compiled cohorts of several widths.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

# Plants bugs one at a time and names the test that catches each (about half an hour).
mutations: $(READY)
	$(BIN)/python tests/mutations.py

# Our SAC and Stable-Baselines3's, trained under the same settings (about two hours on two cores).
parity: $(READY)
	$(BIN)/python benchmarks/parity.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis sac_bench.egg-info "$${XDG_CACHE_HOME:-$$HOME/.cache}/sac-bench"
