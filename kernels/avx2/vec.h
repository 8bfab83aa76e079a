/* SPDX-License-Identifier: Apache-2.0 */
/** AVX2 with FMA and F16C: 8 lanes, masks as vectors of all-ones lanes. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_AVX2_VEC_H
#define ATTEND_KERNELS_AVX2_VEC_H

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "this folder is compiled with -mavx2 -mfma -mf16c"
#endif

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/vec_contract.h"

#define AVX2_CPU (ATTEND_CPU_BIT(AVX2) | ATTEND_CPU_BIT(FMA) | ATTEND_CPU_BIT(F16C))
#ifndef ATTEND_ISA_ID /* else a wider instruction set borrows what follows */
#define ATTEND_ISA_ID ATTEND_ISA_AVX2
#define ATTEND_ISA_CPU AVX2_CPU
#define ATTEND_ROWS "kernels/avx2/rows.def"
#endif
#define LANES 8

typedef __m256 vf;
typedef __m256i vm;
typedef __m256i vu;

ATTEND_INLINE __m256i vi_iota(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
ATTEND_INLINE vm vm_first(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), vi_iota()); }

ATTEND_INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
ATTEND_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
ATTEND_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
ATTEND_INLINE vf vf_load_n(const float *p, int n) { return _mm256_maskload_ps(p, vm_first(n)); }
ATTEND_INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
ATTEND_INLINE void vf_store_n(float *p, vf v, int n) { _mm256_maskstore_ps(p, vm_first(n), v); }

/*
 * There is no masked load or store of bytes and 16-bit lanes. What there is of a vector is loaded in two pieces that
 * may overlap, or stored piece by piece: through memcpy() decode took 3.5 times as long with head dims of 65.
 */
#define LOAD_BYTES(name, type)                                                                                         \
  ATTEND_INLINE uint64_t name(const char *p) {                                                                         \
    type x;                                                                                                            \
    memcpy(&x, p, sizeof x);                                                                                           \
    return x;                                                                                                          \
  }
LOAD_BYTES(load_8_bytes, uint64_t)
LOAD_BYTES(load_4_bytes, uint32_t)
LOAD_BYTES(load_2_bytes, uint16_t)
#undef LOAD_BYTES
/** The first n bytes, 0 to 8, and zeros. */
ATTEND_INLINE uint64_t load_bytes_n(const void *from, int n) {
  const char *p = from;
  if (n >= 8) return load_8_bytes(p);
  if (n >= 4) return load_4_bytes(p) | load_4_bytes(p + n - 4) << 8 * (n - 4);
  if (n >= 2) return load_2_bytes(p) | load_2_bytes(p + n - 2) << 8 * (n - 2);
  return n == 1 ? *(const uint8_t *)p : 0;
}
ATTEND_INLINE __m128i vh_load_n(const uint16_t *p, int n) {
  if (n >= 8) return _mm_loadu_si128((const __m128i *)p);
  const uint64_t low = load_bytes_n(p, n > 4 ? 8 : 2 * n), high = n > 4 ? load_bytes_n(p + 4, 2 * (n - 4)) : 0;
  return _mm_set_epi64x((int64_t)high, (int64_t)low);
}
ATTEND_INLINE void vh_store_n(uint16_t *p, __m128i h, int n) {
  if (n >= 8) {
    _mm_storeu_si128((__m128i *)p, h);
    return;
  }
  if (n & 4) {
    _mm_storel_epi64((__m128i *)p, h);
    h = _mm_unpackhi_epi64(h, h), p += 4;
  }
  if (n & 2) {
    _mm_storeu_si32(p, h);
    h = _mm_srli_epi64(h, 32), p += 2;
  }
  if (n & 1) *p = (uint16_t)_mm_cvtsi128_si32(h);
}

ATTEND_INLINE vf vf_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
ATTEND_INLINE vf vf_load_f16_n(const uint16_t *p, int n) { return _mm256_cvtph_ps(vh_load_n(p, n)); }
ATTEND_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
  vh_store_n(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
}

ATTEND_INLINE vf vf_from_bf16(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
ATTEND_INLINE vf vf_load_bf16(const uint16_t *p) { return vf_from_bf16(_mm_loadu_si128((const __m128i *)p)); }
ATTEND_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) { return vf_from_bf16(vh_load_n(p, n)); }
ATTEND_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
  __m256i x = _mm256_castps_si256(v);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(x, _mm256_set1_epi32(0x7fff)), odd);
  __m256i quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x400000));
  __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0xd8);
  vh_store_n(p, _mm256_castsi256_si128(packed), n);
}

ATTEND_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
ATTEND_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
ATTEND_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
ATTEND_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
ATTEND_INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
ATTEND_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
ATTEND_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
ATTEND_INLINE vf vf_iota(void) { return _mm256_cvtepi32_ps(vi_iota()); }

/**
 * Adding 1.5 * 2^23 + 127 rounds to an integer and leaves it, biased as an exponent, in the low bits: one shift makes
 * it a power of two. The clamp lets the smallest exponent come out as 0, and keeps NaN, which stands second.
 */
ATTEND_INLINE vf vf_exp2(vf x) {
  const vf magic = _mm256_set1_ps(12582912.0f + 127.0f);
  x = _mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(_mm256_set1_ps(-127.0f), x));
  vf z = _mm256_add_ps(x, magic);
  vf r = _mm256_sub_ps(x, _mm256_sub_ps(z, magic));
  vf p = _mm256_set1_ps(ATTEND_EXP2_C5);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ATTEND_EXP2_C4));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ATTEND_EXP2_C3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ATTEND_EXP2_C2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ATTEND_EXP2_C1));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(z), 23)));
}

