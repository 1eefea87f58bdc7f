# make repro: the environment, then the whole pipeline. make test: the environment, then the tests (PYTEST='-m ""': the
# slow ones too). make bench: every benchmark, into docs/benchmarks.md.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Where the shell asks Python to cache no bytecode, every stage would compile its imports anew: half of a short one's time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test bench lint env clean-env

repro: env
	python -m stages.repro
	@echo "The report: file://$(CURDIR)/reports/report.html"

test: env
	python -m pytest $(PYTEST)

bench: env
	python -m benchmarks

lint: env
	ruff check .
	ruff format --check .

env: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s; try make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements.txt
	@# What every stage imports is compiled here, not by two first stages at once.
	@.venv/bin/dvc repro --dry > /dev/null 2>&1 || true
	@.venv/bin/python -c 'import lightning_fabric, matplotlib.pyplot, pandas, sklearn.linear_model, scipy.stats, torch._dynamo'
	@touch $@

clean-env:
	rm -rf .venv
