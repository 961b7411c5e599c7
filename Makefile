# `make demo` is the whole job; `make test` the whole suite. Everything is installed into .venv by pip.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup demo check test test-faults test-slow test-mutants bench bench-short audit up down docs lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	OSTEO_DIE_WITH_PARENT=1 $(BIN)/osteo demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The scenarios wait much and compute little: they run beside the rest, and are shown after it. What imports the Prefect
# server has a process of its own: its tables and those of MLflow cannot be mapped in one.
test: setup
	@$(BIN)/python -m pytest tests/scenarios > .pytest-scenarios.log 2>&1 & scenarios=$$!; \
	trap "kill $$scenarios" INT TERM; \
	$(BIN)/python -m pytest --ignore=tests/scenarios --ignore=tests/deployments --ignore=tests/security; rest=$$?; \
	$(BIN)/python -m pytest tests/deployments tests/security || rest=1; \
	wait $$scenarios; beside=$$?; cat .pytest-scenarios.log; exit $$((rest || beside))

# Faults in two lanes, as long as each other: those of one job beside those of servers and machines, which are shown
# first. Only files that hold one are read: to collect the others takes longer than some of these tests. SITE has all that
# use the servers of the cluster profile, for they start once; the run that kills a node for good comes last.
FAULTS := $(BIN)/python -m pytest -rP --durations=12 -m "fault and not slow"
SITE := tests/training/test_machines.py tests/scenarios/test_cluster_servers.py tests/scenarios/test_writers.py \
	tests/security/test_routes.py tests/scenarios/test_cluster_use.py
JOBS = $(filter-out $(SITE),$(shell grep -rl --include='test_*.py' 'pytest.mark.fault' tests))

test-faults: setup
	@$(FAULTS) $(JOBS) > .pytest-faults.log 2>&1 & jobs=$$!; \
	trap "kill $$jobs" INT TERM; \
	$(FAULTS) $(SITE); rest=$$?; \
	wait $$jobs; beside=$$?; cat .pytest-faults.log; exit $$((rest || beside))

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Puts small faults into the code that decides results, a sample of each module's; lists those that no test notices.
test-mutants: setup
	$(BIN)/python -m tests.mutation

# Speed against peers, as ratios from one run; fails when one is 25 % worse than recorded for this CPU. `make bench
# OPTIONS="--keras PYTHON --record"` adds the authors' Keras network (in a Python that has tensorflow-cpu) and records.
bench: setup
	$(BIN)/python -m benchmarks.speed $(OPTIONS)

bench-short: setup
	$(BIN)/python -m benchmarks.speed --short

# Asks PyPI for known vulnerabilities of the locked packages; says so, and fails, where it cannot.
audit: setup
	$(BIN)/python infra/audit.py

up: setup
	$(BIN)/osteo up

down: setup
	$(BIN)/osteo down

# The site, from docs/ and from the program, into site/; a warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock:
	# The local part of a version (torch's +cpu) is known to no index.
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9]*$$//' > requirements.lock

clean:
	rm -rf artifacts .osteo site
