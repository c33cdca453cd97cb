# `make demo` and `make test` need only Python 3.11 or newer, pip and make: both set up .venv themselves, once.

PYTHON ?= python3
BIN = .venv/bin
STAMP = .venv/.installed

.PHONY: demo test slow check help

help:
	@echo "make demo   set up .venv (2 minutes, once), then fill in, continue and slow down clips (under a minute): demo_out/"
	@echo "make test   set up .venv, then run the fast tests (under 5 minutes)"
	@echo "make slow   the slow tests: toy trainings, long fuzzing"
	@echo "make check  formatting, lint, types"

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up .venv: about 2 minutes and 1.8 GB, the first time only."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@echo "Filling in, continuing and slowing down clips that training never saw. Under a minute on two cores."
	@$(BIN)/framefill demo -o demo_out

test: $(STAMP)
	@echo "Running the fast tests: under 5 minutes on two cores."
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: $(STAMP)
	@$(BIN)/pytest -n 2 -m slow --timeout 1800

check: $(STAMP)
	@$(BIN)/ruff check src tests benchmarks examples
	@$(BIN)/ruff format --check src tests benchmarks examples
	@$(BIN)/mypy
