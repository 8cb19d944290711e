# make serve   a virtual environment, the GGUF tier, and a server on http://127.0.0.1:11434
# make test    everything that CI runs

PYTHON ?= python3
MODEL ?= grist
ARGS ?=
IMAGES ?= cpu lambda-cpu gpu ray

VENV := .venv
BIN := $(VENV)/bin
SERVING := $(VENV)/.installed-gguf
PAGED := $(VENV)/.installed-paged
DEVELOPING := $(VENV)/.installed-dev
INFRA := .venv-infra
CLIENTS := .venv-clients
JAVASCRIPT := tests/clients/javascript
# A model folder needs PyTorch; a GGUF file, or the demo model, llama.cpp.
SERVED := $(if $(wildcard $(MODEL)/config.json),$(PAGED),$(SERVING))

# llama.cpp is compiled without its image tools, which Pagemill does not use: that saves a minute.
PIP_INSTALL := CMAKE_ARGS="-DLLAVA_BUILD=OFF $(CMAKE_ARGS)" $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: help install serve test test-fast lint bench browser images images-test clean
.DELETE_ON_ERROR:

help:
	@echo "make serve [MODEL=$(MODEL)] [ARGS=...]   install what serving the model needs (a name, a .gguf file, a folder), and serve"
	@echo "make install                     only install it"
	@echo "make test                        lint, type checks and all tests"
	@echo "make test-fast                   the tests that take no more than a few seconds each"
	@echo "make lint                        ruff, mypy, import-linter"
	@echo "make bench                       the load tests; ARGS go to load_tests.compare"
	@echo "make images [IMAGES=...]         build the images with docker, podman or buildah; ARGS go to images.build"
	@echo "make images-test [IMAGES=...]    build them without a registry, and run them (root, on Debian)"
	@echo "make clean                       remove caches and build outputs (not $(VENV), $(INFRA) and $(CLIENTS))"

install: $(SERVING)

serve: $(SERVED)
	@exec $(BIN)/pagemill serve $(MODEL) $(ARGS)

# The Lambda handler's tests have pip fetch AWS's emulator (8 MB), once.
test: lint $(INFRA)/.installed $(JAVASCRIPT)/node_modules/.installed browser
	$(BIN)/python -m pytest -n 2 $(ARGS)

# The chat page is tested in a browser.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
		echo "There is no Chromium, so the chat page is not tested (Debian: apt-get install chromium)." >&2

test-fast: $(DEVELOPING)
	$(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

lint: $(DEVELOPING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEVELOPING)
	$(BIN)/python -m load_tests.peers.llama_server
	$(BIN)/python -m load_tests.engine_cost
	$(BIN)/python -m load_tests.cold_start
	$(BIN)/python -m load_tests.compare $(ARGS)

images:
	PYTHONPATH=core $(PYTHON) -m images.build $(IMAGES) $(ARGS)

# Needs the Debian packages buildah and mmdebstrap, and qemu-user-static for a CPU without AVX-512.
images-test: $(DEVELOPING)
	IMAGES_UNDER_TEST="$(IMAGES)" $(BIN)/python -m pytest tests/images $(ARGS)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find core handlers tests load_tests training -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Pagemill needs Python 3.11 or newer as $(PYTHON); name another with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo "$(PYTHON) can't make a virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }

$(SERVING): pyproject.toml constraints.txt | $(BIN)/python
	@$(announce_compilation)
	$(PIP_INSTALL) -e '.[gguf]' -c constraints.txt
	@touch $@

# torch goes first and by itself: with other packages beside it pip may take another release than the pinned one.
$(PAGED): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(PIP_INSTALL) -e '.[paged]' -c constraints.txt
	@touch $@

$(DEVELOPING): pyproject.toml constraints.txt | $(BIN)/python
	@$(announce_compilation)
	$(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(PIP_INSTALL) -e '.[dev]' -c constraints.txt
	@touch $@ $(SERVING) $(PAGED)

# Validators of infra/ that pin libraries which we use in other releases: an environment of their own.
$(INFRA)/.installed: infra/requirements.txt | $(BIN)/python
	@$(PYTHON) -m venv $(INFRA)
	$(INFRA)/bin/python -m pip install --disable-pip-version-check --quiet -r infra/requirements.txt
	@touch $@

# Frameworks that pin what we use in other releases, and Node.js.
$(CLIENTS)/.installed: tests/clients/requirements.txt | $(BIN)/python
	@$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --disable-pip-version-check --quiet -r tests/clients/requirements.txt
	@touch $@

$(JAVASCRIPT)/node_modules/.installed: $(JAVASCRIPT)/package-lock.json $(CLIENTS)/.installed
	cd $(JAVASCRIPT) && PATH="$(CURDIR)/$(CLIENTS)/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

define announce_compilation
$(BIN)/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("llama_cpp") is None)' || { \
	command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
		echo "Pagemill compiles llama.cpp when it is first installed, which needs a C++ compiler, and none was found." >&2; \
		echo "Debian, Ubuntu: apt-get install build-essential; Fedora: dnf install gcc-c++; macOS: xcode-select --install" >&2; \
		exit 1; }; \
	echo "Installing. The first time, llama.cpp is compiled for this machine, which takes about 5 minutes on 2 cores."; }
endef
