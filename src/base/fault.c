/* fault.c - the hook of the fault points; hidden, so that only a statically linked test reaches it.
 */
#include "base/fault.h"

void (*fault_hook)(const char *name);
