/* SPDX-License-Identifier: Apache-2.0 */
/** NEON (Advanced SIMD, which every AArch64 processor has): 4 lanes. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_NEON_VEC_H
#define ATTEND_KERNELS_NEON_VEC_H

#if !defined(__aarch64__) || !defined(__ARM_NEON) || defined(__AARCH64EB__)
#error "this folder is compiled for little-endian AArch64"
#endif

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/vec_contract.h"

#ifndef ATTEND_ISA_ID /* else a wider instruction set borrows what follows */
#define ATTEND_ISA_ID ATTEND_ISA_NEON
#define ATTEND_ISA_CPU ATTEND_CPU_BIT(NEON)
#define ATTEND_ROWS "kernels/neon/rows.def"
#endif
#define LANES 4

typedef float32x4_t vf;
typedef uint32x4_t vm;
typedef uint32x4_t vu;

ATTEND_INLINE vf vf_iota(void) { return (vf){0.0f, 1.0f, 2.0f, 3.0f}; }

ATTEND_INLINE vf vf_zero(void) { return vdupq_n_f32(0.0f); }
/**
 * Products multiply by an element of a register, so that a broadcast costs nothing where its operand is a scalar load.
 * Compilers must not see that load: they would make it a load with replication, which takes a multiplier's turn.
 */
ATTEND_INLINE vf vf_set1(float x) {
  __asm__("" : "+w"(x));
  return vdupq_n_f32(x);
}
ATTEND_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
ATTEND_INLINE void vf_store(float *p, vf v) { vst1q_f32(p, v); }

/* There are no masked loads and stores: partial vectors are put together from halves and single lanes. */
ATTEND_INLINE vf vf_load_n(const float *p, int n) {
  if (n >= 4) return vld1q_f32(p);
  vf v = vf_zero();
  if (n & 2) v = vcombine_f32(vld1_f32(p), n & 1 ? vld1_lane_f32(p + 2, vdup_n_f32(0.0f), 0) : vdup_n_f32(0.0f));
  if (n == 1) v = vld1q_lane_f32(p, v, 0);
  return v;
}
ATTEND_INLINE void vf_store_n(float *p, vf v, int n) {
  if (n >= 4) {
    vst1q_f32(p, v);
    return;
  }
  if (n & 2) vst1_f32(p, vget_low_f32(v));
  if (n == 3) vst1q_lane_f32(p + 2, v, 2);
  if (n == 1) vst1q_lane_f32(p, v, 0);
}
ATTEND_INLINE uint16x4_t vh_load_n(const uint16_t *p, int n) {
  uint64_t lanes = 0;
  if (n >= 4) return vld1_u16(p);
  if (n > 0) lanes = p[0];
  if (n > 1) lanes |= (uint64_t)p[1] << 16;
  if (n > 2) lanes |= (uint64_t)p[2] << 32;
  return vcreate_u16(lanes);
}
ATTEND_INLINE void vh_store_n(uint16_t *p, uint16x4_t h, int n) {
  if (n >= 4) {
    vst1_u16(p, h);
    return;
  }
  if (n > 0) vst1_lane_u16(p, h, 0);
  if (n > 1) vst1_lane_u16(p + 1, h, 1);
  if (n > 2) vst1_lane_u16(p + 2, h, 2);
}

/* Conversion between f16 and f32 belongs to every AArch64 processor; FEAT_FP16 adds arithmetic only. */
ATTEND_INLINE vf vf_from_f16(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
ATTEND_INLINE vf vf_load_f16(const uint16_t *p) { return vf_from_f16(vld1_u16(p)); }
ATTEND_INLINE vf vf_load_f16_n(const uint16_t *p, int n) { return vf_from_f16(vh_load_n(p, n)); }
ATTEND_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) { vh_store_n(p, vreinterpret_u16_f16(vcvt_f16_f32(v)), n); }

ATTEND_INLINE vf vf_from_bf16(uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); }
ATTEND_INLINE vf vf_load_bf16(const uint16_t *p) { return vf_from_bf16(vld1_u16(p)); }
ATTEND_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) { return vf_from_bf16(vh_load_n(p, n)); }
ATTEND_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
  const uint32x4_t x = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(x, vdupq_n_u32(0x7fff)), odd);
  const uint32x4_t quiet = vorrq_u32(x, vdupq_n_u32(0x400000));
  vh_store_n(p, vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16), n);
}

ATTEND_INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
ATTEND_INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
ATTEND_INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
ATTEND_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
ATTEND_INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
/** fmax would return NaN, and fmaxnm the number whichever side it stands on. */
ATTEND_INLINE vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
ATTEND_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
#ifdef __clang__ /* gcc 12 copies sums in the longer loop, and loses a tenth by that */
#define ATTEND_BY_ELEMENT
ATTEND_INLINE vf vf_fma_element(vf a, const int i, vf b, vf c) { return vfmaq_f32(c, b, vdupq_n_f32(a[i])); }
#endif

