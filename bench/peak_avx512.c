/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx512/vec.h"

#define PEAK_ACCUMULATORS 24
#define PIN(x) __asm__ volatile("" : "+v"(x))
#include "bench/peak_body.h"

#define BF16 __attribute__((target("avx512bf16")))

/* Sums only grow, and slowly: 64 products of 2^-40 a lane and round stay far from overflow. */
BF16 static double peak_bf16(size_t rounds) {
  __m512 acc[PEAK_ACCUMULATORS];
  __m512i a = _mm512_set1_epi16(0x2b80), b = _mm512_set1_epi16(0x3f80); /* 2^-40 and 1 in bf16 */
  PIN(a);
  PIN(b);
  ATTEND_UNROLL
  for (int i = 0; i < PEAK_ACCUMULATORS; i++) {
    acc[i] = _mm512_set1_ps((float)i);
    PIN(acc[i]);
  }
  for (size_t n = 0; n < rounds; n++) {
    ATTEND_UNROLL
    for (int repeat = 0; repeat < FMA_REPEATS; repeat++) {
      ATTEND_UNROLL
      for (int i = 0; i < PEAK_ACCUMULATORS; i++) acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)a, (__m512bh)b);
    }
  }
  ATTEND_UNROLL
  for (int i = 0; i < PEAK_ACCUMULATORS; i++) PIN(acc[i]);
  return (double)rounds * FMA_REPEATS * PEAK_ACCUMULATORS * 2 * 32;
}

const attend_peak attend_peak_avx512 = {.isa = ATTEND_ISA_AVX512,
                                        .f32 = peak_f32,
                                        .bf16 = peak_bf16,
                                        .bf16_cpu = ATTEND_CPU_BIT(AVX512_BF16),
                                        .exp = peak_exp,
                                        .read = peak_read,
                                        .softmax = softmax};
