# Seeded damage of a store under a program that only knows the public API.
DAMAGE_PROG := $(O)/tests/damage/victim

$(DAMAGE_PROG): $(call objs,tests/damage/victim.c) $(CISTERN_SO) $(USRBIO_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) -L$(O) -lcistern $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..'

.PHONY: damage-programs test-damage
damage-programs: $(DAMAGE_PROG)
test-damage: $(DAMAGE_PROG) setup-test
	CISTERN_BUILD=$(abspath $(O)) /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/damage
