# The same commands on a laptop and in CI. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
SOURCES := pipelines embedded_engine ci demo tests
PYTEST := $(PY) -m pytest
# The demo's registry program, where it is not installed.
export PATH := $(CURDIR)/.cache/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo clean-demo clean setup setup-test test unit engine lock lint format types docs docs-check shims campaign

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.made ## a real model, built, checked, scanned, pushed and traced, on this machine (MODEL=embeddings)
	@$(PY) demo/demo.py $(MODEL)

clean-demo: ## end the demo's registry and remove everything that it stored
	@$(PYTHON) demo/demo.py --clean

clean: clean-demo ## that, and the Python environment
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

setup: $(VENV)/.made ## the Python environment that runs models, and Buildah, Podman and Skopeo
	@$(PYTHON) demo/system.py engine

setup-test: setup $(VENV)/.made-dev
	@$(PYTHON) demo/system.py base registry

test: setup-test lint types ## everything: lint, types, CI files, then all tests
	$(PYTEST) -n auto tests/unit
	$(PYTEST) -n 2 --dist loadfile tests/engine tests/conformance tests/registry tests/pipeline

unit: $(VENV)/.made-dev ## the tests that need no engine and no network
	$(PYTEST) -n auto tests/unit

engine: setup-test ## the tests of the embedded engine
	$(PYTEST) tests/engine

lint: $(VENV)/.made-dev shims ## ruff, and the CI files
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.made-dev ## put the code in its form
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(VENV)/.made-dev ## mypy, strict
	$(PY) -m mypy

campaign: setup-test ## every fault at every request of a push, 200 kills of it and 200 of the engine: tables, two hours
	$(PY) -m tests.registries.sweep
	$(PY) -m tests.registries.kills --count 200
	$(PY) -m tests.engine_campaign --kills 200

LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -q
lock: ## both lock files, after a change of the dependencies (needs uv)
	$(LOCK) --extra dockerfile -o requirements.lock
	$(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock

docs: $(VENV)/.made-dev ## write the schema and the reference in docs/ anew, after a change of the configuration
	$(PY) docs/reference.py

docs-check: $(VENV)/.made-dev ## README and docs against the code
	$(PYTEST) -q tests/unit/test_docs.py

shims: $(VENV)/.made-dev ## lint of the workflows and scripts that CI systems run
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.circle-ci .circleci/config.yml
	$(VENV)/bin/zizmor --offline --quiet .github/workflows
	$(VENV)/bin/shellcheck .ci/run

# Everything of the lock file, by hash; then this project itself, so that `modelport` and `embedded-engine` are commands.
$(VENV)/.made: requirements.lock pyproject.toml
	@echo "demo: making $(VENV) from requirements.lock" >&2
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) demo/system.py venv
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# What tests, linters and types need beside it: the same versions, and more packages.
$(VENV)/.made-dev: requirements-dev.lock $(VENV)/.made
	@echo "tests: adding the packages of requirements-dev.lock to $(VENV)" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
