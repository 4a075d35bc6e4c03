# make check-versions: this version and the one before it write and read one root at the same time. See
# tests/versions/test_versions.py. It builds the other version once, from git.
.PHONY: check-versions
check-versions: setup-test $(CISTERN_SO) $(USRBIO_SO)
	@CISTERN_BUILD=$(abspath $(O)) $(PYTEST) -rs tests/versions
