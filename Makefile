# make course   set up and run the course end to end on the bundled photographs
# make test     the unit tests, and every notebook
# make report   every figure and table of report/, from the released weights and the photographs
# make book     the notebooks, the report and the texts as a site, in work/book; it reads with no network
# make refresh  the notebooks' outputs, executed and written back; NOTEBOOKS="1 5" takes only those
# make quick    the unit tests without the slow ones: no notebook, no training, no report
# make setup    only the installation, into .venv
# make lab      JupyterLab on the notebooks
# Python 3.11 or newer and make are all that is needed: make setup PYTHON=python3.12 takes another one.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: course test quick report book refresh setup lab
.DEFAULT_GOAL := course

course: setup
	@$(BIN)/python notebooks/run.py

test: setup
	@$(BIN)/python -m pytest

SLOW = training adaptation report

quick: setup
	@$(BIN)/python -m pytest tests $(SLOW:%=--ignore=tests/test_%.py) -k "not on_the_test_photographs and not killed_run and not prepared_trained"

report: setup
	@$(BIN)/python report/build.py

book: setup
	@$(BIN)/python -m sphinx -W --keep-going -q -c docs -d work/book-doctrees . work/book
	@echo "to read: work/book/index.html"

refresh: setup
	@$(BIN)/python notebooks/run.py --refresh $(NOTEBOOKS)

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make setup PYTHON=python3.12")'
	@echo "installing into .venv (about 2 GB, some minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[course,report,book,test]"
	@touch $@
	@echo "installed; next: make course, or make lab"

lab: setup
	@$(BIN)/jupyter lab --notebook-dir=notebooks
