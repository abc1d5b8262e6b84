# `make run` and `make test` need nothing but Python >= 3.11: they set up what is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PACKAGES := shared engine services

.PHONY: run test stress check format bench docs clean

run: $(VENV)/.installed ## start a mesh of three organisations on this machine
	@exec $(BIN)/mcp-federation up --demo $(ARGS)

test: $(VENV)/.installed-dev ## all tests, on a real nats-server; the coverage gates of CONTRIBUTING.md
	@$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses=auto --dist=loadfile $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --skip-covered --include='shared/*,engine/*' --fail-under=95 | tail -n 4
	@$(BIN)/python -m coverage report --skip-covered --include='services/*' --fail-under=85 | tail -n 4

stress: $(VENV)/.installed-dev ## a minute of load on a mesh whose nodes and servers are killed; ARGS='--seed 7'
	$(BIN)/python -m tests.stress $(ARGS)

check: $(VENV)/.installed-dev ## lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## side-by-side measurements
	$(BIN)/python -m benchmarks.execute $(ARGS)

docs: $(VENV)/.installed-dev ## write what is generated from the code
	$(BIN)/python scripts/asyncapi.py
	$(BIN)/python scripts/checks.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[demo,dev]'
	@touch $@ $(VENV)/.installed
