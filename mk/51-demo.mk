# make demo: the engine is killed and finds its prompts again. DEMO_DIR names the folder for the blocks (it is emptied
# first), DEMO_FLAGS goes to the demo, such as --staging 1G.
DEMO_DIR   ?= $(O)/demo
DEMO_FLAGS ?=
.PHONY: demo
demo: $(MINILLM) $(USRBIO_SO) $(if $(CLI_SRC),$(CLI)) | $(if $(shell command -v python3),,setup-test)
	python3 examples/minillm/demo.py --minillm $(MINILLM) --dir $(DEMO_DIR) $(DEMO_FLAGS)
