# One command for each job. `make` alone prints what there is.
# The environment is rebuilt when requirements.lock or pyproject.toml changes, and only then: their checksum names the stamp.

VENV ?= .venv
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | tr ' ' '-')
IN_VENV := . $(VENV)/bin/activate &&

# A Python is tried, not only found: version managers leave commands that run nothing.
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c '$(SUPPORTED)' 2>/dev/null && { echo $$name; break; }; done)

# The lock must suit the oldest supported Python, so it is made with that one.
LOCK_PYTHON ?= python3.11
LOCK_WITH ?=

DOCS_VENV := .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.installed-$(shell cksum < .ci/docs-requirements.txt | tr ' ' '-')

TEST_WORKERS ?= 2
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test check audit format bench docs docs-tools cluster faults lock clean

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(STAMP) ## make the environment in .venv (the targets below do it by themselves)

$(STAMP):
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "Expected Python 3.11, 3.12 or 3.13 with venv and pip; found none that runs (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3))." >&2; \
		echo "Install one (on Debian and Ubuntu: apt install python3 python3-venv), or name yours: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; }
	@echo "Setting up $(VENV) from requirements.lock with $$($(PYTHON) --version). This happens once and takes a few minutes."
	@rm -f $(VENV)/.installed-*
	@$(PYTHON) -m venv $(VENV)
	@sed '/# alone$$/d' requirements.lock > $(VENV)/with-what-they-require.txt
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -r $(VENV)/with-what-they-require.txt
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements.lock
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## run the demo suite and print where its report is
	@$(IN_VENV) unlearning run

test: $(STAMP) ## run all tests; ARGS="-k sophia" chooses some
	@$(IN_VENV) python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## check format, lint, types, the suite's JSON schema and the workflow
	@$(IN_VENV) ruff format --check .
	@$(IN_VENV) ruff check .
	@$(IN_VENV) mypy
	@$(IN_VENV) unlearning schema --check
	@$(IN_VENV) snakefmt --check workflow
	@$(IN_VENV) snakemake --lint
	@$(IN_VENV) python .ci/audit.py

audit: $(STAMP) ## hold the pinned packages against known advisories (also part of check)
	@$(IN_VENV) python .ci/audit.py

format: $(STAMP) ## put Python and Snakemake files into the project's format
	@$(IN_VENV) ruff check --fix-only --quiet . && ruff format . && snakefmt workflow

bench: $(STAMP) ## print the benchmark tables
	@$(IN_VENV) for script in $(wildcard benchmarks/[a-z]*.py); do echo "== $$script"; python "$$script" || exit 1; done

docs: $(DOCS_STAMP) ## build the pages as a site and print where it is
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --quiet --strict
	@echo "The pages as a site: $$(pwd)/site/index.html"

docs-tools: $(DOCS_STAMP)

$(DOCS_STAMP): # an environment of its own: the site is built from the sources as text
	@rm -rf $(DOCS_VENV)
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r .ci/docs-requirements.txt
	@touch $@

cluster: $(STAMP) ## install SLURM where that is allowed, and test on a cluster of one node
	@tests/cluster/install.sh || echo "The tests will say what they skip."
	@$(IN_VENV) python -m pytest tests/cluster $(ARGS)

faults: $(STAMP) ## kill, starve and damage runs, and print what became of each
	@$(IN_VENV) python -m tests.failures $(ARGS)

lock: ## renew requirements.lock from the ranges in pyproject.toml
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(LOCK_PYTHON) -m venv "$$fresh/venv"; \
	"$$fresh/venv/bin/python" -m pip install -qq --disable-pip-version-check $(LOCK_WITH) setuptools --editable '.[dev,slurm]'; \
	"$$fresh/venv/bin/python" -m pip freeze --all --exclude pip --exclude-editable > "$$fresh/all"; \
	{ sed -n '/^#/p' requirements.lock; sed 's/+.*//' "$$fresh/all" | grep -Ev '^(nvidia-|cuda-|triton==|torchvision==)' \
		| sed -E 's/^(backpack|curvlinops)-for-pytorch==.*/&  # alone/'; } > "$$fresh/lock"; \
	cp "$$fresh/lock" requirements.lock
	@echo "requirements.lock is new. Bring environment.yml in step, then: make check test"

clean: ## remove the environments, the site, the caches and results/demo; other results stay
	rm -rf $(VENV) $(DOCS_VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info results/demo
	find pipeline_lib tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +
