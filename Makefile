# make tournament · make test · make lint · make bench · make conformance
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: tournament test conformance lint bench sanitize clean

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

# A second build, beside the one in use: the interpreter needs the sanitizer's runtime, and torch leaks on purpose.
sanitize: $(INSTALLED)  ## the kernels' tests under the address and undefined-behavior sanitizers
	CMAKE_ARGS=-DARENA_SANITIZE=ON $(BIN)/python -m pip install --quiet --upgrade --no-deps --target build/sanitize .
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONPATH=build/sanitize \
		$(BIN)/pytest tests/test_kernels.py tests/test_kernels_contract.py -k "not memory and not 8000"

$(INSTALLED): pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "arena needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
