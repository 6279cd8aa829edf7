# SPDX-License-Identifier: MIT
# Set-up, build, tests and the main job. `make help` lists the targets.
#
# A fresh Debian 12 or newer, or Ubuntu 24.04 or newer, needs root and make, nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# ---------------------------------------------------------------- what is installed
# The one list of distribution packages. They are installed without what they only recommend,
# so that no daemon (Open vSwitch's, for one) is installed and started.
APT_PACKAGES := \
    ca-certificates clang conntrack ethtool gcc iperf3 iproute2 iptables iputils-ping kmod libbpf-dev \
    libbpf-tools libbpf1 libc6-dev libmnl-dev libnetfilter-queue-dev linux-libc-dev llvm mininet \
    nftables procps python3 python3-venv sockperf tcpdump util-linux
# Handy when one looks at what is loaded; nothing depends on it.
APT_OPTIONAL := bpftool
# What only `make test` installs, where the distribution has it as a package (Ubuntu's is a snap).
APT_TEST_PACKAGES := chromium
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends

# The Python that makes the virtual environment: the distribution's, if it is new enough.
PYTHON ?=
PYTHON_CANDIDATES := /usr/bin/python3 python3.13 python3.12 python3.11 python3
VENV := .venv
STAMP := $(VENV)/.complete
COMMAND := /usr/local/bin/nfcbed
NFCBED := $(CURDIR)/$(VENV)/bin/nfcbed

# ---------------------------------------------------------------- what is built
CLANG ?= clang
MULTIARCH := $(shell uname -m)-linux-gnu
BPF_CFLAGS := -target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Werror -Infs/include \
    -idirafter /usr/include/$(MULTIARCH)
NF_SOURCES := $(wildcard nfs/*/*.bpf.c)
TESTBED_SOURCES := $(wildcard testbed/bpf/*.bpf.c)
OBJECTS := $(foreach s,$(NF_SOURCES),build/nfs/$(notdir $(s:.c=.o))) \
    $(foreach s,$(TESTBED_SOURCES),build/testbed/$(notdir $(s:.c=.o)))

# In user space: the NFs as shared objects, and the program that runs them.
CC := gcc
USER_CFLAGS := -O2 -g -Wall -Wextra -Werror -fPIC -fvisibility=hidden -Infs/include $(SANITISE)
USER_NFS := $(foreach s,$(wildcard nfs/*/*.user.c),build/nfs/$(notdir $(s:.c=.so)))
USER_STAGES := $(patsubst testbed/user/%.c,build/user/%.so,$(wildcard testbed/user/*.user.c))
USER_SOURCES := $(filter-out %.user.c,$(wildcard testbed/user/*.c))
USER_PROGRAMS := build/user/nfqueue build/user/libnfqueue.so
# For `make build SANITISE=-fsanitize=address,undefined`.
SANITISE ?=

# Folders that hold Python, as mypy refuses one that holds none.
TYPED := $(foreach folder,testbed topologies nfs experiments plots tests,\
    $(if $(wildcard $(folder)/*.py $(folder)/*/*.py),$(folder)))

RESULTS ?= results
PYTEST_ARGS ?=
REPRODUCE_ARGS ?=
FORCE ?=

.PHONY: help as-root deps apt apt-test venv install-command uninstall build lint unit test reproduce clean

help: ## list the targets
	@echo 'Targets (make TARGET):'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(firstword $(MAKEFILE_LIST)) | \
	    while read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

reproduce: as-root deps ## set up, build, run the thesis's experiments: results/report.html
	@$(MAKE) build
	$(NFCBED) reproduce --out $(RESULTS) $(REPRODUCE_ARGS)

test: as-root deps ## set up, build, check the style and run every test
	@$(MAKE) apt-test
	@$(MAKE) build
	@$(MAKE) lint
	$(VENV)/bin/pytest tests $(PYTEST_ARGS)

lint: venv ## ruff and mypy --strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy $(TYPED)

unit: venv ## the tests that need no root
	$(VENV)/bin/pytest tests/unit $(PYTEST_ARGS)

deps: ## install what is missing: packages, Python environment, the command nfcbed
	@$(MAKE) apt
	@$(MAKE) venv
	@$(MAKE) install-command

# One sentence and an end, where root is missing. $(1): what root is for.
need_root = if [ "$$(id -u)" != 0 ]; then \
    echo "nfcbed: root is needed $(1): try sudo make $(MAKECMDGOALS)" >&2; exit 2; fi

as-root:
	@$(call need_root,to build network namespaces and to load programs)

# dpkg is asked each time (some 20 ms): a stamp would not notice a removed package.
apt:
	@if ! command -v apt-get >/dev/null; then \
	    echo 'nfcbed: no apt-get here: install the equivalents of: $(strip $(APT_PACKAGES))' >&2; \
	    exit 0; \
	fi; \
	missing=''; \
	for package in $(APT_PACKAGES); do \
	    case "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null || true)" in \
	        installed*) ;; \
	        *) missing="$$missing $$package" ;; \
	    esac; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	$(call need_root,to install:$$missing); \
	echo "nfcbed: installing with apt-get:$$missing"; \
	log=$$(mktemp); trap "rm -f $$log" EXIT; \
	{ apt-get update -qq && $(APT_INSTALL) $$missing; } > $$log 2>&1 || \
	    { tail -n 20 $$log >&2; echo 'nfcbed: apt-get failed' >&2; exit 1; }; \
	for package in $(APT_OPTIONAL); do \
	    $(APT_INSTALL) $$package > $$log 2>&1 || \
	        echo "nfcbed: no package $$package here; it is optional"; \
	done

