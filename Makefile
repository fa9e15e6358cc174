# The two commands of the README, and what developers run. Each creates .venv and builds the extension if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
SOURCES := $(shell find csrc cmake -type f) CMakeLists.txt setup.py pyproject.toml
WORKERS ?= 2

.PHONY: bench test docs lint format gpu wheel-test install clean

bench: install
	@echo "== measuring: published networks, unfused and with replaced layers"
	$(BIN)/python -m benchmarks.throughput --output build/bench
	@echo "== the figures are in build/bench; those of the README are in benchmarks/results"

test: install
	@echo "== testing"
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests

docs: install
	$(BIN)/python -m mkdocs build --strict
	@echo "== the documentation is in build/site"

install: $(VENV)/.installed

$(VENV)/.created:
	@echo "== creating $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@echo "== installing $(TORCH) and the build tools"
	$(BIN)/python -m pip install --quiet "$(TORCH)" setuptools pybind11 cmake ninja
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	@echo "== compiling and installing clof_ext (minutes the first time)"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --no-build-isolation -e ".[test,bench]"
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')

# On a machine with a GPU, in the Python that has its torch (no .venv, nothing downloaded).
gpu:
	PYTHON="$(PYTHON)" bash benchmarks/gpu.sh

# The wheel in empty environments with the torches of TORCHES, which are downloaded: gigabytes.
wheel-test: install
	PYTHON="$(abspath $(BIN)/python)" bash tests/packaging/wheel.sh

clean:
	rm -rf build dist *.egg-info clof_ext/*.so $(VENV)/.installed
