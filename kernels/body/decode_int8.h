/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Scores of int8 queries (decode_queries.h) with keys in q8_0: two blocks of a key and of a query are multiplied as
 * bytes, four products to a lane, and the sums become numbers that the scales of the blocks multiply. Four rows take 3
 * operations each for 64 elements where products of numbers take 4, and 6 for the key instead of 12. With q4_0, q5_0
 * and iq4_nl, whose integers have to be put together first, decode took 0.97 to 1.01 of the time of exact products:
 * they have none. Included by decode.h.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_INT8_H
#define ATTEND_KERNELS_BODY_DECODE_INT8_H

#ifdef ATTEND_BYTE_DOT

/** Two blocks of a key, or with ONE one and zeros, ready for vi_dot(), and their scales. */
ATTEND_INLINE vi load_key(const char *at, const bool ONE, vf *scale) {
  const int BYTES = attend_formats[ATTEND_Q8_0].bytes, FIRST = BYTES - STEP;
  *scale = ONE ? vf_halves_f16(at, NULL) : vf_halves_f16(at, at + BYTES);
  return vi_raise(ONE ? vi_halves(at + FIRST, NULL) : vi_halves(at + FIRST, at + BYTES + FIRST));
}

/** Adds the products of two blocks, or of one, to the sums of QUAD keys from the i-th on. */
ATTEND_INLINE void multiply_blocks(const float *row, const char *const keys[4], vf *acc, const int i, const int QUAD,
                                   const int ROWS, const bool ONE) {
  const int KEYS = LANES / ROWS;
  vi x[SCORE_ROWS], begin[SCORE_ROWS];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) x[r] = vi_load(row + r * LANES), begin[r] = vi_load(row + (ROWS + r) * LANES);
  ATTEND_UNROLL
  for (int j = 0; j < QUAD; j++) {
    vf scale;
    const vi key = load_key(keys[j], ONE, &scale);
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++)
      acc[r * KEYS + i + j] = vf_fma(vi_dot(key, x[r], begin[r]), scale, acc[r * KEYS + i + j]);
  }
}

/** As score_blocks(). */
ATTEND_INLINE void score_int8(const operand *q, const char *k, int64_t stride, int64_t count, int64_t dim,
                              int64_t ahead, float *s, int64_t ld, const int ROWS, const attend_dtype DTYPE,
                              const bool FEW, const bool FETCH, const bool TO_L1) {
  const int KEYS = LANES / ROWS, QUAD = KEYS < 4 ? KEYS : 4, BYTES = 2 * attend_formats[DTYPE].bytes;
  const int LINES = FETCH ? (QUAD * BYTES + 63) / 64 : 0;
  const bool flat = stride == attend_row_size(DTYPE, dim);
  const int64_t line = flat ? 64 : stride, step = flat ? QUAD * BYTES : BYTES;
  vf acc[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) acc[i] = vf_zero();
  ATTEND_UNROLL
  for (int i = 0; i < KEYS; i += QUAD) {
    if (FEW && i >= count) break;
    const int64_t second = FEW && i + 1 >= count ? 0 : stride, third = FEW && i + 2 >= count ? second : 2 * stride;
    const int64_t fourth = FEW && i + 3 >= count ? third : 3 * stride;
    const char *at = k + i * stride;
    uintptr_t next = address_ahead(at, ahead);
    const float *row = q;
    int64_t d = 0;
    for (; d + INT8_STEP <= dim; d += INT8_STEP, at += BYTES, row += 2 * ROWS * LANES) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      ATTEND_UNROLL
      for (int j = 0; j < LINES; j++) prefetch_line(next + (uintptr_t)(j * line), TO_L1);
      next += (uintptr_t)step;
      multiply_blocks(row, keys, acc, i, QUAD, ROWS, false);
    }
    if (d < dim) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      multiply_blocks(row, keys, acc, i, QUAD, ROWS, true);
    }
  }
  /* Of integers and finite scales no sum is infinite. One with an infinite scale becomes NaN: -inf would exclude its
   * key. */
  const vf sums = vf_sum_each(acc), scales = vf_load(q + ROWS * integers_stride(dim));
  vf_store_groups(s, ld, vf_mul(vf_fma(sums, vf_zero(), sums), scales), KEYS);
}

DEFINE_SCORES(score_int8_four, SCORE_ROWS, ATTEND_Q8_0, score_int8)
DEFINE_SCORES(score_int8_one, 1, ATTEND_Q8_0, score_int8)

/** The products with keys, which are in q8_0: ATTEND_CAN_INT8. */
ATTEND_INLINE const decode_products *products_of_keys(attend_dtype dtype) {
  static const decode_products products = {.scores = &score_int8_four, .scores_one = &score_int8_one};
  (void)dtype;
  return &products;
}

#else

ATTEND_INLINE const decode_products *products_of_keys(attend_dtype dtype) { return products_of_format(dtype); }

#endif

#endif
