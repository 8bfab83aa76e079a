/* SPDX-License-Identifier: Apache-2.0 */
/** AVX-512 (F, BW, DQ, VL): 16 lanes, masks in mask registers. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_AVX512_VEC_H
#define ATTEND_KERNELS_AVX512_VEC_H

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "this folder is compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/vec_contract.h"

#define AVX512_CPU                                                                                                     \
  (ATTEND_CPU_BIT(AVX512F) | ATTEND_CPU_BIT(AVX512BW) | ATTEND_CPU_BIT(AVX512DQ) | ATTEND_CPU_BIT(AVX512VL) |          \
   ATTEND_CPU_BIT(AVX2) | ATTEND_CPU_BIT(FMA) | ATTEND_CPU_BIT(F16C))

#ifndef ATTEND_ISA_ID /* else a wider instruction set borrows what follows */
#define ATTEND_ISA_ID ATTEND_ISA_AVX512
#define ATTEND_ISA_CPU AVX512_CPU
#define ATTEND_ROWS "kernels/avx512/rows.def"
#endif
#define LANES 16

typedef __m512 vf;
typedef __mmask16 vm;
typedef __m512i vu;

ATTEND_INLINE vm vm_first(int n) { return (vm)((1u << n) - 1); }

ATTEND_INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
ATTEND_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
ATTEND_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
ATTEND_INLINE vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
ATTEND_INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
ATTEND_INLINE void vf_store_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, vm_first(n), v); }

ATTEND_INLINE vf vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
ATTEND_INLINE vf vf_load_f16_n(const uint16_t *p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
ATTEND_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
  _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

ATTEND_INLINE vf vf_from_bf16(__m256i h) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
ATTEND_INLINE vf vf_load_bf16(const uint16_t *p) { return vf_from_bf16(_mm256_loadu_si256((const __m256i *)p)); }
ATTEND_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) {
  return vf_from_bf16(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
ATTEND_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
#ifdef __AVX512BF16__ /* one instruction instead of eight; it takes denormal numbers as 0, as products of pairs do */
  _mm256_mask_storeu_epi16(p, vm_first(n), (__m256i)_mm512_cvtneps_pbh(v));
#else
  __m512i x = _mm512_castps_si512(v);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(0x7fff)), odd);
  __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, x, _mm512_set1_epi32(0x400000));
  _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
#endif
}

ATTEND_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
ATTEND_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
ATTEND_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
ATTEND_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
ATTEND_INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
ATTEND_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
ATTEND_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
ATTEND_INLINE vf vf_iota(void) { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

/** vscalefps does what the other ISAs need a clamp and integer arithmetic for: 0 and +inf at the ends, NaN at NaN. */
ATTEND_INLINE vf vf_exp2(vf x) {
  vf n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  /* vreduceps is x - n in one step that does not wait for n; at -inf it gives 0, and vscalefps makes the result 0. */
  vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  vf p = _mm512_set1_ps(ATTEND_EXP2_C5);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ATTEND_EXP2_C4));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ATTEND_EXP2_C3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ATTEND_EXP2_C2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ATTEND_EXP2_C1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

ATTEND_INLINE float vf_hsum(vf v) { return _mm512_reduce_add_ps(v); }
ATTEND_INLINE float vf_hmax(vf v) { return _mm512_reduce_max_ps(v); }

/** Halving: each stage adds the halves of two vectors into one; 30 shuffles and 15 additions for 16 sums. */
ATTEND_INLINE vf vf_sum_each(vf r[LANES]) {
  ATTEND_UNROLL
  for (int i = 0; i < 8; i++)
    r[i] = _mm512_add_ps(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]), _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
  ATTEND_UNROLL
  for (int i = 0; i < 4; i++)
    r[i] =
        _mm512_add_ps(_mm512_shuffle_ps(r[2 * i], r[2 * i + 1], 0x44), _mm512_shuffle_ps(r[2 * i], r[2 * i + 1], 0xee));
  ATTEND_UNROLL
  for (int i = 0; i < 2; i++)
    r[i] = _mm512_add_ps(_mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0x88),
                         _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(r[0], r[1], 0x88), _mm512_shuffle_f32x4(r[0], r[1], 0xdd));
}

