# make replay-report NAME=conversation TRACE=conversation.jsonl DIR=/mnt/nvme: docs/replay/NAME.txt and .html.
#
# See docs/REPLAY.md. Writes every block at full size below DIR and removes them again; not part of any test.
REPLAY_OUT ?= docs/replay
DIR        ?= $(O)
NAME       ?= conversation
.PHONY: replay-report
replay-report: $(CLI) $(USRBIO_SO)
	@test -n "$(TRACE)" || { echo "usage: make replay-report NAME=... TRACE=FILE DIR=DIRECTORY"; exit 2; }
	@mkdir -p $(REPLAY_OUT)
	$(CLI) replay $(TRACE) --mount $(DIR) --root replay-report --html $(REPLAY_OUT)/$(NAME).html >$(O)/replay.txt
	@mv $(O)/replay.txt $(REPLAY_OUT)/$(NAME).txt
