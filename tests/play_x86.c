/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/play_x86.h"

#ifdef __x86_64__

#include <stddef.h>

#include "dispatch/machine/cpu.h"

static attend_play_x86 *played;

static attend_cpuid play_cpuid(uint32_t leaf, uint32_t subleaf) {
  const attend_cpuid none = {0}, palettes = {.eax = 1};
  const attend_cpuid palette_1 = {.eax = 1024 << 16 | 8192, .ebx = 8 << 16 | 64, .ecx = 16};
  if (leaf == 0x1d) return !played->palette ? none : subleaf == 0 ? palettes : subleaf == 1 ? palette_1 : none;
  attend_cpuid real = attend_x86_real.cpuid(leaf, subleaf);
  if (leaf == 0 && real.eax < 0x1d) real.eax = 0x1d;
  if (leaf == 7 && subleaf == 0) real.edx |= 1u << 22 | 1u << 24 | 1u << 25; /* amx_bf16, amx_tile, amx_int8 */
  return real;
}

static uint64_t play_xgetbv(uint32_t index) {
  const uint64_t tiles = 0x60000, real = attend_x86_real.xgetbv(index);
  return played->saves_tiles ? real | tiles : real & ~tiles;
}

static const char *play_request(void) {
  played->asked++;
  return played->really_ask ? attend_x86_real.request_amx() : NULL;
}

void attend_play_amx(attend_play_x86 *play) {
  static const attend_x86 x86 = {play_cpuid, play_xgetbv, play_request};
  played = play;
  attend_cpu_set_test_x86(&x86);
}

#endif
