# What a fresh Debian or Ubuntu lacks is installed by tools/setup.sh (apt-get, through sudo when not root, no question).
# Once per build folder and need; SETUP=no for those who bring their own packages.
SETUP ?= yes
.PHONY: setup-build setup-test setup-lint
setup-build: $(O)/.setup-build
setup-test:  $(O)/.setup-test
setup-lint:  $(O)/.setup-lint
$(O)/.setup-%: tools/setup.sh
	@mkdir -p $(O)
	@$(if $(filter yes,$(SETUP)),sh tools/setup.sh $*,:)
	@touch $@
