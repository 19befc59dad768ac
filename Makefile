# On a machine with Python >= 3.11, pip and make: `make train`, `make test`. Nothing is installed outside .venv.
PYTHON ?= python3
BIN := .venv/bin
DIGITS := dataset=digits model=mlp batch_size=full epochs=600 probe.every=10

INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: setup train figures test slow lint dist docs
setup: .venv/installed-dev  # everything that the tests use

.venv/installed: pyproject.toml constraints.txt  # the package alone
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) '.[dev]'
	touch $@

# The corridor learning rate, untuned, beside three fixed learning rates: gradient descent on real digits.
train: .venv/installed
	$(BIN)/corridor-train $(DIGITS) out_dir=outputs/digits/clr
	$(BIN)/corridor-train -m $(DIGITS) optim=sgd optim.lr=0.01,0.1,1 out_dir=outputs/digits/sgd
	@echo && $(BIN)/python -m corridor_exp.cli.table outputs/digits/clr outputs/digits/sgd/*/

# All nine figures of the paper and its claims, from the records in outputs/reference/: no training. Full size where there is
# one, miniatures otherwise; the last line judges the miniatures alone.
figures: .venv/installed
	$(BIN)/corridor-figures all --runs outputs/reference
	$(BIN)/corridor-figures claims --runs outputs/reference
	$(BIN)/corridor-figures claims --runs outputs/reference/mini --out outputs/figures/mini

test: setup
	$(BIN)/pytest -m 'not slow'

slow: setup  # minutes; some open pages in Chromium
	$(BIN)/pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dist: setup  # the sdist, and the wheel that is built from it
	$(BIN)/python -m build --outdir dist

docs: setup  # the site, in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs
