# SPDX-License-Identifier: GPL-2.0
# For people. What the kernel's build system reads is Kbuild.

KDIR ?= /lib/modules/$(shell uname -r)/build

# What checks and tests build against: KDIR if it was given, else the tree for the VM's kernel.
TREE = $(if $(filter file,$(origin KDIR)),$(shell scripts/prepare-kernel),$(KDIR))

.DEFAULT_GOAL := modules
.PHONY: modules clean clippy rustfmtcheck rustfmt shellcheck ruff python-test links recursion docs upstream logic-test simulate enbdctl test test-long test-debug demo vm bench bench-compare torture install deb deb-check help

modules: ## enbd.ko for KDIR (the running kernel's build tree)
	@scripts/kbuild "$(KDIR)"

install: ## enbd.ko to where modprobe finds it, for the kernel of KDIR
	@scripts/install "$(KDIR)"

clean: ## removes what was built here; the cache stays
	@rm -rf results .tmp_versions
	@find . -path ./.git -prune -o -type f \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' \
		-o -name '*.cmd' -o -name '*.rmeta' -o -name '.*.d' -o -name Module.symvers -o -name modules.order \
		-o -name bindings_generated.rs \) -exec rm -f {} +

clippy: ## the module with clippy's lints, warnings are errors
	@scripts/check clippy "$(TREE)"

rustfmtcheck: ## is all Rust code formatted?
	@scripts/check rustfmtcheck "$(TREE)"

rustfmt: ## formats all Rust code
	@scripts/check rustfmt "$(TREE)"

shellcheck: ## the scripts, by shellcheck
	@scripts/check shellcheck

ruff: ## the Python, by ruff
	@scripts/check ruff

python-test: ## the tests of the Python: what makes tables of figures, compares two runs, and reads superblocks
	@scripts/check python-test

links: ## do all pages and files exist that texts and comments name?
	@scripts/check links

recursion: ## does no function of the module call itself, directly or through others, and do they leave stack to the kernel?
	@scripts/check recursion "$(TREE)"

docs: ## the documentation as HTML, in results/docs; fetches Sphinx and graphviz the first time
	@scripts/check docs

upstream: ## do the patches for the kernel (Documentation/upstream) apply, and pass its checks? takes minutes
	@scripts/upstream-patches check

logic-test: ## the decisions (rust/logic), on this machine
	@scripts/check logic-test

simulate: ## the decisions under faults and a seeded schedule, for STEPS=n from SEED=n on
	@scripts/check simulator

enbdctl: ## the administrator's tool with manual and completions, into tools/target/enbdctl
	@scripts/enbdctl

deb: ## Debian 13 packages, into results/packages; KERNELS="RELEASE ..." for other kernels than the VM's, or "none"
	@scripts/package $(KERNELS)

deb-check: ## are they clean, reproducible, and do they work?
	@scripts/package-check

test: ## everything: checks, logic tests, scenarios in the VM
	@scripts/check test

test-long: ## the scenarios that take minutes each, which make test leaves out
	@scripts/check test-long

test-debug: ## the scenarios on a kernel that checks itself (KASAN, lockdep, kmemleak); builds it the first time
	@scripts/check test-debug

demo: ## the resync of 2003 replayed in the VM, from nothing
	@scripts/vm tools/vmtest/demo

vm: ## a shell in the VM, with the module loaded
	@scripts/vm --interactive

bench: ## the comparison with nbd.ko, md, DRBD and nbdcopy: table, JSON, picture in results/; QUICK=1: 10 minutes
	@QUICK="$(QUICK)" tools/bench/compare

bench-compare: ## what changed between two runs of bench, OLD=FILE NEW=FILE; 1 if a figure of enbd became worse
	@scripts/lab-run tools/bench/compare-runs $(OLD) $(NEW)

torture: SECONDS = 300
torture: SEED = $(shell od -An -N4 -tu4 /dev/urandom)
torture: ## faults at random for SECONDS=300 with SEED=n: two mirrors may not differ, fail or hang; CRASH=1: the client dies
	@$(if $(CRASH),tools/crash/run,tools/torture/start) $(SECONDS) $(SEED)

help: ## this list
	@sed -En 's/^([a-z-]+): ## (.*)/  make \1\t\2/p' Makefile | expand -t 22
	@echo "  scripts/prepare-kernel [RELEASE]   a build tree for a Debian kernel (then: make KDIR=...)"
	@echo "  scripts/vm FILE [ARG...]           FILE as root in a fresh VM"
	@echo "  Environment: ENBD_CACHE (/var/cache/enbd), ENBD_MIRROR (http://deb.debian.org/debian), VM_TIMEOUT (seconds)"
