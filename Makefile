# A fresh machine needs Python 3.11 or newer and make. Everything else goes into .venv, by version and hash.
#
#   make demo    the whole stack on this machine, with local stand-ins for the providers
#   make test    the test suite
#   make check   what CI runs: format, lint, types, layers, tests
#   make bench   the measurements, each beside its comparator
#   make lock    write the lock files anew (for those who change dependencies)

PYTHON ?= python3
BIN := .venv/bin
# A stamp stands for what its lock installed; it is older than the lock only when the lock changed.
RUNTIME := .venv/.installed-runtime
DEVELOPMENT := .venv/.installed-development

# Tests and benchmarks start hundreds of processes: without bytecode each would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check bench lock
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(RUNTIME)
	@$(BIN)/agentops demo

test: $(DEVELOPMENT)
	$(BIN)/pytest

check: $(DEVELOPMENT)
	scripts/check

bench: $(DEVELOPMENT)
	$(BIN)/python -m benchmarks

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "agentops needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The development lock holds the runtime lock's versions, so one installation serves both.
$(DEVELOPMENT): requirements-dev.lock requirements.lock pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(RUNTIME) $@

# pip-tools stays out of .venv: nothing that runs or checks agentops needs it.
COMPILE = build/lock/bin/pip-compile --quiet --no-config --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	--annotation-style=line --all-build-deps
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check 'pip-tools>=7.6,<8'
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	@for lock in requirements.lock requirements-dev.lock; do \
		{ echo '# Every distribution, by version and hash. Written by `make lock`.'; cat $$lock; } >$$lock.new \
		&& mv $$lock.new $$lock; \
	done
