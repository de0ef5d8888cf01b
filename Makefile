# `make paint` and `make test` set up an environment in .venv by themselves; from the second call on they start at once.
# Needed: Python 3.11 or newer. Not needed: a GPU, a compiler, Node, root.

PROMPT ?=
ARGS   ?=
PYTHON ?=
VENV   := .venv

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

# The prompt reaches the shell as a variable and not as text, so that quotes, $ and ` in it are only characters
unexport PROMPT
export DANQING_PROMPT := $(value PROMPT)

.DEFAULT_GOAL := help
.PHONY: help paint studio test lint clean words

help: ## This page
	@echo 'danqing 丹青 paints pictures from words.'
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'
	@echo
	@echo '  make paint PROMPT="a red apple, 3d style"'
	@echo '  make paint PROMPT="一只猫" ARGS="--style paper-cut --count 4 --seed 7"'
	@echo
	@echo 'All that ARGS may hold: .venv/bin/danqing paint --help. PYTHON=... chooses a Python.'

paint: words $(VENV)/installed ## Paint PROMPT with the options in ARGS, into paintings/
	@$(BIN)/danqing paint $(ARGS) -- "$$DANQING_PROMPT"

studio: $(VENV)/installed-studio ## Paint in the browser, with the options in ARGS
	@$(BIN)/danqing studio $(ARGS)

test: $(VENV)/installed-dev ## Check style and types, and run all tests, on all cores
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --reruns 1 --rerun-show-tracebacks

lint: $(VENV)/installed-dev ## Only style and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

clean: ## Remove the environment and all caches; pictures, data and runs stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests recipes benchmarks -name __pycache__ -prune -exec rm -rf {} +

words:
	@test -n "$$DANQING_PROMPT" || { echo 'say what to paint: make paint PROMPT="a red apple, 3d style"' >&2; exit 2; }

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) torch
	$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-studio: $(VENV)/installed
	$(INSTALL) --editable '.[studio]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps DALL-E==0.1  # the oracle of tests/parity/test_dalle1.py; its own list of needs would replace torch
	@touch $@

# The first Python that is new enough and can make environments
$(BIN)/python:
	@seen=; for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	  version=$$($$python -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue; \
	  if ! $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    seen="$$seen $$python is $$version: too old."; \
	  elif ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	    seen="$$seen $$python $$version lacks the venv module (on Debian and Ubuntu: the package python3-venv)."; \
	  else \
	    echo "setting up $(VENV) with Python $$version: only this time, some minutes"; \
	    $$python -m venv --clear $(VENV) && exit 0; \
	    rm -rf $(VENV); seen="$$seen $$python -m venv failed."; \
	  fi; \
	done; \
	echo "danqing needs Python 3.11 or newer with its venv module.$${seen:- No Python was found.}" >&2; \
	echo "Install one, or name one: make $(or $(firstword $(MAKECMDGOALS)),paint) PYTHON=/path/to/python3" >&2; \
	exit 1
