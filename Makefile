# make demo          set up .venv and run the demo (1.4 GB and some minutes at first)
# make check         format, lint, types and every test that is not slow: a minute or two
# make test          set up what is missing, then lint, types and all tests
# make clients       ask our server through other projects' clients, in an environment of theirs
# make ray           run what runs on Ray, Dask and datasets, in an environment of theirs: minutes
# make docs          build the documentation in docs/_build/html, with warnings as errors
# make linkcheck     ask every address in it (needs a network)
# make lint          lint and types alone
# make notebooks     run the notebooks and keep their outputs
# make figures       measure the embedded models again: demo.json, tables, models.json, notebooks
# make constraints   write the tested versions down again
#
# PYTHON names another interpreter, ARGS the demo's arguments:
#   make demo PYTHON=python3.12 ARGS='--framework llama-index --query "how do I sort a list"'

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo check test clients ray docs linkcheck lint notebooks figures constraints

demo: $(VENV)/demo.stamp
	$(BIN)/rerank-plugins demo $(ARGS)

check: lint
	$(BIN)/python -m pytest -m "not slow and not gpu and not network"

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clients: $(VENV)/dev.stamp $(VENV)/clients.stamp
	$(BIN)/python tests/clients $(VENV)/clients/bin/python

ray: $(VENV)/dev.stamp $(VENV)/ray.stamp
	$(VENV)/ray/bin/python -m pytest tests/test_ray.py tests/test_engines.py

docs: $(VENV)/dev.stamp
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

linkcheck: $(VENV)/dev.stamp
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/linkcheck

notebooks: $(VENV)/dev.stamp
	$(BIN)/python notebooks/run.py

figures: $(VENV)/dev.stamp
	$(BIN)/rerank-plugins demo --json > demo.tmp
	mv demo.tmp benchmarks/results/demo.json
	$(BIN)/python -m benchmarks.report
	$(BIN)/python notebooks/run.py

constraints: $(VENV)/dev.stamp $(VENV)/ray.stamp
	$(VENV)/ray/bin/python .ci/constraints.py > constraints.tmp
	mv constraints.tmp constraints.txt
	touch $(VENV)/demo.stamp $(VENV)/dev.stamp

# A stamp is as new as the last installation; "dev" has all of "demo".
$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[demo]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	touch $(VENV)/demo.stamp $@

$(VENV)/clients.stamp: tests/clients/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install --disable-pip-version-check -r $<
	touch $@

# It sees the packages of the other one, and adds its own 450 MB.
$(VENV)/ray.stamp: tests/engines.txt constraints.txt | $(VENV)/dev.stamp
	$(BIN)/python -m venv --without-pip $(VENV)/ray
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(VENV)/ray/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dev.pth"
	$(BIN)/python -m pip --python $(VENV)/ray/bin/python install --disable-pip-version-check \
		-c constraints.txt -r $<
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
