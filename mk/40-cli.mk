# cistern, the command: the public API only.
CLI_SRC  := $(sort $(wildcard cli/*.c))
CLI      := $(O)/cistern
CLI_LIBS := -lmicrohttpd -luring -ljansson -lcrypto -lm -ldl
$(CLI): $(call objs,$(CLI_SRC)) $(CISTERN_SO)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) -L$(O) -lcistern $(CLI_LIBS) $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN'
# The page at "/" of `cistern metrics --listen` lies in the command.
$(O)/obj/cli/live_page.o: $(wildcard deploy/live/index.html)
.PHONY: cli
cli: $(CLI)
all: $(if $(CLI_SRC),cli)
