/* SPDX-License-Identifier: Apache-2.0 */
/**
 * x86-64 features. CPUID says what the processor has, XCR0 which registers the operating system saves; AMX needs the
 * system's permission on top, and a tile palette, since there are virtual machines that show AMX and then fault.
 */
#include "dispatch/machine/cpu.h"

#ifdef __x86_64__

#include <stdio.h>
#include <string.h>

#include "dispatch/machine/os.h"

/** Which word of which leaf shows a feature. */
static const struct {
  attend_cpu_feature feature;
  enum { LEAF_1_ECX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX, LEAF_7_1_EAX } word;
  int bit;
} feature_bits[] = {
    {ATTEND_CPU_FMA, LEAF_1_ECX, 12},          {ATTEND_CPU_F16C, LEAF_1_ECX, 29},
    {ATTEND_CPU_AVX2, LEAF_7_EBX, 5},          {ATTEND_CPU_AVX512F, LEAF_7_EBX, 16},
    {ATTEND_CPU_AVX512DQ, LEAF_7_EBX, 17},     {ATTEND_CPU_AVX512BW, LEAF_7_EBX, 30},
    {ATTEND_CPU_AVX512VL, LEAF_7_EBX, 31},     {ATTEND_CPU_AVX512_FP16, LEAF_7_EDX, 23},
    {ATTEND_CPU_AVX512_BF16, LEAF_7_1_EAX, 5}, {ATTEND_CPU_AMX_BF16, LEAF_7_EDX, 22},
    {ATTEND_CPU_AMX_TILE, LEAF_7_EDX, 24},     {ATTEND_CPU_AMX_INT8, LEAF_7_EDX, 25},
    {ATTEND_CPU_AVX512_VNNI, LEAF_7_ECX, 11},  {ATTEND_CPU_AVX_VNNI, LEAF_7_1_EAX, 4},
};

#define AVX_FEATURES (ATTEND_CPU_BIT(AVX2) | ATTEND_CPU_BIT(FMA) | ATTEND_CPU_BIT(F16C) | ATTEND_CPU_BIT(AVX_VNNI))
#define AVX512_FEATURES                                                                                                \
  (ATTEND_CPU_BIT(AVX512F) | ATTEND_CPU_BIT(AVX512BW) | ATTEND_CPU_BIT(AVX512DQ) | ATTEND_CPU_BIT(AVX512VL) |          \
   ATTEND_CPU_BIT(AVX512_VNNI) | ATTEND_CPU_BIT(AVX512_BF16) | ATTEND_CPU_BIT(AVX512_FP16))
#define AMX_FEATURES (ATTEND_CPU_BIT(AMX_TILE) | ATTEND_CPU_BIT(AMX_BF16) | ATTEND_CPU_BIT(AMX_INT8))

/** What ATTEND_HIDE may be: the features that a processor without an instruction set lacks. */
#define HIDE_AVX512BF16 ATTEND_CPU_BIT(AVX512_BF16)
#define HIDE_AVX512 (AVX512_FEATURES | AMX_FEATURES)
#define HIDE_AVX2 (AVX_FEATURES | HIDE_AVX512)
#ifndef ATTEND_HIDE
#define ATTEND_HIDE 0
#endif
const uint64_t attend_cpu_hidden = ATTEND_HIDE;

/** A leaf without the features that are hidden. */
static attend_cpuid hide(uint32_t leaf, uint32_t subleaf, attend_cpuid r) {
  uint32_t *const words[] = {
      [LEAF_1_ECX] = leaf == 1 ? &r.ecx : NULL,
      [LEAF_7_EBX] = leaf == 7 && subleaf == 0 ? &r.ebx : NULL,
      [LEAF_7_ECX] = leaf == 7 && subleaf == 0 ? &r.ecx : NULL,
      [LEAF_7_EDX] = leaf == 7 && subleaf == 0 ? &r.edx : NULL,
      [LEAF_7_1_EAX] = leaf == 7 && subleaf == 1 ? &r.eax : NULL,
  };
  for (size_t i = 0; i < sizeof feature_bits / sizeof *feature_bits; i++)
    if (attend_cpu_hidden >> feature_bits[i].feature & 1 && words[feature_bits[i].word])
      *words[feature_bits[i].word] &= ~(UINT32_C(1) << feature_bits[i].bit);
  return r;
}

static attend_cpuid execute_cpuid(uint32_t leaf, uint32_t subleaf) {
  attend_cpuid r;
  __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return hide(leaf, subleaf, r);
}

static uint64_t execute_xgetbv(uint32_t index) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
  return (uint64_t)high << 32 | low;
}

const attend_x86 attend_x86_real = {execute_cpuid, execute_xgetbv, attend_os_request_amx};

static const attend_x86 *x86 = &attend_x86_real;

