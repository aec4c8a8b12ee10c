# Everything happens in .venv, made from the pins in requirements/. `make` alone lists what there is to do.

VENV := .venv
BIN := $(VENV)/bin
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) $(IS_NEW_ENOUGH) >/dev/null 2>&1 && echo $(name))))
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
BY_UV := $(if $(UV),uv pip install --quiet --no-deps --python $(BIN)/python)
BY_PIP := $(BIN)/python -m pip install --quiet --no-deps --disable-pip-version-check
# uv is quicker; where it is not set up for this machine's network, pip often is.
install = $(if $(UV),$(BY_UV) $(1) || )$(BY_PIP) $(1)

# pip keeps one core busy, so there are three of them. What torch needs besides, its own libraries for a GPU where its
# build has them, comes after: until then nobody knows which of it is there.
INSTALL_TESTED = $(if $(UV),$(BY_UV) -r requirements/test.txt || ){ \
	awk 'NR % 2' requirements/test.txt > $(VENV)/odd.txt && awk 'NR % 2 == 0' requirements/test.txt > $(VENV)/even.txt; \
	$(BY_PIP) -r requirements/torch.txt & torch=$$!; $(BY_PIP) -r $(VENV)/odd.txt & odd=$$!; \
	$(BY_PIP) -r $(VENV)/even.txt; even=$$?; wait $$torch && wait $$odd && [ $$even -eq 0 ]; }

# A stamp is named after what it was made from, so that a changed pin is installed and an unchanged one is not.
stamp = $(VENV)/has-$(1)-$(firstword $(shell cat pyproject.toml dvc_ext/pyproject.toml $(2) | cksum))
RUN := $(call stamp,run,requirements/run.txt)
TESTED := requirements/run.txt requirements/test.txt requirements/torch.txt
TEST := $(call stamp,test,$(TESTED))
CHECK := $(call stamp,check,$(TESTED) requirements/check.txt)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(CHECK) ## make .venv with everything that building, testing and checking need

.PHONY: demo
demo: $(TEST) ## an MLflow server on a store and two versions of a model; a DVC pipeline; a registry that says no
	@$(BIN)/python examples/quickstart.py
	@$(BIN)/python examples/dvc_demo.py
	@$(BIN)/python examples/registry_gate.py

.PHONY: tour
tour: $(RUN) ## the commands of a store: two versions, a put killed halfway, damage that is found and mended
	@$(BIN)/python examples/store_tour.py

BEGAN := $(shell date +%s)

# tests/conftest.py puts the files that take long first: the order that xdist would make puts them last.
# Much of a run waits for servers and for processes to start, so there is one worker more than there are cores.
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Hundreds of processes start in a run: none of them shall compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: test
test: $(TEST) ## all tests but those of the benchmarks; servers that are not installed are listed at the end
	@$(PYTEST) --ignore tests/benchmarks --durations=15; status=$$?; echo "make test took $$(($$(date +%s) - $(BEGAN))) s, what it installed included"; exit $$status

.PHONY: quick
quick: $(TEST) ## the tests that need neither time nor installed servers
	@$(PYTEST) -m "not slow and not service"

.PHONY: oldest
oldest: ## DVC's own test classes on the oldest DVC that the remote supports, in .venv-dvc-oldest
	@PYTHON='$(PYTHON)' tests/dvc/oldest.sh

.PHONY: check
check: $(CHECK) tidy ## lint, formatting, types, the direction of imports, and no trace of one machine in the tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(TOGETHER)
	cd build/together && ../../$(BIN)/lint-imports --config ../../pyproject.toml
	@$(BIN)/python -m pip check

# The three source roots as they are where they are installed: import-linter follows one package in one place.
TOGETHER = rm -rf build/together && mkdir -p build/together && cp -R plugins/shardflow build/together && \
	cp -R mlflow_flavor/shardflow/flavor dvc_ext/shardflow/dvc build/together/shardflow

MACHINE_PATHS := (^|[^A-Za-z0-9_.])/(root|work|home/[a-z]+|Users/[A-Za-z]+)/
REGISTRIES := pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian\.org|index-url|find-links

.PHONY: tidy
tidy:
	@! git grep -nIE --untracked '$(MACHINE_PATHS)' || { echo 'paths of one machine: take them out'; exit 1; }
	@! git grep -nIE --untracked '$(REGISTRIES)' -- . ':!Makefile' || \
		{ echo 'addresses of package registries: take them out'; exit 1; }

.PHONY: services
services: ## install what does not come with pip: Ceph, PostgreSQL, Chromium (Debian), Azurite (npm)
	@tests/services/install.sh

.PHONY: bench-small
bench-small: $(TEST) ## most benchmarks at a tiny size, which shows that they work, and the tests of how they measure
	@$(PYTEST) tests/benchmarks

.PHONY: bench
bench: $(TEST) ## measure against the tools people use now; results in benchmarks/results
	@$(BIN)/python benchmarks/run_all.py

.PHONY: pins
pins: ## resolve the pins anew (needs uv)
	@uv --version >/dev/null || { echo 'make pins needs uv: pip install uv'; exit 1; }
	$(COMPILE) pyproject.toml requirements/build.in --output-file requirements/run.txt
	$(COMPILE) requirements/test.in --output-file requirements/test.txt
	$(COMPILE) requirements/check.in --output-file requirements/check.txt
	$(COMPILE) pyproject.toml requirements/oldest.in --output-file requirements/oldest.txt

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate

.PHONY: clean
clean: ## remove what make has made: .venv, the demo's files, caches
	rm -rf $(VENV) .venv-dvc-oldest .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Shardflow needs Python 3.11 or newer: make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) $(IS_NEW_ENOUGH) || { echo 'Shardflow needs Python 3.11 or newer, but $(PYTHON) is older:' \
		'make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'no environment could be made (Debian and Ubuntu have that part in the package python3-venv)'; exit 1; }

$(RUN): | $(BIN)/python
	@echo 'installing into $(VENV)'
	@$(call install,-r requirements/run.txt)
	@$(call install,--no-build-isolation --editable .)
	@rm -f $(VENV)/has-run-* && touch $@

$(TEST): $(RUN)
	@$(INSTALL_TESTED)
	@$(call install,--no-build-isolation --editable dvc_ext)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	@rm -f $(VENV)/has-test-* && touch $@

$(CHECK): $(TEST)
	@$(call install,-r requirements/check.txt)
	@rm -f $(VENV)/has-check-* && touch $@
