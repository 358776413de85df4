# `make demo` and `make test` set up all they need on a fresh machine.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: bench demo test lint format index splits clean rules

# torch first: pip then keeps the build it finds instead of choosing one with the rest
$(VENV)/.ready: pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==25.3
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/hcc-tace demo demo

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_types.py

rules: $(VENV)/.ready
	$(BIN)/hcc-tace explain

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2

# against the peers, which it installs; equality first, then time; one phantom patient of full size for all
bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/ct_read.py --root build/full
	$(BIN)/python benchmarks/seg_read.py --root build/full
	$(BIN)/python benchmarks/index_scan.py --root build/full
	$(BIN)/python benchmarks/staple.py
	$(BIN)/python benchmarks/registration.py --root build/full
	$(BIN)/python benchmarks/supply.py --root build/supply
	$(BIN)/python benchmarks/deid.py

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# remakes the frozen series table from the pinned wheel idc-index-data
index: $(VENV)/.ready
	$(BIN)/python scripts/make_index.py

# remakes the split from the clinical sheet: make splits SHEET=path.xlsx
splits: $(VENV)/.ready
	$(BIN)/python scripts/make_splits.py $(SHEET)

clean:
	rm -rf $(VENV) build dist *.egg-info demo
