/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the products of the bodies multiply, so that the bodies are written once: floats, pairs of bf16 where vec.h has
 * a product of pairs, or what vec.h names a file for (ATTEND_OPERAND). Queries, keys, values and weights are operands,
 * packed or as decode loads them; sums, scores and results are floats always. Included after a vec.h.
 */
#ifndef ATTEND_KERNELS_BODY_OPERAND_H
#define ATTEND_KERNELS_BODY_OPERAND_H

#include "kernels/body/pack.h"
#include "kernels/convert.h"

#if defined(ATTEND_OPERAND)

#include ATTEND_OPERAND

#elif defined(ATTEND_PAIR_DOT)

#include "kernels/body/pack_pairs.h"

#define ATTEND_COMPUTE ATTEND_BF16
/** Types of q, k and v. f16 is not among them: bf16 would lose three of its bits. */
#define ATTEND_DTYPES (ATTEND_DTYPE_BIT(ATTEND_BF16) | ATTEND_DTYPES_FORMATS)
/** Expands x(suffix, dtype, ...) for each of them. */
#define ATTEND_EACH_DTYPE(x, ...) x(bf16, ATTEND_BF16, __VA_ARGS__)

/** What bodies can do with operands beyond dot products and weighted sums. */
#define ATTEND_CAN_OPERANDS 0

typedef uint32_t operand;
typedef vp vo;
enum { PER_OPERAND = 2 };             /* elements */
enum { SCORE_VECTORS = PER_OPERAND }; /* that keep_weights() takes */

ATTEND_INLINE vo vo_load(const operand *p) { return vp_load((const uint16_t *)p); }
ATTEND_INLINE vo vo_set1(operand x) { return vp_set1(x); }
/** c + the products of a's and b's elements, lane by lane. */
ATTEND_INLINE vf vo_dot(vo a, vo b, vf c) { return vp_dot(a, b, c); }

/**
 * Keeps the weights of 2 LANES scores from s[j] on, for the products, in the place of scores that have been used; adds
 * them to a row's sum. They are added up as they were rounded: a row's weights then sum up to exactly what they are
 * divided by, so that rounding moves a result among the values but never scales it.
 */
ATTEND_INLINE vf keep_weights(float *s, int64_t j, const vf p[SCORE_VECTORS], vf sum) {
  const vp rounded = vp_round(p[0], p[1]);
  vp_store((operand *)s + j / 2, rounded);
  return vp_dot(rounded, vp_set1(0x3f803f80), sum); /* pairs of 1 */
}
/** LANES of the weights that keep_weights() has kept, and one of them. */
ATTEND_INLINE vf kept_weights(const float *s, int64_t j) { return vf_load_bf16((const uint16_t *)s + j); }
ATTEND_INLINE float kept_weight(const float *s, int64_t j) { return bf16_to_f32(((const uint16_t *)s)[j]); }

ATTEND_INLINE void pack_key_operands(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                     int64_t dim, int panel, operand *out) {
  (void)dtype;
  pack_key_pairs(rows, begin, count, dim, (dim + 1) / 2, panel, out);
}
ATTEND_INLINE bool pack_value_operands(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                       int64_t dim, int panel, int64_t block, operand *out) {
  (void)dtype;
  return pack_value_pairs(rows, begin, count, dim, (count + 1) / 2, panel, block / 2, out);
}
/* Operands from where elements lie, for bodies that do not pack. */

ATTEND_INLINE vo vo_pin(vo a) { return vp_pin(a); }
/** LANES operands of consecutive elements; of the first n elements, and 0s. */
ATTEND_INLINE vo vo_read(const void *p, attend_dtype dtype) {
  (void)dtype;
  return vp_load((const uint16_t *)p);
}
ATTEND_INLINE vo vo_read_n(const void *p, attend_dtype dtype, int n) {
  (void)dtype;
  return vp_load_n((const uint16_t *)p, n);
}
/** The same of a query, to memory, with another sign if `negative`. */
ATTEND_INLINE void copy_query_operands(const void *p, attend_dtype dtype, int n, bool negative, operand *out) {
  vp_store(out, vo_read_n(p, dtype, n));
  for (int i = 0; negative && i < LANES; i++) out[i] ^= 0x80008000;
}
/** Operands of the values of PER_OPERAND keys, `stride` bytes apart, for PER_OPERAND LANES columns; of the first n. */
ATTEND_INLINE void read_value_operands(const char *p, int64_t stride, attend_dtype dtype, vo out[PER_OPERAND]) {
  const vp a = vo_read(p, dtype), b = vo_read(p + stride, dtype);
  out[0] = vp_mix(a, b, 0), out[1] = vp_mix(a, b, LANES);
}
ATTEND_INLINE void read_value_operands_n(const char *p, int64_t stride, attend_dtype dtype, int n,
                                         vo out[PER_OPERAND]) {
  const vp a = vo_read_n(p, dtype, n), b = vo_read_n(p + stride, dtype, n);
  out[0] = vp_mix(a, b, 0), out[1] = vp_mix(a, b, LANES);
}

