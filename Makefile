# One word for each thing that a developer does. Another interpreter: `make install PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint docs bench clean

help:
	@echo "make install   the environment in .venv, at the versions in constraints.txt"
	@echo "make demo      the whole lifecycle on a bundled model; needs no network"
	@echo "make test      all tests but the slowest, in two processes; lists the twenty that took longest"
	@echo "make test-all  those as well"
	@echo "make lint      ruff, mypy and the import layers; changes nothing"
	@echo "make docs      regenerates docs/reference from the code"
	@echo "make bench     measures against peers and writes docs/benchmarks.md; BENCH=--quick for a look"
	@echo "make clean     removes .venv, caches and build outputs"

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || { \
	  echo "Python 3.11 or 3.12 is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	  echo "  → install one and name it: make install PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt pip
	@# Without its warnings: setuptools explains on forty lines what an editable installation is.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/softprompt demo

# Two processes, each with a thread. Tests that share a server or what else takes long to make stay in one of them (xdist_group).
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations=20 -rs

test: install
	$(PYTEST) -m "not nightly"

test-all: install
	$(PYTEST)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/rooms.py

bench: install
	$(BIN)/python -m benchmarks $(BENCH) --write docs/benchmarks.md

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
