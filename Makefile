# make run     run the study of CONFIG and say what came out and where its report is (default: the simulated demo study)
# make figures draw every figure and table of the study again, from results/<study>/tables and from nothing else
# make test    lint, types, unit, numerics, workflow and real-data tests
# make test-slurm   a SLURM cluster on this machine, the smoke study through profiles/slurm, and its faults (root, Debian)
# make repair  say what an interrupted run left behind, and clear it away
# make env     set up .venv alone
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
TARGET ?= all

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# each mark says: installed from these pins, or not at all
MARK := .venv/installed
TEST_MARK := .venv/installed-for-tests

# NeuroLoom's modules are compiled once, and not by each of some hundred jobs
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run figures repair test test-slurm env

run: $(MARK)
	$(BIN)/neuroloom run $(CONFIG) --cores $(CORES) --target $(TARGET)

figures: $(MARK)
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) --forceall \
		--allowed-rules $$($(BIN)/python -m neuroloom.figures.gallery) -- figures

repair: $(MARK)
	$(BIN)/neuroloom doctor --config $(CONFIG) --mend

env: $(MARK)

$(MARK): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	$(BIN)/python -m neuroloom.torchaudio_cpu
	touch $@

$(TEST_MARK): $(MARK)
	$(PIP) --editable '.[dev]'
	touch $@

test: $(TEST_MARK)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# not part of `make test`: it installs SLURM where it may, and says why it is skipped where it may not
test-slurm: $(TEST_MARK)
	if ! command -v slurmctld >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge slurm-client; fi
	$(BIN)/python -m pytest tests/slurm --durations=0
