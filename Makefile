# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The lab of `make demo` and `make lab-up`, and those that the tests and the benchmark build and remove: all can be up at once.
LAB := lab
TEST_LAB := test
CAMPAIGN_LAB := campaign
# How often `make campaign` repeats each fault.
CAMPAIGN := 1
BENCH_LAB := bench
RUNS := 20
KEEP := 0

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# ansible-lint and molecule look here; everybody else reads ansible.cfg.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections:$(HOME)/.ansible/collections:/usr/share/ansible/collections
# Tools that write next to their subject write elsewhere.
export PYTHONDONTWRITEBYTECODE := 1

LINT := lint-python lint-types lint-yaml lint-ansible lint-docs lint-package

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: demo
demo: setup ## Build a site of two nodes, use it, reboot its nodes, exchange their roles; leaves the lab up
	@DUPLEX_LAB=$(LAB) tools/demo

.PHONY: test
test: setup ## Run every check: lint, unit tests, molecule scenarios (15 to 20 minutes)
	@DUPLEX_LAB=$(TEST_LAB) tools/test $(LINT) unit unit-python39 simulation molecule

.PHONY: setup
setup: ## Install what the other targets need: Debian packages and .venv
	@tools/setup
	@tools/venv

.PHONY: venv
venv:
	@tools/venv

.PHONY: unit
unit: venv ## Run the unit tests, and check that the rules are covered completely (seconds)
	@pytest --quiet --tb=short -m 'not simulation' --cov --cov-report=term

.PHONY: simulation
simulation: venv ## Cut a switchover of two simulated nodes at every step (a minute)
	@pytest --quiet --tb=short -m simulation

.PHONY: unit-python39
unit-python39: venv ## Run the unit tests of the package under Python 3.9, the oldest that a node may have
	@tools/unit-python39

.PHONY: lint
lint: $(LINT) ## Run every static check

.PHONY: $(LINT)
lint-python: venv
	@ruff check --quiet .
	@ruff format --check --quiet . || { ruff format --diff --quiet .; exit 1; }

lint-types: venv
	@mypy --no-error-summary

lint-yaml: venv
	@yamllint --strict .

lint-ansible: venv
	@ansible-lint --offline -q

lint-docs: venv
	@antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self .
	@antsibull-changelog lint

lint-package: venv
	@tools/package-check

.PHONY: molecule
molecule: setup ## Run the molecule scenarios on real nodes; SCENARIO=reboot runs one of them
	@DUPLEX_LAB=$(TEST_LAB) tools/molecule-test $(SCENARIO)

.PHONY: campaign
campaign: setup ## Cut a switchover at every step (about 40 minutes); CAMPAIGN=N repeats each fault N times
	@DUPLEX_LAB=$(CAMPAIGN_LAB) CAMPAIGN=$(CAMPAIGN) tools/campaign

.PHONY: bench
bench: setup ## Measure switchovers side by side with the fastest possible; RUNS=4 is a short run, KEEP=1 leaves the lab up
	@DUPLEX_LAB=$(BENCH_LAB) RUNS=$(RUNS) KEEP=$(KEEP) tools/bench

.PHONY: lab-up
lab-up: setup ## Build the lab of real nodes, without anything installed on them
	@tools/lab up --name $(LAB)

.PHONY: lab-down
lab-down: ## Remove the lab
	@tools/lab down --name $(LAB)

.PHONY: clean
clean: ## Remove what the other targets left in the checkout; labs stay
	rm -rf .venv .venv39 .ansible .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache tests/output changelogs/.plugin-cache.yaml
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
