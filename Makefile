# Every target installs what it needs. Requires Python 3.11 or newer, make and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Options of run targets: make ablation-humanoid SEEDS=5..30 BUDGET=24h STEPS=1000000 DEVICE=cuda WORKERS=4 ARGS=--keep-replay
OPTIONS := $(if $(SEEDS),--seeds $(SEEDS)) $(if $(STEPS),--steps $(STEPS)) $(if $(DEVICE),--device $(DEVICE)) \
	$(if $(WORKERS),--workers $(WORKERS)) $(if $(BUDGET),--budget '$(BUDGET)') $(ARGS)

.PHONY: help claims claims-quick soak soak-tune setup ablation ablation-halfcheetah ablation-hopper ablation-humanoid comparison comparison-quick retuned \
	sac-settings redq recipes recipes-quick ablation-modern ablation-modern-quick tune figures pages test test-thorough test-all \
	mutations parity parity-td3 precision benchmark benchmark-aggregate benchmark-bookkeeping benchmark-ray \
	oracle docs docs-site lint clean

help:
	@echo "make ablation              compare variants of SAC on five axes, small networks: 10 to 20 minutes on a laptop"
	@echo "make ablation-halfcheetah  the same at full size on HalfCheetah-v5 (also -hopper, -humanoid);"
	@echo "                           all experiments take SEEDS=, STEPS=, DEVICE=, WORKERS=, ARGS= and BUDGET=;"
	@echo "                           SEEDS=5..30 BUDGET=8h: up to 30 seeds where undecided, within 8 hours"
	@echo "make retuned               repeat the main arms of make ablation with tuned settings: about an hour"
	@echo "make comparison-quick      compare SAC, TD3, DDPG, PPO and SQL with small networks: an hour on a laptop"
	@echo "make comparison            the same at full size on five MuJoCo tasks"
	@echo "make sac-settings          compare the settings that the papers call SAC"
	@echo "make claims-quick          test 26 claims about SAC with small networks: hours; BUDGET=3h: within three hours"
	@echo "make claims                the same at full size: months on a laptop"
	@echo "                           (one claim: sac-bench run experiments/claims/X.toml)"
	@echo "make redq                  compare REDQ and DroQ, 20 updates per step, as configurations of SAC: days"
	@echo "make recipes-quick         compare nine successors of SAC in narrow forms: half an hour on a laptop"
	@echo "make recipes               the same at their authors' sizes: months"
	@echo "make ablation-modern-quick which piece of XQC matters? Small tuned networks at equal arithmetic: 1.5 hours on a laptop"
	@echo "make ablation-modern       the same at full size, with equally many updates: months"
	@echo "make tune                  search SAC's learning rates with small networks, then check them on held-out seeds: minutes;"
	@echo "                           STUDY=sac-halfcheetah (td3-halfcheetah, sac-humanoid) STORAGE=URL TRIALS="
	@echo "make figures               rebuild tables, figures, reports and the index from results/ without training"
	@echo "make pages                 the same, then check the pages in a headless Chromium, if installed"
	@echo "make parity, parity-td3    train SAC (TD3, DDPG) here and in Stable-Baselines3 with the same settings"
	@echo "make precision             compare SAC with float32 and with bfloat16 products"
	@echo "make soak                  kill processes, damage files and fill the disk for ten minutes; then run the longest tests: two hours"
	@echo "make soak-tune             the same faults for tuners that share a study (ARGS=--postgresql: in a database)"
	@echo "make benchmark             measure speed and memory beside Stable-Baselines3 and SBX (an hour on an idle machine)"
	@echo "                           DEVICE=cuda: measure cohorts on a GPU, eight minutes"
	@echo "make benchmark-aggregate   measure speed and memory of the statistics with 10,000 runs"
	@echo "make benchmark-bookkeeping measure time and memory of plans, status and reports of 1,000 to 10,000 runs"
	@echo "make benchmark-ray         compare the times of the Ray and local engines (a quarter of an hour on an idle machine)"
	@echo "make test                  run quick tests: about 4 minutes on two cores"
	@echo "make test-thorough         run all other tests except soaks"
	@echo "make test-all              run all tests except soaks: half an hour"
	@echo "make mutations             plant bugs and name the test that catches each"
	@echo "make docs-site             build a site of the documents and the API's reference in build/site"
	@echo "make lint                  check formatting, style and types"
	@echo "make clean                 remove the virtual environment and compiled code"

setup: $(READY)

# Versions are pinned exactly. torch installs the libraries of its own build (CUDA for a GPU build).
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

comparison comparison-quick retuned sac-settings redq recipes: $(READY)
	$(BIN)/sac-bench run experiments/$@.toml $(OPTIONS)

recipes-quick: $(READY)
	$(BIN)/sac-bench run experiments/recipes.toml --quick $(OPTIONS)

# Two reports from the same runs: beside SAC, and beside XQC.
ablation-modern ablation-modern-quick: $(READY)
	$(BIN)/sac-bench run experiments/ablation-modern.toml experiments/ablation-modern-removed.toml \
		$(if $(findstring quick,$@),--quick) $(OPTIONS)

# Runs shared by several claims are trained once. The same command continues after an interruption.
claims: $(READY)
	$(BIN)/sac-bench run experiments/claims $(OPTIONS)

claims-quick: $(READY)
	$(BIN)/sac-bench run experiments/claims --quick $(OPTIONS)

