# Everything a person does here, in one word each. It needs Python 3.11 and make, and Node 20 with npm: `make test-fast`
# does without, and `make run` then serves no dashboard.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CONTRACT := tests/contract/node_modules/.installed
WEB := web/node_modules/.installed
CLIENT := web/client/dist/index.js
DASHBOARD := aurexd/dashboard/index.html

# Where it is set, as in many containers, each daemon that the tests start would compile itself anew, and all libraries.
unexport PYTHONDONTWRITEBYTECODE

# Debian packages with the servers (and the browser) that the slow tests run against, on ports and with files of their own.
SERVERS := haproxy nginx libnginx-mod-stream prometheus systemd socat man-db chromium
# And what the benchmarks run against, and are made with.
BENCH_SERVERS := nginx libnginx-mod-nchan gcc libc6-dev libssl-dev

# Where `make install` puts things. DESTDIR goes before all of them, for packages. The daemon runs where homes are hidden
# from it, so its Python must be the system's: 3.11 or newer with venv (Debian: python3-venv).
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
SYSTEM_PYTHON ?= /usr/bin/python3
LIBRARY = $(PREFIX)/lib/aurexd
UNITS = aurexd.service aurexd.socket aurexd-control.socket

.PHONY: help run test compiled daemon-test coverage test-fast check web web-check dashboard dashboard-test format servers bench \
	autobahn systemd systemd-limits man install uninstall clean
.DEFAULT_GOAL := help

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# uv takes seconds for what takes pip more than a minute. pip does it where uv cannot, as behind a mirror that only pip's
# configuration knows.
$(SETUP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,bench]' \
		|| $(PIP) --editable '.[dev,bench]'
	touch $@

$(CONTRACT): tests/contract/package.json tests/contract/package-lock.json
	@command -v npm >/dev/null || { echo "make test needs Node 20 or newer with npm (make test-fast does not)" >&2; exit 1; }
	npm ci --prefix tests/contract --ignore-scripts --no-audit --no-fund
	touch $@

