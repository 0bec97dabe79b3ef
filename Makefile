# Every target sets up .venv by itself; pip runs again only when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
ROOMS := banks curricula envs agents evaluation cli
# Without an NVIDIA GPU, an unpinned torch would bring gigabytes of CUDA libraries.
TORCH := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo torch || echo torch==2.13.0)
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-fast lint format clean

demo: .venv/ready
	$(BIN)/anatomy-r1 demo $(ARGS)

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-fast: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

lint: .venv/ready .venv/typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=.venv/typing $(BIN)/mypy --namespace-packages --explicit-package-bases -p anatomy_r1

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The rooms as one package, for the type checker, which doesn't follow editable installs.
.venv/typing: .venv/ready
	mkdir -p $@/anatomy_r1
	for room in $(ROOMS); do ln -sfn $(CURDIR)/$$room $@/anatomy_r1/$$room; done

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,report,brain,hf,validate,text,diversity,dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