ATTEND_INLINE float vf_hsum(vf v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
ATTEND_INLINE float vf_hmax(vf v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/** Halving: each stage adds the halves of two vectors into one. */
ATTEND_INLINE vf vf_sum_each(vf r[LANES]) {
  ATTEND_UNROLL
  for (int i = 0; i < 4; i++)
    r[i] = _mm256_add_ps(_mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]), _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]));
  ATTEND_UNROLL
  for (int i = 0; i < 2; i++)
    r[i] =
        _mm256_add_ps(_mm256_shuffle_ps(r[2 * i], r[2 * i + 1], 0x44), _mm256_shuffle_ps(r[2 * i], r[2 * i + 1], 0xee));
  return _mm256_add_ps(_mm256_permute2f128_ps(r[0], r[1], 0x20), _mm256_permute2f128_ps(r[0], r[1], 0x31));
}

ATTEND_INLINE void vf_store_groups(float *p, int64_t stride, vf v, const int n) {
  if (n == 8) {
    _mm256_storeu_ps(p, v);
  } else {
    _mm_storeu_ps(p, _mm256_castps256_ps128(v));
    _mm_storeu_ps(p + stride, _mm256_extractf128_ps(v, 1));
  }
}

ATTEND_INLINE void vf_transpose(vf r[LANES]) {
  vf t[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  ATTEND_UNROLL
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  ATTEND_UNROLL
  for (int i = 0; i < 4; i++) {
    vf low = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    r[i] = low;
  }
}

ATTEND_INLINE vf vf_select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(m)); }
ATTEND_INLINE vm vm_range(int64_t lo, int64_t hi) {
  lo = lo < 0 ? 0 : lo > 8 ? 8 : lo;
  hi = hi < 0 ? 0 : hi > 8 ? 8 : hi;
  return _mm256_andnot_si256(vm_first((int)lo), vm_first((int)hi));
}
ATTEND_INLINE vm vm_bytes_n(const uint8_t *p, int n) {
  __m256i lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)load_bytes_n(p, n)));
  return _mm256_cmpgt_epi32(lanes, _mm256_setzero_si256());
}
ATTEND_INLINE vm vm_and(vm a, vm b) { return _mm256_and_si256(a, b); }
ATTEND_INLINE vm vm_gt(vf a, vf b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
ATTEND_INLINE vu vu_set1(uint32_t x) { return _mm256_set1_epi32((int)x); }
ATTEND_INLINE vu vu_iota(void) { return vi_iota(); }
ATTEND_INLINE vu vu_add(vu a, vu b) { return _mm256_add_epi32(a, b); }
ATTEND_INLINE vu vu_xor(vu a, vu b) { return _mm256_xor_si256(a, b); }
/** Products of the even lanes, then of the odd ones. */
ATTEND_INLINE void vu_mul_wide(vu a, vu b, vu *high, vu *low) {
  const __m256i even = _mm256_mul_epu32(a, b);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
/** There is no unsigned comparison. */
ATTEND_INLINE vm vu_ge(vu a, vu b) { return _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a); }
ATTEND_INLINE bool vm_any(vm m) { return !_mm256_testz_si256(m, m); }
ATTEND_INLINE vf vf_pin(vf a) {
  __asm__("" : "+x"(a));
  return a;
}
ATTEND_INLINE void vf_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
ATTEND_INLINE void vf_prefetch_l2(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

#include "kernels/avx2/bytes.h"

ATTEND_INLINE vb vb_add_16(vb x, uint32_t bits) {
  const __m128i all = _mm_set1_epi32((int)bits), y = _mm_set1_epi8(16);
  const __m128i each = _mm_set1_epi64x((int64_t)0x8040201008040201);
  const __m128i first = _mm_shuffle_epi8(all, _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const __m128i second = _mm_shuffle_epi8(all, _mm_setr_epi8(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
  return (vb){{_mm_or_si128(x.half[0], _mm_and_si128(y, _mm_cmpeq_epi8(_mm_and_si128(first, each), each))),
               _mm_or_si128(x.half[1], _mm_and_si128(y, _mm_cmpeq_epi8(_mm_and_si128(second, each), each)))}};
}
/** Bytes 8 i to 8 i + 7. */
ATTEND_INLINE __m128i vb_eight(vb x, const int i) {
  return i % 2 ? _mm_unpackhi_epi64(x.half[i / 2], x.half[i / 2]) : x.half[i / 2];
}
ATTEND_INLINE vf vb_to_f32(vb x, const int i) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(vb_eight(x, i))); }
/** An f16 has the same exponent bits. */
ATTEND_INLINE vf vb_e5m2_to_f32(vb x, const int i) {
  return _mm256_cvtph_ps(_mm_slli_epi16(_mm_cvtepu8_epi16(vb_eight(x, i)), 8));
}
/** An f16 has one exponent bit more: the number is 2^8 times as great. What has all bits set becomes NaN. */
ATTEND_INLINE vf vb_e4m3_to_f32(vb x, const int i) {
  const __m128i wide = _mm_cvtepi8_epi16(vb_eight(x, i)), most = _mm_set1_epi16(0x7f);
  const __m128i size = _mm_and_si128(wide, most), sign = _mm_and_si128(wide, _mm_set1_epi16((short)0x8000));
  const __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(size, most), _mm_set1_epi16(0x7e00));
  return _mm256_mul_ps(_mm256_cvtph_ps(_mm_or_si128(nan, _mm_or_si128(sign, _mm_slli_epi16(size, 7)))),
                       _mm256_set1_ps(256.0f));
}
ATTEND_INLINE vf vf_set1_f16(const void *p) {
  short bits;
  memcpy(&bits, p, sizeof bits);
  return _mm256_cvtph_ps(_mm_set1_epi16(bits));
}

#endif
