/* SPDX-License-Identifier: Apache-2.0 */
/** The processor, and what the tables of features, instruction sets, bodies and element types say. */
#include "dispatch/machine/cpu.h"

#include <string.h>

#include "dispatch/once.h"

static const char *const feature_names[ATTEND_CPU_FEATURE_COUNT] = {
#define ATTEND_FEATURE(id, name) [ATTEND_CPU_##id] = name,
#include "kernels/cpu.def"
};

static const struct {
  const char *name;
  int rank;
  double flops_per_us, decode_flops_per_us;
  int decode_rows;
  uint64_t needs;
} isas[ATTEND_ISA_COUNT] = {
#define ATTEND_ISA(id, name, rank, flops_per_us, decode_flops_per_us, decode_rows, needs)                              \
  [ATTEND_ISA_##id] = {name, rank, flops_per_us, decode_flops_per_us, decode_rows, needs},
#include "kernels/cpu.def"
};

static const char *const operation_names[ATTEND_OP_COUNT] = {
    [ATTEND_OP_FORWARD] = "forward",
    [ATTEND_OP_SOFTMAX] = "softmax",
    [ATTEND_OP_APPEND] = "append",
    [ATTEND_OP_MERGE] = "merge",
};

static const char *const body_names[ATTEND_BODY_COUNT] = {
    [ATTEND_BODY_BLOCKED] = "blocked", [ATTEND_BODY_TILED] = "tiled", [ATTEND_BODY_STREAMING] = "streaming",
    [ATTEND_BODY_DECODE] = "decode",   [ATTEND_BODY_ROWS] = "rows",
};

static const struct {
  const char *signature;
  bool fast_bf16_dot, to_l1;
  double pace, wide_pace;
} processors[] = {
#define ATTEND_PROCESSOR(...) {__VA_ARGS__},
#include "kernels/cpu.def"
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

/** What the table knows of the processor. */
static void look_up(void) {
  bool fast_bf16_dot = false;
  cpu.pace = cpu.wide_pace = 1;
  for (size_t i = 0; i < sizeof processors / sizeof *processors; i++) {
    if (strncmp(cpu.signature, processors[i].signature, strlen(processors[i].signature)) != 0) continue;
    cpu.pace = processors[i].pace, cpu.wide_pace = processors[i].wide_pace, cpu.to_l1 = processors[i].to_l1;
    fast_bf16_dot = processors[i].fast_bf16_dot;
  }
  if (!fast_bf16_dot) cpu.unproven |= UINT64_C(1) << ATTEND_ISA_AVX512BF16;
}

static void detect(void) {
  cpu = (attend_cpu){0};
  attend_cpu_detect(&cpu, reasons);
  look_up();
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
  if (reasons[feature]) return reasons[feature];
  return cpu.present & bit ? "taken away for a test" : "the processor does not have it";
}

const char *attend_isa_name(attend_isa isa) { return isas[isa].name; }

uint64_t attend_isa_features(attend_isa isa) { return isas[isa].needs; }

int attend_isa_rank(attend_isa isa) { return isas[isa].rank; }

double attend_isa_flops_per_us(attend_isa isa, attend_body body) {
  return body == ATTEND_BODY_DECODE ? isas[isa].decode_flops_per_us : isas[isa].flops_per_us;
}

double attend_isa_pace(attend_isa isa) {
  return isas[isa].needs & ATTEND_CPU_BIT(AVX512F) ? attend_cpu_get()->wide_pace : attend_cpu_get()->pace;
}

int attend_isa_decode_rows(attend_isa isa) { return isas[isa].decode_rows; }

const char *attend_operation_name(attend_operation operation) { return operation_names[operation]; }
const char *attend_can_name(int bit) {
  static const char *const names[ATTEND_CAN_COUNT] = {"weights", "split", "additive", "dropout", "scores", "int8"};
  return names[bit];
}
const char *attend_body_name(attend_body body) { return body_names[body]; }

const char *attend_dtype_name(attend_dtype dtype) { return attend_formats[dtype].name; }
