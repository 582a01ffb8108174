# Everything here sets itself up: Python 3.11 or newer, make and pip are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What a run may be given: make ablation-humanoid SEEDS=5 STEPS=1000000 DEVICE=cuda WORKERS=4 ARGS=--keep-replay
OPTIONS := $(if $(SEEDS),--seeds $(SEEDS)) $(if $(STEPS),--steps $(STEPS)) $(if $(DEVICE),--device $(DEVICE)) \
	$(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

.PHONY: help claims claims-quick soak soak-tune setup ablation ablation-halfcheetah ablation-hopper ablation-humanoid comparison comparison-quick \
	sac-settings redq tune figures pages test test-slow mutations parity parity-td3 precision benchmark benchmark-aggregate \
	oracle docs lint clean

help:
	@echo "make ablation              the five axes of SAC, small networks, minutes on a laptop"
	@echo "make ablation-halfcheetah  the same at full size on HalfCheetah-v5 (also -hopper, -humanoid)"
	@echo "                           each takes SEEDS=, STEPS=, DEVICE=, WORKERS=, ARGS="
	@echo "make comparison-quick      SAC against TD3, DDPG, PPO and SQL, small networks, minutes on a laptop"
	@echo "make comparison            the same at full size on five MuJoCo tasks; make sac-settings: SAC's published forms"
	@echo "make claims-quick          twenty published claims about SAC, each with a verdict: small networks, 1 to 1.5 hours;"
	@echo "                           make claims: at full size, months on a laptop (sac-bench run experiments/claims/X.toml: one)"
	@echo "make redq                  REDQ and DroQ, 20 updates a step, as configurations of SAC: days"
	@echo "make tune                  a search for SAC's rates with small networks, checked on held-out seeds: minutes;"
	@echo "                           STUDY=sac-halfcheetah (td3-halfcheetah, sac-humanoid) STORAGE=URL TRIALS="
	@echo "make figures               tables, figures, reports and their index again from results/, without training"
	@echo "make pages                 and look at them in a headless Chromium, if there is one"
	@echo "make parity, parity-td3    SAC (TD3, DDPG) here and in Stable-Baselines3, trained under the same settings"
	@echo "make precision             float32 against bfloat16 products: does SAC learn the same?"
	@echo "make soak                  kills, corrupts and fills the disk for ten minutes, then compares with an undisturbed run;"
	@echo "                           make soak-tune does it to tuners that share a study (ARGS=--postgresql: in a database)"
	@echo "make benchmark             speed and memory against Stable-Baselines3 and SBX (a quiet hour; DEVICE=cuda);"
	@echo "                           make benchmark-aggregate: of the statistics, with 10,000 runs"
	@echo "make test, make lint       checks; make test-slow: every structure compiled, rarer faults,"
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

comparison comparison-quick sac-settings redq: $(READY)
	$(BIN)/sac-bench run experiments/$@.toml $(OPTIONS)

# Runs that claims share are trained once; the same command continues.
claims: $(READY)
	$(BIN)/sac-bench run experiments/claims $(OPTIONS)

claims-quick: $(READY)
	$(BIN)/sac-bench run experiments/claims --quick $(OPTIONS)

# experiments/tuning/*.toml; the journal in results/<study>/ unless STORAGE= names a database.
STUDY ?= sac-quick
tune: $(READY)
	$(BIN)/sac-bench tune experiments/tuning/$(STUDY).toml $(if $(STORAGE),--storage '$(STORAGE)') \
		$(if $(TRIALS),--trials $(TRIALS)) $(if $(DEVICE),--device $(DEVICE)) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

figures: $(READY)
	$(BIN)/sac-bench report --all

# Every page in results/ in a headless browser (Debian: apt install chromium); pictures of them in build/pages.
pages: figures
	$(BIN)/python -m tests.report.test_browser results/index.html results/*/report.html --pictures build/pages

test: $(READY)
	$(BIN)/python -m pytest -n 2

# Compiled against eager for every structure in experiments/, compiled cohorts of several widths, the rarer faults.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

# Writes results/soak; what it leaves out where disks cannot be mounted (not root) is the full disk.
# Then trains cohorts of 1 to 32 members and compares every byte of the runs they share (20 minutes).
soak: $(READY)
	$(BIN)/python -m tests.soak
	$(BIN)/python -m tests.training.widths --updates 2000

# A study and its tuners, killed; ARGS=--postgresql has its trials in a server's database.
soak-tune: $(READY)
	$(BIN)/python -m tests.tuning.soak $(ARGS)

# Plants bugs one at a time and names the test that catches each (about half an hour).
mutations: $(READY)
	$(BIN)/python tests/mutations.py

# Our SAC and Stable-Baselines3's, trained under the same settings (about two hours on two cores).
parity: $(READY)
	$(BIN)/python benchmarks/parity.py

parity-td3: $(READY)
	$(BIN)/python benchmarks/parity.py benchmarks/parity-td3.toml --out results/record/parity/td3-ddpg

# The tables of options in docs/algorithms.md.
docs: $(READY)
	$(BIN)/python -m sac_bench.algorithms.catalogue docs/algorithms.md

precision: $(READY)
	$(BIN)/sac-bench run experiments/precision.toml $(OPTIONS)

# The peers have an environment of their own: JAX is not for ours. On a GPU ours are measured alone.
PEERS := $(VENV)-peers
$(PEERS)/.ready: benchmarks/peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement benchmarks/peers.lock
	touch $@

benchmark: $(READY) $(if $(filter cuda,$(DEVICE)),,$(PEERS)/.ready)
	$(BIN)/python benchmarks/speed.py $(if $(filter cuda,$(DEVICE)),--device cuda --out results/benchmark-cuda,--peers $(PEERS)/bin/python)
	$(if $(filter cuda,$(DEVICE)),,$(BIN)/python benchmarks/speed_algorithms.py --peers $(PEERS)/bin/python)

# 10,000 runs of 100 evaluations, aggregated with 2,000 resamples: seconds and memory.
benchmark-aggregate: $(READY)
	$(BIN)/python benchmarks/aggregate.py

# rliable's numbers, which our statistics are tested against, made anew.
oracle: $(READY)
	$(BIN)/python tests/analysis/oracle_rliable.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .mypy_cache .ruff_cache .hypothesis sac_bench.egg-info "$${XDG_CACHE_HOME:-$$HOME/.cache}/sac-bench"
