# cistern, the command: the public API only.
CLI_SRC := $(sort $(wildcard cli/*.c))
CLI     := $(O)/cistern
$(CLI): $(call objs,$(CLI_SRC)) $(CISTERN_SO)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) -L$(O) -lcistern -luring -ljansson -lcrypto -lm -ldl $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN'
.PHONY: cli
cli: $(CLI)
all: $(if $(CLI_SRC),cli)
