/* SPDX-License-Identifier: Apache-2.0 */
/** What dispatch/machine/cpu.c asks of the file for the processor family. */
#ifndef ATTEND_DISPATCH_CPU_H
#define ATTEND_DISPATCH_CPU_H

#include "dispatch/dispatch.h"

/**
 * Finds out about the processor: everything in `cpu`, which comes zeroed, and for each feature that is not usable the
 * reason, a text that is valid for ever. NULL is a feature that the processor does not have.
 */
void attend_cpu_detect(attend_cpu *cpu, const char *reasons[ATTEND_CPU_FEATURE_COUNT]);

#ifdef __x86_64__
typedef struct attend_cpuid {
  uint32_t eax, ebx, ecx, edx;
} attend_cpuid;

/** What detection asks on x86. */
typedef struct attend_x86 {
  attend_cpuid (*cpuid)(uint32_t leaf, uint32_t subleaf);
  uint64_t (*xgetbv)(uint32_t index);
  const char *(*request_amx)(void); /**< see attend_os_request_amx() */
} attend_x86;

/** The processor and the system themselves. */
extern const attend_x86 attend_x86_real;
/** Features that this build hides, as if no processor had them: for tests, see ATTEND_HIDE in CMakeLists.txt. */
extern const uint64_t attend_cpu_hidden;
/** For tests: detects another processor, which answers as `x86` does. Call it before the first attend_cpu_get(). */
void attend_cpu_set_test_x86(const attend_x86 *x86);
#endif

#endif
