/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx512bf16/vec.h"

#define PEAK_ACCUMULATORS 24
#define PIN(x) __asm__ volatile("" : "+v"(x))
#include "bench/peak_body.h"

const attend_peak attend_peak_avx512bf16 = {.isa = ATTEND_ISA_AVX512BF16,
                                            .f32 = peak_f32,
                                            .bf16 = peak_bf16,
                                            .exp = peak_exp,
                                            .read = peak_read,
                                            .softmax = softmax};
