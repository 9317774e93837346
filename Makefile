# Everything a newcomer or CI runs. Needs make, Python 3.11 or newer with venv, and a package index; the rest is
# installed into .venv. A second run installs nothing unless setup.cfg has changed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PACKAGES := configs models pipeline replay train
MYPY_TREE := .mypy-tree/endostream
# What opencv-python's wheel expects of the system.
SYSTEM_LIBRARIES := libgl1 libglib2.0-0 libxcb1 libsm6 libxext6
PYTEST_FLAGS ?=
BENCH_FLAGS ?=

.PHONY: help demo test test-gpu lint bench wheel clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    install into $(VENV) and play the rendered colon; says where video and report are"
	@echo "make test    the tests (PYTEST_FLAGS='-k name' for some)"
	@echo "make test-gpu  the tests that need an NVIDIA GPU, and TensorRT where it is installed (docs/gpu.md)"
	@echo "make lint    ruff and mypy --strict"
	@echo "make bench   the benchmarks, half an hour, into docs/benchmarks.md (BENCH_FLAGS=--quick to try them)"
	@echo "make wheel   the package, in dist/"
	@echo "make clean   remove what these targets made"

demo: $(VENV)/.installed
	$(BIN)/endostream demo --set replay.ready_wait_s=10

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow and not gpu" $(PYTEST_FLAGS)

# Fails where there is no GPU rather than skipping everything; what else is missing is skipped with its reason.
test-gpu: $(VENV)/.installed-test $(VENV)/.installed-test-gpu
	@$(BIN)/python -c 'import sys; from endostream.models.cuda_device import no_gpu_reason; sys.exit(no_gpu_reason() or 0)'
	$(BIN)/python -m pytest -m gpu $(PYTEST_FLAGS)

# mypy does not follow the default editable install, so it gets a tree of links.
lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(MYPY_TREE)
	for package in $(PACKAGES); do ln -sfn ../../$$package $(MYPY_TREE)/$$package; done
	MYPYPATH=.mypy-tree $(BIN)/mypy --strict --namespace-packages --explicit-package-bases \
		$(foreach package,$(PACKAGES),-p endostream.$(package))

bench: $(VENV)/.installed-bench
	@status=0; for script in tests/bench/bench_*.py; do \
		echo "== $$script"; $(BIN)/python $$script $(BENCH_FLAGS) || status=$$?; \
	done; \
	if [ -z "$(BENCH_FLAGS)" ]; then $(BIN)/python tests/bench/render.py || status=$$?; fi; \
	exit $$status

wheel: $(VENV)/.installed
	rm -rf build
	$(PIP) wheel --no-deps --wheel-dir dist .
	ls dist/*.whl

clean:
	rm -rf $(VENV) .mypy-tree build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed. Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV); the first time takes a minute or two"
	@$(PIP) install --editable .
	@$(MAKE) --no-print-directory system-libraries
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@$(PIP) install --editable '.[$*]'
	@touch $@

.PHONY: system-libraries
system-libraries:
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
		command="apt-get install -y --no-install-recommends $(SYSTEM_LIBRARIES)"; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing $(SYSTEM_LIBRARIES)"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$command >/dev/null && $(BIN)/python -c 'import cv2'; \
		else \
			$(BIN)/python -c 'import cv2' 2>&1 | tail -n 1 >&2; \
			echo "OpenCV cannot be loaded. Try: sudo $$command" >&2; exit 1; \
		fi; }
