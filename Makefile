# `make demo` shows it, `make dev` runs it, `make test` proves it. Each prepares what it needs in .venv and .services.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MANAGE := $(BIN)/python manage.py

# The newest Python that is supported; a shim of a Python that is not there does not count.
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && { echo "$$p"; break; }; \
	done)

# Compiled files are kept whatever the environment says: hundreds of processes would each compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo dev test versions check bench lock clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    purchases that survive kill -9, from nothing to a verdict'
	@echo 'make dev     servers, web, a worker and Flower in this terminal; ctrl-C ends them all'
	@echo 'make test    every test'
	@echo 'make versions  the heart of the tests under the other supported Pythons found here, and the oldest Celery'
	@echo 'make check   linters, types, import contracts and the fast tests'
	@echo 'make bench   the figures of docs/benchmarks.md on this machine'
	@echo 'make lock    requirements.lock anew from pyproject.toml'
	@echo 'make clean   remove .venv, .services (stopped first) and caches'

demo: $(READY)
	$(BIN)/python -m workers.demo

dev: $(READY)
	$(MANAGE) dev

# In the order of folders: what a folder's tests share, such as workers, is made once for each process.
test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

versions: $(READY)
	$(BIN)/python -m pytest -m versions tests/versions

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not worker and not criu"

# Servers that were running before, or are given by both URLs, are left alone.
bench: $(READY)
	@ours=no; \
	if test -z "$$DATABASE_URL" || test -z "$$CELERY_BROKER_URL"; then \
		$(MANAGE) services status >/dev/null || ours=yes; \
		$(MANAGE) services start >/dev/null || exit 1; \
	fi; \
	$(MANAGE) migrate --verbosity 0 && $(MANAGE) bench; status=$$?; \
	test $$ours = no || $(MANAGE) services stop >/dev/null; \
	exit $$status

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --no-emit-find-links --upgrade --custom-compile-command 'make lock' -o requirements.lock

clean:
	test ! -x $(BIN)/python || test ! -e $(READY) || $(MANAGE) services stop
	rm -rf $(VENV) .services build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo 'No Python 3.11, 3.12 or 3.13 found: install one of them.' >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo \
		'$(PYTHON) has no venv module: install it (on Debian and Ubuntu the package python3-venv).' >&2; exit 1; }
	@"$(BIN)/python" -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(READY)
