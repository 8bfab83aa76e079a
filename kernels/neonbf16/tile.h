/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The two products on register tiles of BFMMLA, kernels/body/tile.h for this folder. An accumulator holds two rows and
 * two columns: 10 rows and 8 columns are 20 of them, as many as hide the latency of 5 cycles of a neoverse-v1, for 5 +
 * 4 loads a step. gcc 12 keeps 24 partly on the stack.
 */
#ifndef ATTEND_KERNELS_NEONBF16_TILE_H
#define ATTEND_KERNELS_NEONBF16_TILE_H

#include "kernels/body/operand.h" /* which includes the one of this folder */

enum { MOST_ROWS = 10, MOST_BLOCK = 256 }; /* of the rows in rows.def */

/** acc += rows of a[depth][ROWS] and columns of b[depth][b_stride], b_stride columns apart. */
ATTEND_INLINE void add_products(const operand *a, const operand *b, int64_t b_stride, int64_t depth,
                                vf acc[MOST_ROWS / 2][8], const int ROWS, const int VECS) {
  for (int64_t d = 0; d < depth; d++, a += ROWS, b += b_stride) {
    v2q row[MOST_ROWS / 2];
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r += 2) row[r / 2] = ROWS == 1 ? quads_one(a[0]) : quads_load(a + r);
    ATTEND_UNROLL
    for (int c = 0; c < 2 * VECS; c++) {
      const v2q column = quads_load(b + 2 * c);
      ATTEND_UNROLL
      for (int r = 0; r < ROWS; r += 2) acc[r / 2][c] = quads_product(row[r / 2], column, acc[r / 2][c]);
    }
  }
}

/** Sums of rows and columns two by two, to rows `stride` floats apart. */
ATTEND_INLINE void store_sums(vf acc[MOST_ROWS / 2][8], float *to, int64_t stride, const int ROWS, const int VECS) {
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r += 2) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) {
      const vf left = acc[r / 2][2 * c], right = acc[r / 2][2 * c + 1];
      vf_store(to + r * stride + c * LANES, vcombine_f32(vget_low_f32(left), vget_low_f32(right)));
      if (ROWS > 1)
        vf_store(to + (r + 1) * stride + c * LANES, vcombine_f32(vget_high_f32(left), vget_high_f32(right)));
    }
  }
}

/**
 * Scores of ROWS queries, q[depth][ROWS], and VECS * LANES keys, the first of a panel of PANEL, k[depth][PANEL], to s,
 * rows LD apart.
 */
ATTEND_INLINE void score_tile(const operand *q, const operand *k, int64_t depth, float *s, const int ROWS,
                              const int VECS, const int PANEL, const int LD) {
  vf acc[MOST_ROWS / 2][8];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r += 2) {
    ATTEND_UNROLL
    for (int c = 0; c < 2 * VECS; c++) acc[r / 2][c] = vf_zero();
  }
  add_products(q, k, PANEL, depth, acc, ROWS, VECS);
  store_sums(acc, s, LD, ROWS, VECS);
}

/**
 * Weights of ROWS rows, LD floats apart, as p[depth][ROWS]. Two quads of a row are read at a time, so that one more may
 * be written than depth.
 */
ATTEND_INLINE void arrange_weights(const operand *weights, int64_t depth, operand *p, const int ROWS, const int LD) {
  for (int64_t j = 0; j < depth; j += 2) {
    if (ROWS == 1) quads_store(p + j, quads_load(weights + j));
    for (int r = 0; r + 1 < ROWS; r += 2) {
      const v2q above = quads_load(weights + operands_in(r * LD) + j);
      const v2q below = quads_load(weights + operands_in((r + 1) * LD) + j);
      quads_store(p + j * ROWS + r, quads_lower(above, below));
      quads_store(p + (j + 1) * ROWS + r, quads_upper(above, below));
    }
  }
}

enum { TILES_FINISH = 0 }; /* value_tile() takes no results: it has two rows in a register */

/** o = alpha * o + p v, as for floats in kernels/body/tile.h, but p being what arrange_weights() makes. */
ATTEND_INLINE void value_tile(const operand *p, const operand *v, int64_t v_stride, int64_t depth, const float *alpha,
                              float *o, int64_t o_stride, row_results *results, int64_t first, const int ROWS,
                              const int VECS, const int LD) {
  (void)results, (void)first, (void)LD;
  vf acc[MOST_ROWS / 2][8];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r += 2) {
    const int other = ROWS > 1 ? r + 1 : r;
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) {
      vf above = vf_zero(), below = vf_zero();
      if (alpha) {
        above = vf_mul(vf_set1(alpha[r]), vf_load(o + r * o_stride + c * LANES));
        below = vf_mul(vf_set1(alpha[other]), vf_load(o + other * o_stride + c * LANES));
      }
      acc[r / 2][2 * c] = vcombine_f32(vget_low_f32(above), vget_low_f32(below));
      acc[r / 2][2 * c + 1] = vcombine_f32(vget_high_f32(above), vget_high_f32(below));
    }
  }
  add_products(p, v, v_stride, depth, acc, ROWS, VECS);
  store_sums(acc, o, o_stride, ROWS, VECS);
}

#endif
