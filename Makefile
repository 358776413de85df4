# `make demo` and `make test` set up all they need on a fresh machine.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint bench faults rules index clean

$(VENV)/.ready: pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==25.3
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,dev,dask]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/hcc-tace demo demo

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

rules: $(VENV)/.ready
	$(BIN)/hcc-tace explain

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2
