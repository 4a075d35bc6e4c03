/*
 * files.h - which data files are open. A process has only so many descriptors, shared with its
 * host, and a root may have more segments than that: files are opened when somebody wants to read
 * them, and those that were not used for longest are shut when there are too many.
 *
 * Whoever reads through a data file holds its segment, takes the file before and gives it back when
 * storage has answered; a file that is taken is not shut. A lane that finds one shut asks for it,
 * goes on with other work, and is rung when the openers, which are threads of their own, are done:
 * an open may hang on storage, and no lane waits for that longer than for a read. A file that was
 * still in the queue then, while others were opened, says nothing against storage. Files that are
 * being written are taken from their making to their seal.
 *
 * The limit is a soft one: files in use are never shut, so there may be as many more as groups are
 * in flight.
 */
#ifndef ENGINE_FILES_H
#define ENGINE_FILES_H

#include "engine/engine.h"

#define FILES_LEAST 16u
#define FILES_PART  8u /* of the descriptors of the process; a file takes two of them */

enum file_state {
    FILE_TAKEN, /* open, and stays so until it is given back */
    FILE_SHUT,  /* not open: ask for it */
    FILE_NONE   /* there is none to be read, or one of a daemon of before (renew.h) */
};

int files_open(cistern *c) MUST_CHECK;
int files_start(cistern *c) MUST_CHECK;
/* -EBUSY: one hangs on storage. Accepts a handle without. */
int files_stop(cistern *c, uint64_t deadline_ns) MUST_CHECK;
void files_close(cistern *c);

/* ---- By who holds the segment; any thread ---- */

/* There is something to be read, whether it is open or not. */
bool file_readable(const cistern *c, uint32_t number);
enum file_state file_take(cistern *c, uint32_t number) MUST_CHECK;
/* The same for a file of whatever daemon; false: it is not open. */
bool file_pin(cistern *c, uint32_t number) MUST_CHECK;
void file_give(cistern *c, uint32_t number);
/* Gives it back, and lets go of its segment. */
void file_leave(cistern *c, uint32_t number);
/* Asks that a file that is shut be opened; every lane is rung when it is, or cannot be. */
void file_ask(cistern *c, uint32_t number);
/* 1: it was asked for, and there is no answer yet; 0: it was not, or was opened since; negative
 * errno: it could not be opened. */
int file_asked(const cistern *c, uint32_t number);
/* Goes up with each open that storage answered. */
uint32_t files_answers(const cistern *c);
/* Opens it first if need be; 0, or why not. May hang on storage. */
int file_take_now(cistern *c, uint32_t number) MUST_CHECK;

/* ---- Who adds segments, or ends a burst of gets ---- */

/* There is room for one more open file. */
bool files_room(const cistern *c);
/* The openers shut some, if more are open than there should be. */
void files_trim(cistern *c);

#endif
