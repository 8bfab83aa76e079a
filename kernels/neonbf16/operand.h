/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The operands of BFMMLA, kernels/body/operand.h for this folder: quads, four bf16 elements along what is summed over.
 * Two quads side by side are half of a product: of rows r and r + 1 on one side, of columns c and c + 1 on the other.
 *
 * The instruction takes denormal numbers as 0 and gives 0 for them, and rounds each step to odd instead of to nearest
 * (Arm ARM, BFDotAdd), whatever the thread's rounding mode.
 */
#ifndef ATTEND_KERNELS_NEONBF16_OPERAND_H
#define ATTEND_KERNELS_NEONBF16_OPERAND_H

#include "kernels/body/pack.h"

#define ATTEND_COMPUTE ATTEND_BF16
/** Types of q, k and v. f16 is not among them: bf16 would lose three of its bits. */
#define ATTEND_DTYPES (ATTEND_DTYPE_BIT(ATTEND_BF16) | ATTEND_DTYPES_FORMATS)

#define ATTEND_CAN_OPERANDS 0

typedef uint64_t operand;
enum { PER_OPERAND = 4, SCORE_VECTORS = 2 };

typedef uint16x8_t v2q; /* two quads */

ATTEND_INLINE v2q quads_load(const operand *p) { return vld1q_u16((const uint16_t *)p); }
ATTEND_INLINE void quads_store(operand *p, v2q v) { vst1q_u16((uint16_t *)p, v); }
/** One quad, and a quad of zeros. */
ATTEND_INLINE v2q quads_one(operand x) { return vcombine_u16(vcreate_u16(x), vdup_n_u16(0)); }
/** The lower quads of both, and the upper quads. */
ATTEND_INLINE v2q quads_lower(v2q a, v2q b) { return vcombine_u16(vget_low_u16(a), vget_low_u16(b)); }
ATTEND_INLINE v2q quads_upper(v2q a, v2q b) { return vcombine_u16(vget_high_u16(a), vget_high_u16(b)); }
/** c + the products of two rows and two columns: r0 c0, r0 c1, r1 c0, r1 c1. */
ATTEND_INLINE vf quads_product(v2q rows, v2q columns, vf c) {
  return vbfmmlaq_f32(c, vreinterpretq_bf16_u16(rows), vreinterpretq_bf16_u16(columns));
}

/** Up to 8 elements. */
ATTEND_INLINE v2q quads_load_n(const uint16_t *p, int64_t n) {
  if (n >= 8) return vld1q_u16(p);
  return vreinterpretq_u16_u32(vp_load_n(p, (int)max_i64(n, 0)));
}

/** As for pairs in kernels/body/operand.h. */
ATTEND_INLINE vf keep_weights(float *s, int64_t j, const vf p[SCORE_VECTORS], vf sum) {
  const bfloat16x8_t rounded = vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(p[0]), p[1]);
  v2q ones = vdupq_n_u16(0x3f80);
  __asm__("" : "+w"(ones)); /* of a constant gcc 12 makes an fmov of f16, another number, and another feature */
  vst1q_u16((uint16_t *)s + j, vreinterpretq_u16_bf16(rounded));
  return vbfdotq_f32(sum, rounded, vreinterpretq_bf16_u16(ones));
}
ATTEND_INLINE vf kept_weights(const float *s, int64_t j) { return vf_load_bf16((const uint16_t *)s + j); }
ATTEND_INLINE float kept_weight(const float *s, int64_t j) { return bf16_to_f32(((const uint16_t *)s)[j]); }

/** Rows of `dim` elements, two at a time: out[d * out_stride + row] = elements 4d to 4d + 3, 0 where there are none. */
ATTEND_INLINE void pack_two_rows(const uint16_t *a, const uint16_t *b, int64_t dim, uint16_t sign, operand *out,
                                 int64_t out_stride) {
  const v2q flip = vdupq_n_u16(sign);
  for (int64_t d = 0; d < dim; d += 8, out += 2 * out_stride) {
    const v2q x = a ? veorq_u16(flip, quads_load_n(a + d, dim - d)) : vdupq_n_u16(0);
    const v2q y = b ? veorq_u16(flip, quads_load_n(b + d, dim - d)) : vdupq_n_u16(0);
    quads_store(out, quads_lower(x, y));
    if (d + 4 < dim) quads_store(out + out_stride, quads_upper(x, y));
  }
}

ATTEND_OUTLINE void pack_key_operands(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                      int64_t dim, int panel, operand *out) {
  (void)dtype;
  for (int64_t key = begin; key < round_up(count, panel); key += 2) {
    const uint16_t *a = key < count ? rows[key] : NULL;
    const uint16_t *b = key + 1 < count ? rows[key + 1] : NULL;
    pack_two_rows(a, b, dim, 0, out + key / panel * panel * ((dim + 3) / 4) + key % panel, panel);
  }
}

/** Transposes query rows into a tile, with another sign if `negative`. */
ATTEND_OUTLINE void pack_query_operands(const void *const rows[LANES], int count, int64_t dim, attend_dtype dtype,
                                        bool negative, operand *out, int64_t out_stride) {
  (void)dtype;
  const uint16_t sign = negative ? 0x8000 : 0;
  for (int i = LANES - 2; i >= 0; i -= 2) /* from the last: what a pair of rows spills is overwritten by the next */
    pack_two_rows(i < count ? rows[i] : NULL, i + 1 < count ? rows[i + 1] : NULL, dim, sign, out + i, out_stride);
}

/** Four rows of 8 columns, to 8 quads along the rows, or to the first 4 of them. */
ATTEND_INLINE void store_value_quads(const v2q r[4], int64_t columns, operand *out) {
  const uint32x4_t a = vreinterpretq_u32_u16(vzip1q_u16(r[0], r[1])), b = vreinterpretq_u32_u16(vzip1q_u16(r[2], r[3]));
  quads_store(out, vreinterpretq_u16_u32(vzip1q_u32(a, b)));
  quads_store(out + 2, vreinterpretq_u16_u32(vzip2q_u32(a, b)));
  if (columns <= 4) return;
  const uint32x4_t c = vreinterpretq_u32_u16(vzip2q_u16(r[0], r[1])), d = vreinterpretq_u32_u16(vzip2q_u16(r[2], r[3]));
  quads_store(out + 4, vreinterpretq_u16_u32(vzip1q_u32(c, d)));
  quads_store(out + 6, vreinterpretq_u16_u32(vzip2q_u32(c, d)));
}

/** As pack_values(), in quads along the keys. */
ATTEND_OUTLINE bool pack_value_operands(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                        int64_t dim, int panel, int64_t block, operand *out) {
  (void)dtype;
  const v2q exponent = vdupq_n_u16(0x7f80);
  v2q bad = vdupq_n_u16(0);
  for (int64_t c = 0; c < dim; c += panel) {
    const int64_t columns = min_i64(panel, dim - c), width = round_up(columns, LANES);
    operand *to = out + c * (block / 4) + begin / 4 * width;
    for (int64_t key = begin; key < count; key += 4, to += width) {
      for (int64_t j = 0; j < columns; j += 8) {
        v2q r[4];
        ATTEND_UNROLL
        for (int i = 0; i < 4; i++) {
          r[i] = key + i < count ? quads_load_n((const uint16_t *)rows[key + i] + c + j, columns - j) : vdupq_n_u16(0);
          bad = vorrq_u16(bad, vceqq_u16(vandq_u16(r[i], exponent), exponent));
        }
        store_value_quads(r, columns - j, to + j);
      }
    }
  }
  return vmaxvq_u16(bad) == 0;
}

#endif
