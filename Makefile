# Two commands are all that a newcomer needs: `make demo` and `make test`. `make help` lists the rest.
#
#   PYTHON=python3.11      the interpreter that .venv is made with (3.10 to 3.13)
#   TORCH=cpu|cuda         which build of torch; remembered in .venv, cpu at first
#   TORCH_INDEX=URL        a package index for torch, instead of the one that TORCH implies
#   ARGS="..."             more arguments for the command of the target, e.g. make demo ARGS="-p learner:overrides:=[seed=2]"

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= $(or $(shell cat $(VENV)/.torch 2>/dev/null),cpu)
ARGS ?=

CPU_INDEX := https://download.pytorch.org/whl/cpu
ifeq ($(TORCH),cpu)
  TORCH_INDEX ?= $(CPU_INDEX)
else ifneq ($(TORCH),cuda)
  $(error TORCH=$(TORCH): it is cpu or cuda; use TORCH_INDEX=URL for another build)
endif
TORCH_PIN := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check

NEED_ROS := bench/franka_fake.py bench/franka_errors.py
INSTALLED := $(VENV)/.installed-$(TORCH)
BENCH_INSTALLED := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help install demo test nightly lint types bench clean

help:
	@echo "make demo      the whole graph: simulated Frankas get better at a task that they were never shown"
	@echo "make test      the tests (minutes); make nightly: the long ones"
	@echo "make install   only set up $(VENV); TORCH=cuda for a GPU (docs/install.md)"
	@echo "make lint      ruff; make types: mypy"
	@echo "make bench     simulation and learning rates, against other packages"
	@echo "make clean     remove build products and caches; runs/ and $(VENV) stay"

install: $(INSTALLED)

demo: $(INSTALLED)
	@# 130: stopped by Ctrl-C, which the command has said; no failure
	$(BIN)/irevla up sim --run graph-demo $(ARGS) || [ $$? -eq 130 ]

# Workers are processes; more threads than cores in each of them cost far more than they bring.
test nightly bench: export OMP_NUM_THREADS := 1

# Two at a time, a file each: much of a test is waiting. In the order of test/conftest.py, not by the number of tests.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

nightly: $(INSTALLED)
	$(BIN)/python -m pytest -m nightly $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

bench: $(BENCH_INSTALLED)
	[ -d runs/sft-seed1/checkpoints/sft ] || $(BIN)/irevla sft --seed 1
	set -e; for script in $(filter-out bench/graph_watch.py bench/graph_relay.py $(NEED_ROS),$(wildcard bench/*.py)); do echo "== $$script"; $(BIN)/python $$script $(ARGS); done

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find irevla_ros test bench -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null || { echo \
	  "irevla: error: $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1): Python 3.10 to 3.13 is required;" \
	  "name another: make $(or $(MAKECMDGOALS),install) PYTHON=python3.11"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo \
	  "irevla: error: $(PYTHON) cannot make a virtual environment: its venv module is required;" \
	  "on Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }

# torch first, alone and from its own index, so that the CPU build is found before the far larger CUDA build that the
# default index has for Linux. Where that index does not answer (or in CI) the pinned version comes from the default one.
$(INSTALLED): setup.py setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@rm -f $(VENV)/.installed-*
	@# Both builds satisfy torch==X, so that pip would not exchange one for the other.
	@[ "$$(cat $(VENV)/.torch 2>/dev/null || echo $(TORCH))" = "$(TORCH)" ] || $(PIP) uninstall -y -q torch
	@if [ -n "$(TORCH_INDEX)" ] && [ "$${CI:-}" != true ]; then \
	  echo "installing $(TORCH_PIN) from $(TORCH_INDEX)"; \
	  $(PIP) install --no-deps --retries 0 --timeout 5 --index-url "$(TORCH_INDEX)" "$(TORCH_PIN)" 2>/dev/null \
	    || echo "$(TORCH_INDEX) does not answer: taking $(TORCH_PIN) from the default index"; \
	fi
	@echo "installing irevla_ros and what it needs (constraints.txt)"
	@$(PIP) install -c constraints.txt -e '.[sim,embedded,dev,conformance]' || { echo \
	  "irevla: error: the installation failed: see the lines above;" \
	  "if it was pybullet, it builds from source from Python 3.12 on: docs/install.md"; exit 1; }
	@echo "$(TORCH)" > $(VENV)/.torch
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	$(PIP) install -c constraints.txt -e '.[bench]'
	@touch $@
