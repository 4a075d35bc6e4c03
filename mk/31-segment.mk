# The layer that parses what lies on disk is held to -Wconversion.
$(foreach f,$(wildcard src/segment/*.c),$(eval CFLAGS_$(subst /,_,$(basename $(f))) := -Wconversion))