void attend_cpu_set_test_x86(const attend_x86 *other) { x86 = other; }

/** CPUID of a leaf, all zero if the processor does not have it: beyond the last one CPUID may answer anything. */
static attend_cpuid cpuid(uint32_t leaf, uint32_t subleaf) {
  return x86->cpuid(leaf & 0x80000000, 0).eax >= leaf ? x86->cpuid(leaf, subleaf) : (attend_cpuid){0};
}

enum {
  XCR0_AVX = 0x6,         /* xmm, upper halves of ymm */
  XCR0_AVX512 = 0xe6,     /* and mask registers, upper halves of zmm, zmm16 to zmm31 */
  XCR0_TILES = 0x60000,   /* tile configuration and tiles */
  LEAF1_OSXSAVE = 1 << 27 /* ecx: XGETBV may be executed */
};

/** Palette 1 as kernels configure it: 8 tiles of 16 rows of 64 bytes. */
static bool has_tile_palette(void) {
  if (cpuid(0x1d, 0).eax == 0) return false;
  attend_cpuid palette = cpuid(0x1d, 1);
  return palette.ebx >> 16 >= 8 && (palette.ebx & 0xffff) >= 64 && (palette.ecx & 0xffff) >= 16;
}

static const char *amx_unusable_reason(uint64_t xcr0) {
  if ((xcr0 & XCR0_TILES) != XCR0_TILES) return "the operating system does not save tile registers";
  if (!has_tile_palette()) return "the processor shows AMX but no tile palette";
  return x86->request_amx();
}

static void take_away(attend_cpu *cpu, const char **reasons, uint64_t features, const char *reason) {
  if (!reason) return;
  cpu->usable &= ~features;
  for (int f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++)
    if (features & cpu->present & UINT64_C(1) << f) reasons[f] = reason;
}

static void read_identity(attend_cpu *cpu) {
  attend_cpuid r = cpuid(0, 0);
  char vendor[13] = {0};
  memcpy(vendor, &r.ebx, 4), memcpy(vendor + 4, &r.edx, 4), memcpy(vendor + 8, &r.ecx, 4);
  uint32_t version = cpuid(1, 0).eax;
  uint32_t family = version >> 8 & 15, model = version >> 4 & 15;
  if (family == 6 || family == 15) model |= version >> 12 & 0xf0;
  if (family == 15) family += version >> 20 & 255;
  snprintf(cpu->signature, sizeof cpu->signature, "%s-%u-%u-%u", vendor, (unsigned)family, (unsigned)model,
           (unsigned)(version & 15));

  char brand[49] = {0};
  for (uint32_t i = 0; i < 3; i++) {
    r = cpuid(0x80000002 + i, 0);
    memcpy(brand + 16 * i, &r, 16);
  }
  char *begin = brand + strspn(brand, " "), *end = begin + strlen(begin);
  while (end > begin && end[-1] == ' ') *--end = 0;
  snprintf(cpu->name, sizeof cpu->name, "%s", *begin ? begin : vendor);
}

void attend_cpu_detect(attend_cpu *cpu, const char *reasons[ATTEND_CPU_FEATURE_COUNT]) {
  attend_cpuid leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0);
  attend_cpuid leaf7_1 = leaf7.eax >= 1 ? cpuid(7, 1) : (attend_cpuid){0};
  const uint32_t words[] = {[LEAF_1_ECX] = leaf1.ecx,
                            [LEAF_7_EBX] = leaf7.ebx,
                            [LEAF_7_ECX] = leaf7.ecx,
                            [LEAF_7_EDX] = leaf7.edx,
                            [LEAF_7_1_EAX] = leaf7_1.eax};
  for (size_t i = 0; i < sizeof feature_bits / sizeof *feature_bits; i++)
    if (words[feature_bits[i].word] >> feature_bits[i].bit & 1) cpu->present |= UINT64_C(1) << feature_bits[i].feature;
  cpu->usable = cpu->present;

  uint64_t xcr0 = leaf1.ecx & LEAF1_OSXSAVE ? x86->xgetbv(0) : 0;
  if ((xcr0 & XCR0_AVX) != XCR0_AVX)
    take_away(cpu, reasons, AVX_FEATURES, "the operating system does not save AVX registers");
  if ((xcr0 & XCR0_AVX512) != XCR0_AVX512)
    take_away(cpu, reasons, AVX512_FEATURES, "the operating system does not save AVX-512 registers");
  if (cpu->present & AMX_FEATURES) take_away(cpu, reasons, AMX_FEATURES, amx_unusable_reason(xcr0));
  for (int f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++)
    if (attend_cpu_hidden & ~cpu->present & UINT64_C(1) << f) reasons[f] = "this build hides it (ATTEND_HIDE)";
  read_identity(cpu);
}

#endif
