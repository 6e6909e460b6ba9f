# The two commands of the README are `make demo` and `make test`. Each makes its own environment.

PYTHON ?= python3
VENV ?= .venv
DEMO_DIR ?= demo-run
DEMO_ARGS ?=
# Package index for torch alone, e.g. the one of CPU wheels; empty: what pip is configured to use.
TORCH_INDEX ?=
# More extras of the package, e.g. ",reionization": 21cmFAST, which is compiled and needs GSL and FFTW.
EXTRAS ?=
# Tutorials to run; all if empty.
NOTEBOOKS ?=

TORCH := 2.13.0
# Folders of tests that one of the processes of pytest takes.
SCIENCE := calibration densities embeddings formats gate inference labels networks observation proposal repairs report statistics
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# One thread per process: two cores with two busy thread pools each are slower than one pool.
ONE_THREAD := OMP_NUM_THREADS=1 MPLBACKEND=Agg

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test docs notebooks lint types test-fast test-tools test-science test-emulators test-tutorials test-slow benchmarks tables clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make the environment in .venv (the other commands do it by themselves)

# The stamp is written last: a set-up that was interrupted is repeated from the start.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	rm -f $@
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "torch==$(TORCH)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dask,tutorials,docs,dev$(EXTRAS)]"
	$(BIN)/python -c "import torch; v = torch.__version__; assert v.split('+')[0] == '$(TORCH)', 'torch was replaced by ' + v"
	touch $@

demo: $(READY)  ## the whole chain on N-body fields: simulations to report, 15 minutes on 2 cores
	$(BIN)/sbitools demo --out $(DEMO_DIR) $(DEMO_ARGS)

test: lint types docs test-fast  ## what every change must pass: style, types, documentation, the fast tests

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## pyright
	$(BIN)/pyright

# Warnings are errors: a link that leads nowhere, a docstring that cannot be read.
docs: $(READY)  ## the documentation as a site, in site/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html -c docs . site/html
	echo '<meta http-equiv="refresh" content="0; url=html/docs/index.html">' > site/index.html

# One tutorial: make notebooks NOTEBOOKS=01_chain; at its full setting: NOTEBOOKS="--full 01_chain".
notebooks: $(READY)  ## run the tutorials at their small setting and keep what they show
	$(ONE_THREAD) $(BIN)/python docs/notebooks.py $(NOTEBOOKS)

# Two processes of pytest at a time, one for each core; what takes longest begins first.
test-fast: $(READY)  ## the fast tests, with the tutorials at their small setting
	@$(MAKE) --no-print-directory --jobs 2 test-tools test-science test-emulators test-tutorials

test-tools: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest --ignore tests/emulators --ignore tests/test_tutorials.py \
	  $(addprefix --ignore tests/,$(SCIENCE))

test-science: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest $(addprefix tests/,$(SCIENCE))

test-emulators: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest tests/emulators

test-tutorials: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest tests/test_tutorials.py

test-slow: $(READY)  ## the tests that take minutes
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow --timeout 3600

benchmarks: $(READY)  ## rerun every number of the paper and write the tables
	$(BIN)/python paper/benchmarks/run_all.py

tables: $(READY)  ## rebuild paper/benchmarks/results/README.md from the numbers already there
	$(BIN)/python paper/benchmarks/run_all.py --collect

clean:  ## remove the environment, caches and the demo's results
	rm -rf $(VENV) $(DEMO_DIR) site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find sbitools emulators tests paper -name __pycache__ -type d -prune -exec rm -rf {} +
