/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Portable C. Its limit is not one lane: compilers turn portable loops into the 128-bit vectors that every processor of
 * the architecture has, so the loops are written on those.
 */
#include <stdint.h>
#include <string.h>

#include "kernels/vec_contract.h"

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vm __attribute__((vector_size(16)));
enum { LANES = 4 };

ATTEND_INLINE vf vf_set1(float x) { return (vf){x, x, x, x}; }
ATTEND_INLINE vf vf_zero(void) { return vf_set1(0.0f); }
ATTEND_INLINE vf vf_load_n(const float *p, int n) {
  vf v = vf_zero();
  memcpy(&v, p, (size_t)n * sizeof *p);
  return v;
}
ATTEND_INLINE void vf_store_n(float *p, vf v, int n) { memcpy(p, &v, (size_t)n * sizeof *p); }
ATTEND_INLINE vf vf_load(const float *p) { return vf_load_n(p, LANES); }
ATTEND_INLINE void vf_store(float *p, vf v) { vf_store_n(p, v, LANES); }
ATTEND_INLINE vf vf_add(vf a, vf b) { return a + b; }
ATTEND_INLINE vf vf_sub(vf a, vf b) { return a - b; }
ATTEND_INLINE vf vf_mul(vf a, vf b) { return a * b; }
ATTEND_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
ATTEND_INLINE vf vf_select(vm m, vf a, vf b) { return (vf)(((vm)a & m) | ((vm)b & ~m)); }
ATTEND_INLINE vf vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
ATTEND_INLINE vm vm_range(int lo, int hi) {
  vm lane = {0, 1, 2, 3};
  return (lane >= lo) & (lane < hi);
}
ATTEND_INLINE float vf_hsum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
ATTEND_INLINE float vf_hmax(vf v) {
  v = vf_max(v, (vf){v[2], v[3], v[0], v[1]});
  return v[0] > v[1] ? v[0] : v[1];
}
/** 2^x for x up to 127; 0 from -127 down. The magic number leaves the rounded exponent in the lowest bits of z. */
ATTEND_INLINE vf vf_exp2(vf x) {
  const vf magic = vf_set1(12582912.0f + 127.0f);
  x = vf_max(vf_set1(-127.0f), x);
  vf z = x + magic, r = x - (z - magic);
  vf p = vf_fma(vf_set1(ATTEND_EXP2_C5), r, vf_set1(ATTEND_EXP2_C4));
  p = vf_fma(p, r, vf_set1(ATTEND_EXP2_C3));
  p = vf_fma(p, r, vf_set1(ATTEND_EXP2_C2));
  p = vf_fma(p, r, vf_set1(ATTEND_EXP2_C1));
  p = vf_fma(p, r, vf_set1(1.0f));
  return p * (vf)((vm)z << 23);
}

#define PEAK_ACCUMULATORS 12
#if defined(__x86_64__)
#define PIN(x) __asm__ volatile("" : "+x"(x))
#elif defined(__aarch64__)
#define PIN(x) __asm__ volatile("" : "+w"(x))
#else
#define PIN(x) __asm__ volatile("" : "+m"(x))
#endif
#include "bench/peak_body.h"

const attend_peak attend_peak_scalar = {
    .isa = ATTEND_ISA_SCALAR, .f32 = peak_f32, .exp = peak_exp, .read = peak_read, .softmax = softmax};
