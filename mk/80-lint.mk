# make lint: layers, banned calls, sizes, layout, generated documents, headers that stand alone, shell scripts.
# Every check runs even when one before it failed; `make lint LINT_C="a.c b.h"` looks at the layout of some files only.
CLANG_FORMAT ?= clang-format
LINT_C  ?= $(or $(shell git ls-files -co --exclude-standard '*.c' '*.h' 2>/dev/null),\
             $(shell find bench cli examples include src tests -name '*.[ch]'))
LINT_SH ?= $(shell git grep -lE '^\#!/bin/(ba)?sh|^\#!/usr/bin/env bash' 2>/dev/null)
LINT_H   = $(wildcard include/*.h)
# Code that is included several times with other names is no header of its own.
LINT_INTERNAL_H = $(filter-out src/base/xxh3_build.h,$(sort $(wildcard src/*/*.h)))
LINT_CHECKS := layers source layout docs headers shell

.PHONY: lint $(addprefix lint-,$(LINT_CHECKS)) format docs
lint: setup-lint
	@bad=; for check in $(LINT_CHECKS); do $(MAKE) --no-print-directory -s lint-$$check || bad="$$bad $$check"; done; \
	    if [ -n "$$bad" ]; then echo "lint: findings in:$$bad"; exit 1; fi; echo "lint: no findings"

lint-layers:
	@tools/check_layers
lint-source:
	@tools/check_source
lint-layout: | setup-lint
	@bad=; for f in $(LINT_C); do $(CLANG_FORMAT) --dry-run -Werror $$f >/dev/null 2>&1 || bad="$$bad $$f"; done; \
	    if [ -n "$$bad" ]; then printf 'layout differs from .clang-format, see make format:\n'; \
	    printf '  %s\n' $$bad; exit 1; fi
lint-docs:
	@tools/doc_tables --check; tables=$$?; tools/api_man --check && exit $$tables

# Public headers as strict C and as C++, each alone; internal ones as what they are, each alone.
lint-headers: | setup-lint
	@for h in $(LINT_H); do \
	    $(CC) -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c $$h || exit 1; \
	    $(CXX) -std=c++17 -pedantic -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c++ $$h || exit 1; \
	done
	@for h in $(LINT_INTERNAL_H); do \
	    printf '#include "%s"\n' "$${h#src/}" | $(CC) $(CPPFLAGS) -std=gnu11 -Wall -Werror -fsyntax-only -x c - || exit 1; \
	done

lint-shell: | setup-lint
	@$(if $(LINT_SH),shellcheck $(LINT_SH))

# What lint would complain about, put right.
format: setup-lint
	$(CLANG_FORMAT) -i $(LINT_C)
docs:
	tools/doc_tables
	tools/api_man
