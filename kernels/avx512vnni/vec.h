/* SPDX-License-Identifier: Apache-2.0 */
/** AVX-512 with products of bytes: all of avx512, and vpdpbusd. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_AVX512VNNI_VEC_H
#define ATTEND_KERNELS_AVX512VNNI_VEC_H

#ifndef __AVX512VNNI__
#error "this folder is compiled with the flags of kernels/avx512 and -mavx512vnni"
#endif

#define AVX512VNNI_CPU (AVX512_CPU | ATTEND_CPU_BIT(AVX512_VNNI))

#define ATTEND_ISA_ID ATTEND_ISA_AVX512VNNI
#define ATTEND_ISA_CPU AVX512VNNI_CPU
#define ATTEND_ROWS "kernels/avx512vnni/rows.def"
#include "kernels/avx512/vec.h"

#define ATTEND_BYTE_DOT
typedef __m512i vi;

ATTEND_INLINE vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
ATTEND_INLINE void vi_store(void *p, vi x) { _mm512_storeu_si512(p, x); }
ATTEND_INLINE vi vi_halves(const void *a, const void *b) {
  const __m256i low = _mm256_loadu_si256((const __m256i *)a);
  if (!b) return _mm512_zextsi256_si512(low);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_loadu_si256((const __m256i *)b), 1);
}
ATTEND_INLINE vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
ATTEND_INLINE vi vi_begin(vi y) {
  const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), y);
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7));
}
ATTEND_INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
ATTEND_INLINE vi vi_dot(vi raised, vi y, vi sum) { return _mm512_dpbusd_epi32(sum, raised, y); }
ATTEND_INLINE vf vi_to_f32(vi x) { return _mm512_cvtepi32_ps(x); }
ATTEND_INLINE void vi_store_rounded(int8_t *p, vf x) {
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
ATTEND_INLINE vf vf_halves_f32(const void *a, const void *b) {
  float x, y = 0.0f;
  memcpy(&x, a, sizeof x);
  if (b) memcpy(&y, b, sizeof y);
  return _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(x), _mm512_set1_ps(y));
}
ATTEND_INLINE vf vf_halves_f16(const void *a, const void *b) {
  short x, y = 0;
  memcpy(&x, a, sizeof x);
  if (b) memcpy(&y, b, sizeof y);
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(x)), _mm_set1_epi16(y), 1));
}

#endif
