# Everything a newcomer or CI needs: `make quickstart`, `make test`, `make check`. The environment is made on first use.
OLDEST := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
  $$p -c '$(OLDEST)' >/dev/null 2>&1 && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

.PHONY: quickstart install dev test test-slow torture gpu docs check format clean

quickstart: $(STAMP)
	$(BIN)/collapse-sim run recipes/quickstart.yaml
	$(BIN)/collapse-sim compare runs/quickstart --plot runs/quickstart/compare.png
	@echo "plot:     runs/quickstart/compare.png"
	@echo "pictures: runs/quickstart/pictures/arms-by-generations.png"

install: $(STAMP)
dev: $(DEV)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed. Name one: make PYTHON=/path/to/python quickstart"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# Not compiled: most modules of the packages are never imported, and the others are compiled when they first are, and kept.
unexport PYTHONDONTWRITEBYTECODE
$(DEV): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@touch $(STAMP) $@

test: $(DEV)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

# Most of those of more than five seconds: kills at every boundary, long chains, large files.
test-slow: $(DEV)
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

# Fuzzed recipes, damaged files, kills and full disks, SECONDS of each: nothing may be silent, a traceback or a hang.
SECONDS ?= 600
torture: $(DEV)
	$(BIN)/python -m tests.torture.fuzz_recipes --seconds $(SECONDS)
	$(BIN)/python -m tests.torture.flip --seconds $(SECONDS)
	$(BIN)/python -m tests.torture.kill --seconds $(SECONDS)
	$(BIN)/python -m tests.torture.full --seconds $(SECONDS)

gpu: $(DEV)
	$(BIN)/python -m benchmarks.gpu

# The documentation as a site, in docs/_build/html. Warnings are errors.
docs: $(DEV)
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) docs/_build docs/_generated .mypy_cache .ruff_cache .pytest_cache