/**
 * Adding 1.5 * 2^23 + 127 rounds to an integer and leaves it, biased as an exponent, in the low bits: one shift makes
 * it a power of two. The clamp lets the smallest exponent come out as 0; fmin and fmax keep NaN.
 */
ATTEND_INLINE vf vf_exp2(vf x) {
  const vf magic = vdupq_n_f32(12582912.0f + 127.0f);
  x = vminq_f32(vdupq_n_f32(128.0f), vmaxq_f32(vdupq_n_f32(-127.0f), x));
  const vf z = vaddq_f32(x, magic);
  const vf r = vsubq_f32(x, vsubq_f32(z, magic));
  vf p = vfmaq_f32(vdupq_n_f32(ATTEND_EXP2_C4), vdupq_n_f32(ATTEND_EXP2_C5), r);
  p = vfmaq_f32(vdupq_n_f32(ATTEND_EXP2_C3), p, r);
  p = vfmaq_f32(vdupq_n_f32(ATTEND_EXP2_C2), p, r);
  p = vfmaq_f32(vdupq_n_f32(ATTEND_EXP2_C1), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
  return vmulq_f32(p, vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(z), 23)));
}

ATTEND_INLINE float vf_hsum(vf v) { return vaddvq_f32(v); }
ATTEND_INLINE float vf_hmax(vf v) { return vmaxvq_f32(v); }
ATTEND_INLINE vf vf_sum_each(vf r[LANES]) { return vpaddq_f32(vpaddq_f32(r[0], r[1]), vpaddq_f32(r[2], r[3])); }
/** Groups of 4 are all there is. */
ATTEND_INLINE void vf_store_groups(float *p, int64_t stride, vf v, const int n) {
  (void)stride, (void)n;
  vst1q_f32(p, v);
}

/** 4 x 4 in two stages: pairs of lanes, then halves. */
ATTEND_INLINE void vf_transpose(vf r[LANES]) {
  const vf a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]);
  const vf c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
  r[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
  r[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
  r[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
}

ATTEND_INLINE vf vf_select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }
ATTEND_INLINE vm vm_range(int64_t lo, int64_t hi) {
  const int32x4_t lane = {0, 1, 2, 3};
  lo = lo < 0 ? 0 : lo > 4 ? 4 : lo;
  hi = hi < 0 ? 0 : hi > 4 ? 4 : hi;
  return vandq_u32(vcgeq_s32(lane, vdupq_n_s32((int)lo)), vcltq_s32(lane, vdupq_n_s32((int)hi)));
}
ATTEND_INLINE vm vm_bytes_n(const uint8_t *p, int n) {
  uint32_t bytes = 0;
  if (n >= 4)
    memcpy(&bytes, p, sizeof bytes);
  else
    for (int i = 0; i < n; i++) bytes |= (uint32_t)p[i] << 8 * i; /* memcpy() would be called */
  const uint32x4_t lanes = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
  return vtstq_u32(lanes, lanes);
}
ATTEND_INLINE vm vm_and(vm a, vm b) { return vandq_u32(a, b); }
ATTEND_INLINE vm vm_gt(vf a, vf b) { return vcgtq_f32(a, b); }
ATTEND_INLINE vu vu_set1(uint32_t x) { return vdupq_n_u32(x); }
ATTEND_INLINE vu vu_iota(void) { return (vu){0, 1, 2, 3}; }
ATTEND_INLINE vu vu_add(vu a, vu b) { return vaddq_u32(a, b); }
ATTEND_INLINE vu vu_xor(vu a, vu b) { return veorq_u32(a, b); }
ATTEND_INLINE void vu_mul_wide(vu a, vu b, vu *high, vu *low) {
  const vu first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a), vget_low_u32(b)));
  const vu last = vreinterpretq_u32_u64(vmull_high_u32(a, b));
  *high = vuzp2q_u32(first, last);
  *low = vuzp1q_u32(first, last);
}
ATTEND_INLINE vm vu_ge(vu a, vu b) { return vcgeq_u32(a, b); }
ATTEND_INLINE bool vm_any(vm m) { return vmaxvq_u32(m) != 0; }
ATTEND_INLINE vf vf_pin(vf a) {
  __asm__("" : "+w"(a));
  return a;
}
ATTEND_INLINE void vf_prefetch(const void *p) { __builtin_prefetch(p); }

#define ATTEND_PAIRS
typedef uint32x4_t vp;

