/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx512/vec.h"

#define PEAK_ACCUMULATORS 24
#define PIN(x) __asm__ volatile("" : "+v"(x))
#include "bench/peak_body.h"

const attend_peak attend_peak_avx512 = {
    .isa = ATTEND_ISA_AVX512, .f32 = peak_f32, .exp = peak_exp, .read = peak_read, .softmax = softmax};
