/* process.h - which process it is: what tells two of the same number apart. Any thread. */
#ifndef IO_PROCESS_H
#define IO_PROCESS_H

#include <stdint.h>

/* When it started, in ticks since the boot; 0: there is no such process to be seen. 0 = our own. */
uint64_t process_start_ticks(uint32_t pid);
/* How many descriptors it may have open (the soft limit); 0 = not known. */
uint64_t process_files_max(void);
/* The inode of our pid namespace; 0 = not known. */
uint64_t process_pid_namespace(void);

#endif
