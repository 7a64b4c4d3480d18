# `make` alone lists what there is. GNU make and a Python of 3.11 or newer are all it takes; each target makes what it
# needs, virtual environments included.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test coverage fuzz fuzz-check check format format-check lint types template docs docs-check faults build \
	sam-local bench bench-check bench-cost bench-profile benchable lock clean

VENV := .venv
SAM := .venv-sam/bin/sam
export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A python3.13 on the PATH may be a shim with no Python behind it, so each candidate has to run before it counts.
pyenv = $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(1).*/bin/python$(1))
newest_first := python3.13 $(call pyenv,3.13) python3.12 $(call pyenv,3.12) python3.11 $(call pyenv,3.11) python3 python
first_to_run = $(shell for python in $(newest_first); do \
	"$$python" -c 'import sys, venv, ensurepip; assert $(1)' >/dev/null 2>&1 && command -v "$$python" && break; done)
recent := sys.version_info >= (3, 11)
as_in_lambda := sys.version_info[:2] == (3, 13)
PYTHON ?= $(call first_to_run,$(recent))
PYTHON_IN_LAMBDA = $(call first_to_run,$(as_in_lambda))

help:
	@echo 'make …'
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | \
	while IFS='|' read -r name does; do printf '  %-13s %s\n' "$$name" "$$does"; done

# ---- To work with ----------------------------------------------------------------------------------------------------
run: $(VENV)/.stamp ## starts the whole cloud on this machine, on PORT (8000)
	@trap : INT; $(VENV)/bin/python -m local; status=$$?; [ $$status -eq 130 ] || exit $$status

test: $(VENV)/.stamp ## runs every test that needs no container; TESTS=… some of them
	$(VENV)/bin/python -m pytest --numprocesses 8 $(or $(TESTS),$(addprefix --ignore=,$(built_tests) tests/fuzz))

coverage: $(VENV)/.stamp ## the same with coverage, which takes half as long again
	$(VENV)/bin/python -m pytest --numprocesses 8 --cov $(addprefix --ignore=,$(built_tests) tests/fuzz)

fuzz: $(VENV)/.stamp ## sends what the API description allows and what it does not; FUZZ_EXAMPLES=… of each operation, FUZZ_SEED=…
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),500) $(VENV)/bin/python -m pytest -s tests/fuzz

faults: $(VENV)/.stamp ## tries every fault at every step of every verb, prints what came of it and writes docs/faults.md
	PYTHONPATH=functions:layers/crm $(VENV)/bin/python -m tests.faults.matrix

check: format-check lint types template docs-check coverage fuzz-check ## all that has to hold before a change goes in; no network, no cloud

fuzz-check: $(VENV)/.stamp
	$(VENV)/bin/python -m pytest tests/fuzz

format: $(VENV)/.stamp ## puts the code in form
	$(VENV)/bin/ruff format . $(not_ours)
	$(VENV)/bin/ruff check --fix . $(not_ours)

format-check: $(VENV)/.stamp
	$(VENV)/bin/ruff format --check . $(not_ours)

lint: $(VENV)/.stamp ## ruff
	$(VENV)/bin/ruff check . $(not_ours)

types: $(VENV)/.stamp ## mypy, strict
	$(VENV)/bin/mypy

template: .venv-sam/.stamp .venv-checkov/.stamp ## lints template.yaml, for form and for security
	$(SAM) validate --lint
	.venv-checkov/bin/checkov --config-file .checkov.yaml

docs: $(VENV)/.stamp ## writes the generated pages again
	$(VENV)/bin/python docs/generate.py

docs-check: $(VENV)/.stamp
	$(VENV)/bin/python docs/generate.py --check

clean: ## removes what was made, the virtual environments too
	rm -rf .aws-sam .venv .venv-* .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find functions layers local tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Where there is no git, ruff has no .gitignore to go by.
not_ours := --extend-exclude '.venv*,.aws-sam'

# ---- To deploy -------------------------------------------------------------------------------------------------------
build: .venv-sam/.stamp ## sam build, for the cloud
	$(sam_build)

# Bytecode is compiled by Lambda's own Python. Without one here, SAM builds in a container.
sam_build = PYTHON='$(PYTHON_IN_LAMBDA)' $(SAM) build $(if $(PYTHON_IN_LAMBDA),,--use-container)

# ---- What was built, under the real SAM CLI --------------------------------------------------------------------------
# It is built for this machine, beside what `make build` made for the cloud, which it must not replace.
# A container engine is Docker, or whatever DOCKER_HOST names. Failing that, SAM_ENGINE is a command that starts one:
# `$(SAM_ENGINE) up` prints exports, DOCKER_HOST and the address SAM_HOST_IP at which containers reach this machine.
built_tests := tests/e2e/test_built_artefact.py tests/e2e/test_built_layers.py tests/e2e/test_sam_local.py
SAM_ENGINE ?= $(addprefix bash ,$(wildcard ../shared/tools/sam-engine))
machine := $(if $(filter arm64 aarch64,$(shell uname -m)),arm64,x86_64)
# The emulator runs on Linux, and what was built runs under Lambda's Python alone. Elsewhere the containers have to do.
emulates = $(and $(filter Linux,$(shell uname)),$(PYTHON_IN_LAMBDA))

