# Everything runs in a virtual environment that make creates and fills by itself.
#   make test     what CI runs, in two processes; PYTEST_ARGS="-n 0" in one
#   make demo     trains on a small task and shows that it learns
# PYTHON chooses the interpreter (3.10 to 3.13), VENV another place for the environment.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PINS := requirements/test.txt requirements/constraints.txt
SETUP := $(VENV)/.setup-done
DOCS_SETUP := $(VENV)/.docs-setup-done

.DEFAULT_GOAL := help
.PHONY: help setup test slow football lint types format bench scaling wheel tables tutorials docs demo clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(SETUP)  ## create or update the virtual environment

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first: requirements/test.txt says why.
$(SETUP): pyproject.toml setup.py $(PINS) | $(BIN)/python
	$(PIP) -r requirements/test.txt -c requirements/constraints.txt
	$(PIP) -e '.[mpe,butterfly,supersuit,mamujoco,smax,magent,hands,video,tensorboard,wandb,mlflow,optuna,jobs,report,notebooks,dev]' -c requirements/constraints.txt
	@touch $@

$(DOCS_SETUP): $(SETUP)
	$(PIP) -e '.[docs]' -c requirements/constraints.txt
	@touch $@

test: lint types  ## lint, type check and run the quick tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

slow: $(SETUP)  ## the tests that train for minutes or kill processes (hours)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

football: $(SETUP)  ## compile the football engine into wheels/, install and test it (Debian 12, Python 3.11)
	scripts/build_football_wheel.sh wheels $(BIN)/python
	$(BIN)/python -m pytest $(PYTEST_ARGS) -k football tests/envs tests/test_check_env.py tests/test_examples.py

lint: $(SETUP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(SETUP)  ## mypy
	$(BIN)/mypy

format: $(SETUP)  ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(SETUP)  ## measure what the performance page claims
	$(BIN)/python tests/benchmarks/ratios.py
	$(BIN)/python tests/benchmarks/overlap.py
	$(BIN)/python tests/benchmarks/off_policy.py
	$(BIN)/python tests/benchmarks/replay.py
	$(BIN)/python tests/benchmarks/consensus.py
	$(BIN)/python tests/benchmarks/team_size.py

scaling: $(SETUP)  ## measure throughput by the number of env runners
	$(BIN)/python tests/benchmarks/scaling.py

wheel: $(SETUP)  ## build the wheel, and use it without the checkout
	scripts/check_wheel.sh $(BIN)/python

tables: $(SETUP)  ## renew the documentation's tables of algorithms and settings
	$(BIN)/python -m rllib_hetero.reporting.algorithm_tables README.md docs/index.md docs/algorithms/*.md docs/reference/settings.md

tutorials: $(SETUP)  ## run the notebooks of docs/tutorials and save what they show
	$(BIN)/python scripts/execute_tutorials.py

# Without --quiet, which would hide the warnings that --strict counts.
docs: $(DOCS_SETUP)  ## build the documentation into site/; a broken link fails (needs Python 3.11 or newer)
	$(BIN)/mkdocs build --strict

demo: $(SETUP)  ## train HAPPO on a small task for 200,000 steps (minutes)
	$(BIN)/python tuned_examples/happo/mpe_simple_spread.py --demo

clean:  ## remove the virtual environment and everything built
	rm -rf $(VENV) build dist site .cache wheels *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
