# Stand-in libraries for the loaders (tests/fakes/fakes.h says what each is). The tests that use them get them first.
FAKE_DIR   := $(O)/tests/fakes
FAKE_HF3FS := $(foreach v,real missing undefined wrapper,$(FAKE_DIR)/$(v)/libhf3fs_api_shared.so)
FAKE_CUDA  := $(foreach v,ok missing fail busy unpinned,$(FAKE_DIR)/cuda-$(v)/libcuda.so.1)
FAKE_CC     = $(CC) $(CPPFLAGS) -std=gnu11 $(CFLAGS) $(filter-out -Wmissing-prototypes,$(WARN)) -fPIC \
              -fvisibility=hidden -shared -o $@ $<
FAKE_FLAGS_missing   := -DFAKE_MISSING
FAKE_FLAGS_undefined := -DFAKE_UNDEFINED
FAKE_FLAGS_wrapper   := -DFAKE_WRAPPER -Wl,--no-as-needed $(FAKE_DIR)/wrapper/libinner.so -Wl,-rpath,'$$ORIGIN'

$(FAKE_HF3FS) $(FAKE_DIR)/wrapper/libinner.so: tests/fakes/fake_hf3fs.c tests/fakes/fakes.h include/hf3fs_usrbio.h
	@mkdir -p $(@D)
	$(FAKE_CC) -Wl,-soname,$(@F) $(if $(filter libhf3fs%,$(@F)),$(FAKE_FLAGS_$(notdir $(@D))))
$(FAKE_DIR)/wrapper/libhf3fs_api_shared.so: $(FAKE_DIR)/wrapper/libinner.so

FAKE_FLAGS_cuda-missing  := -DFAKE_CUDA_MISSING
FAKE_FLAGS_cuda-fail     := -DFAKE_CUDA_FAIL
FAKE_FLAGS_cuda-busy     := -DFAKE_CUDA_BUSY
FAKE_FLAGS_cuda-unpinned := -DFAKE_CUDA_UNPINNED
$(FAKE_CUDA): tests/fakes/fake_cuda.c tests/fakes/fakes.h
	@mkdir -p $(@D)
	$(FAKE_CC) -Wl,-soname,$(@F) $(FAKE_FLAGS_$(notdir $(@D)))

FAKE_USERS := $(foreach t,loader io memreserve cuda_fake client_rules,$(O)/tests/unit/test_$(t))
$(FAKE_USERS): | $(FAKE_HF3FS) $(FAKE_CUDA) $(USRBIO_SO)
.PHONY: fakes
fakes: $(FAKE_HF3FS) $(FAKE_CUDA)

# The io layer and the store with the drop-in's sharp edges of 3FS, and without io_uring.
.PHONY: test-strict
test-strict: $(foreach t,io engine,$(O)/tests/unit/test_$(t))
	@for t in $^; do \
	    CISTERN_USRBIO_STRICT=all $$t || exit 1; \
	    CISTERN_USRBIO_BACKEND=threads $$t || exit 1; \
	done

# Moves the wall clock of whoever preloads it.
SKEWED_CLOCK := $(FAKE_DIR)/skewed_clock.so
# Keeps the children of whoever preloads it from ending.
STUCK_EXIT := $(FAKE_DIR)/stuck_exit.so
$(SKEWED_CLOCK) $(STUCK_EXIT): $(FAKE_DIR)/%.so: tests/fakes/%.c
	@mkdir -p $(@D)
	$(FAKE_CC)
