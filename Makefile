# Cistern: one plain Makefile. `make`, `make test`, `make demo`, `make lint` need nothing installed by hand.
#
#   make                 libraries, command, example          O=build   where the results go
#   make test            every test a change must pass        SAN=...   address,undefined or thread
#   make demo            the demo, end to end                 WERROR=1  warnings are errors (CI)
#   make lint            layers, banned calls, format         prefix=, DESTDIR= for make install
#   make check-ci        sanitizers and the long tests of CI

O       ?= build
CC      ?= cc
CFLAGS  ?= -O2 -g
prefix  ?= /usr/local
libdir  ?= $(prefix)/lib
SAN     ?=
WERROR  ?=
VERSION := 0.1.0

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
            -Wformat=2 $(if $(WERROR),-Werror)
CPPFLAGS += -Iinclude -Isrc -D_GNU_SOURCE -DCISTERN_VERSION='"$(VERSION)"'
ALL_CFLAGS  = -std=gnu11 $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -fno-common -pthread \
              -MMD -MP $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_LDFLAGS = $(LDFLAGS) -pthread $(if $(SAN),-fsanitize=$(SAN))

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all
all:

# src/a/b.c -> $(O)/obj/src/a/b.o
objs = $(patsubst %.c,$(O)/obj/%.o,$(1))

$(O)/obj/%.o: %.c | setup-build
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(CFLAGS_$(subst /,_,$*)) -c -o $@ $<

include $(sort $(wildcard mk/*.mk))

.PHONY: clean
clean:
	rm -rf $(O)

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)
