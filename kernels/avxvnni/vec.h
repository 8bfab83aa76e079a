/* SPDX-License-Identifier: Apache-2.0 */
/** AVX2 with products of bytes: all of avx2, and vpdpbusd as VEX encodes it. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_AVXVNNI_VEC_H
#define ATTEND_KERNELS_AVXVNNI_VEC_H

#ifndef __AVXVNNI__
#error "this folder is compiled with the flags of kernels/avx2 and -mavxvnni"
#endif

#define ATTEND_ISA_ID ATTEND_ISA_AVXVNNI
#define ATTEND_ISA_CPU (AVX2_CPU | ATTEND_CPU_BIT(AVX_VNNI))
#define ATTEND_ROWS "kernels/avxvnni/rows.def"
#include "kernels/avx2/vec.h"

#define ATTEND_BYTE_DOT
typedef __m256i vi;

ATTEND_INLINE vi vi_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
ATTEND_INLINE void vi_store(void *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
/** A vector is 32 bytes: there is no second half. */
ATTEND_INLINE vi vi_halves(const void *a, const void *b) {
  (void)b;
  return vi_load(a);
}
ATTEND_INLINE vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
ATTEND_INLINE vi vi_begin(vi y) {
  const __m256i sums = _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), y);
  return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sums, 7));
}
ATTEND_INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
ATTEND_INLINE vi vi_dot(vi raised, vi y, vi sum) { return _mm256_dpbusd_avx_epi32(sum, raised, y); }
ATTEND_INLINE vf vi_to_f32(vi x) { return _mm256_cvtepi32_ps(x); }
ATTEND_INLINE void vi_store_rounded(int8_t *p, vf x) {
  const __m256i n = _mm256_cvtps_epi32(x);
  const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
  _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(pairs, pairs));
}
ATTEND_INLINE vf vf_halves_f32(const void *a, const void *b) {
  float x;
  (void)b;
  memcpy(&x, a, sizeof x);
  return vf_set1(x);
}
ATTEND_INLINE vf vf_halves_f16(const void *a, const void *b) {
  (void)b;
  return vf_set1_f16(a);
}

#endif
