/* SPDX-License-Identifier: Apache-2.0 */
/** The limits of a processor with AMX: vectors as with AVX-512, and bf16 products on tiles. */
#include "kernels/avx512/vec.h"

#include "kernels/amx/state.h"

#define PEAK_ACCUMULATORS 24
#define PIN(x) __asm__ volatile("" : "+v"(x))
#include "bench/peak_body.h"

/* Four sums, as in the kernels: 64 cycles, more than a product takes. A and B are 0, which no product is faster for. */
static double peak_bf16(size_t rounds) {
  enum { PRODUCTS = 4, FLOPS = 2 * TILE_ROWS * TILE_ROWS * TILE_DEPTH };
  attend_thread_state before;
  amx_enter(&before);
  for (size_t n = 0; n < rounds; n++) {
    amx_multiply(0, 4, 6);
    amx_multiply(1, 4, 7);
    amx_multiply(2, 5, 6);
    amx_multiply(3, 5, 7);
  }
  amx_leave(&before);
  return (double)rounds * PRODUCTS * FLOPS;
}

const attend_peak attend_peak_amx = {
    .isa = ATTEND_ISA_AMX, .f32 = peak_f32, .bf16 = peak_bf16, .exp = peak_exp, .read = peak_read, .softmax = softmax};