ATTEND_INLINE void vf_store_groups(float *p, int64_t stride, vf v, const int n) {
  if (n == 16) {
    _mm512_storeu_ps(p, v);
  } else if (n == 8) {
    _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
    _mm256_storeu_ps(p + stride, _mm512_extractf32x8_ps(v, 1));
  } else {
    _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    _mm_storeu_ps(p + stride, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(p + 2 * stride, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(p + 3 * stride, _mm512_extractf32x4_ps(v, 3));
  }
}

/** 16 x 16 in four stages of 16: pairs, quads, then 128-bit quarters twice. */
ATTEND_INLINE void vf_transpose(vf r[LANES]) {
  vf t[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  ATTEND_UNROLL
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  ATTEND_UNROLL
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  ATTEND_UNROLL
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

ATTEND_INLINE vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
ATTEND_INLINE vm vm_range(int64_t lo, int64_t hi) {
  lo = lo < 0 ? 0 : lo > 16 ? 16 : lo;
  hi = hi < 0 ? 0 : hi > 16 ? 16 : hi;
  return (vm)(vm_first((int)hi) & ~vm_first((int)lo));
}
ATTEND_INLINE vm vm_bytes_n(const uint8_t *p, int n) {
  return (vm)(_mm_test_epi8_mask(_mm_maskz_loadu_epi8(vm_first(n), p), _mm_set1_epi8(-1)));
}
ATTEND_INLINE vm vm_and(vm a, vm b) { return (vm)(a & b); }
ATTEND_INLINE vm vm_gt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
ATTEND_INLINE vu vu_set1(uint32_t x) { return _mm512_set1_epi32((int)x); }
ATTEND_INLINE vu vu_iota(void) { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
ATTEND_INLINE vu vu_add(vu a, vu b) { return _mm512_add_epi32(a, b); }
ATTEND_INLINE vu vu_xor(vu a, vu b) { return _mm512_xor_si512(a, b); }
/** Products of the even lanes, then of the odd ones. */
ATTEND_INLINE void vu_mul_wide(vu a, vu b, vu *high, vu *low) {
  const __m512i even = _mm512_mul_epu32(a, b);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
  *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
  *low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
ATTEND_INLINE vm vu_ge(vu a, vu b) { return _mm512_cmpge_epu32_mask(a, b); }
ATTEND_INLINE bool vm_any(vm m) { return m != 0; }
ATTEND_INLINE vf vf_pin(vf a) {
  __asm__("" : "+v"(a));
  return a;
}
ATTEND_INLINE void vf_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
ATTEND_INLINE void vf_prefetch_l2(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

#define ATTEND_PAIRS
typedef __m512i vp;

ATTEND_INLINE vp vp_set1(uint32_t x) { return _mm512_set1_epi32((int)x); }
ATTEND_INLINE vp vp_load(const uint16_t *p) { return _mm512_loadu_si512(p); }
ATTEND_INLINE vp vp_load_n(const uint16_t *p, int n) {
  return _mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << n) - 1), p);
}
ATTEND_INLINE void vp_store(uint32_t *p, vp v) { _mm512_storeu_si512(p, v); }
ATTEND_INLINE vp vp_and(vp a, vp b) { return _mm512_and_si512(a, b); }
ATTEND_INLINE void vp_transpose(vp r[LANES]) {
  vf t[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) t[i] = _mm512_castsi512_ps(r[i]);
  vf_transpose(t);
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) r[i] = _mm512_castps_si512(t[i]);
}
ATTEND_INLINE vp vp_zip(vf a, vf b) {
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(a), 16), _mm512_castps_si512(b));
}

#include "kernels/avx2/bytes.h"

ATTEND_INLINE vb vb_add_16(vb x, uint32_t bits) {
  const __m128i y = _mm_set1_epi8(16);
  return (vb){{_mm_mask_add_epi8(x.half[0], (__mmask16)bits, x.half[0], y),
               _mm_mask_add_epi8(x.half[1], (__mmask16)(bits >> 16), x.half[1], y)}};
}
ATTEND_INLINE vf vb_to_f32(vb x, const int i) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x.half[i])); }
/** An f16 has the same exponent bits. */
ATTEND_INLINE vf vb_e5m2_to_f32(vb x, const int i) {
  return _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(x.half[i]), 8));
}
/** An f16 has one exponent bit more: the number is 2^8 times as great. What has all bits set becomes NaN. */
ATTEND_INLINE vf vb_e4m3_to_f32(vb x, const int i) {
  const __m256i wide = _mm256_cvtepi8_epi16(x.half[i]), size = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
  const __m256i sign = _mm256_and_si256(wide, _mm256_set1_epi16((short)0x8000));
  const __mmask16 nan = _mm256_cmpeq_epi16_mask(size, _mm256_set1_epi16(0x7f));
  const __m256i half = _mm256_or_si256(sign, _mm256_slli_epi16(size, 7));
  return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(0x7e00))),
                       _mm512_set1_ps(256.0f));
}
ATTEND_INLINE vf vf_set1_f16(const void *p) {
  short bits;
  memcpy(&bits, p, sizeof bits);
  return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
}

#endif
