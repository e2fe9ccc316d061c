# Every target makes .venv by itself, from requirements.lock, and re-installs only when that file's content changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-quick mutants lint format bench lock clean

BIN := .venv/bin
INSTALLED := .venv/.installed
DTRI := $(BIN)/dtri
export PATH := $(CURDIR)/$(BIN):$(PATH)

CORES ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -le 8 ] || n=8; echo "$$n")
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

help:
	@echo "make demo     every table and figure of both papers at toy scale, and the report (CORES=$(CORES))"
	@echo "make test     lint, then all tests, on CORES processes"
	@echo "make test-quick  tests of losses, networks, engine and metrics alone, for the inner loop"
	@echo "make mutants  plant faults one at a time in a copy, and see which a test catches"
	@echo "make lint     ruff, snakefmt and snakemake --lint"
	@echo "make format   rewrite the sources as the linters want them"
	@echo "make bench    speed of training, evaluation and packing, beside straightforward ways"
	@echo "make lock     requirements.lock from pyproject.toml (newer versions: make lock UPGRADE=--upgrade)"
	@echo "make clean    remove the demo's results and the tools' caches"
	@echo
	@echo "CORES=n caps the cores used; PYTHON=path chooses the interpreter that .venv is made with."

# -- targets ----------------------------------------------------------------------------------------------------------

REPORT := results/demo/report.html

demo: $(DTRI)
	snakemake --cores $(CORES) demo
	@snakemake results/demo/all.csv --cores 1 --quiet all
	@if [ ! -e $(REPORT) ] \
	    || [ -n "$$(find results/demo $(wildcard Snakefile workflow/report) -type f ! -name '.*' -newer $(REPORT))" ]; then \
	    echo "snakemake demo --report $(REPORT)"; \
	    snakemake demo --report results/demo/.report.html && mv results/demo/.report.html $(REPORT); \
	fi
	@echo
	@python -m workflow.commands.status demo | grep -E '^([0-9]|no )'
	@echo
	@echo "start     results/demo/overview.html"
	@echo "tables    results/demo/table{1,2,3,4}.{csv,md,html}"
	@echo "figures   results/demo/figures/"
	@echo "numbers   results/demo/all.csv"
	@echo "report    $(REPORT)"

# A file's tests share what they made, so a file stays in one process. One process more than cores: much of it waits.
PYTEST := python -m pytest -n $$(($(CORES) + 1)) --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) $(PYTEST_FLAGS)

QUICK := architecture objectives steps networks models engine metrics ranking_command checkpoint files claims

test-quick: $(DTRI)
	$(PYTEST) $(wildcard $(QUICK:%=tests/test_%.py)) $(PYTEST_FLAGS)

mutants: $(DTRI)
	python -m tests.mutants

lint: $(DTRI)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint

format: $(DTRI)
	ruff check --fix --exit-zero --quiet .
	ruff format .
	snakefmt Snakefile workflow

bench: $(DTRI)
	python -m bench.step
	python -m bench.evaluation --images 2000 --rounds 1
	python -m bench.packing --rounds 2

lock: $(BIN)/uv
	uv pip compile pyproject.toml --extra dev --extra slurm --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --no-emit-index-url --quiet --output-file requirements.lock $(UPGRADE)

clean:
	rm -rf results/demo .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -exec rm -rf {} +

# -- environment ------------------------------------------------------------------------------------------------------

# The stamp is a copy of the lock file, so that a fresh checkout with the same lock installs nothing.
# Where only pip knows the machine's package source (pip.conf), pip does the work.
# Bytecode is compiled at once, as pip does: otherwise every job compiles torch anew where PYTHONDONTWRITEBYTECODE is set.
$(INSTALLED): requirements.lock | $(BIN)/uv
	@if ! cmp -s requirements.lock $@; then \
	    echo "Installing requirements.lock into .venv (once; several GB)"; \
	    $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock \
	        || $(BIN)/python -m pip install --require-hashes -r requirements.lock; \
	fi
	@cp requirements.lock $@

# The command `dtri`, and `import dtri` from any folder. Needs no network: setuptools is in the lock file.
$(DTRI): $(INSTALLED) pyproject.toml
	@$(BIN)/uv pip install --quiet --offline --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# Debian and Ubuntu ship Python without ensurepip: then the system's pip, where there is one, fills .venv from outside.
$(BIN)/uv:
	@any=; python=; \
	for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    "$$candidate" -c '$(SUPPORTED)' 2>/dev/null || continue; \
	    any=$${any:-$$candidate}; \
	    if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$any" ]; then \
	    echo "error: expected Python 3.11, 3.12 or 3.13, found $$($(or $(PYTHON),python3) -V 2>&1 | head -n 1) (choose one: make PYTHON=path)" >&2; \
	    exit 2; \
	fi; \
	mkdir -p .venv; \
	awk '/^uv==/ { found = 1; print; next } /^[^ ]/ { found = 0 } found' requirements.lock > .venv/uv.txt; \
	if [ -n "$$python" ]; then \
	    echo "Making .venv with $$python"; \
	    "$$python" -m venv .venv && $(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt; \
	elif "$$any" -m pip --version >/dev/null 2>&1; then \
	    echo "Making .venv with $$any and the system's pip"; \
	    "$$any" -m venv --without-pip .venv \
	        && "$$any" -m pip --python $(BIN)/python install --quiet --require-hashes -r .venv/uv.txt; \
	else \
	    echo "error: expected $$any with ensurepip or pip, found neither (Debian, Ubuntu: apt install python3-venv)" >&2; \
	    exit 2; \
	fi
