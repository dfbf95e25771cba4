# Everything a person does here, each as one word. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
# another package index for PyTorch, once a service here needs it: make up TORCH_INDEX=https://...
TORCH_INDEX ?=
# only some services: make up ONLY="cleanup rmbg"
ONLY ?=

# tests run in so many processes side by side; 0 is one after the other
WORKERS ?= 2

# only some images: make images IMAGES="gateway rmbg"
IMAGES ?= cpu
BAKE := docker buildx bake --file docker/bake.hcl $(if $(NETWORK),--file docker/bake.network.yaml)
STAND_INS = --file tests/images/servers.hcl $(if $(NETWORK),--file tests/images/servers.network.yaml)

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name) 2>/dev/null)))
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# a file's tests share their fixtures, so they stay together; tests/conftest.py puts the long ones first
SIDE_BY_SIDE := $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

# what prints figures; the other modules in bench/ are what these are made of
BENCHES := $(filter-out __init__ dialects load processes stub,$(basename $(notdir $(wildcard bench/*.py))))

.DEFAULT_GOAL := help
.PHONY: help up test test-all images images-test check fix schemas docs chart chart-audit bench clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

up: $(VENV)/.embedded ## Install what is needed, start the gateway and every service; Ctrl-C stops them
	@exec $(BIN)/darkroom up $(ONLY)

test: $(VENV)/.dev ## Install what the tests need and run the short form of all of them
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not images"

test-all: $(VENV)/.tensorflow ## Run every test; TensorFlow is installed for those of Pix2Pix
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not images"

images: ## Build the container images that run on processors; docs/images.md tells of the variables
	@$(BAKE) $(IMAGES)

images-test: $(VENV)/.dev images ## Build the images, start them as compose does, ask them, replace them under load
	@$(BAKE) $(STAND_INS) servers tf-serving-base
	@$(BAKE) $(STAND_INS) tf-serving-trial
	@$(BIN)/python -m pytest -m images tests/images

check: $(VENV)/.dev ## Look at style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(VENV)/.dev ## Put right what can be put right by a program
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schemas: $(VENV)/.embedded ## Write what follows from the operations: services/schemas.json, gRPC's messages, the client's methods
	@$(BIN)/python -m services.schemas
	@$(BIN)/python -m gateway.doors.grpc.write
	@$(BIN)/python -m gateway.client_asks

docs: $(VENV)/.embedded ## Write the pages of docs/ that are made from the code
	@$(BIN)/python -m gateway.settings_table
	@$(BIN)/python -m gateway.doc_pages

chart: $(VENV)/.dev ## Write what follows from the chart: its schema, its table of values, k8s/
	@$(BIN)/python -m helm.write
	@$(BIN)/python -m helm.kustomize

chart-audit: $(VENV)/.dev ## Have Checkov, in an environment of its own, look at what the chart renders
	@test -x $(VENV)/audit/bin/checkov || { $(BIN)/python -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet 'checkov>=3.2,<4'; }
	@$(BIN)/python -m helm.audit $(VENV)/audit/bin/checkov

bench: $(VENV)/.bench ## Measure every figure that this project claims
	@set -e; for name in $(BENCHES); do echo "── bench.$$name"; $(BIN)/python -m bench.$$name; done

clean: ## Remove the environment, caches and .darkroom (pictures, jobs and keys too)
	rm -rf $(VENV) .darkroom *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# ── the environment; a stamp file says what is in it ─────────────────────────────────────────────────────────

NEEDED := Darkroom needs Python 3.11 or 3.12
SUITS = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))

$(BIN)/python:
	$(if $(PYTHON),,$(error $(NEEDED): install it, or name one with make PYTHON=/path/to/python3.11))
	$(if $(shell $(PYTHON) -c '$(SUITS)' && echo yes),,$(error $(NEEDED), and $(PYTHON) is another: install one, or name it with make PYTHON=/path/to/python3.11))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && echo yes),,$(error $(PYTHON) cannot make environments: install its venv package (on Debian: apt-get install python3-venv)))
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: pyproject.toml | $(BIN)/python
	@echo "Installing Darkroom into $(VENV); this takes some minutes, once."
	@$(PIP) -e '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing Darkroom and what its tests need into $(VENV); this takes some minutes, once."
	@$(PIP) -e '.[embedded,dev]'
	@touch $@ $(VENV)/.embedded

$(VENV)/.bench: pyproject.toml | $(VENV)/.dev
	@$(PIP) -e '.[embedded,dev,bench]'
	@touch $@

$(VENV)/.tensorflow: pyproject.toml | $(VENV)/.dev
	@echo "Installing TensorFlow, which trains and exports Pix2Pix, into $(VENV); this takes some minutes, once."
	@$(PIP) -e '.[embedded,dev-tensorflow]'
	@touch $@
