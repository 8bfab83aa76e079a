/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the library asks of the operating system, each question with an answer for "unknown". Everything that depends on
 * the system is behind these functions: a port is one more os_*.c.
 */
#ifndef ATTEND_DISPATCH_OS_H
#define ATTEND_DISPATCH_OS_H

#include <stdint.h>

#include "dispatch/dispatch.h"

/** Memory at a multiple of `alignment`, a power of two; NULL when there is none. */
void *attend_os_allocate(size_t alignment, size_t size);
void attend_os_release(void *memory);

/** Lets another thread run. */
void attend_os_yield(void);

/** How many calls of fork() lie between this process and the one that loaded the library. */
int attend_os_forks(void);
/** Whether the calling thread came into this process by fork(): the only one of its parent's that did. */
bool attend_os_survived_fork(void);
/**
 * For that thread: runs the work on a helper thread, which is the same one in every call, and waits for its end. False,
 * and nothing is done, if the helper cannot be started.
 */
bool attend_os_run_on_helper(void (*work)(void *argument), void *argument);

/**
 * How many of so many more threads, up to ATTEND_MOST_THREADS, can be there at once, with a stack of so many bytes, or
 * with 0 the usual one. It starts them for a trial, and they end before it returns.
 */
int attend_os_startable(int threads, size_t stack);

/**
 * For attend_topology_complete(): the processors, and the caches of a typical one of `allowed`, as far as the system
 * knows them. The topology is all zeros before.
 */
void attend_os_topology(const attend_cpu_set *allowed, attend_topology *topology);

/** Marks the processors of efficiency cores, as far as the system knows them. */
void attend_os_mark_efficiency(attend_topology *topology);

/** Fills in cache sizes that are 0 from what the C library knows: virtual machines may have no files about caches. */
void attend_os_fill_in_caches(attend_topology *topology);

/** The calling thread's affinity mask; every processor, and false, if it is unknown. */
bool attend_os_get_affinity(attend_cpu_set *set);
/** Sets it; false if the system does not let us. */
bool attend_os_set_affinity(const attend_cpu_set *set);
/** The processor the calling thread runs on just now, -1 if unknown. */
int attend_os_current_processor(void);

/** Processors' worth of time that the system grants this process, rounded down but at least 1; 0 for no limit. */
int attend_os_cpu_quota(void);

/** Where an administrator keeps profiles for all users: a directory, or NULL where there is no such place. */
extern const char *const attend_os_profiles;

/**
 * Reads a whole regular file of at most `most` bytes into memory that is freed by attend_free(). 0, or an errno: EFBIG
 * beyond `most`, EINVAL if it is not a regular file, ENOMEM.
 */
int attend_os_read_file(const char *path, size_t most, char **text, size_t *length);

/** x86: asks for the permission to use AMX tiles. NULL if it is granted, else why not. */
const char *attend_os_request_amx(void);

/** Arm: the feature words of the auxiliary vector, in Linux's layout, and the Main ID Register (0 if unknown). */
uint64_t attend_os_arm_hwcap(void);
uint64_t attend_os_arm_hwcap2(void);
uint64_t attend_os_arm_midr(void);

#endif
