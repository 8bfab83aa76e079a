/* SPDX-License-Identifier: Apache-2.0 */
/** Operations on 32 bytes that AVX2 and AVX-512 have in common. Meanings: kernels/vec_contract.h. Included by a vec.h.
 */
#ifndef ATTEND_KERNELS_AVX2_BYTES_H
#define ATTEND_KERNELS_AVX2_BYTES_H

#define ATTEND_BYTES
/** Halves: each becomes vectors by itself, and of 16 bytes in memory straight away. */
typedef struct vb {
  __m128i half[2];
} vb;

ATTEND_INLINE vb vb_load(const void *p) {
  return (vb){{_mm_loadu_si128((const __m128i *)p), _mm_loadu_si128((const __m128i *)p + 1)}};
}
ATTEND_INLINE vb vb_nibbles(const void *p) {
  const __m128i x = _mm_loadu_si128((const __m128i *)p), low = _mm_set1_epi8(15);
  return (vb){{_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low)}};
}
ATTEND_INLINE vb vb_pairs(const void *p) {
  const vb x = vb_nibbles(p);
  return (vb){{_mm_unpacklo_epi8(x.half[0], x.half[1]), _mm_unpackhi_epi8(x.half[0], x.half[1])}};
}
ATTEND_INLINE vb vb_add(vb x, int8_t y) {
  return (vb){{_mm_add_epi8(x.half[0], _mm_set1_epi8(y)), _mm_add_epi8(x.half[1], _mm_set1_epi8(y))}};
}
ATTEND_INLINE vb vb_lookup(const int8_t table[16], vb x) {
  const __m128i t = _mm_loadu_si128((const __m128i *)table);
  return (vb){{_mm_shuffle_epi8(t, x.half[0]), _mm_shuffle_epi8(t, x.half[1])}};
}

#endif
