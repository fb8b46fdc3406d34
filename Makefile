# The two commands of the README are `make demo` and `make test`; the rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
SOURCES := tsd tsctl torchserve tests examples benchmarks
# Workers import the package as `ts`, so that is the name that it is checked under, too.
TS_MODULES = $(shell cd tsd/worker && find ts -name '*.py' ! -name '__init__.py' \
  | sed 's,\.py$$,,; s,/,.,g; s,^,-m ,')
EXTRAS := runtime,develop,examples

.PHONY: install demo serve format check proto completions types unit integration test system bench bench-quick peers deb clean

install: $(STAMP)

# pip of the system fills the environment: a bare Debian has no ensurepip for one of its own.
$(STAMP): pyproject.toml torchserve/pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint constraints.txt \
	  --editable '.[$(EXTRAS)]' --editable ./torchserve
	touch $@

demo: install
	$(BIN)/python examples/digits/demo.py

serve: install
	$(BIN)/python examples/digits/demo.py --keep-running

format: install
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# Only after a change to a .proto file; what comes of it is kept in git.
proto: install
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. tsd/grpc/protos/*.proto

# Only after a change to the command line; what comes of it is kept in git.
completions: install
	$(BIN)/python packaging/completions/generate.py

types: install
	$(BIN)/mypy
	$(BIN)/mypy $(TS_MODULES)

unit: install
	$(BIN)/pytest tests/unit

check: install
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(MAKE) --no-print-directory types unit

integration: install
	$(BIN)/pytest tests/integration

test: check integration

# On machines with a real systemd, booted here: root's alone; each Debian's beside the other's.
# SUITE=trixie tests one Debian.
system: install deb
	$(BIN)/python -m tests.system.root $(SUITE)
	$(BIN)/pytest tests/system -n 2 --dist loadgroup

# All that is measured takes half an hour, the quick round some minutes; BENCH='--only noop,mlp' a
# part of it (`python -m benchmarks --help`).
bench: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks --quick $(BENCH)

$(BENCH_STAMP): $(STAMP)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint constraints.txt \
	  --editable '.[bench]'
	touch $@

# Other servers, asked the same; each is installed when it is first needed. PEERS='--only triton'
peers: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks.peers $(PEERS)

# build/deb/*.deb; VERSION=… builds another version, ARCH=arm64 for another machine.
deb:
	VERSION='$(VERSION)' ARCH='$(ARCH)' packaging/deb/build

clean:
	rm -rf $(VENV) .demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