sam-local: $(VENV)/.stamp .venv-sam/.stamp ## sam build, then sam local invoke and start-api, in containers
	@$(if $(emulates),$(MAKE) -s .venv-lambda/.stamp,echo 'Without $(firstword $(built_tests)): no Linux or Python 3.13')
	@$(find_engine); $(sam_build) --build-dir .aws-sam/local --parameter-overrides Architecture=$(machine) && \
	SAM=$(SAM) SAM_BUILD=.aws-sam/local LAMBDA_PYTHON=.venv-lambda/bin/python \
	$(VENV)/bin/python -m pytest $(if $(emulates),$(built_tests),$(lastword $(built_tests)))

find_engine = answers() { .venv-sam/bin/python -c 'import docker; docker.from_env().ping()' >/dev/null 2>&1; }; \
	if ! answers; then \
	  engine=$$($(or $(SAM_ENGINE),false) up) && eval "$$engine" && answers || { \
	    echo >&2 'No container engine answers: start Docker, or set DOCKER_HOST or SAM_ENGINE.'; exit 1; }; \
	fi

# ---- How fast what was built is --------------------------------------------------------------------------------------
# Built as for `make sam-local`, and run under the same emulator; the official clients have an environment of their own.
benchmarks := SAM=$(SAM) SAM_BUILD=.aws-sam/local LAMBDA_PYTHON=.venv-lambda/bin/python PLAIN_LAYER=.aws-sam/plain \
	.venv-bench/bin/python -m

bench: benchable ## measures it beside what it must not exceed, writes docs/benchmarks.md; RUNS=3, or ONLY=cold, warm, lists or http
	@$(benchmarks) benchmarks --runs $(or $(RUNS),3) $(addprefix --only ,$(ONLY))

bench-profile: benchable ## shows where time goes, ROW=create-hubspot, create-close, list, lists, init or authorizer
	@$(benchmarks) benchmarks.profile $(or $(ROW),create-hubspot)

bench-cost: benchable ## measures what a create costs in the cloud and writes docs/cost.md
	@$(benchmarks) benchmarks.cost

bench-check: ## does each benchmark once, small, to see that it works
	@$(if $(emulates),$(MAKE) -s benchable && $(benchmarks) benchmarks --check,echo 'Without benchmarks: no Linux or Python 3.13')

benchable: .venv-sam/.stamp
	@$(if $(emulates),,echo >&2 'Benchmarks need Linux and Python 3.13.'; exit 1)
	@$(MAKE) -s .venv-lambda/.stamp .venv-bench/.stamp .aws-sam/plain/.stamp
	@said=$$($(sam_build) --build-dir .aws-sam/local --parameter-overrides Architecture=$(machine) 2>&1) || \
	{ echo >&2 "$$said"; exit 1; }

.aws-sam/plain/.stamp: layers/dependencies/requirements.txt .venv-bench/.stamp
	@rm -rf $(@D)
	@.venv-bench/bin/python -m pip install -qq --no-compile --target $(@D) -r $<
	@touch $@

# ---- Virtual environments --------------------------------------------------------------------------------------------
# Each tool has one of its own, since their pins clash. The stamp comes last: one that was interrupted is made again.
define environment
	@python='$(PYTHON)'; \
	[ -n "$$python" ] || { echo >&2 'No Python of 3.11 or newer with venv was found; name one with PYTHON=….'; exit 1; }; \
	echo "Installing $< with $$python"; "$$python" -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq 'pip>=24.2'  # older ones take boto3[crt] for unpinned where boto3 is pinned
	@$(@D)/bin/python -m pip install -qq -r $<
	@touch $@
endef

$(VENV)/.stamp: requirements/dev.txt layers/dependencies/requirements.txt
	$(environment)

.venv-lambda/.stamp .venv-bench/.stamp: override PYTHON = $(PYTHON_IN_LAMBDA)
.venv-%/.stamp: requirements/%.txt
	$(environment)

# One resolution for every platform and every Python that is supported, with hashes and without addresses.
pinned = $(if $(filter layer,$(1)),layers/dependencies/requirements.txt,requirements/$(1).txt)
sources = $(basename $(notdir $(wildcard requirements/*.in)))
compile = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url requirements/$(1).in --output-file $(call pinned,$(1))

lock: .venv-lock/.stamp ## compiles requirements/….in to the pinned files again, the layer's first
	export UV_CUSTOM_COMPILE_COMMAND='make lock'; \
	$(foreach name,$(filter layer,$(sources)) $(filter-out layer,$(sources)),$(call compile,$(name)) &&) true
