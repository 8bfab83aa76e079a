/* SPDX-License-Identifier: Apache-2.0 */
/** The processor, and the tables of features, instruction sets, bodies and element types. */
#include "dispatch/cpu.h"
#include "dispatch/once.h"

static const char *const feature_names[ATTEND_CPU_FEATURE_COUNT] = {
    [ATTEND_CPU_AVX2] = "avx2",
    [ATTEND_CPU_FMA] = "fma",
    [ATTEND_CPU_F16C] = "f16c",
    [ATTEND_CPU_AVX512F] = "avx512f",
    [ATTEND_CPU_AVX512BW] = "avx512bw",
    [ATTEND_CPU_AVX512DQ] = "avx512dq",
    [ATTEND_CPU_AVX512VL] = "avx512vl",
    [ATTEND_CPU_AVX512_BF16] = "avx512_bf16",
    [ATTEND_CPU_AVX512_FP16] = "avx512_fp16",
    [ATTEND_CPU_AMX_TILE] = "amx_tile",
    [ATTEND_CPU_AMX_BF16] = "amx_bf16",
    [ATTEND_CPU_AMX_INT8] = "amx_int8",
    [ATTEND_CPU_NEON] = "neon",
    [ATTEND_CPU_ARM_FP16] = "fp16",
    [ATTEND_CPU_ARM_FHM] = "fhm",
    [ATTEND_CPU_ARM_BF16] = "bf16",
    [ATTEND_CPU_ARM_I8MM] = "i8mm",
    [ATTEND_CPU_ARM_DOTPROD] = "dotprod",
    [ATTEND_CPU_SVE] = "sve",
    [ATTEND_CPU_SVE2] = "sve2",
};

#define NEEDS_AVX2 (ATTEND_CPU_BIT(AVX2) | ATTEND_CPU_BIT(FMA) | ATTEND_CPU_BIT(F16C))
#define NEEDS_AVX512                                                                                                   \
  (NEEDS_AVX2 | ATTEND_CPU_BIT(AVX512F) | ATTEND_CPU_BIT(AVX512BW) | ATTEND_CPU_BIT(AVX512DQ) |                        \
   ATTEND_CPU_BIT(AVX512VL))

/* Ranks order the instruction sets of one processor family; a kernel built for another family is never in the table. */
static const struct {
  const char *name;
  uint64_t features;
  int rank;
} isas[ATTEND_ISA_COUNT] = {
    [ATTEND_ISA_SCALAR] = {"scalar", 0, 0},
    [ATTEND_ISA_AVX2] = {"avx2", NEEDS_AVX2, 1},
    [ATTEND_ISA_AVX512] = {"avx512", NEEDS_AVX512, 2},
    [ATTEND_ISA_AMX] = {"amx", NEEDS_AVX512 | ATTEND_CPU_BIT(AMX_TILE), 3},
    [ATTEND_ISA_NEON] = {"neon", ATTEND_CPU_BIT(NEON), 1},
    [ATTEND_ISA_SVE] = {"sve", ATTEND_CPU_BIT(NEON) | ATTEND_CPU_BIT(SVE), 2},
};

static const char *const body_names[ATTEND_BODY_COUNT] = {
    [ATTEND_BODY_BLOCKED] = "blocked",
    [ATTEND_BODY_TILED] = "tiled",
    [ATTEND_BODY_STREAMING] = "streaming",
    [ATTEND_BODY_DECODE] = "decode",
};

static const struct {
  const char *name;
  size_t size;
} dtypes[] = {
    [ATTEND_DTYPE_DEFAULT] = {"default", 0},
    [ATTEND_F32] = {"f32", 4},
    [ATTEND_F16] = {"f16", 2},
    [ATTEND_BF16] = {"bf16", 2},
};

static attend_once_flag once;
static attend_cpu cpu;
static uint64_t detected_usable;
static const char *reasons[ATTEND_CPU_FEATURE_COUNT];

#if !defined(__x86_64__) && !defined(__aarch64__)
void attend_cpu_detect(attend_cpu *found, const char *why[ATTEND_CPU_FEATURE_COUNT]) {
  (void)found, (void)why; /* an unknown family: portable kernels only */
}
#endif

static void detect(void) {
  attend_cpu_detect(&cpu, reasons);
  detected_usable = cpu.usable;
}

const attend_cpu *attend_cpu_get(void) {
  attend_once(&once, detect);
  return &cpu;
}

void attend_cpu_set_test_mask(uint64_t taken_away) {
  attend_once(&once, detect);
  cpu.usable = detected_usable & ~taken_away;
}

const char *attend_cpu_feature_name(attend_cpu_feature feature) { return feature_names[feature]; }

const char *attend_cpu_unusable_reason(attend_cpu_feature feature) {
  const uint64_t bit = UINT64_C(1) << feature;
  attend_once(&once, detect);
  if (cpu.usable & bit) return NULL;
  if (!(cpu.present & bit)) return "the processor does not have it";
  return reasons[feature] ? reasons[feature] : "taken away for a test";
}

const char *attend_isa_name(attend_isa isa) { return isas[isa].name; }

uint64_t attend_isa_features(attend_isa isa) { return isas[isa].features; }

int attend_isa_rank(attend_isa isa) { return isas[isa].rank; }

const char *attend_body_name(attend_body body) { return body_names[body]; }

const char *attend_dtype_name(attend_dtype dtype) { return dtypes[dtype].name; }

size_t attend_dtype_size(attend_dtype dtype) { return dtypes[dtype].size; }
