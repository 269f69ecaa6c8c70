# Everything a person does here, in one word each. `make run` needs nothing but Python 3.11 and make; `make test` needs
# Node 20 with npm, too.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
CONTRACT := tests/contract/node_modules/.installed

# Debian packages with the servers that the slow tests run against, on ports and with files of their own.
SERVERS := haproxy nginx libnginx-mod-stream

.PHONY: help run test test-fast check format servers bench autobahn clean
.DEFAULT_GOAL := help

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(SETUP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(CONTRACT): tests/contract/package.json tests/contract/package-lock.json
	@command -v npm >/dev/null || { echo "make test needs Node 20 or newer with npm (make test-fast does not)" >&2; exit 1; }
	npm ci --prefix tests/contract --ignore-scripts --no-audit --no-fund
	touch $@

run: $(SETUP)  ## set up everything and start the daemon: http://localhost:8000
	$(BIN)/aurexd run --config conf/aurexd.dev.toml

test: $(SETUP) $(CONTRACT) check servers  ## everything: lint, types, all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report term:skip-covered $(PYTEST)

test-fast: $(SETUP)  ## the tests that need no process of their own
	$(BIN)/python -m pytest -m 'not slow' $(PYTEST)

check: $(SETUP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(SETUP)  ## write the code as ruff formats it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

servers:  ## install the servers that tests need (Debian, as root); else say which are missing
	@missing=; for package in $(SERVERS); do \
		[ "$$(dpkg-query --show --showformat '$${db:Status-Status}' $$package 2>/dev/null)" = installed ] \
			|| missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; \
	else \
		echo "tests need these packages of Debian:$$missing; as root, make servers installs them" >&2; exit 1; \
	fi

bench: $(SETUP)  ## measure against peers, in one run, as ratios
	$(BIN)/python bench/fanout.py
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/wire.py
	$(BIN)/python bench/history.py

autobahn: $(SETUP)  ## the Autobahn test suite against our WebSocket: up to an hour, needs Python 2.7; docs/autobahn.md
	$(BIN)/python -m tests.autobahn.run

clean:  ## remove what the other targets made
	rm -rf $(VENV) tests/contract/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
