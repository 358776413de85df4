# `make demo` and `make test` set up all they need on a fresh machine.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: bench big-report breathing clean demo docs faults format fuzz index lint nnunet phases published rules splits tables
.PHONY: test twin

# torch first: pip then keeps the build it finds instead of choosing one with the rest
$(VENV)/.ready: pyproject.toml constraints.txt setup.py loaders/supply/_copies.c
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
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/python scripts/check_prose.py

# the documentation as a site in build/site; a broken link or reference is an error
docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/python scripts/make_docs.py

# pages and table of the rules, from the rules themselves
rules: $(VENV)/.ready
	$(BIN)/python scripts/make_rule_docs.py

# five minutes of damaged files: no error but ours, no array that pydicom reads otherwise
fuzz: $(VENV)/.ready
	$(BIN)/python scripts/fuzz.py

test: $(VENV)/.ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# against the peers, which it installs; equality first, then time; one phantom patient of full size for all
bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/ct_read.py --root build/full
	$(BIN)/python benchmarks/seg_read.py --root build/full
	$(BIN)/python benchmarks/index_scan.py --root build/full
	$(BIN)/python benchmarks/staple.py
	$(BIN)/python benchmarks/registration.py --root build/full
	$(BIN)/python benchmarks/supply.py --root build/supply
	$(BIN)/python benchmarks/store_formats.py --root build/supply
	$(BIN)/python benchmarks/deid.py
	$(BIN)/python benchmarks/validate.py --root build/validate
	$(BIN)/python benchmarks/workflow.py --root build/workflow
	$(BIN)/python benchmarks/download.py --root build/download

# what goes wrong while the collection is fetched, and what becomes of it; the table is printed at the end
faults: $(VENV)/.ready
	mkdir -p build
	HCC_TACE_KILLS=25 HCC_TACE_FAULT_TABLE=build/faults.md $(BIN)/python -m pytest tests/downloads/test_faults.py -n 0 -q
	cat build/faults.md

# the table of export formats in docs/export.md, from their registry
tables: $(VENV)/.ready
	$(BIN)/python scripts/make_format_docs.py

# nnU-Net's own integrity check of an export, in an environment of its own that borrows this one's libraries
nnunet: $(VENV)/.ready
	$(PYTHON) -m venv build/nnunet
	build/nnunet/bin/python -m pip install --quiet --no-deps -r scripts/nnunet.txt
	$(BIN)/python -c "import sys; print(*(p for p in sys.path if p.endswith('-packages')), sep='\n')" \
	  > $$(build/nnunet/bin/python -c "import site; print(site.getsitepackages()[0])")/project.pth
	$(BIN)/python -m pytest -n 0 tests/export/test_nnunet.py

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# remakes the frozen series table from the pinned wheel idc-index-data
index: $(VENV)/.ready
	$(BIN)/python scripts/make_index.py

# measures phase labels, on the published table and on phantoms of several seeds, for the tables of docs/phases.md
phases: $(VENV)/.ready
	$(BIN)/python scripts/phase_accuracy.py
	$(BIN)/python scripts/phase_reliability.py

# how hard the twin's tumours are for brightness alone (30 patients, another seed); how alike two livers are
twin: $(VENV)/.ready
	$(BIN)/python scripts/twin_difficulty.py
	$(BIN)/python scripts/liver_overlap.py

# registration where breathing is not affine
breathing: $(VENV)/.ready
	$(BIN)/python benchmarks/breathing.py

# remakes the published tables: make published FILE=supplementary_table_1.xlsx (the voxel counts beside it, or COUNTS=folder)
published: $(VENV)/.ready
	$(BIN)/python scripts/make_published.py $(FILE) $(if $(COUNTS),--counts $(COUNTS))

# remakes the split from the clinical sheet: make splits SHEET=path.xlsx
splits: $(VENV)/.ready
	$(BIN)/python scripts/make_splits.py $(SHEET)

# the page of 105 patients: under two minutes and 60 MB
big-report: $(VENV)/.ready
	$(BIN)/python scripts/check_report.py build/report-105

clean:
	rm -rf $(VENV) build dist *.egg-info demo
