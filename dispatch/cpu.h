/* SPDX-License-Identifier: Apache-2.0 */
/** What dispatch/cpu.c asks of the file for the processor family. */
#ifndef ATTEND_DISPATCH_CPU_H
#define ATTEND_DISPATCH_CPU_H

#include "dispatch/dispatch.h"

/**
 * Finds out about the processor: everything in `cpu`, which comes zeroed, and for each feature that is present but not
 * usable the reason, a text that is valid for ever.
 */
void attend_cpu_detect(attend_cpu *cpu, const char *reasons[ATTEND_CPU_FEATURE_COUNT]);

#endif