$(WEB): web/package.json web/package-lock.json $(wildcard web/*/package.json)
	@command -v npm >/dev/null || { echo "this needs Node 20 or newer with npm (make test-fast does not)" >&2; exit 1; }
	npm ci --prefix web --ignore-scripts --no-audit --no-fund
	touch $@

$(CLIENT): $(WEB) $(shell find web/client/src web/client/scripts -type f 2>/dev/null)
	npm run --prefix web --workspace client build

$(DASHBOARD): $(WEB) $(shell find web/client/src web/dashboard/src web/dashboard/scripts -type f 2>/dev/null) \
		web/dashboard/index.html web/dashboard/vite.config.ts
	npm run --prefix web --workspace dashboard --silent build

dashboard:  ## build the dashboard into aurexd/dashboard; without Node the daemon serves a page that says so
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(DASHBOARD); \
	else echo "there is no npm: aurexd will run without its dashboard (Node 20 or newer builds it)" >&2; fi

run: $(SETUP) dashboard  ## set up everything and start the daemon: http://localhost:8000
	$(BIN)/aurexd run --config conf/aurexd.dev.toml

test:  ## everything: lint, types, all tests
	@# Side by side, because they wait more than they work: first for the network, and check works meanwhile.
	$(MAKE) --no-print-directory --jobs 4 --output-sync=line $(SETUP) $(CONTRACT) servers web check compiled
	$(MAKE) --no-print-directory --jobs 2 --output-sync=line daemon-test web-check dashboard-test

# What Python makes of the tests and of all they import, once: else each of the processes that run them makes it at the
# same time. What is wrong with them they say themselves.
compiled: $(SETUP)
	-@$(BIN)/python -m pytest --collect-only --quiet >/dev/null 2>&1

daemon-test: $(SETUP) $(CONTRACT) servers  ## the daemon's tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

coverage: $(SETUP) $(CONTRACT) servers  ## the daemon's tests, twice as long, and what of it they do not run
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report term-missing:skip-covered $(PYTEST)

dashboard-test: $(SETUP) $(DASHBOARD) servers  ## the whole of the dashboard in a real Chromium
	npm run --prefix web --workspace dashboard --silent e2e

test-fast: $(SETUP)  ## the tests that need no process of their own
	$(BIN)/python -m pytest -m 'not slow' $(PYTEST)

check: $(SETUP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

web: $(CLIENT) $(DASHBOARD)  ## build what runs in a browser: the TypeScript client, and what is made with it

web-check: $(SETUP) servers web  ## the format, lint, types, generated code, size and tests of that
	npm run --prefix web check
	npm run --prefix web test

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
		echo "these packages of Debian are needed:$$missing; as root, make $@ installs them" >&2; exit 1; \
	fi

bench: $(SETUP)  ## measure beside peers, twenty minutes; BENCH=…: parts and options of bench/run.py, such as "fan-out --runs 1"
	@# Without them it measures what it can, and says what is missing.
	-@$(MAKE) --no-print-directory servers SERVERS='$(BENCH_SERVERS)'
	$(BIN)/python bench/run.py $(BENCH)

autobahn: $(SETUP)  ## the Autobahn test suite against our WebSocket: up to an hour, needs Python 2.7; docs/autobahn.md
	$(BIN)/python -m tests.autobahn.run

systemd: $(SETUP)  ## show the service under a systemd that is booted for it: two minutes, as root, needs systemd-container; RELEASE=trixie: that Debian's
	$(BIN)/python -m tests.systemd.run $(if $(RELEASE),--release $(RELEASE))

systemd-limits: $(SETUP)  ## show that the unit's limits are enforced, by an emulated machine: ten minutes, as root, needs debootstrap and qemu-system-x86
	$(BIN)/python -m tests.systemd.guest $(if $(RELEASE),--release $(RELEASE))

man: $(SETUP)  ## write the manual pages and the shells' completions into build/
	$(BIN)/python -m aurexd.manpages build/man
	$(call completions,$(BIN),build)

# $(1): where the commands are; $(2): below which directory the completions go.
define completions
	install -d $(2)/bash-completion/completions $(2)/zsh/site-functions
	for name in aurexd:aurexd.cli.parser aurexctl:aurexd.aurexctl.parser; do \
		$(1)/python -m shtab --shell bash --prog $${name%%:*} --prefix $${name%%:*} $${name#*:} > $(2)/bash-completion/completions/$${name%%:*} && \
		$(1)/python -m shtab --shell zsh --prog $${name%%:*} --prefix $${name%%:*} $${name#*:} > $(2)/zsh/site-functions/_$${name%%:*} || exit 1; \
	done
endef

install: dashboard  ## install for systemd, as root: a venv under PREFIX (/usr/local), units, user; honours DESTDIR
	$(SYSTEM_PYTHON) -m venv --clear $(DESTDIR)$(LIBRARY)
	$(DESTDIR)$(LIBRARY)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt .
	$(DESTDIR)$(LIBRARY)/bin/python -m compileall -q -s '$(DESTDIR)' $(DESTDIR)$(LIBRARY)/lib || true
	# A venv knows its own path: it is to be the one that it will have, without DESTDIR.
	sed -i 's|$(DESTDIR)$(LIBRARY)|$(LIBRARY)|g' $(DESTDIR)$(LIBRARY)/pyvenv.cfg \
		$$(grep -rlI '$(DESTDIR)$(LIBRARY)' $(DESTDIR)$(LIBRARY)/bin)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d \
		$(DESTDIR)$(PREFIX)/lib/tmpfiles.d $(DESTDIR)$(SYSCONFDIR)/aurexd/conf.d
	ln -sf $(LIBRARY)/bin/aurexd $(LIBRARY)/bin/aurexctl $(DESTDIR)$(PREFIX)/bin/
	for unit in $(UNITS); do \
		sed 's|/usr/local/lib/aurexd|$(LIBRARY)|g' systemd/$$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit && \
		chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit 1; \
	done
	$(DESTDIR)$(LIBRARY)/bin/python -m aurexd.manpages $(DESTDIR)$(PREFIX)/share/man
	$(call completions,$(DESTDIR)$(LIBRARY)/bin,$(DESTDIR)$(PREFIX)/share)
	install -m 644 systemd/sysusers.d/aurexd.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/
	install -m 644 systemd/tmpfiles.d/aurexd.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/
	# The configuration is the operator's: one that is there stays.
	test -e $(DESTDIR)$(SYSCONFDIR)/aurexd/aurexd.toml \
		|| install -m 644 conf/aurexd.toml $(DESTDIR)$(SYSCONFDIR)/aurexd/aurexd.toml
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		systemd-sysusers $(PREFIX)/lib/sysusers.d/aurexd.conf && \
		systemd-tmpfiles --create $(PREFIX)/lib/tmpfiles.d/aurexd.conf && systemctl daemon-reload; \
	fi

uninstall:  ## remove what install made; configuration, database and user stay
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl disable --now $(UNITS) || true; fi
	rm -f $(DESTDIR)$(PREFIX)/bin/aurexd $(DESTDIR)$(PREFIX)/bin/aurexctl \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/aurexd.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/aurexd.conf \
		$(foreach unit,$(UNITS),$(DESTDIR)$(PREFIX)/lib/systemd/system/$(unit))
	rm -f $(foreach page,man1/aurexctl.1 man5/aurexd.toml.5 man8/aurexd.8,$(DESTDIR)$(PREFIX)/share/man/$(page)) \
		$(foreach name,aurexd aurexctl,$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$(name) \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$(name))
	rm -rf $(DESTDIR)$(LIBRARY)
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

clean:  ## remove what the other targets made
	rm -rf $(VENV) tests/contract/node_modules web/node_modules web/*/dist aurexd/dashboard build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