#else

#define ATTEND_COMPUTE ATTEND_F32
#define ATTEND_DTYPES (ATTEND_DTYPES_ALL | ATTEND_DTYPES_FORMATS)
#define ATTEND_EACH_DTYPE(x, ...)                                                                                      \
  x(f32, ATTEND_F32, __VA_ARGS__) x(f16, ATTEND_F16, __VA_ARGS__) x(bf16, ATTEND_BF16, __VA_ARGS__)

#define ATTEND_CAN_OPERANDS (ATTEND_CAN_ADDITIVE | ATTEND_CAN_DROPOUT)

typedef float operand;
typedef vf vo;
enum { PER_OPERAND = 1, SCORE_VECTORS = 1 };

ATTEND_INLINE vo vo_load(const operand *p) { return vf_load(p); }
ATTEND_INLINE vo vo_set1(operand x) { return vf_set1(x); }
ATTEND_INLINE vf vo_dot(vo a, vo b, vf c) { return vf_fma(a, b, c); }
#ifdef ATTEND_BY_ELEMENT
ATTEND_INLINE vf vo_dot_element(vo a, const int i, vo b, vf c) { return vf_fma_element(a, i, b, c); }
#endif

ATTEND_INLINE vf keep_weights(float *s, int64_t j, const vf p[SCORE_VECTORS], vf sum) {
  vf_store(s + j, p[0]);
  return vf_add(sum, p[0]);
}
ATTEND_INLINE vf kept_weights(const float *s, int64_t j) { return vf_load(s + j); }
ATTEND_INLINE float kept_weight(const float *s, int64_t j) { return s[j]; }

ATTEND_INLINE void pack_key_operands(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                     int64_t dim, int panel, operand *out) {
  pack_keys(rows, dtype, begin, count, dim, panel, out);
}
ATTEND_INLINE bool pack_value_operands(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                       int64_t dim, int panel, int64_t block, operand *out) {
  return pack_values(rows, dtype, begin, count, dim, panel, block, out);
}
#ifdef ATTEND_BY_ELEMENT
/** Transposes query rows into a tile, with another sign if `negative`. */
ATTEND_INLINE void pack_query_operands(const void *const rows[LANES], int count, int64_t dim, attend_dtype dtype,
                                       bool negative, operand *out, int64_t out_stride) {
  const float sign = negative ? -1.0f : 1.0f;
  if (dtype == ATTEND_F32)
    transpose_rows(rows, count, dim, ATTEND_F32, sign, out, out_stride);
  else if (dtype == ATTEND_F16)
    transpose_rows(rows, count, dim, ATTEND_F16, sign, out, out_stride);
  else
    transpose_rows(rows, count, dim, ATTEND_BF16, sign, out, out_stride);
}
#endif

ATTEND_INLINE vo vo_pin(vo a) { return vf_pin(a); }
ATTEND_INLINE vo vo_read(const void *p, attend_dtype dtype) { return load_as_f32(p, dtype); }
ATTEND_INLINE vo vo_read_n(const void *p, attend_dtype dtype, int n) { return load_as_f32_n(p, dtype, n); }
ATTEND_INLINE void copy_query_operands(const void *p, attend_dtype dtype, int n, bool negative, operand *out) {
  vf_store(out, vf_mul(vf_set1(negative ? -1.0f : 1.0f), vo_read_n(p, dtype, n)));
}
ATTEND_INLINE void read_value_operands(const char *p, int64_t stride, attend_dtype dtype, vo out[PER_OPERAND]) {
  (void)stride;
  out[0] = vo_pin(vo_read(p, dtype));
}
ATTEND_INLINE void read_value_operands_n(const char *p, int64_t stride, attend_dtype dtype, int n,
                                         vo out[PER_OPERAND]) {
  (void)stride;
  out[0] = vo_read_n(p, dtype, n);
}

#endif

#include "kernels/body/formats.h"

/** Scores are finished and made weights in steps of so many. */
enum { SCORE_STEP = SCORE_VECTORS * LANES };

/** Operands that `elements` elements take. */
ATTEND_INLINE int64_t operands(int64_t elements) { return (elements + PER_OPERAND - 1) / PER_OPERAND; }
/** Operands that lie in the place of `floats` scores. */
ATTEND_INLINE int64_t operands_in(int64_t floats) { return floats * (int64_t)sizeof(float) / (int64_t)sizeof(operand); }

#endif