# Without them tests are skipped, so that nothing here stops `make test`.
apt-test:
	@command -v apt-get >/dev/null || exit 0; \
	for package in $(APT_TEST_PACKAGES); do \
	    case "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null || true)" in \
	        installed*) continue ;; \
	    esac; \
	    case "$$(apt-cache policy $$package | sed -n 's/^ *Candidate: //p')" in \
	        '' | '(none)' | *snap*) why='is no package here' ;; \
	        *) echo "nfcbed: installing with apt-get, for tests: $$package"; \
	            $(APT_INSTALL) $$package >/dev/null 2>&1 && continue; \
	            why='cannot be installed' ;; \
	    esac; \
	    echo "nfcbed: $$package $$why: the tests that need it are skipped"; \
	done

# Complete means: nothing it was made from is newer, it works, and it was made in this folder.
venv:
	@if [ $(STAMP) -nt pyproject.toml ] && [ $(STAMP) -nt requirements.lock ] && \
	    [ "$$(cat $(STAMP))" = '$(CURDIR)' ] && $(VENV)/bin/python -c 'import typer'; then \
	    exit 0; \
	fi; \
	python='$(PYTHON)'; \
	for candidate in $(if $(PYTHON),,$(PYTHON_CANDIDATES)); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python="$$candidate"; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'nfcbed: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3' >&2; \
	    exit 2; \
	fi; \
	if ! { [ -w $(VENV)/bin ] || { [ ! -e $(VENV) ] && [ -w . ]; }; }; then \
	    echo 'nfcbed: $(VENV) is to be renewed and is not yours: try sudo make deps' >&2; exit 2; \
	fi; \
	echo "nfcbed: making the Python environment $(VENV) with $$($$python --version)"; \
	[ "$$(cat $(STAMP) 2>/dev/null)" = '$(CURDIR)' ] || rm -rf $(VENV); \
	"$$python" -m venv $(VENV); \
	pip="$(VENV)/bin/python -m pip --disable-pip-version-check -qq install"; \
	$$pip --constraint requirements.lock setuptools; \
	$$pip --constraint requirements.lock --no-build-isolation \
	    --config-settings editable_mode=compat --editable '.[dev]'; \
	echo '$(CURDIR)' > $(STAMP)

# A link that leads nowhere is renewed; a file, or a link into another folder, is left alone.
install-command: ## make the command nfcbed known: a link in /usr/local/bin
	@if [ "$$(readlink $(COMMAND) 2>/dev/null)" = '$(NFCBED)' ]; then exit 0; fi; \
	if [ -e $(COMMAND) ] && [ -z '$(FORCE)' ]; then \
	    echo "nfcbed: $(COMMAND) belongs to $$(readlink -f $(COMMAND)) and stays;" \
	        'make install-command FORCE=1 replaces it, $(VENV)/bin/nfcbed works without'; \
	    exit 0; \
	fi; \
	if [ "$$(id -u)" != 0 ]; then \
	    echo 'nfcbed: without root $(COMMAND) is not made; use $(VENV)/bin/nfcbed'; exit 0; \
	fi; \
	mkdir -p $(dir $(COMMAND)); \
	ln -sfn '$(NFCBED)' $(COMMAND); \
	echo 'nfcbed: linked $(COMMAND) -> $(NFCBED)'

uninstall: ## remove the link that install-command made
	@if [ "$$(readlink $(COMMAND) 2>/dev/null)" = '$(NFCBED)' ]; then \
	    rm $(COMMAND) && echo 'nfcbed: removed $(COMMAND)'; \
	else \
	    echo 'nfcbed: $(COMMAND) is not a link to this folder; nothing removed'; \
	fi

build: $(OBJECTS) $(USER_NFS) $(USER_STAGES) $(USER_PROGRAMS) ## compile the network functions and the testbed's programs

# $(1): source, $(2): object
define bpf_object
$(2): $(1) Makefile
	@command -v $(CLANG) >/dev/null || { echo 'nfcbed: no clang: run make deps' >&2; exit 2; }
	@mkdir -p $$(@D)
	@echo '  BPF  $(2)'
	@$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(2:.o=.d) -MT $(2) -c $(1) -o $(2)
endef
$(foreach s,$(NF_SOURCES),$(eval $(call bpf_object,$(s),build/nfs/$(notdir $(s:.c=.o)))))
$(foreach s,$(TESTBED_SOURCES),$(eval $(call bpf_object,$(s),build/testbed/$(notdir $(s:.c=.o)))))
-include $(OBJECTS:.o=.d) $(USER_NFS:.so=.d) $(USER_STAGES:.so=.d)

# $(1): source, $(2): shared object
define user_object
$(2): $(1) Makefile
	@mkdir -p $$(@D)
	@echo '  USER $(2)'
	@$(CC) $(USER_CFLAGS) -MMD -MP -MF $(2:.so=.d) -MT $(2) -shared $(1) -o $(2)
endef
$(foreach s,$(wildcard nfs/*/*.user.c),\
    $(eval $(call user_object,$(s),build/nfs/$(notdir $(s:.c=.so)))))
$(foreach s,$(USER_STAGES),$(eval $(call user_object,$(patsubst build/%.so,testbed/%.c,$(s)),$(s))))

build/user/libnfqueue.so: SHARED := -shared
$(USER_PROGRAMS): $(USER_SOURCES) $(wildcard testbed/user/*.h nfs/include/*.h) testbed/bpf/tag.h Makefile
	@mkdir -p $(@D)
	@echo '  USER $@'
	@$(CC) $(USER_CFLAGS) $(SHARED) $(USER_SOURCES) -o $@ -lnetfilter_queue -lmnl -lbpf -lpthread -ldl

clean: ## remove what was built and the Python environment; results/ stays
	rm -rf build $(VENV) nfcbed.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
