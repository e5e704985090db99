# The daily commands. `make setup` first; the others use its environment.
PYTHON ?= python3
VENV ?= .venv-test
BIN := $(VENV)/bin

.PHONY: help setup test lint format demo bench docs ci clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make the environment with everything for development
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test,lenses]'

test: ## run the tests on both engines
	$(BIN)/python -m pytest -n 2

lint: ## what .ci/run checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint schema/views

format: ## put code and views into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix --quiet schema/views

demo: ## write, search and judge a mock survey
	$(BIN)/lensmine demo

bench: ## print the figures of README anew
	for b in benchmarks/bench_*.py; do $(BIN)/python $$b || exit 1; done

docs: ## write the data dictionary anew
	$(BIN)/lensmine db dictionary --format md > docs/dictionary.md

ci: ## exactly what continuous integration runs
	.ci/run

clean: ## remove what the commands above made, but no database of yours
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache lensmine-demo
