# Every target works on a bare machine: what is missing is installed first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# trivy comes as a wheel into the environment's bin.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTEST := .venv/bin/python -m pytest
TWO := -n 2 --dist loadfile
ALL := -n auto --dist loadgroup

.PHONY: help bootstrap bootstrap-tests run agent test test-unit test-integration test-e2e lint clean down

help: ## say what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

bootstrap: ## install and start what is missing on this machine
	@scripts/bootstrap.sh

bootstrap-tests:
	@scripts/bootstrap.sh --tests

run: bootstrap ## the main job: build, pin, compile, upload, train, deploy
	@.venv/bin/python -m ci run --train --deploy

agent: bootstrap ## the image of a Jenkins agent
	@.venv/bin/python -m ci build --plan --config agent/ci.yaml

.venv/bin/python:
	@scripts/bootstrap.sh

lint: | .venv/bin/python ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Two files of integration tests at once: they wait more than they compute.
test: bootstrap-tests lint ## lint, and every test: unit, integration, e2e
	$(PYTEST) $(ALL) tests/unit
	$(PYTEST) $(TWO) tests/integration
	$(PYTEST) tests/e2e

test-unit: | .venv/bin/python ## minutes; no engine, no network
	$(PYTEST) $(ALL) tests/unit

test-integration: bootstrap-tests ## real engine, registry, scanner
	$(PYTEST) $(TWO) tests/integration

test-e2e: bootstrap-tests ## the main job on real parts
	$(PYTEST) tests/e2e

down: ## stop the embedded environment
	@.venv/bin/python -m ci local down

clean: ## remove what builds and tests leave in the repository
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
