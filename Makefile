# Every command sets up .venv first and does nothing twice. Written for GNU make 3.81 (macOS) and later.

PYTHON ?= python3.12 python3.13 python3.11 python3 python
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := .venv/.installed

# without bytecode a kernel takes twice as long to import torch
unexport PYTHONDONTWRITEBYTECODE
# Git for Windows would turn /lab/tree into a path of its own
export MSYS_NO_PATHCONV := 1
# threads that wait for each other spin, by default so long that of two programs on two cores each holds up the other
export GOMP_SPINCOUNT ?= 1000

.DEFAULT_GOAL := help
.PHONY: help install lab test test-units test-notebooks test-browser machines course refresh assignments site colab bench lint lock floors

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## set up .venv with every version of requirements.lock

# the folder lab/ switches off what nbgrader adds, which is for teachers
lab: $(INSTALLED) ## study: open JupyterLab on lesson 00; ARGS="--port=9999" passes options on, TEACHER=1 adds nbgrader
	$(if $(TEACHER),,JUPYTER_CONFIG_PATH=lab )$(BIN)/python -m jupyterlab --allow-root --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ARGS)

# Two files at a time, a thread each: most of a test is Python, which a second thread does not speed up, and a lesson
# gains less from a second thread than from another lesson beside it. Notebooks apart and without --cov, given which
# nbval waits in vain for coverage in its kernels. Both run, whatever fails, and make is red if either is.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
NBVAL := -p tests.nbval_outputs --nbval --nbval-current-env --nbval-sanitize-with=tests/sanitize.cfg --nbval-cell-timeout=300
test: $(INSTALLED) ## run the tests and every notebook; ARGS="-k hooks" chooses some
ifdef ARGS
	$(PYTEST) $(NBVAL) $(ARGS)
else
	@$(MAKE) --no-print-directory --keep-going test-units test-notebooks
endif

test-units: $(INSTALLED) ## the tests without the notebooks
	$(PYTEST) --cov=lessons_lib tests

test-notebooks: $(INSTALLED) ## the notebooks without the tests
	$(PYTEST) $(NBVAL) notebooks

machines: $(INSTALLED) ## run the lessons as other machines would, compare; LESSON=07, RUNS=20; an interrupted one goes on
	$(BIN)/python -m tests.machines $(if $(LESSON),--lesson $(LESSON)) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

test-browser: $(INSTALLED) ## run every lesson in JupyterLab in Chromium, work its panels, read the site; ARGS="-k 03"
	$(MAKE) site ARGS=
	$(BIN)/python -m pytest $(wildcard tests/browser/*.py) $(ARGS)

course: $(INSTALLED) ## execute the lessons into build/course; PROFILE=full, LESSON=01, ARGS="--set NETWORK=alexnet"
	$(BIN)/python -m lessons_lib.runner course $(if $(PROFILE),--profile $(PROFILE)) $(if $(LESSON),--lesson $(LESSON)) $(ARGS)

refresh: $(INSTALLED) ## execute the lessons and store their outputs in notebooks/; LESSON=01
	$(BIN)/python -m lessons_lib.runner refresh $(if $(LESSON),--lesson $(LESSON))

# Sources are copied, so that no gradebook comes to lie in the repository; nbgrader looks for alembic on the PATH. The
# folder goes through the environment, where no blank or quote takes it apart; not every shell expands COURSE=~/grading.
COURSE ?= build/assignments
export COURSE
assignments: $(INSTALLED) ## build the release and the solution of the problem sets in build/assignments; COURSE=~/grading
	@set -e; PATH="$$PWD/$(BIN):$$PATH"; case "$$COURSE" in "~/"*) COURSE="$$HOME/$${COURSE#??}" ;; esac; set -x; \
	mkdir -p "$$COURSE"; \
	cp -R notebooks/assignments/source notebooks/assignments/nbgrader_config.py "$$COURSE"; \
	cd "$$COURSE"; \
	nbgrader generate_assignment "*" --force; \
	nbgrader generate_solution "*" --force

# what the panels need takes less than a minute on one thread, and twice as much processor time on two
site: $(INSTALLED) ## write the lessons as they are stored, with search and live panels, as a website into build/site
	OMP_NUM_THREADS=1 $(BIN)/python site/lab/make.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -f site/mkdocs.yml $(ARGS)

colab: $(INSTALLED) ## run lesson 04 as Colab would, with Colab's versions and without a checkout; LESSON=00
	$(BIN)/python -m tests.colab $(if $(LESSON),--lesson $(LESSON)) $(ARGS)

bench: $(INSTALLED) ## run the benchmarks into tests/bench/results.json; ARGS=cifar10-load chooses one
	$(BIN)/python -m tests.bench $(ARGS)

lint: $(INSTALLED) ## check style, types, the direction of imports and the notebooks
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.notebook_rules

lock: $(INSTALLED) ## write requirements.lock anew after a change of pyproject.toml; ARGS=--upgrade takes newer versions
	$(BIN)/python -m uv pip compile --universal --python-version 3.11 pyproject.toml --extra dev -o requirements.lock --no-header --no-annotate --quiet $(ARGS)
	cp environment.yml binder/environment.yml

# not for every change: it takes 6 GB, and as long as the tests
FLOORS := build/floors/$(notdir $(BIN))/python
floors: $(INSTALLED) ## run the tests in build/floors with the lowest versions pyproject.toml allows; ARGS=tests/test_cam.py
	$(BIN)/python -m uv venv --quiet --clear --python 3.11 build/floors
	$(BIN)/python -m uv pip install --quiet --python $(FLOORS) --resolution lowest-direct -e ".[dev]"
	$(FLOORS) -m pytest -n 2 --dist loadfile $(or $(ARGS),tests)

# The stamp is written last, so that an interrupted set-up goes on where it stopped.
$(INSTALLED): requirements.lock pyproject.toml
	@fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; \
	if ! $(BIN)/python -c "import pip; $$fits" 2>/dev/null; then \
		for python in $(PYTHON); do \
			if $$python -c "$$fits" 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "Python 3.11, 3.12 or 3.13 is needed; tried: $(PYTHON). Install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "Setting up .venv with $$($$found --version)"; \
		$$found -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(BIN)/python -m uv pip install --python $(BIN)/python --no-deps -r requirements.lock
	$(BIN)/python -m uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
