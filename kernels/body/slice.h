/* SPDX-License-Identifier: Apache-2.0 */
/** What the bodies that work in register tiles do with the rows of a slice. */
#ifndef ATTEND_KERNELS_BODY_SLICE_H
#define ATTEND_KERNELS_BODY_SLICE_H

#include "kernels/body/rows.h"
#include "kernels/body/tile.h"

/** Operands of a packed query row: with additive scores the weights of its head come after it. */
ATTEND_INLINE int64_t packed_query(const attend_problem *p) {
  return p->score == ATTEND_SCORE_ADDITIVE ? 2 * p->head_dim : operands(p->head_dim);
}

/**
 * Packs a tile of `tile` query rows from row `row` on, and with additive scores their heads' weights after it. For a
 * negative scale the queries, or with additive scores the weights, are negated (attend_score_unit()).
 */
ATTEND_OUTLINE void pack_tile_queries(const attend_slice *slice, int64_t row, int tile, operand *q) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  const bool additive = p->score == ATTEND_SCORE_ADDITIVE, negative = p->scale < 0.0f;
  /* From the last LANES rows to the first: whole vectors are stored, and what they spill is overwritten by the next. */
  for (int first = (tile - 1) / LANES * LANES; first >= 0; first -= LANES) {
    const void *rows[LANES] = {NULL};
    const int n = (int)max_i64(0, min_i64(min_i64(LANES, tile - first), slice->row_end - row - first));
    for (int i = 0; i < n; i++) rows[i] = query_at(view, place_of(view, row + first + i));
    pack_query_operands(rows, n, p->head_dim, p->q_dtype, negative && !additive, q + first, tile);
  }
  for (int first = (tile - 1) / LANES * LANES; additive && first >= 0; first -= LANES) {
    const void *rows[LANES] = {NULL};
    const int n = (int)max_i64(0, min_i64(min_i64(LANES, tile - first), slice->row_end - row - first));
    for (int i = 0; i < n; i++) rows[i] = view->score_weights + place_of(view, row + first + i).head * p->head_dim;
    pack_query_operands(rows, n, p->head_dim, ATTEND_F32, negative, q + p->head_dim * tile + first, tile);
  }
}

/** Whether a row of a tile attends any of the keys begin to end, by ranges alone. */
ATTEND_OUTLINE bool tile_attends(const key_range *ranges, int64_t count, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < count; i++)
    if (max_i64(begin, ranges[i].begin) < min_i64(end, ranges[i].end)) return true;
  return false;
}

#endif
