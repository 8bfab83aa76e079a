/* SPDX-License-Identifier: Apache-2.0 */
/** Portable C: one lane. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_SCALAR_VEC_H
#define ATTEND_KERNELS_SCALAR_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/convert.h"
#include "kernels/vec_contract.h"

#define ATTEND_ISA_ID ATTEND_ISA_SCALAR
#define ATTEND_ISA_CPU 0
#define ATTEND_ROWS "kernels/scalar/rows.def"
#define LANES 1

typedef float vf;
typedef bool vm;
typedef uint32_t vu;

ATTEND_INLINE vf vf_zero(void) { return 0.0f; }
ATTEND_INLINE vf vf_set1(float x) { return x; }
ATTEND_INLINE vf vf_load(const float *p) { return *p; }
ATTEND_INLINE vf vf_load_n(const float *p, int n) { return n ? *p : 0.0f; }
ATTEND_INLINE void vf_store(float *p, vf v) { *p = v; }
ATTEND_INLINE void vf_store_n(float *p, vf v, int n) {
  if (n) *p = v;
}
ATTEND_INLINE vf vf_load_f16(const uint16_t *p) { return f16_to_f32(*p); }
ATTEND_INLINE vf vf_load_f16_n(const uint16_t *p, int n) { return n ? f16_to_f32(*p) : 0.0f; }
ATTEND_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
  if (n) *p = f32_to_f16(v);
}
ATTEND_INLINE vf vf_load_bf16(const uint16_t *p) { return bf16_to_f32(*p); }
ATTEND_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) { return n ? bf16_to_f32(*p) : 0.0f; }
ATTEND_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
  if (n) *p = f32_to_bf16(v);
}

ATTEND_INLINE vf vf_add(vf a, vf b) { return a + b; }
ATTEND_INLINE vf vf_sub(vf a, vf b) { return a - b; }
ATTEND_INLINE vf vf_mul(vf a, vf b) { return a * b; }
ATTEND_INLINE vf vf_div(vf a, vf b) { return a / b; }
ATTEND_INLINE vf vf_abs(vf a) { return fabsf(a); }
ATTEND_INLINE vf vf_max(vf a, vf b) { return a > b ? a : b; }
/** Two roundings where the processor has no fused operation: a libm fmaf() would be a call per product. */
ATTEND_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
ATTEND_INLINE vf vf_exp2(vf x) { return exp2f(x); }
ATTEND_INLINE vf vf_iota(void) { return 0.0f; }
ATTEND_INLINE float vf_hsum(vf v) { return v; }
ATTEND_INLINE float vf_hmax(vf v) { return v; }
ATTEND_INLINE vf vf_sum_each(vf r[LANES]) { return r[0]; }
ATTEND_INLINE void vf_store_groups(float *p, int64_t stride, vf v, const int n) {
  (void)stride, (void)n;
  *p = v;
}
ATTEND_INLINE void vf_transpose(vf r[LANES]) { (void)r; }

ATTEND_INLINE vf vf_select(vm m, vf a, vf b) { return m ? a : b; }
ATTEND_INLINE vm vm_range(int64_t lo, int64_t hi) { return lo <= 0 && hi > 0; }
ATTEND_INLINE vm vm_bytes_n(const uint8_t *p, int n) { return n && *p; }
ATTEND_INLINE vm vm_and(vm a, vm b) { return a && b; }
ATTEND_INLINE vm vm_gt(vf a, vf b) { return a > b; }
ATTEND_INLINE vu vu_set1(uint32_t x) { return x; }
ATTEND_INLINE vu vu_iota(void) { return 0; }
ATTEND_INLINE vu vu_add(vu a, vu b) { return a + b; }
ATTEND_INLINE vu vu_xor(vu a, vu b) { return a ^ b; }
ATTEND_INLINE void vu_mul_wide(vu a, vu b, vu *high, vu *low) {
  const uint64_t product = (uint64_t)a * b;
  *high = (uint32_t)(product >> 32);
  *low = (uint32_t)product;
}
ATTEND_INLINE vm vu_ge(vu a, vu b) { return a >= b; }
ATTEND_INLINE bool vm_any(vm m) { return m; }
ATTEND_INLINE vf vf_pin(vf a) { return a; }
ATTEND_INLINE void vf_prefetch(const void *p) { __builtin_prefetch(p); }
ATTEND_INLINE void vf_prefetch_l2(const void *p) { __builtin_prefetch(p, 0, 2); }

#endif
