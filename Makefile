# `make run` and `make test` set everything up by themselves: Python 3.11 or newer is all that they need.

# The first that is new enough. Another one: make run PYTHON=/path/to/python3.12
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PORT ?= 8501
# Who may reach `make run`: this machine alone. HOST=0.0.0.0 for others too (not from the environment, where some shells
# keep the machine's name).
HOST = 127.0.0.1
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Installing leaves these stamps; a change of what they stand for installs again.
READY := $(VENV)/ready
DEV_READY := $(VENV)/ready-dev

help:  ## list the commands (the default)
	@echo "qfund: what lower precision costs a neural network, and what it buys."
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY)  ## set up, start the dashboard; PORT=8501, HOST=127.0.0.1, ARGS=… for streamlit
	$(BIN)/streamlit run app.py --server.address $(HOST) --server.port $(PORT) $(ARGS)

test: lint  ## set up, find or install Chromium, lint, run every test; ARGS=… for pytest (-n 0: in one process)
	chromium=$$(PYTHON=$(BIN)/python sh tests/chromium.sh) && \
		QFUND_CHROMIUM=$$chromium OMP_WAIT_POLICY=passive $(BIN)/pytest --numprocesses 2 $(ARGS)

lint: $(DEV_READY)  ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV_READY)  ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV_READY)  ## write what is drawn from the code: docs/architecture.md, docs/commands.md
	$(BIN)/python -m tests.architecture
	$(BIN)/python -m qfund.commandline.docs >docs/commands.md

setup: $(DEV_READY)  ## only set up, for developing

clean:  ## remove the environment and the caches
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt pyproject.toml
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "qfund needs Python 3.11 or newer. Install it, or say where it is: make PYTHON=/path/to/python3.11 …" >&2; \
		exit 1; }
	'$(PYTHON)' -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --editable .
	@touch $@

$(DEV_READY): requirements-dev.txt $(READY)
	$(BIN)/pip install --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

.PHONY: help run test lint format docs setup clean
