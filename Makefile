# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The lab of `make demo` and `make lab-up`, and those that the tests and the benchmark build and remove: all can be up at once.
LAB := lab
TEST_LAB := test
CAMPAIGN_LAB := campaign
ARTIFACT_LAB := artifact
# How often `make campaign` repeats each cut of a switchover, and the numbers of the faults that it injects: none for all.
CAMPAIGN := 1
FAULTS :=
BENCH_LAB := bench
RUNS := 20
# The stories of `make simulate`: how many, from which seed on; SEED=12345 tells that one.
SEEDS := 100000
FIRST := 0
SEED :=
SCALE_LAB := scale
FLEET_LAB := fleet
KEEP := 0

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# ansible-lint and molecule look here; everybody else reads ansible.cfg.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections:$(HOME)/.ansible/collections:/usr/share/ansible/collections
# No __pycache__ next to the sources; without any bytecode each start of Ansible takes half as long again.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/bytecode

LINT := lint-python lint-types lint-yaml lint-ansible lint-docs lint-package

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: demo
demo: setup ## Build a site of two nodes, use it, reboot its nodes, exchange their roles; leaves the lab up
	@DUPLEX_LAB=$(LAB) tools/demo

.PHONY: test
test: setup ## Run the checks: lint, unit tests, molecule scenarios, and the built collection by itself (half an hour)
	@tools/test molecule -- $(LINT) unit unit-python39 simulation ansible-test ansible-test-newest

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
simulation: venv ## Cut a switchover of two simulated nodes at every step, and play random stories (two minutes)
	@pytest --quiet --tb=short -m simulation

.PHONY: simulate
simulate: venv ## Play SEEDS random stories of two simulated nodes on all processors; SEED=12345 tells one
	@PYTHONPATH=$(CURDIR)/.collections python -m ansible_collections.duplex.failover.tests.unit.plugins.module_utils._failover.simulation \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST))

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
molecule: setup ## Run the molecule scenarios of make test on real nodes; SCENARIO=media runs one, whichever it is
	@DUPLEX_LAB=$(TEST_LAB) tools/molecule-test $(SCENARIO)

.PHONY: artifact
artifact: setup ## Run the example on real nodes from the built collection alone, with the oldest and the newest Ansible
	@DUPLEX_LAB=$(ARTIFACT_LAB) tools/artifact-test

.PHONY: ansible-test ansible-test-newest
ansible-test: venv ## Run ansible-test sanity and units on the built collection, with the oldest ansible-core
	@tools/ansible-test oldest

ansible-test-newest: venv ## The same with the newest ansible-core that this machine can have
	@tools/ansible-test newest

.PHONY: campaign
campaign: setup ## Inject every fault that a site has to survive, and renew docs/faults.md (hours); FAULTS="10 14" some of them
	@DUPLEX_LAB=$(CAMPAIGN_LAB) CAMPAIGN=$(CAMPAIGN) tools/campaign $(FAULTS)

.PHONY: bench
bench: setup ## Measure switchovers side by side with the fastest possible; RUNS=4 is a short run, KEEP=1 leaves the lab up
	@DUPLEX_LAB=$(BENCH_LAB) RUNS=$(RUNS) KEEP=$(KEEP) tools/bench

.PHONY: scale
scale: setup ## Measure site.yml for 1, 2 and 4 sites in one run, in seconds per site
	@DUPLEX_LAB=$(SCALE_LAB) tools/with-lab python -m ansible_collections.duplex.failover.bench.scale

.PHONY: fleet
fleet: setup ## Break one of two sites of a run in several ways, and look that the other does not notice (5 minutes)
	@DUPLEX_LAB=$(FLEET_LAB) tools/with-lab pytest --verbose --tb=short tests/lab/test_fleet.py

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
