# make install prefix=/usr/local DESTDIR=
#
# The drop-in goes to a folder that is on no search path, and its header below include/cistern/: neither stands before
# a real 3FS client, and cistern.pc points at neither. Whoever wants the drop-in names that folder on purpose.
bindir     ?= $(prefix)/bin
includedir ?= $(prefix)/include
INSTALL    ?= install
USRBIO_DIR  = $(libdir)/cistern/hf3fs
BIN_RPATH   = $(shell realpath -m --relative-to='$(bindir)' '$(libdir)')

$(O)/cistern.pc: cistern.pc.in FORCE
	@sed -e 's|@prefix@|$(prefix)|' -e 's|@libdir@|$(libdir)|' -e 's|@version@|$(VERSION)|' $< >$@

# The command as it is installed: it finds the library from where it lies, moved with its tree or not.
$(O)/install/cistern: all FORCE
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(call objs,$(CLI_SRC)) -L$(O) -lcistern -luring -ljansson -lm -ldl $(ALL_LDFLAGS) \
	    -Wl,-rpath,'$$ORIGIN/$(BIN_RPATH)'

.PHONY: FORCE install uninstall
FORCE:

install: all $(O)/cistern.pc $(if $(CLI_SRC),$(O)/install/cistern)
	$(INSTALL) -d $(addprefix $(DESTDIR),$(bindir) $(libdir)/pkgconfig $(USRBIO_DIR) $(includedir)/cistern)
	$(INSTALL) -m 644 include/cistern.h $(DESTDIR)$(includedir)/cistern.h
	$(INSTALL) -m 644 include/cistern_admin.h $(DESTDIR)$(includedir)/cistern_admin.h
	$(INSTALL) -m 644 include/hf3fs_usrbio.h $(DESTDIR)$(includedir)/cistern/hf3fs_usrbio.h
	$(INSTALL) -m 755 $(CISTERN_SO) $(DESTDIR)$(libdir)/libcistern.so.0
	ln -sf libcistern.so.0 $(DESTDIR)$(libdir)/libcistern.so
	$(INSTALL) -m 755 $(USRBIO_SO) $(DESTDIR)$(USRBIO_DIR)/libhf3fs_api_shared.so
	$(INSTALL) -m 644 $(O)/cistern.pc $(DESTDIR)$(libdir)/pkgconfig/cistern.pc
	$(if $(CLI_SRC),$(INSTALL) -m 755 $(O)/install/cistern $(DESTDIR)$(bindir)/cistern)
	$(if $(DESTDIR),,-[ "$$(id -u)" -ne 0 ] || ldconfig)

uninstall:
	rm -f $(DESTDIR)$(bindir)/cistern $(DESTDIR)$(includedir)/cistern.h \
	    $(DESTDIR)$(includedir)/cistern_admin.h $(DESTDIR)$(libdir)/libcistern.so* \
	    $(DESTDIR)$(libdir)/pkgconfig/cistern.pc
	rm -rf $(DESTDIR)$(libdir)/cistern $(DESTDIR)$(includedir)/cistern
