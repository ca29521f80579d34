# make course   set up and run the course end to end on the bundled photographs
# make test     the unit tests, and every notebook
# make test-faults  the long tests: what runs is killed and broken, for some minutes
# make lint     form and likely mistakes of all code, the notebooks' too; it changes nothing
# make report   every figure and table of report/, from the released weights and the photographs
# make book     the notebooks, the report and the texts as a site, in work/book; it reads with no network
# make refresh  the notebooks' outputs, executed and written back; NOTEBOOKS="1 5" takes only those
# make quick    the unit tests without the slow ones: no notebook, no training, no report
# make setup    only the installation, into .venv
# make lab      JupyterLab on the notebooks
# make demo     a page on which you colour your own photographs, for this computer alone
# make study    the colour Turing test: can you tell recoloured photographs from real ones?
# Python 3.11, 3.12 or 3.13 and make are all that is needed: make setup PYTHON=python3.12 takes another one.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin

.PHONY: course test test-faults lint quick report book refresh setup lab demo study
.DEFAULT_GOAL := course

course: setup
	@$(BIN)/python notebooks/run.py

test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-faults: setup
	@$(BIN)/python -m pytest -n $(WORKERS) tests -m faults

lint: setup
	@$(BIN)/ruff check && $(BIN)/ruff format --check

SLOW = training adaptation report

quick: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests $(SLOW:%=--ignore=tests/test_%.py) -k "not on_the_test_photographs and not killed_run and not prepared_trained"

report: setup
	@$(BIN)/python report/build.py

book: setup
	@$(BIN)/python -m sphinx -W --keep-going -q -c docs -d work/book-doctrees . work/book
	@echo "to read: work/book/index.html"

refresh: setup
	@$(BIN)/python notebooks/run.py --refresh $(NOTEBOOKS)

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "TensorFlow needs Python 3.11, 3.12 or 3.13, and this is " + sys.version.split()[0] + "; make setup PYTHON=python3.12 takes another.")'
	@echo "installing into .venv (about 2 GB, some minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[course,report,book,test]"
	@touch $@
	@echo "installed; next: make course, or make lab"

lab: setup
	@$(BIN)/jupyter lab --notebook-dir=notebooks

# Voilà's settings are in notebooks/pages/voila.json. It listens on loopback alone. A page that is left takes its kernel, and with it the
# photographs, along; Voilà asks for that without the XSRF token that it would demand, so that check is off (what may be asked
# of the server names a kernel by its secret id; its sockets check the origin). A kernel that lost its page ends after two minutes.
VOILA = cd notebooks/pages && JUPYTER_PATH=$(CURDIR)/notebooks/pages $(CURDIR)/$(BIN)/voila

demo: setup
	@$(VOILA) demo.ipynb

study: setup
	@$(VOILA) study.ipynb
