# make install prefix=/usr/local DESTDIR=, make uninstall: the libraries, the command, headers, cistern.pc, manual pages,
# the completion of bash, what deploy/ holds, the documents, the pages of the example to copy from.
#
# The drop-in goes to a folder that is on no search path, and its header below include/cistern/: neither stands before
# a real 3FS client, and cistern.pc points at neither. Whoever wants the drop-in names that folder on purpose.
bindir     ?= $(prefix)/bin
includedir ?= $(prefix)/include
INSTALL    ?= install
USRBIO_DIR  = $(libdir)/cistern/hf3fs
datadir    ?= $(prefix)/share
mandir     ?= $(datadir)/man
docdir     ?= $(datadir)/doc/cistern
deploydir   = $(datadir)/cistern
compdir    ?= $(datadir)/bash-completion/completions
BIN_RPATH   = $(shell realpath -m --relative-to='$(bindir)' '$(libdir)')

$(O)/cistern.pc: cistern.pc.in FORCE
	@sed -e 's|@prefix@|$(prefix)|' -e 's|@libdir@|$(libdir)|' -e 's|@version@|$(VERSION)|' $< >$@

MAN1 := $(wildcard docs/man/*.1)
MAN3 := $(wildcard docs/man/*.3)
# The names that a page explains, in its NAME section: a link for each but the page's own.
man_names  = sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([^ ]*\).*/\1/p'
DOCS      := README.md CHANGELOG.md $(wildcard docs/*.md)
EXAMPLES  := $(wildcard examples/minillm/tier2.[ch])
DEPLOY    := $(shell find deploy -type f -not -path 'deploy/completion/*')

# The command as it is installed: it finds the library from where it lies, moved with its tree or not. RPATH=no where
# the linker looks into $(libdir) by itself.
RPATH ?= yes
$(O)/install/cistern: lib cli FORCE
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(call objs,$(CLI_SRC)) -L$(O) -lcistern $(CLI_LIBS) $(ALL_LDFLAGS) \
	    $(if $(filter no,$(RPATH)),,-Wl$(comma)-rpath$(comma)'$$ORIGIN/$(BIN_RPATH)')
comma := ,

.PHONY: FORCE install uninstall
FORCE:

install: lib cli $(O)/cistern.pc $(O)/install/cistern
	$(INSTALL) -d $(addprefix $(DESTDIR),$(bindir) $(libdir)/pkgconfig $(USRBIO_DIR) $(includedir)/cistern $(mandir)/man1 \
	    $(mandir)/man3 $(compdir) $(docdir)/examples $(deploydir))
	$(INSTALL) -m 644 include/cistern.h include/cistern_admin.h $(DESTDIR)$(includedir)
	$(INSTALL) -m 644 include/hf3fs_usrbio.h $(DESTDIR)$(includedir)/cistern
	$(INSTALL) -m 755 $(CISTERN_SO) $(DESTDIR)$(libdir)
	ln -sf $(notdir $(CISTERN_SO)) $(DESTDIR)$(libdir)/libcistern.so
	$(INSTALL) -m 755 $(USRBIO_SO) $(DESTDIR)$(USRBIO_DIR)
	$(INSTALL) -m 644 $(O)/cistern.pc $(DESTDIR)$(libdir)/pkgconfig
	$(INSTALL) -m 755 $(O)/install/cistern $(DESTDIR)$(bindir)
	$(INSTALL) -m 644 $(MAN1) $(DESTDIR)$(mandir)/man1
	$(INSTALL) -m 644 $(MAN3) $(DESTDIR)$(mandir)/man3
	for page in $(MAN3); do for name in $$($(man_names) $$page); do \
	    [ $$name.3 = $${page##*/} ] || ln -sf $${page##*/} $(DESTDIR)$(mandir)/man3/$$name.3; done; done
	$(INSTALL) -m 644 deploy/completion/cistern.bash $(DESTDIR)$(compdir)/cistern
	$(INSTALL) -m 644 $(DOCS) $(DESTDIR)$(docdir)
	$(INSTALL) -m 644 $(EXAMPLES) $(DESTDIR)$(docdir)/examples
	for f in $(DEPLOY); do $(INSTALL) -D -m 644 $$f $(DESTDIR)$(deploydir)/$${f#deploy/} || exit 1; done
	$(if $(DESTDIR),,-[ "$$(id -u)" -ne 0 ] || ldconfig)

# What install makes, in directories that others use too; directories of our own whole.
uninstall:
	rm -f $(DESTDIR)$(bindir)/cistern $(addprefix $(DESTDIR)$(includedir)/,cistern.h cistern_admin.h) \
	    $(DESTDIR)$(libdir)/libcistern.so $(DESTDIR)$(libdir)/$(notdir $(CISTERN_SO)) \
	    $(DESTDIR)$(libdir)/pkgconfig/cistern.pc $(DESTDIR)$(compdir)/cistern \
	    $(addprefix $(DESTDIR)$(mandir)/man1/,$(notdir $(MAN1))) $(addprefix $(DESTDIR)$(mandir)/man3/,$(notdir $(MAN3)))
	for page in $(MAN3); do for name in $$($(man_names) $$page); do \
	    rm -f $(DESTDIR)$(mandir)/man3/$$name.3; done; done
	rm -rf $(DESTDIR)$(libdir)/cistern $(DESTDIR)$(includedir)/cistern $(DESTDIR)$(docdir) $(DESTDIR)$(deploydir)
	$(if $(DESTDIR),,-[ "$$(id -u)" -ne 0 ] || ldconfig)
