/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the library asks of the operating system, each question with an answer for "unknown". Everything that depends on
 * the system is behind these functions: a port is one more os_*.c.
 */
#ifndef ATTEND_DISPATCH_OS_H
#define ATTEND_DISPATCH_OS_H

#include <stdint.h>

#include "dispatch/dispatch.h"

/** Lets another thread run. */
void attend_os_yield(void);

/** Fills in what the system knows of the machine and leaves 0 where it does not. `allowed` is not filled in. */
void attend_os_topology(attend_topology *topology);

/** Physical cores in the calling thread's affinity mask, 0 if unknown. Call attend_os_topology() first. */
int attend_os_affinity_cores(void);

/** Processors' worth of time that the system grants this process, rounded down but at least 1; 0 for no limit. */
int attend_os_cpu_quota(void);

/** x86: asks for the permission to use AMX tiles. NULL if it is granted, else why not. */
const char *attend_os_request_amx(void);

/** Arm: the feature words of the auxiliary vector, in Linux's layout, and the Main ID Register (0 if unknown). */
uint64_t attend_os_arm_hwcap(void);
uint64_t attend_os_arm_hwcap2(void);
uint64_t attend_os_arm_midr(void);

#endif
