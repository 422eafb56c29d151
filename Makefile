# make run    a relay, a provider to play with and the status page, here and now
# make test   every test, warnings being errors, with coverage      (TESTS="tests/unit -k sqlite" for some)
# make check  format, lint, types, then every test
# make bench  beside Postfix (Debian's; as root, with strace); CASES="backlog million --write" for some, into the docs
# make fuzz   any octets as commands and as content, SECONDS=300 for each, then sessions at random

# The system's own comes first: it is built with every optimisation, which one from elsewhere often is not.
PYTHON := /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11 python
VENV := .venv
BIN := $(VENV)/bin
TESTS :=
CASES :=
SECONDS := 300
# Folders are among them: theirs is the time at which a module went away.
SOURCES := setup.cfg pyproject.toml README.md LICENSE \
    $(shell find relay twisted docs/man \( -name __pycache__ -o -name dropin.cache \) -prune -o -print)

.PHONY: run test check lint bench fuzz clean

run: $(VENV)/installed
	$(BIN)/mailrelay demo

test: $(VENV)/installed-to-test
	$(BIN)/pytest $(TESTS) --cov

check: lint test

lint: $(VENV)/installed-to-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-to-test
	$(BIN)/python -m benchmarks $(CASES)

fuzz: $(VENV)/installed-to-test
	$(BIN)/pip install --quiet '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(SECONDS)
	MAILRELAY_SESSIONS=5000 $(BIN)/pytest tests/unit/test_server_session.py

clean:
	rm -rf $(VENV) build *.egg-info

# The first Python that will do; a name may be there and not run (pyenv's shims), so each is tried.
$(VENV)/made:
	@for python in $(PYTHON); do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        $$python -m venv --clear $(VENV) && touch $@ && exit 0; \
	    fi; \
	done; \
	echo "mailrelay needs Python 3.11 or later with its venv module, and none of these is one: $(PYTHON)." >&2; \
	echo "Install one (on Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1

# build/ keeps modules that are gone and would install them again.
$(VENV)/installed: $(VENV)/made $(SOURCES)
	rm -rf build
	$(BIN)/pip install --quiet .
	@touch $@

$(VENV)/installed-to-test: $(VENV)/made $(SOURCES)
	rm -rf build
	$(BIN)/pip install --quiet '.[test]'
	@touch $@ $(VENV)/installed
