# make deb: Debian packages in $(O)/deb, built in a copy of the tree; needs what tools/setup.sh calls deb.
#
#   make check-deb    builds them, asks lintian, runs the command from them, and in a root of debootstrap installs and
#                     purges them (that part needs root). See tests/deb.
DEB_OUT = $(abspath $(O))/deb
.PHONY: deb check-deb
deb:
	@rm -rf $(DEB_OUT) && mkdir -p $(DEB_OUT)/cistern-$(VERSION)
	@{ git ls-files -co --exclude-standard 2>/dev/null || find . -type f -not -path './build/*'; } | \
	    tar -cf - -T - | tar -xf - -C $(DEB_OUT)/cistern-$(VERSION)
	cd $(DEB_OUT)/cistern-$(VERSION) && env -i PATH="$$PATH" HOME="$$HOME" LANG=C.UTF-8 \
	    DEB_BUILD_OPTIONS="noautodbgsym parallel=$$(nproc)" dpkg-buildpackage -us -uc -b >$(DEB_OUT)/build.log 2>&1 || \
	    { tail -n 40 $(DEB_OUT)/build.log; exit 1; }
	@rm -rf $(DEB_OUT)/cistern-$(VERSION)
	@ls $(DEB_OUT)/*.deb

check-deb: | setup-deb
	@DEB_OUT=$(DEB_OUT) MAKE='$(TEST_MAKE)' $(PYTEST) tests/deb
