# What Preference Learning Learns. `make book` and `make test` need Python 3.11 to 3.13, git, make and a package index; nothing else.
PROFILE ?= laptop
# DATA and MODEL are the profile's unless they are given.
CHOSEN = $(if $(DATA),--data "$(DATA)") $(if $(MODEL),--model "$(MODEL)")

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Installs a lock, and no file whose hash it lacks; where that fails, one sentence says why.
define install
said=$$($(PIP) install --quiet --require-hashes --no-deps --no-build-isolation -r locks/$(1).txt 2>&1) || { \
  other=$$(echo "$$said" | sed -n 's/^ *\([^ ]*==[^ ]*\) from .*/\1/p' | head -n 1); \
  if test -n "$$other"; then \
    echo "nothing was installed: the file of $$other that arrived has another hash than those in locks/$(1).txt" >&2; \
  else \
    said=$$(echo "$$said" | grep '^ERROR' | tail -n 1); \
    echo "the packages of locks/$(1).txt could not be installed ($$said): check the network and the package index" >&2; \
  fi; exit 1; }
endef

.PHONY: book site crate test lint course lock clean help
.DELETE_ON_ERROR:

help:
	@echo "make book       run every chapter and build the site (PROFILE=$(PROFILE); DATA=sample|hub|PATH and MODEL=NAME choose others)"
	@echo "make site       build the site from the tables that come with the book, and what was run here; run nothing"
	@echo "make crate      the tables and the ledger that come with the book as a data set to publish, in _build/crate"
	@echo "make test       run the test suite"
	@echo "make lint       ruff, mypy, and which room may import which"
	@echo "make course     notebooks for a class, autograders and slides, in _build/course (slides once the book is built)"
	@echo "make lock       pin anew, with hashes, what requirements.txt and its like bring"
	@echo "make clean      remove _build"

book: .venv/for-book
	@$(BIN)/prefdyn book --profile "$(PROFILE)" $(CHOSEN)

site: .venv/for-book
	@$(BIN)/prefdyn build

crate: .venv/for-book
	@$(BIN)/prefdyn crate

# One thread of linear algebra a process: two processes whose threads wait for each other take many times as long.
test: .venv/for-tests
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/for-tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@said=$$($(BIN)/lint-imports --no-cache) && echo "$$said" | tail -n 1 || { echo "$$said"; exit 1; }

course: .venv/for-course
	@$(BIN)/prefdyn course

clean:
	rm -rf _build

.venv/for-book: locks/installer.txt locks/book.txt locks/cuda.txt pyproject.toml
	@python=""; for name in python3.12 python3.13 python3.11 python3 python; do \
	  if $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    python=$$name; break; fi; done; \
	test -n "$$python" || { echo "no usable Python: install Python 3.11, 3.12 or 3.13 with venv and pip, then run make again" >&2; exit 1; }; \
	test "$$(df -Pk . | awk 'NR == 2 {print $$4}')" -gt 4000000 || \
	  { echo "less than 4 GB of disk is free here: make room, then run make again" >&2; exit 1; }; \
	test -x $(BIN)/python || $$python -m venv .venv || { echo "the virtual environment .venv could not be made" >&2; exit 1; }
	@echo "installing what the book needs into .venv (some minutes, once)"
	@$(call install,installer)
	@$(PIP) install --quiet --no-index --require-hashes --no-deps -r locks/torch-cpu.txt 2>/dev/null || true  # if at hand
	@$(call install,book)
	@if $(PIP) show torch | grep nvidia >/dev/null; then $(call install,cuda); fi
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

.venv/for-course: .venv/for-book locks/course.txt
	@$(call install,course)
	@touch $@

.venv/for-tests: .venv/for-course locks/tests.txt
	@$(call install,tests)
	@touch $@

lock:
	@python3 -m venv _build/lock
	@_build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@PATH="$(CURDIR)/_build/lock/bin:$$PATH" _build/lock/bin/python locks/write.py
