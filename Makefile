# Every target makes the environment it needs. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
SECONDS ?= 300
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-deep test-cluster chaos lint format coverage bench bench-csv bench-reading clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(VENV)/.ready ## Make the virtual environment with everything that tests need

$(VENV)/.ready: requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; say make PYTHON=python3.11") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.ready ## Write a small dump with known faults and load it into Parquet and an embedded PostgreSQL
	rm -rf $(DEMO)
	$(BIN)/python examples/generate_dump.py --output $(DEMO)/dump
	$(BIN)/python examples/run_demo.py --directory $(DEMO)

test: $(VENV)/.ready ## Run the test suite
	$(BIN)/python -m pytest -n 3 --dist worksteal -q -m "not slow and not cluster and not deep" tests

test-slow: $(VENV)/.ready ## Run the tests of real sizes (minutes)
	$(BIN)/python -m pytest -q -m slow tests

test-deep: $(VENV)/.ready ## Drive the model of the commit protocol for a quarter of an hour
	$(BIN)/python -m pytest -q -m deep tests

test-cluster: $(VENV)/.ready ## Run whole loads on Prism with real workers, and kill them (needs Go 1.26 or newer)
	$(BIN)/python -m pytest -q -m cluster tests

chaos: $(VENV)/.ready ## Kill, stop, double and starve loads for SECONDS (300), by SEED if given; count what breaks
	$(BIN)/python -m beam_etl chaos --seconds=$(SECONDS) $(if $(SEED),--seed=$(SEED))

lint: $(VENV)/.ready ## Check format, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

coverage: $(VENV)/.ready ## Measure the coverage of the test suite
	$(BIN)/coverage run -m pytest -q -m "not slow and not cluster and not deep" tests
	$(BIN)/coverage combine --quiet || true
	$(BIN)/coverage report --fail-under=85

bench: $(VENV)/.ready ## Compare speed and memory with other engines, in one run
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/run.py

bench-csv: $(VENV)/.ready ## Score readers of polluted files, this one among them
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements-csv.txt
	$(BIN)/python benchmarks/polluted.py

bench-reading: $(VENV)/.ready ## Measure the reading kernels beside their bars, in CPU time
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/reading.py

clean: ## Remove what demo, tests and benchmarks left behind
	rm -rf $(DEMO) benchmarks/data .pytest_cache .hypothesis .mypy_cache .ruff_cache build dist *.egg-info
