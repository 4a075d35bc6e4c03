# libcistern.so
CISTERN_SRC := $(BASE_SRC) $(sort $(foreach d,metrics io pool mem key segment index engine admin,$(wildcard src/$(d)/*.c)))
CISTERN_SO  := $(O)/libcistern.so.0
CISTERN_LIBS := -lcrypto -ljansson -ldl
CFLAGS_src_base_xxh3_avx2 := $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),-mavx2)

# nodelete: a thread that waits for dead storage may outlive cistern_close() and the unloading of the library.
$(CISTERN_SO): $(call objs,$(CISTERN_SRC)) src/engine/cistern.map
	$(CC) $(ALL_CFLAGS) -shared -o $@ $(filter %.o,$^) $(ALL_LDFLAGS) -Wl,-soname,libcistern.so.0 \
	    -Wl,--version-script=src/engine/cistern.map -Wl,-z,nodelete -Wl,-z,defs $(CISTERN_LIBS)
	ln -sf libcistern.so.0 $(O)/libcistern.so

# The same objects as an archive, for tests that look inside a layer.
$(O)/libcistern_internal.a: $(call objs,$(CISTERN_SRC))
	rm -f $@ && ar rcs $@ $^

.PHONY: lib
lib: $(CISTERN_SO) $(USRBIO_SO)
all: lib
