# `make help` lists what there is. Everything runs in .venv, which the first command makes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tests side by side, each with one thread: most are too small for two. One more than there are cores, since some wait.
PYTEST := $(BIN)/python -m pytest
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 1 : 4)))
ALONGSIDE := OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist worksteal

# Compiled once, not by every process that a test starts.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install train report test test-slow test-slurm test-hostile test-rest faults test-sanitized benchmarks check lint format cards configuration build clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with everything in it

# The constraints pin every version, so that a set-up of today works in a year.
$(INSTALLED): pyproject.toml setup.py constraints.txt $(wildcard set_cli/native/src/*)
	@echo "installing into $(VENV): about a minute where torch is at hand, else as long as its download takes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[dev]'
	$(BIN)/python -c "from set_cli import native; print('compiled kernels:', native.describe())"
	@touch $@

train: $(INSTALLED) ## train SET, FixProb and dense on the bundled digits, then print the comparison
	$(BIN)/set-train -m method=set,fixprob,dense seed=0,1,2; code=$$?; $(BIN)/set-report && exit $$code

report: $(INSTALLED) ## print the comparison of all runs in runs/
	$(BIN)/set-report

test: $(INSTALLED) ## run the tests (real data: SET_DATA_DIR=folder make test)
	$(ALONGSIDE) -m 'not slow and not faults and not slurm and not hostile'

test-slow: $(INSTALLED) ## train for minutes on real MNIST and CIFAR10 (needs SET_DATA_DIR)
	$(ALONGSIDE) -m slow

faults: $(INSTALLED) ## kill runs, fail their calls, damage their files; print what came of it
	$(ALONGSIDE) -m faults

test-hostile: $(INSTALLED) ## read data files and report run folders that were made to hurt or mislead
	$(ALONGSIDE) -m hostile

test-rest: $(INSTALLED) ## faults, test-hostile and test-slow at once: one waits while another computes
	$(ALONGSIDE) -m 'faults or hostile or slow'

test-slurm: $(INSTALLED) ## start a Slurm cluster of this machine (root, Debian) and sweep on it
	$(PYTEST) -m slurm

# A copy of the package, its kernels built with the sanitizers; `optional` would hide a failed build, so that is checked.
SANITIZED := build/sanitized
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g
THREAD_SANITIZER := -fsanitize=thread -fno-omit-frame-pointer -g
SANITIZED_TESTS := tests/test_native.py tests/test_native_steps.py tests/test_native_normalization.py tests/test_units.py
SANITIZED_TESTS += tests/test_team.py tests/test_evolve.py tests/test_augment.py tests/test_mixup.py tests/test_sparse_linear.py
SANITIZED_PYTEST := SET_SANITIZED=1 $(abspath $(BIN))/python -m pytest -p no:cacheprovider
define build-sanitized
rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
cp -r set_cli tests conf setup.py pyproject.toml README.md LICENSE $(SANITIZED)
rm -f $(SANITIZED)/set_cli/native/*.so && ln -sf ../conf $(SANITIZED)/set_cli/conf
cd $(SANITIZED) && SET_SANITIZE="$(1)" $(abspath $(BIN))/python setup.py -q build_ext --inplace
ls $(SANITIZED)/set_cli/native/_core*.so
endef
test-sanitized: $(INSTALLED) ## run the kernels' tests under AddressSanitizer and UBSan, their threads' under ThreadSanitizer
	$(call build-sanitized,$(SANITIZERS))
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 $(SANITIZED_PYTEST) $(SANITIZED_TESTS)
	$(call build-sanitized,$(THREAD_SANITIZER))
	cd $(SANITIZED) && g++ -std=c++17 -O1 $(THREAD_SANITIZER) -pthread -Iset_cli/native/src tests/native/team.cpp \
	set_cli/native/src/team.cpp -o team && ./team
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" TSAN_OPTIONS="exitcode=66 halt_on_error=1 \
	ignore_noninstrumented_modules=1" $(SANITIZED_PYTEST) -k "thread or together or bits" \
	tests/test_native.py tests/test_native_steps.py tests/test_units.py

benchmarks: $(INSTALLED) ## measure this machine and write docs/benchmarks.md (with SET_DATA_DIR: epochs too)
	GOMP_SPINCOUNT=10000 THP_MEM_ALLOC_ENABLE=1 $(BIN)/python tools/benchmarks.py

check: lint test ## lint, then the tests

lint: $(INSTALLED) ## format check, ruff, mypy strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

cards: $(INSTALLED) ## write datasets/*.md anew from the catalogue
	$(BIN)/python tools/data_cards.py

configuration: $(INSTALLED) ## write docs/configuration.md anew from set_cli/config and conf/
	$(BIN)/python tools/configuration.py

build: $(INSTALLED) ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

clean: ## remove .venv and caches (runs/ and datasets/ stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
