.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes; without this, where it is set, each compiles what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-demo fix check test test-fast coverage test-bridges demo docs bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@command -v git >/dev/null || { echo "git is missing: install it (Debian: apt-get install git)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is missing: install it, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first, in a version whose wheel for the CPU may lie at hand (PIP_FIND_LINKS): from the
# package index alone a Linux machine gets the CUDA build, which works on a CPU but weighs gigabytes.
$(VENV)/.torch: | $(VENV)/bin/python
	$(BIN)/pip install -q --no-compile "torch==2.13.0" || $(BIN)/pip install -q --no-compile "torch>=2.7"
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.torch
	$(BIN)/pip install -q --no-compile -e '.[local,tune,curate]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.torch
	$(BIN)/pip install -q --no-compile -e '.[dev]'
	@touch $@ $(VENV)/.demo

# What tests need beside Python: a browser, a sandbox, a database. As root on Debian they are
# installed; elsewhere this says what is missing, and the tests that need it fail.
SYSTEM := chromium bubblewrap postgresql
$(VENV)/.system: | $(VENV)/bin/python
	@if command -v chromium >/dev/null && command -v bwrap >/dev/null && \
		ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $(SYSTEM) >/dev/null && touch $@; \
	else echo "some tests need more: sudo apt-get install $(SYSTEM)"; fi

setup: $(VENV)/.dev $(VENV)/.system ## install everything that developing needs into .venv

setup-demo: $(VENV)/.demo

fix: setup ## format, and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/kickwheel schema > docs/app.schema.json

check: setup ## style, types, imports, and that generated files are fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/kickwheel schema | diff - docs/app.schema.json || { echo "docs/app.schema.json is stale: make fix"; exit 1; }

# Each process keeps to cores of its own (tests/conftest.py); who is done takes half of what another
# has left.
PROCESSES ?= 2
PYTEST := $(BIN)/pytest -n $(PROCESSES) --dist worksteal

test: setup ## run all tests
	$(PYTEST)

coverage: setup ## run all tests, half as slow again, and list the lines that none reaches
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

test-fast: setup ## run all tests but the long ones
	$(PYTEST) -m "not slow" -q

# Frameworks do not agree on their dependencies, so those of one age share an environment. Nothing
# else of ours is in it: a bridge needs kickwheel alone.
BRIDGES := .venv-bridges
$(BRIDGES)/%/.installed: tests/bridges/%.txt pyproject.toml | $(VENV)/bin/python
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --no-compile -e . -r $<
	@touch $@

test-bridges: setup $(BRIDGES)/new/.installed $(BRIDGES)/old/.installed ## run the tests against other frameworks
	$(BRIDGES)/new/bin/pytest --confcutdir=tests/bridges tests/bridges/new
	$(BRIDGES)/old/bin/pytest --confcutdir=tests/bridges tests/bridges/old

demo: setup-demo ## turn the flywheel once on the concierge blueprint
	$(BIN)/kickwheel turn blueprints/concierge $(if $(FULL),--full)

docs: setup ## write the generated reference pages
	$(BIN)/kickwheel schema > docs/app.schema.json

bench: setup ## measure ourselves beside peers; prints versions, machine and load
	@for script in bench/*.py; do $(BIN)/python $$script || exit 1; done
