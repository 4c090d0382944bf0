# Each target first creates .venv if needed; the stamp is made again only when the required packages change.
# pip's own environment variables (index, proxy, certificates, cache) are passed through unchanged.

PYTHON ?= python3
# One torch thread in each process. Two threads that share a busy core wait for each other, up to fifty times as long.
THREADS ?= 1
# Processes that `make test` starts; each runs whole files, so that a notebook keeps its one kernel.
WORKERS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
NOTEBOOKS = $(wildcard notebooks/$(if $(NB),$(NB)_,)*.ipynb)

AT_LEAST_311 = -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"minidream needs Python 3.11 or newer, and %s is %s. Try: make PYTHON=python3.11" \
	" (an old $(VENV) must be removed first)" % (sys.executable, sys.version.split()[0]))'

.DEFAULT_GOAL := help
.PHONY: help setup demo test lab notebooks book slides weights speedrun bench clean

help:  ## prints this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## creates .venv with all dependencies (every other target does this first)

# An existing .venv is kept, unless its pip does not work.
# torch is installed first, by itself and with exactly this version: if pip has been pointed at a CPU build
# (PIP_FIND_LINKS, PIP_INDEX_URL), it takes that build, and the second command does not download CUDA (gigabytes) as well.
$(STAMP): pyproject.toml constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(PYTHON) $(AT_LEAST_311) && $(PYTHON) -m venv $(VENV); }
	@$(PY) $(AT_LEAST_311)
	$(PY) -m pip install $(TORCH)
	$(PY) -m pip install -c constraints.txt -e '.[test,tune]'
	@touch $@

demo: $(STAMP)  ## runs notebook 00 without a browser and saves its pictures in out/
	$(PY) -m minidream demo

# One pytest run for tests and notebooks: one summary line, and a failure in either makes the command fail.
# The smallest budget, no GPU, no network, pinned threads: what passes here passes on another machine.
test: $(STAMP)  ## unit tests, and every notebook compared with its committed outputs
	env -u MINIDREAM_7B MINIDREAM_BUDGET=ci CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=$(THREADS) \
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=300 \
		--nbval-sanitize-with=notebooks/sanitize.cfg tests notebooks

lab: $(STAMP)  ## opens the first notebook in JupyterLab
	$(PY) -m jupyterlab notebooks/00_quickstart.ipynb

# The metadata keeps cell tags, the kernel and the language. It drops widget state (large, and GitHub does not display
# many such files), execution times and the exact Python version, so that a new run changes only what the notebook shows.
# Widget state is removed afterwards instead of not being recorded: with store_widget_state=False, nbclient 0.11 fails
# on any Output widget, and every `interact` contains one.
notebooks: $(STAMP)  ## executes the notebooks again for committing; NB=00 picks one
	$(if $(NOTEBOOKS),,$(error there is no notebook notebooks/$(NB)_*.ipynb))
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

book: $(VENV)/.book  ## the README, the notebooks and the API reference as a site in out/book, checked in a browser
	rm -rf out/book out/book-doctrees
	$(PY) -m sphinx -q -W --keep-going -j auto -d out/book-doctrees -c notebooks/book . out/book
	$(PY) notebooks/book/two_hops.py out/book/notebooks/book/two_hops.html
	$(PY) -m pytest -q -m slow tests/campaigns/test_book_pages.py

$(VENV)/.book: $(STAMP)
	$(PY) -m pip install -c constraints.txt -e '.[book]'
	@touch $@

slides: $(STAMP)  ## the main figures of the notebooks as slides, in out/slides.slides.html
	$(PY) -m minidream.course.slides out/slides.ipynb
	$(PY) -m nbconvert --to slides --no-input out/slides.ipynb

weights: $(STAMP)  ## trains the toy from scratch, with two more runs of stages I to III (hours on a CPU), and writes it into the package
	$(PY) -m minidream.train all --folder runs/toy --jobs 2
	OMP_NUM_THREADS=1 $(PY) -m minidream.train all --folder runs/toy-1 --seed 1 --pretrained runs/toy --quiet & \
	first=$$!; trap 'kill $$first' INT TERM; \
	OMP_NUM_THREADS=1 $(PY) -m minidream.train all --folder runs/toy-2 --seed 2 --pretrained runs/toy; \
	second=$$?; wait $$first && exit $$second
	$(PY) -m minidream.train ship --folder runs/toy --others runs/toy-1 runs/toy-2

speedrun: $(STAMP)  ## the race from the frozen parts to a DreamLLM that paints
	$(PY) -m minidream.studies speedrun

bench: $(STAMP)  ## speed and memory as ratios to transformers and diffusers, measured in the same run
	$(PY) tests/benchmarks/bench.py

clean:  ## removes everything that can be made again, except .venv and runs/
	rm -rf out build notebooks/book/*/ dist *.egg-info .pytest_cache
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf
