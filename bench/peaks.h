/* SPDX-License-Identifier: Apache-2.0 */
/** What the machine can do at most: loops that do nothing but the thing they measure, per instruction set. */
#ifndef ATTEND_BENCH_PEAKS_H
#define ATTEND_BENCH_PEAKS_H

#include "dispatch/dispatch.h"

/** Limits, with the unit of their rates. */
typedef enum attend_limit {
  ATTEND_LIMIT_F32,  /**< f32 multiply-adds out of registers: FLOP/s */
  ATTEND_LIMIT_BF16, /**< bf16 dot products out of registers, added up in f32: FLOP/s */
  ATTEND_LIMIT_EXP,  /**< the kernels' exponential out of registers: results/s */
  ATTEND_LIMIT_READ, /**< reading a buffer again and again: bytes/s */
  ATTEND_LIMIT_COUNT
} attend_limit;

/** The loops of one instruction set, attend_peak_<isa>, each defined by a bench/peak_<isa>.c. Each returns the work it
 * has done. */
typedef struct attend_peak {
  attend_isa isa;
  double (*f32)(size_t rounds);
  double (*bf16)(size_t rounds); /**< NULL: there is no such instruction */
  double (*exp)(size_t rounds);
  double (*read)(const void *data, size_t bytes); /**< once over the data, which is aligned to 64 bytes */

  /** Replaces n scores by their softmax: not a limit, but what a hand-written attention compiles for its ISA. */
  void (*softmax)(float *scores, int64_t n);
} attend_peak;

/** The loops for an ISA, or NULL if none are built or this processor cannot run them. */
const attend_peak *attend_peak_for(attend_isa isa);

/** The widest ISA up to `highest` that has loops here. */
const attend_peak *attend_peak_widest(attend_isa highest);

bool attend_peak_has(const attend_peak *peak, attend_limit limit);

/**
 * Runs `threads` OpenMP threads at once and stores the rate that they reached together, `samples` times over, each for
 * about half a millisecond. For ATTEND_LIMIT_READ each thread reads its share of the buffer, always to the end and once
 * before the first sample; the others ignore data and bytes.
 */
void attend_peak_probe(const attend_peak *peak, attend_limit limit, int threads, const void *data, size_t bytes,
                       int samples, double *rates);

/** "gcc 12.2.0" or "clang 19.1.7": what the C parts were compiled with. */
const char *attend_bench_compiler(void);

#endif
