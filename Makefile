# Every target makes what it needs first: a machine with Python 3.11 and a package index is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: help setup demo test check fix bench endurance docs
.DEFAULT_GOAL := help

help:  ## what the targets do
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 12

$(BIN)/sameitem: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.developer: $(BIN)/sameitem
	$(PIP) -e '.[dev,train,heic]'
	touch $@

setup: $(VENV)/.developer  ## make .venv with everything that development and tests need

demo: $(BIN)/sameitem  ## the main job: draw a shop, build its index, search 400 user photos
	$(BIN)/sameitem demo --dir demo-shop

check: $(VENV)/.developer  ## format, lint, types, import layers, fast tests, docs: offline, under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow"

test: $(VENV)/.developer  ## check, then the slow tests: servers, browser, real models; lists what this machine left out
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -rs

fix: $(VENV)/.developer  ## apply formatting and safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.developer  ## measure speed; ../shared/data adds the real photographs
	$(BIN)/sameitem bench engine
	$(BIN)/python benchmarks/query.py

endurance: $(VENV)/.developer  ## the kill tests at full size: run before a release
	SAMEITEM_TEST_KILLS=200 $(BIN)/python -m pytest -q -m slow -k kill

docs: $(VENV)/.developer  ## write the generated reference pages (docs/reference)
	$(BIN)/python -m sameitem.apps.reference docs/reference
