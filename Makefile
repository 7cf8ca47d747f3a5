# One command per verb; each does all of its own set-up in .venv.
.PHONY: serve test test-fast check train bench constraints clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Serve the models of models/ (no torch needed). ONWARD_HOST, ONWARD_PORT, ... apply.
serve: $(VENV)/serving
	$(BIN)/python -m service

# Tests start many processes and rewrite many modules: compiling each one only once, whatever
# the environment says, saves a quarter of the time.
unexport PYTHONDONTWRITEBYTECODE

# All tests run with two workers for each core, because half of the time they wait for servers.
CORES := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell echo $$((2 * $(CORES))))
# Two processes on each core: threads of one would wait for those of the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist worksteal --numprocesses

# Set up and run the whole test suite.
test: $(VENV)/development
	$(PYTEST) $(WORKERS)

# Only the tests that start no server and no process, train nothing and measure no time.
test-fast: $(VENV)/development
	$(PYTEST) $(CORES) --fast

# Formatter, linter and types over code and tests.
check: $(VENV)/development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Train a recipe: make train RECIPE=admission
RECIPE ?= list
train: $(VENV)/development
	$(BIN)/python -m training $(RECIPE)

# Compare with an empty ASGI application and with other servers; writes bench/RESULTS.md.
bench: $(VENV)/development
	$(BIN)/python -m bench

# Resolve every dependency again, for every platform and Python.
constraints: $(VENV)/serving
	$(BIN)/python -m pip install --quiet uv
	(sed -n '/^#/p' constraints.txt; $(BIN)/uv pip compile --quiet pyproject.toml --all-extras \
	  --universal --python-version 3.11 --no-annotate --no-header -c constraints.in) > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# An old Python fails only in pip, and one without ensurepip leaves half an environment: say it before.
FIND_VERSION := import sys; print("%d.%d.%d" % sys.version_info[:3])
EXAMPLE = make $(firstword $(MAKECMDGOALS) serve) PYTHON=python3.11
$(VENV)/bin/python:
	@version=$$($(PYTHON) -c '$(FIND_VERSION)' 2>/dev/null) || version="not on this machine"; \
	case "$$version" in 3.1[1-9].* | 3.[2-9][0-9].*) ;; *) \
	  echo "Onward needs Python 3.11 or newer; $(PYTHON) is $$version. Set PYTHON, for example: $(EXAMPLE)" >&2; \
	  exit 1;; esac
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot create a virtual environment; on Debian and Ubuntu, install its package python3-venv." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/serving: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[tables]'
	@touch $@

$(VENV)/development: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/serving
