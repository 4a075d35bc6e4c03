# What a fresh Debian or Ubuntu lacks is installed by tools/setup.sh (apt-get, through sudo when not root, no question).
# Once per build folder and need; SETUP=no for those who bring their own packages.
SETUP ?= yes
SETUP_NEEDS := build test lint deb aarch64
.PHONY: $(addprefix setup-,$(SETUP_NEEDS))
$(addprefix setup-,$(SETUP_NEEDS)): setup-%: $(O)/.setup-%
# One after the other also under -j: apt-get has one lock.
$(O)/.setup-test: | $(O)/.setup-build
$(O)/.setup-lint $(O)/.setup-deb $(O)/.setup-aarch64: | $(O)/.setup-build
$(O)/.setup-%: tools/setup.sh
	@mkdir -p $(O)
	@$(if $(filter yes,$(SETUP)),sh tools/setup.sh $*,:)
	@touch $@
