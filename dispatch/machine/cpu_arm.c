/* SPDX-License-Identifier: Apache-2.0 */
/** AArch64 features: the operating system says which ones it lets a process use, and which processor it is. */
#include "dispatch/machine/cpu.h"

#ifdef __aarch64__

#include <inttypes.h>
#include <stdio.h>

#include "dispatch/machine/os.h"

/** Bits of the two words of the auxiliary vector. A feature needs all of its bits. */
static const struct {
  attend_cpu_feature feature;
  uint64_t hwcap, hwcap2;
} feature_bits[] = {
    {ATTEND_CPU_NEON, 1 << 1, 0},               /* ASIMD */
    {ATTEND_CPU_ARM_FP16, 1 << 9 | 1 << 10, 0}, /* FPHP and ASIMDHP */
    {ATTEND_CPU_ARM_DOTPROD, 1 << 20, 0},       /* ASIMDDP */
    {ATTEND_CPU_ARM_FHM, 1 << 23, 0},           /* ASIMDFHM */
    {ATTEND_CPU_SVE, 1 << 22, 0},
    {ATTEND_CPU_SVE2, 1 << 22, 1 << 1},
    {ATTEND_CPU_ARM_I8MM, 0, 1 << 13},
    {ATTEND_CPU_ARM_BF16, 0, 1 << 14},
};

void attend_cpu_detect(attend_cpu *cpu, const char *reasons[ATTEND_CPU_FEATURE_COUNT]) {
  (void)reasons; /* the system does not show what it does not let us use */
  uint64_t hwcap = attend_os_arm_hwcap(), hwcap2 = attend_os_arm_hwcap2();
  for (size_t i = 0; i < sizeof feature_bits / sizeof *feature_bits; i++)
    if ((hwcap & feature_bits[i].hwcap) == feature_bits[i].hwcap &&
        (hwcap2 & feature_bits[i].hwcap2) == feature_bits[i].hwcap2)
      cpu->present |= UINT64_C(1) << feature_bits[i].feature;
  cpu->usable = cpu->present;

  uint64_t midr = attend_os_arm_midr();
  snprintf(cpu->signature, sizeof cpu->signature, "midr-%08" PRIx64, midr);
  if (midr)
    snprintf(cpu->name, sizeof cpu->name, "Arm implementer 0x%02x part 0x%03x r%up%u", (unsigned)(midr >> 24 & 255),
             (unsigned)(midr >> 4 & 0xfff), (unsigned)(midr >> 20 & 15), (unsigned)(midr & 15));
  else
    snprintf(cpu->name, sizeof cpu->name, "Arm processor");
}

#endif
