# make course        set up and run the course end to end on the bundled photographs
# make test          the unit tests, and every notebook
# make test-faults   the long tests: what runs is killed and broken, for some minutes
# make setup         only the installation, into .venv
# make lab           JupyterLab on the notebooks
# Python 3.11 or newer and make are all that is needed: make setup PYTHON=python3.12 takes another one.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: course test test-faults setup lab
.DEFAULT_GOAL := course

course: setup
	@$(BIN)/python notebooks/run.py

test: setup
	@$(BIN)/python -m pytest

test-faults: setup
	@$(BIN)/python -m pytest tests -m faults

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make setup PYTHON=python3.12")'
	@echo "installing into .venv (about 2 GB, some minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[course,test]"
	@touch $@
	@echo "installed; next: make course, or make lab"

lab: setup
	@$(BIN)/jupyter lab --notebook-dir=notebooks
