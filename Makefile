# Two commands on a fresh machine: `make demo` and `make test`. Both need Python 3.11.4
# or newer with its venv module, and the package index; nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test docs installed setup setup-dev format clean

demo: setup
	$(BIN)/zeroshot demo

test: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

# The documentation as a site in site/; a link that leads nowhere is an error.
docs: setup
	@$(BIN)/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "Built: site/index.html (or: $(BIN)/mkdocs serve)"

# The wheel in an empty environment, outside the checkout.
installed:
	PYTHON=$(PYTHON) .ci/check_installed

setup: .venv/installed
setup-dev: .venv/installed-dev

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing zeroshot and TensorFlow into .venv (about a minute, 2.3 GB) ..."
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# The example plugin is a distribution of its own; the tests use it as a stranger's.
# The official fastText is an oracle of the tests: it needs a C++ compiler.
.venv/installed-dev: pyproject.toml .venv/installed
	$(BIN)/python -m pip install --quiet --group dev
	$(BIN)/python -m pip install --quiet --no-deps --editable examples/write_a_plugin
	@$(BIN)/python -m pip install --quiet --group oracles || \
		echo "The official fastText cannot be built here (no C++ compiler?): its comparisons will be skipped."
	@touch $@

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist site
