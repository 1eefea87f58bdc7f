# make repro: the environment, then the whole pipeline. make test: the environment, then the tests (PYTEST='-m ""': the
# slow ones too). make lint: style, import rules, types, docs. make bench: every benchmark, into docs/benchmarks.md.
# Without a GPU, UV_TORCH_BACKEND=cpu make repro downloads the CPU build of torch: 0.2 GB in place of 6 with CUDA.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Where the shell asks Python to cache no bytecode, every stage would compile its imports anew: half of a short one's time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test bench lint docs env clean-env requirements

repro: env
	python -m stages.repro
	@echo "The report: file://$(CURDIR)/reports/report.html"

test: env
	python -m pytest $(PYTEST)

bench: env
	python -m benchmarks

lint: env docs
	ruff check .
	ruff format --check .
	lint-imports
	mypy

# A warning (a link to nowhere, a page outside the navigation) is an error.
docs: env
	@if [ -f mkdocs.yml ]; then mkdocs build --strict; fi

env: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s; try make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"
	.venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements.txt
	@# The command cxr, of the code in this folder.
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@# What every stage imports is compiled here, not by two first stages at once.
	@.venv/bin/dvc repro --dry > /dev/null 2>&1 || true
	@.venv/bin/python -c 'import lightning_fabric, matplotlib.pyplot, pandas, sklearn.linear_model, scipy.stats, torch._dynamo'
	@touch $@

clean-env:
	rm -rf .venv

# requirements.txt from pyproject.toml: what is pinned stays. The libraries of CUDA are left out, for the build of torch
# brings its own, or none.
requirements: env
	cp requirements.txt .venv/pinned.txt
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --no-annotate --no-emit-index-url \
		pyproject.toml --output-file .venv/pinned.txt > /dev/null
	echo "# The exact environment, for Linux and macOS. make requirements writes it." > requirements.txt
	grep -vE '^(nvidia-|cuda-|triton)' .venv/pinned.txt >> requirements.txt
