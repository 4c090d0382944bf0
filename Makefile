# Each target sets up what it needs in .venv, once: the stamp is redone only when the packages asked for change.
# pip's own environment variables (index, proxy, certificates, cache) pass through untouched.

PYTHON ?= python3
THREADS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
NOTEBOOKS = $(wildcard notebooks/$(if $(NB),$(NB)_,)*.ipynb)

AT_LEAST_311 = -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"minidream needs Python 3.11 or newer, and %s is %s. Try: make PYTHON=python3.11" \
	" (an old $(VENV) must be removed first)" % (sys.executable, sys.version.split()[0]))'

.DEFAULT_GOAL := help
.PHONY: help setup demo test lab notebooks weights bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## .venv with everything in it (the others see to this themselves)

# A .venv that is there already is kept, unless it has no working pip.
# torch comes first and by itself, spelled just so: then a CPU build that pip was shown (PIP_FIND_LINKS, PIP_INDEX_URL)
# is taken as it is, and what follows finds torch settled instead of fetching gigabytes of CUDA beside it.
$(STAMP): pyproject.toml constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(PYTHON) $(AT_LEAST_311) && $(PYTHON) -m venv $(VENV); }
	@$(PY) $(AT_LEAST_311)
	$(PY) -m pip install $(TORCH)
	$(PY) -m pip install -c constraints.txt -e '.[test]'
	@touch $@

demo: $(STAMP)  ## runs notebook 00 without a browser and leaves its pictures in out/
	$(PY) -m minidream.course.demo

# One pytest for tests and notebooks: one closing line, and a failure in either fails it.
# The smallest budget, no GPU, no network, threads pinned: what passes here passes on another machine.
test: $(STAMP)  ## unit tests, then every notebook against its committed outputs
	env -u MINIDREAM_7B MINIDREAM_BUDGET=ci CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=$(THREADS) \
	$(PY) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 \
		--nbval-sanitize-with=notebooks/sanitize.cfg tests notebooks

lab: $(STAMP)  ## opens the first notebook in JupyterLab
	$(PY) -m jupyterlab notebooks/00_quickstart.ipynb

# Kept of the metadata: tags of cells, the kernel, the language. Not kept: widget state (large, and GitHub refuses many
# such files), times of execution, the exact Python, so that running a notebook again changes only what it shows.
# The state is dropped at the end, not left unrecorded: with store_widget_state=False nbclient 0.11 fails on any Output
# widget, and every `interact` holds one.
notebooks: $(STAMP)  ## runs the notebooks again for committing; NB=00 picks one
	$(if $(NOTEBOOKS),,$(error no notebook is called notebooks/$(NB)_*.ipynb))
	MINIDREAM_BUDGET=cpu OMP_NUM_THREADS=$(THREADS) $(PY) -m nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.kernel_name=python3 \
		--ExecutePreprocessor.record_timing=False \
		--ClearOutputPreprocessor.enabled=True \
		--ClearOutputPreprocessor.remove_metadata_fields="{'collapsed', 'scrolled', 'execution', 'ExecuteTime'}" \
		--ClearMetadataPreprocessor.enabled=True \
		--ClearMetadataPreprocessor.clear_cell_metadata=False \
		--ClearMetadataPreprocessor.preserve_nb_metadata_mask="{'kernelspec', ('language_info', 'name')}" \
		$(NOTEBOOKS)
	$(PY) tests/benchmarks/notebooks.py --shrink $(NOTEBOOKS)

weights: $(STAMP)  ## trains the toy weights from nothing, all stages (hours on a CPU)
	$(PY) -m minidream.train all

bench: $(STAMP)  ## speed and memory as ratios to transformers and diffusers, measured in the same run
	$(PY) tests/benchmarks/bench.py

clean:  ## removes what can be made again, except .venv and runs/
	rm -rf out build dist *.egg-info .pytest_cache
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf
