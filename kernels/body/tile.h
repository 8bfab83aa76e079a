/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The two products on register tiles: ROWS x VECS accumulators that live in registers, one vector load per column and
 * one broadcast per row for ROWS * VECS multiply-adds. Where a multiply-add takes its broadcast out of a vector
 * (ATTEND_BY_ELEMENT), LANES broadcasts of a row are one load. All sizes in capitals are constants at every call.
 *
 * Whatever the tile's size, an element of the result is the same sequence of multiply-adds, so that a row's bits do not
 * depend on the tile it falls into.
 */
#ifndef ATTEND_KERNELS_BODY_TILE_H
#define ATTEND_KERNELS_BODY_TILE_H

#include "kernels/body/fetch.h"
#include "kernels/body/finish.h"
#include "kernels/body/operand.h"

#if defined(ATTEND_BY_ELEMENT) || defined(ATTEND_TILE)
#define ATTEND_QUERIES_SIDE_BY_SIDE /* products load several rows at once: packed queries are [dim][tile] */
#endif

/** How packed queries lie: operands from row to row, and from one of a row to its next. */
#ifdef ATTEND_QUERIES_SIDE_BY_SIDE
ATTEND_INLINE int64_t query_row_step(int64_t depth) { return (void)depth, 1; }
ATTEND_INLINE int64_t query_step(int tile) { return tile; }
#else
ATTEND_INLINE int64_t query_row_step(int64_t depth) { return depth; }
ATTEND_INLINE int64_t query_step(int tile) { return (void)tile, 1; }
#endif

#ifdef ATTEND_TILE
#include ATTEND_TILE
#else

enum { TILES_FINISH = 1 }; /* value_tile() takes results */

/**
 * Scores of ROWS queries, q[ROWS][depth] (ATTEND_BY_ELEMENT: q[depth][ROWS]), and VECS * LANES keys, the first of a
 * panel of PANEL, k[depth][PANEL], to s, rows LD apart.
 */
ATTEND_INLINE void score_tile(const operand *q, const operand *k, int64_t depth, float *s, const int ROWS,
                              const int VECS, const int PANEL, const int LD) {
  vf acc[16][4];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) acc[r][c] = vf_zero();
  }
#ifdef ATTEND_BY_ELEMENT
  int64_t d = 0;
  for (; d + LANES <= depth; d += LANES, q += LANES * ROWS, k += LANES * PANEL) {
    vo row[16];
    ATTEND_UNROLL
    for (int i = 0; i < ROWS; i++) row[i] = vo_load(q + i * LANES);
    ATTEND_UNROLL
    for (int l = 0; l < LANES; l++) {
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) {
        const vo column = vo_load(k + l * PANEL + c * LANES);
        ATTEND_UNROLL
        for (int r = 0; r < ROWS; r++) {
          const int element = l * ROWS + r;
          acc[r][c] = vo_dot_element(row[element / LANES], element % LANES, column, acc[r][c]);
        }
      }
    }
  }
  for (; d < depth; d++, q += ROWS, k += PANEL) {
    vo column[4];
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) column[c] = vo_load(k + c * LANES);
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vo row = vo_set1(q[r]);
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) acc[r][c] = vo_dot(row, column[c], acc[r][c]);
    }
  }
#else
  /* Rows three by three: their addresses are that of the first plus once or twice the distance, which takes no
   * instruction. What a compiler knows of the distance it makes as many pointers of as there are rows. */
  const operand *three[6];
  int64_t stride = depth;
  ATTEND_UNROLL
  for (int i = 0; 3 * i < ROWS; i++) three[i] = q + 3 * i * depth;
  for (int64_t d = 0; d < depth; d++, k += PANEL) {
    vo column[4];
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) column[c] = vo_load(k + c * LANES);
    __asm__("" : "+r"(stride));
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vo row = vo_set1(three[r / 3][r % 3 * stride]);
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) acc[r][c] = vo_dot(row, column[c], acc[r][c]);
    }
    ATTEND_UNROLL
    for (int i = 0; 3 * i < ROWS; i++) three[i]++;
  }
#endif
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) vf_store(s + r * LD + c * LANES, acc[r][c]);
  }
}

/**
 * o = alpha * o + p v for ROWS rows, VECS * LANES columns and `depth` operands of keys: p rows LD apart, v rows
 * v_stride apart, o rows o_stride apart. Without alpha there is no o yet. With `results` that is the end of it, and its
 * columns from `first` on are written where these say, instead of to o.
 */
ATTEND_INLINE void value_tile(const operand *p, const operand *v, int64_t v_stride, int64_t depth, const float *alpha,
                              float *o, int64_t o_stride, row_results *results, int64_t first, const int ROWS,
                              const int VECS, const int LD) {
  vf acc[16][4];
  if (alpha) {
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vf a = vf_set1(alpha[r]);
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) acc[r][c] = vf_mul(a, vf_load(o + r * o_stride + c * LANES));
    }
  } else {
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) acc[r][c] = vf_zero();
    }
  }
  int64_t j = 0;
#ifdef ATTEND_BY_ELEMENT
  for (; j + LANES <= depth; j += LANES) {
    vo row[16];
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) row[r] = vo_load(p + r * LD + j);
    ATTEND_UNROLL
    for (int l = 0; l < LANES; l++, v += v_stride) {
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) {
        const vo column = vo_load(v + c * LANES);
        ATTEND_UNROLL
        for (int r = 0; r < ROWS; r++) acc[r][c] = vo_dot_element(row[r], l, column, acc[r][c]);
      }
    }
  }
#endif
  p += j;
  for (int64_t left = depth - j; left > 0; left--, p++, v += v_stride) {
    __asm__("" : "+r"(left)); /* clang 19 keeps the end of the loop on the stack, but not this */
    vo column[4];
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) column[c] = vo_load(v + c * LANES);
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vo row = vo_set1(p[r * LD]);
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) acc[r][c] = vo_dot(row, column[c], acc[r][c]);
    }
  }
  if (results) {
    vf bad = results->bad;
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vf overflow = store_result(results->row[r] + first, results->factor[r], acc[r], VECS);
      if (r < results->count) bad = vf_add(bad, overflow);
    }
    results->bad = bad;
    return;
  }
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) vf_store(o + r * o_stride + c * LANES, acc[r][c]);
  }
}

#endif

/**
 * Scores of a tile's rows and the key panels from key `begin` to `end` of a block (begin a multiple of the panel).
 * Prefetches lines of `fetch`, if that is not NULL, with every panel. Of the last panel only the vectors that hold keys
 * are computed: with 66 keys on average, whole panels of 32 would compute a fifth more scores than there are.
 */
ATTEND_INLINE void score_panels(const operand *q, const operand *k, int64_t depth, int64_t begin, int64_t end, float *s,
                                fetch_list *fetch, const int ROWS, const int VECS, const int LD) {
  const int PANEL = VECS * LANES;
  int64_t j = begin;
  for (; j + PANEL - LANES < end; j += PANEL) {
    if (fetch) fetch_some(fetch);
    score_tile(q, k + j * depth, depth, s + j, ROWS, VECS, PANEL, LD);
  }
  const operand *panel = k + j * depth;
  for (; VECS > 1 && j < end; j += LANES, panel += LANES) score_tile(q, panel, depth, s + j, ROWS, 1, PANEL, LD);
}

/**
 * o = alpha * o + p v over the keys begin to end of a block of `block` packed keys (pack_value_operands()), for `width`
 * columns, a multiple of LANES. begin is a multiple of the panel, and weights from end on have been made 0. alpha and
 * results may be NULL: see value_tile(). Prefetches lines of `fetch`, if that is not NULL, with every panel.
 */
ATTEND_INLINE void value_panels(const operand *p, const operand *v, int64_t block, int64_t begin, int64_t end,
                                int64_t width, const float *alpha, float *o, row_results *results, fetch_list *fetch,
                                const int ROWS, const int VECS, const int LD) {
  const int64_t from = begin / PER_OPERAND, depth = operands(end) - from;
#ifdef ATTEND_TILE
  operand row[MOST_ROWS * MOST_BLOCK / PER_OPERAND];
  arrange_weights(p + from, depth, row, ROWS, LD);
#else
  const operand *row = p + from;
#endif
  int64_t c = 0;
  for (; c + VECS * LANES <= width; c += VECS * LANES) {
    if (fetch) fetch_some(fetch);
    value_tile(row, v + c * operands(block) + from * VECS * LANES, VECS * LANES, depth, alpha, o + c, width, results, c,
               ROWS, VECS, LD);
  }
  const int64_t left = (width - c) / LANES;
  const operand *at = v + c * operands(block) + from * left * LANES;
  if (VECS > 3 && left == 3) value_tile(row, at, 3 * LANES, depth, alpha, o + c, width, results, c, ROWS, 3, LD);
  if (VECS > 2 && left == 2) value_tile(row, at, 2 * LANES, depth, alpha, o + c, width, results, c, ROWS, 2, LD);
  if (VECS > 1 && left == 1) value_tile(row, at, LANES, depth, alpha, o + c, width, results, c, ROWS, 1, LD);
}

/**
 * Rows of the tile that starts where `left` rows remain. A short tile has fewer accumulators, so that it wastes less;
 * it is filled up with zero rows.
 */
ATTEND_INLINE int tile_rows(int64_t left, const int ROWS) {
  if (left > (ROWS > 8 ? 8 : ROWS > 4 ? 4 : ROWS > 2 ? 2 : 1)) return ROWS;
  if (ROWS > 8 && left > 4) return 8;
  if (ROWS > 4 && left > 2) return 4;
  if (ROWS > 2 && left > 1) return 2;
  return 1;
}

/**
 * The products of a kernel row: its sizes, and functions that take any tile size of tile_rows(). They are functions of
 * their own, so that their loops have the registers to themselves, whatever surrounds them.
 */
typedef struct tile_products {
  int rows, block, vecs;
  /** score_panels() for a tile of `tile` rows; scores lie `block` floats apart. */
  void (*scores)(int tile, const operand *q, const operand *k, int64_t depth, int64_t begin, int64_t end, float *s,
                 fetch_list *fetch);
  /** value_panels(), likewise. */
  void (*values)(int tile, const operand *p, const operand *v, int64_t begin, int64_t end, int64_t width,
                 const float *alpha, float *o, row_results *results, fetch_list *fetch);
} tile_products;

ATTEND_INLINE void scores_of_tile(int tile, const operand *q, const operand *k, int64_t depth, int64_t begin,
                                  int64_t end, float *s, fetch_list *fetch, const int ROWS, const int VECS,
                                  const int LD) {
  if (tile == ROWS)
    score_panels(q, k, depth, begin, end, s, fetch, ROWS, VECS, LD);
  else if (ROWS > 8 && tile == 8)
    score_panels(q, k, depth, begin, end, s, fetch, 8, VECS, LD);
  else if (ROWS > 4 && tile == 4)
    score_panels(q, k, depth, begin, end, s, fetch, 4, VECS, LD);
  else if (ROWS > 2 && tile == 2)
    score_panels(q, k, depth, begin, end, s, fetch, 2, VECS, LD);
  else
    score_panels(q, k, depth, begin, end, s, fetch, 1, VECS, LD);
}

ATTEND_INLINE void values_of_tile(int tile, const operand *p, const operand *v, int64_t begin, int64_t end,
                                  int64_t width, const float *alpha, float *o, row_results *results, fetch_list *fetch,
                                  const int ROWS, const int VECS, const int LD) {
  if (tile == ROWS)
    value_panels(p, v, LD, begin, end, width, alpha, o, results, fetch, ROWS, VECS, LD);
  else if (ROWS > 8 && tile == 8)
    value_panels(p, v, LD, begin, end, width, alpha, o, results, fetch, 8, VECS, LD);
  else if (ROWS > 4 && tile == 4)
    value_panels(p, v, LD, begin, end, width, alpha, o, results, fetch, 4, VECS, LD);
  else if (ROWS > 2 && tile == 2)
    value_panels(p, v, LD, begin, end, width, alpha, o, results, fetch, 2, VECS, LD);
  else
    value_panels(p, v, LD, begin, end, width, alpha, o, results, fetch, 1, VECS, LD);
}

/** Defines the products of kernel row `id`, as id_products. */
#define ATTEND_TILE_PRODUCTS(id, rows_, block_, vecs_)                                                                 \
  ATTEND_OUTLINE void id##_scores(int tile, const operand *q, const operand *k, int64_t depth, int64_t begin,          \
                                  int64_t end, float *s, fetch_list *fetch) {                                          \
    scores_of_tile(tile, q, k, depth, begin, end, s, fetch, rows_, vecs_, block_);                                     \
  }                                                                                                                    \
  ATTEND_OUTLINE void id##_values(int tile, const operand *p, const operand *v, int64_t begin, int64_t end,            \
                                  int64_t width, const float *alpha, float *o, row_results *results,                   \
                                  fetch_list *fetch) {                                                                 \
    values_of_tile(tile, p, v, begin, end, width, alpha, o, results, fetch, rows_, vecs_, block_);                     \
  }                                                                                                                    \
  static const tile_products id##_products = {rows_, block_, vecs_, id##_scores, id##_values};

#endif
