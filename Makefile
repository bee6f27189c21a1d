# make help lists what there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

DECIDING := tests/geometry tests/target tests/store tests/tournament/test_claims.py $(addprefix tests/evaluation/test_,referee.py fragile.py preflight.py)
MUTANTS ?= 100
ROUNDS ?= 12
SEED ?= 0

.PHONY: help tournament test cluster chaos conformance coverage mutation lint docs bench sanitize gpu-check clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

tournament: $(INSTALLED)  ## venv, install, MNIST, a quick tournament, the leaderboard, the report
	$(BIN)/arena data fetch
	$(BIN)/arena run --preset quick; played=$$?; \
		if [ $$played -le 1 ]; then $(BIN)/arena report --out report.html || exit; fi; exit $$played  # 1: units failed

test: $(INSTALLED)  ## the tests
	$(BIN)/python -m pytest -n auto --dist loadgroup

cluster: $(INSTALLED)  ## the tests on Ray clusters of three nodes on this machine
	$(BIN)/python -m pytest -m cluster tests/tournament

chaos: $(INSTALLED)  ## tournaments on a Ray cluster, each with something that breaks: make chaos ROUNDS=50; a minute a round
	$(BIN)/python tests/chaos.py --rounds $(ROUNDS) --seed $(SEED)

conformance: $(INSTALLED)  ## the slow tests: minutes each
	$(BIN)/python -m pytest -m slow

coverage: $(INSTALLED)  ## how much of what decides numbers and keeps them its own tests run, with a floor
	$(BIN)/python -m pytest -n auto --cov --cov-report=term $(DECIDING)

mutation: $(INSTALLED)  ## which of so many random changes of that code no test notices; hours for all of them
	$(BIN)/python tests/mutation.py $(MUTANTS)

lint: $(INSTALLED)  ## ruff, clang-format, mypy, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.* csrc/*/*.* tests/*.h tests/*.cpp)
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

docs: $(INSTALLED)  ## writes the pages that the code itself can tell
	$(BIN)/python docs/generate.py

bench: $(INSTALLED)  ## the benchmarks, each beside a peer
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# A second build, beside the one in use: the interpreter needs the sanitizer's runtime, and torch leaks on purpose.
sanitize: $(INSTALLED)  ## the kernels' tests under the address, undefined-behavior and thread sanitizers
	CMAKE_ARGS=-DARENA_SANITIZE=ON $(BIN)/python -m pip install --quiet --upgrade --no-deps --target build/sanitize .
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONPATH=build/sanitize \
		$(BIN)/pytest tests/kernels/test_kernels.py tests/kernels/test_kernels_contract.py -k "not memory and not 8000"
	$(BIN)/pytest -m slow tests/kernels/test_cuda.py -k race

# On a machine with a GPU. Installs nothing: $(PYTHON) has torch, pybind11, pytest and hypothesis (make gpu-check
# PYTHON=.venv/bin/python where there is a venv), nvcc, cmake and ninja are on PATH, and so is compute-sanitizer, without
# which its part is left out.
NEEDS := import pybind11, pytest, hypothesis, torch; assert torch.cuda.is_available(), "torch sees no GPU"
SMALL := cuda and not host and (top_k or gradient or ball or 1-7 or 3-7)
gpu-check: export PYTHONPATH := $(CURDIR)
gpu-check:  ## builds with CUDA, every test of the kernels, compute-sanitizer, the benchmark
	@why="$$($(PYTHON) -c '$(NEEDS)' 2>&1)" || { echo "gpu-check: $$(echo "$$why" | tail -n 1)" >&2; exit 2; }
	@for tool in nvcc cmake ninja; do command -v $$tool >/dev/null || \
		{ echo "gpu-check: no $$tool on PATH" >&2; exit 2; }; done
	cmake -S . -B build/gpu -G Ninja -DARENA_CUDA=1 -Dpybind11_DIR="$$($(PYTHON) -m pybind11 --cmakedir)" \
		-DPython_EXECUTABLE="$$(command -v $(PYTHON))" -DCMAKE_INSTALL_PREFIX=$(CURDIR)/arena
	cmake --build build/gpu --target install
	$(PYTHON) -m pytest --noconftest -rs tests/kernels/test_kernels.py tests/kernels/test_kernels_contract.py
	$(PYTHON) -m pytest --noconftest -rs -m '' tests/kernels/test_cuda.py
	if command -v compute-sanitizer; then for tool in 'memcheck --report-api-errors no' racecheck; do \
		compute-sanitizer --tool $$tool --error-exitcode 1 \
		$(PYTHON) -m pytest --noconftest tests/kernels/test_kernels.py -k '$(SMALL)' || exit 1; done; \
	else echo "no compute-sanitizer on PATH: memcheck and racecheck left out"; fi
	$(PYTHON) benchmarks/kernels_cuda.py

$(INSTALLED): pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "arena needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

clean:  ## removes the environment and what was built
	rm -rf $(VENV) build *.egg-info
