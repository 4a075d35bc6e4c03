# examples/minillm: the engine that shows what an engine does with the library.
MINILLM_SRC := $(sort $(wildcard examples/minillm/*.c))
MINILLM     := $(O)/minillm
# Looked up when used, since a fresh machine has neither pkg-config nor OpenBLAS when make starts.
OPENBLAS_CFLAGS = $(shell pkg-config --cflags openblas 2>/dev/null)
OPENBLAS_LIBS   = $(or $(shell pkg-config --libs openblas 2>/dev/null),-lopenblas)
$(call objs,$(MINILLM_SRC)): CPPFLAGS += $(OPENBLAS_CFLAGS)
CFLAGS_examples_minillm_vecmath := -O3

$(MINILLM): $(call objs,$(MINILLM_SRC)) $(CISTERN_SO)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) -L$(O) -lcistern $(OPENBLAS_LIBS) -lm $(ALL_LDFLAGS) \
	    -Wl,-rpath,'$$ORIGIN'
.PHONY: minillm
minillm: $(MINILLM)
all: $(if $(MINILLM_SRC),minillm)

# The engine against a NumPy model, its switches, both tiers.
.PHONY: test-minillm
test-minillm: $(MINILLM) $(USRBIO_SO) $(O)/tests/fakes/slow/libhf3fs_api_shared.so | setup-test
	/usr/bin/python3 -m pytest -q -p no:cacheprovider tests/e2e/test_minillm.py tests/e2e/test_minillm_tier2.py \
	    tests/e2e/test_minillm_storage.py