ATTEND_INLINE vp vp_set1(uint32_t x) { return vdupq_n_u32(x); }
ATTEND_INLINE vp vp_load(const uint16_t *p) { return vreinterpretq_u32_u16(vld1q_u16(p)); }
ATTEND_INLINE vp vp_load_n(const uint16_t *p, int n) {
  const uint16x4_t low = vh_load_n(p, n), high = n > 4 ? vh_load_n(p + 4, n - 4) : vdup_n_u16(0);
  return vreinterpretq_u32_u16(vcombine_u16(low, high));
}
ATTEND_INLINE void vp_store(uint32_t *p, vp v) { vst1q_u32(p, v); }
ATTEND_INLINE vp vp_and(vp a, vp b) { return vandq_u32(a, b); }
ATTEND_INLINE void vp_transpose(vp r[LANES]) {
  vf t[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) t[i] = vreinterpretq_f32_u32(r[i]);
  vf_transpose(t);
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) r[i] = vreinterpretq_u32_f32(t[i]);
}
ATTEND_INLINE vp vp_zip(vf a, vf b) { return vsriq_n_u32(vreinterpretq_u32_f32(b), vreinterpretq_u32_f32(a), 16); }

#define ATTEND_BYTES
typedef int8x16x2_t vb;

ATTEND_INLINE vb vb_load(const void *p) { return (vb){{vld1q_s8(p), vld1q_s8((const int8_t *)p + 16)}}; }
ATTEND_INLINE vb vb_nibbles(const void *p) {
  const uint8x16_t x = vld1q_u8(p);
  return (vb){{vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(x, 4))}};
}
ATTEND_INLINE vb vb_pairs(const void *p) {
  const vb x = vb_nibbles(p);
  return (vb){{vzip1q_s8(x.val[0], x.val[1]), vzip2q_s8(x.val[0], x.val[1])}};
}
ATTEND_INLINE vb vb_add(vb x, int8_t y) {
  return (vb){{vaddq_s8(x.val[0], vdupq_n_s8(y)), vaddq_s8(x.val[1], vdupq_n_s8(y))}};
}
ATTEND_INLINE vb vb_add_16(vb x, uint32_t bits) {
  const uint8x16_t each = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201)), y = vdupq_n_u8(16);
  const uint8x16_t first = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));
  const uint8x16_t second = vcombine_u8(vdup_n_u8((uint8_t)(bits >> 16)), vdup_n_u8((uint8_t)(bits >> 24)));
  return (vb){{vorrq_s8(x.val[0], vreinterpretq_s8_u8(vandq_u8(y, vtstq_u8(first, each)))),
               vorrq_s8(x.val[1], vreinterpretq_s8_u8(vandq_u8(y, vtstq_u8(second, each))))}};
}
ATTEND_INLINE vb vb_lookup(const int8_t table[16], vb x) {
  const int8x16_t t = vld1q_s8(table);
  return (vb){{vqtbl1q_s8(t, vreinterpretq_u8_s8(x.val[0])), vqtbl1q_s8(t, vreinterpretq_u8_s8(x.val[1]))}};
}
/** Bytes 8 i to 8 i + 7, in 16 bits each. */
ATTEND_INLINE int16x8_t vb_eight(vb x, const int i) {
  return vmovl_s8(i % 2 ? vget_high_s8(x.val[i / 2]) : vget_low_s8(x.val[i / 2]));
}
ATTEND_INLINE vf vb_to_f32(vb x, const int i) {
  const int16x8_t wide = vb_eight(x, i / 2);
  return vcvtq_f32_s32(vmovl_s16(i % 2 ? vget_high_s16(wide) : vget_low_s16(wide)));
}
ATTEND_INLINE vf vb_f16_to_f32(uint16x8_t x, const int i) {
  return vcvt_f32_f16(vreinterpret_f16_u16(i % 2 ? vget_high_u16(x) : vget_low_u16(x)));
}
/** An f16 has the same exponent bits. */
ATTEND_INLINE vf vb_e5m2_to_f32(vb x, const int i) {
  return vb_f16_to_f32(vreinterpretq_u16_s16(vshlq_n_s16(vb_eight(x, i / 2), 8)), i);
}
/** An f16 has one exponent bit more: the number is 2^8 times as great. What has all bits set becomes NaN. */
ATTEND_INLINE vf vb_e4m3_to_f32(vb x, const int i) {
  const uint16x8_t wide = vreinterpretq_u16_s16(vb_eight(x, i / 2)), most = vdupq_n_u16(0x7f);
  const uint16x8_t size = vandq_u16(wide, most), sign = vandq_u16(wide, vdupq_n_u16(0x8000));
  const uint16x8_t nan = vandq_u16(vceqq_u16(size, most), vdupq_n_u16(0x7e00));
  return vmulq_n_f32(vb_f16_to_f32(vorrq_u16(nan, vorrq_u16(sign, vshlq_n_u16(size, 7))), i), 256.0f);
}
ATTEND_INLINE vf vf_set1_f16(const void *p) {
  uint16_t bits;
  memcpy(&bits, p, sizeof bits);
  return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits)));
}

#endif
