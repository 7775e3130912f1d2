# Two commands do all the set-up on a fresh machine with Python >= 3.11, pip, gcc and make:
#   make paper   the bot for two minutes on a market on this machine
#   make test    the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOR ?= 2m
WORKERS ?= 2

.PHONY: paper test lint nightly bench clean

$(VENV)/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	touch $@

paper: $(VENV)/.installed
	$(BIN)/bot paper --venue local --for $(FOR)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

nightly: $(VENV)/.installed
	$(BIN)/python -m pytest -m nightly -n $(WORKERS) --dist worksteal --timeout 7200

bench: $(VENV)/.installed
	$(BIN)/bot bench feed
	$(BIN)/bot bench replay

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