# Runs experiments/tuning/$(STUDY).toml. Trials go to a journal in results/<study>/, or to the database in STORAGE=.
STUDY ?= sac-quick
tune: $(READY)
	$(BIN)/sac-bench tune experiments/tuning/$(STUDY).toml $(if $(STORAGE),--storage '$(STORAGE)') \
		$(if $(TRIALS),--trials $(TRIALS)) $(if $(DEVICE),--device $(DEVICE)) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

figures: $(READY)
	$(BIN)/sac-bench report --all

# Checks every page in results/ in a headless browser (Debian: apt install chromium); screenshots go to build/pages.
pages: figures
	$(BIN)/python -m tests.report.test_browser results/index.html results/*/report.html --pictures build/pages

# Each worker process begins with its own half of the tests, so a module's fixtures are made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(READY)
	$(PYTEST)

# The tests that make test omits, except soaks.
test-thorough: $(READY)
	$(PYTEST) -m "thorough and not soak"

# Ray has a separate environment, which uses the packages of the other one.
RAY := $(VENV)-ray
$(RAY)/.ready: $(READY) tests/ray.lock
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --requirement tests/ray.lock
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> $$($(RAY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz-sac-bench.pth
	touch $@

test-all: $(READY) $(RAY)/.ready
	$(PYTEST) -m "not soak"
	$(RAY)/bin/python -m pytest -m "not soak" tests/execution/test_on_ray.py

# Writes results/soak. Without root it skips the full disk, because it cannot mount one.
# Then injects rarer faults, compares compiled and eager code for every structural option in experiments/, trains
# cohorts of 1 to 32 members and compares every byte of the runs they share (about two hours in all).
soak: $(READY) $(RAY)/.ready
	$(BIN)/python -m tests.soak
	$(BIN)/python -m pytest -m soak
	$(RAY)/bin/python -m pytest -m soak tests/execution/test_on_ray.py
	$(BIN)/python -m tests.training.widths --updates 2000
	$(BIN)/python -m tests.training.widths --cases others --widths 1 3 20 --updates 60

# Kills a study and its tuners. ARGS=--postgresql stores the trials in a database server.
soak-tune: $(READY)
	$(BIN)/python -m tests.tuning.soak $(ARGS)

# Plants bugs one at a time and names the test that catches each (about half an hour).
mutations: $(READY)
	$(BIN)/python tests/mutations.py

# Trains this SAC and Stable-Baselines3's with the same settings (about two hours on two cores).
parity: $(READY)
	$(BIN)/python benchmarks/parity.py

parity-td3: $(READY)
	$(BIN)/python benchmarks/parity.py benchmarks/parity-td3.toml --out results/record/parity/td3-ddpg

# Rewrites the tables of options in docs/algorithms.md.
docs: $(READY)
	$(BIN)/python -m sac_bench.algorithms.catalogue docs/algorithms.md

# The documents and the API's reference as a site in build/site, in an environment of its own. Broken links are errors.
# Links at the repository's paths let the same links work in both.
DOCS := $(VENV)-docs
$(DOCS)/.ready: docs/site/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --requirement docs/site/requirements.txt
	touch $@

docs-site: $(DOCS)/.ready
	rm -rf build/site-source
	mkdir -p build/site-source/results
	ln -s ../../README.md ../../CONTRIBUTING.md ../../CHANGELOG.md ../../CITATION.cff ../../docs ../../examples ../../experiments \
		build/site-source
	ln -s ../../../results/record build/site-source/results/record
	$(DOCS)/bin/mkdocs build --strict --config-file docs/site/mkdocs.yml

precision: $(READY)
	$(BIN)/sac-bench run experiments/precision.toml $(OPTIONS)

# Peers have a separate environment because they require JAX.
PEERS := $(VENV)-peers
$(PEERS)/.ready: benchmarks/peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement benchmarks/peers.lock
	touch $@

# On a GPU: widths, precisions, with and without CUDA graphs, in at most eight minutes.
benchmark: $(READY) $(if $(filter cuda,$(DEVICE)),,$(PEERS)/.ready)
ifeq ($(DEVICE),cuda)
	$(BIN)/python benchmarks/device.py --device cuda
else
	$(BIN)/python benchmarks/speed.py --peers $(PEERS)/bin/python
	$(BIN)/python benchmarks/speed_algorithms.py --peers $(PEERS)/bin/python
endif

# Measures time and memory for aggregating 10,000 runs of 100 evaluations with 2,000 resamples.
benchmark-aggregate: $(READY)
	$(BIN)/python benchmarks/aggregate.py

# Measures plans, status, tables and reports of up to 10,000 runs whose training is pretended.
benchmark-bookkeeping: $(READY)
	$(BIN)/python benchmarks/bookkeeping.py --out results/record/benchmark/bookkeeping

# Compares the time of the Ray engine with that of the local one, and their bytes.
benchmark-ray: $(RAY)/.ready
	$(RAY)/bin/python benchmarks/ray_overhead.py

# Recomputes numbers of rliable and marl-eval, which the tests of our statistics and exports use.
oracle: $(READY)
	$(BIN)/python tests/analysis/oracle_rliable.py
	$(BIN)/python tests/report/oracle_exports.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(PEERS) $(DOCS) $(RAY) build .pytest_cache .mypy_cache .ruff_cache .hypothesis sac_bench.egg-info "$${XDG_CACHE_HOME:-$$HOME/.cache}/sac-bench"
