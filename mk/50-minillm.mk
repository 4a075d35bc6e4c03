# examples/minillm: the engine that shows what an engine does with the library, and the demo.
MINILLM_SRC := $(sort $(wildcard examples/minillm/*.c))
MINILLM     := $(O)/minillm
$(MINILLM): $(call objs,$(MINILLM_SRC)) $(CISTERN_SO)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) -L$(O) -lcistern -lopenblas -lm $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN'
.PHONY: minillm
minillm: $(MINILLM)
all: $(if $(MINILLM_SRC),minillm)
