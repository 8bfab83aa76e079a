/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx2/vec.h"

/* 12 sums and 2 operands of 16 registers; two multiply-adds a cycle with a latency of 4 or 5 need 10 sums. */
#define PEAK_ACCUMULATORS 12
#define PIN(x) __asm__ volatile("" : "+x"(x))
#include "bench/peak_body.h"

const attend_peak attend_peak_avx2 = {
    .isa = ATTEND_ISA_AVX2, .f32 = peak_f32, .exp = peak_exp, .read = peak_read, .softmax = softmax};
