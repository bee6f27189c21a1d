# make tournament · make test · make lint · make bench · make conformance
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: tournament test conformance lint bench clean

tournament: $(INSTALLED)  ## venv, install, MNIST, a quick tournament, the leaderboard
	$(BIN)/arena data fetch
	$(BIN)/arena run --preset quick

test: $(INSTALLED)
	$(BIN)/python -m pytest

conformance: $(INSTALLED)  ## the slow tests: minutes each
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "arena needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
