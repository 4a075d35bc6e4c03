# libhf3fs_api_shared.so, the drop-in for the 3FS native client. It goes to a folder of its own: the real library has
# the same SONAME, and nobody should get ours without asking.
BASE_SRC   := $(sort $(wildcard src/base/*.c))
USRBIO_SRC := $(sort $(wildcard src/usrbio/*.c))
USRBIO_SO  := $(O)/hf3fs/libhf3fs_api_shared.so

# Bsymbolic: another library with these names in the global scope must not catch its calls to itself.
$(USRBIO_SO): $(call objs,$(USRBIO_SRC) $(BASE_SRC)) src/usrbio/usrbio.map
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -shared -o $@ $(filter %.o,$^) $(ALL_LDFLAGS) -Wl,-soname,libhf3fs_api_shared.so \
	    -Wl,--version-script=src/usrbio/usrbio.map -Wl,-z,nodelete -Wl,-z,defs \
	    -Wl,-Bsymbolic-functions -luring

.PHONY: usrbio
usrbio: $(USRBIO_SO)
all: usrbio
