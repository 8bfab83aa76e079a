/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The loops of bench/peaks.h on the vector operations of an ISA. A peak_<isa>.c includes that ISA's vec.h, defines
 *
 *   PEAK_ACCUMULATORS   sums that are kept in registers, enough to hide the latency of a multiply-add
 *   PIN(x)              makes the compiler hold x in a vector register and forget what it knows of its value
 *
 * and then this. tests/test_hot_loops.py checks that no sum lands on the stack.
 */
#ifndef ATTEND_BENCH_PEAK_BODY_H
#define ATTEND_BENCH_PEAK_BODY_H

#include <stddef.h>

#include "bench/peaks.h"

enum { FMA_REPEATS = 4, EXP_REPEATS = 8, READ_STREAMS = 2, READ_SUMS = 4 };

/* acc * a + b settles at b / (1 - a): never a denormal, never an overflow. */
static double peak_f32(size_t rounds) {
  vf acc[PEAK_ACCUMULATORS], a = vf_set1(0.5f), b = vf_set1(1.0f);
  PIN(a);
  PIN(b);
  ATTEND_UNROLL
  for (int i = 0; i < PEAK_ACCUMULATORS; i++) {
    acc[i] = vf_set1((float)i);
    PIN(acc[i]);
  }
  for (size_t n = 0; n < rounds; n++) {
    ATTEND_UNROLL
    for (int repeat = 0; repeat < FMA_REPEATS; repeat++) {
      ATTEND_UNROLL
      for (int i = 0; i < PEAK_ACCUMULATORS; i++) acc[i] = vf_fma(acc[i], a, b);
    }
  }
  ATTEND_UNROLL
  for (int i = 0; i < PEAK_ACCUMULATORS; i++) PIN(acc[i]);
  return (double)rounds * FMA_REPEATS * PEAK_ACCUMULATORS * 2 * LANES;
}

#ifdef ATTEND_PAIR_DOT
/* Sums only grow, and slowly: products of 2^-40 stay far from overflow. */
static double peak_bf16(size_t rounds) {
  vf acc[PEAK_ACCUMULATORS];
  vp a = vp_set1(0x2b802b80), b = vp_set1(0x3f803f80); /* pairs of 2^-40 and of 1 */
  PIN(a);
  PIN(b);
  ATTEND_UNROLL
  for (int i = 0; i < PEAK_ACCUMULATORS; i++) {
    acc[i] = vf_set1((float)i);
    PIN(acc[i]);
  }
  for (size_t n = 0; n < rounds; n++) {
    ATTEND_UNROLL
    for (int repeat = 0; repeat < FMA_REPEATS; repeat++) {
      ATTEND_UNROLL
      for (int i = 0; i < PEAK_ACCUMULATORS; i++) acc[i] = vp_dot(a, b, acc[i]);
    }
  }
  ATTEND_UNROLL
  for (int i = 0; i < PEAK_ACCUMULATORS; i++) PIN(acc[i]);
  return (double)rounds * FMA_REPEATS * PEAK_ACCUMULATORS * 4 * LANES;
}
#endif

/* Forgetting x makes each exponential one of its own, and leaves the registers to the constants. */
static double peak_exp(size_t rounds) {
  vf x = vf_set1(-0.7f);
  for (size_t n = 0; n < rounds; n++) {
    ATTEND_UNROLL
    for (int i = 0; i < EXP_REPEATS; i++) {
      PIN(x);
      vf y = vf_exp2(x);
      PIN(y);
    }
  }
  return (double)rounds * EXP_REPEATS * LANES;
}

/* Two streams keep more lines under way than one prefetcher fetches ahead; more of them made no level faster. */
static double peak_read(const void *data, size_t bytes) {
  const size_t run = 256 / sizeof(float), stride = bytes / sizeof(float) / READ_STREAMS / run * run;
  const float *p = data;
  vf sum[READ_STREAMS][READ_SUMS];
  ATTEND_UNROLL
  for (int s = 0; s < READ_STREAMS; s++) {
    ATTEND_UNROLL
    for (int i = 0; i < READ_SUMS; i++) sum[s][i] = vf_zero();
  }
  for (size_t at = 0; at < stride; at += run) {
    ATTEND_UNROLL
    for (int s = 0; s < READ_STREAMS; s++) {
      ATTEND_UNROLL
      for (int i = 0; i < (int)run / LANES; i++) {
        vf *to = &sum[s][i % READ_SUMS];
        *to = vf_add(*to, vf_load(p + (size_t)s * stride + at + i * LANES));
      }
    }
  }
  ATTEND_UNROLL
  for (int s = 0; s < READ_STREAMS; s++) {
    ATTEND_UNROLL
    for (int i = 0; i < READ_SUMS; i++) PIN(sum[s][i]);
  }
  return (double)(stride * sizeof(float) * READ_STREAMS);
}

/** The softmax of the scores, in place: maximum, exponentials and their sum, division. */
static void softmax(float *scores, int64_t n) {
  const float log2e = 0x1.715476p+0f;
  vf top = vf_set1(scores[0]);
  int64_t whole = n / LANES * LANES;
  int tail = (int)(n - whole);
  for (int64_t j = 0; j < whole; j += LANES) top = vf_max(top, vf_load(scores + j));
  if (tail) top = vf_max(top, vf_select(vm_range(0, tail), vf_load_n(scores + whole, tail), top));
  vf highest = vf_set1(vf_hmax(top) * log2e), scale = vf_set1(log2e), sum = vf_zero();
  for (int64_t j = 0; j < whole; j += LANES) {
    vf e = vf_exp2(vf_sub(vf_mul(vf_load(scores + j), scale), highest));
    sum = vf_add(sum, e);
    vf_store(scores + j, e);
  }
  if (tail) {
    vf e = vf_exp2(vf_sub(vf_mul(vf_load_n(scores + whole, tail), scale), highest));
    sum = vf_add(sum, vf_select(vm_range(0, tail), e, vf_zero()));
    vf_store_n(scores + whole, e, tail);
  }
  vf inverse = vf_set1(1.0f / vf_hsum(sum));
  for (int64_t j = 0; j < whole; j += LANES) vf_store(scores + j, vf_mul(vf_load(scores + j), inverse));
  if (tail) vf_store_n(scores + whole, vf_mul(vf_load_n(scores + whole, tail), inverse), tail);
}

#endif
