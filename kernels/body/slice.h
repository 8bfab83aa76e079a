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

#ifdef ATTEND_QUERIES_SIDE_BY_SIDE

/** Packs `tile` rows, `count` of which there are, as tiles read them. */
ATTEND_INLINE void pack_query_rows(const void *const *rows, int count, int64_t dim, attend_dtype dtype, bool negative,
                                   int tile, operand *q) {
  /* From the last LANES rows to the first: whole vectors are stored, and what they spill is overwritten by the next. */
  for (int first = (tile - 1) / LANES * LANES; first >= 0; first -= LANES) {
    const int n = (int)max_i64(0, min_i64(LANES, count - first));
    pack_query_operands(rows + first, n, dim, dtype, negative, q + first, tile);
  }
}

#else

ATTEND_INLINE void pack_query_rows_as(const void *const *rows, int count, int64_t dim, const attend_dtype DTYPE,
                                      bool negative, int tile, operand *q) {
  const int64_t step = PER_OPERAND * LANES;
  for (int r = 0; r < tile; r++, q += operands(dim)) { /* whole vectors: what a row spills is overwritten by the next */
    operand *to = q;
    int64_t d = 0;
    if (r < count) {
      for (; d + step <= dim; d += step, to += LANES)
        copy_query_operands(element(rows[r], DTYPE, d), DTYPE, (int)step, negative, to);
      if (d < dim) copy_query_operands(element(rows[r], DTYPE, d), DTYPE, (int)(dim - d), negative, to);
    } else {
      for (; d < dim; d += step, to += LANES) clear((float *)to, LANES);
    }
  }
}

/** Packs `tile` rows, `count` of which there are, as tiles read them. */
ATTEND_INLINE void pack_query_rows(const void *const *rows, int count, int64_t dim, attend_dtype dtype, bool negative,
                                   int tile, operand *q) {
#define PACK_QUERY_ROWS(suffix, DTYPE, ...)                                                                            \
  if (dtype == DTYPE) pack_query_rows_as(rows, count, dim, DTYPE, negative, tile, q);
  ATTEND_EACH_DTYPE(PACK_QUERY_ROWS, )
#undef PACK_QUERY_ROWS
}

#endif

/**
 * Packs a tile of `tile` query rows from row `row` on, and with additive scores their heads' weights after it. For a
 * negative scale the queries, or with additive scores the weights, are negated (attend_score_unit()).
 */
ATTEND_OUTLINE void pack_tile_queries(const attend_slice *slice, int64_t row, int tile, operand *q) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  const bool additive = p->score == ATTEND_SCORE_ADDITIVE, negative = p->scale < 0.0f;
  const int count = (int)max_i64(0, min_i64(tile, slice->row_end - row));
  const void *rows[MOST_TILE_ROWS];
  for (int i = 0; i < count; i++) rows[i] = query_at(view, place_of(view, row + i));
  pack_query_rows(rows, count, p->head_dim, p->q_dtype, negative && !additive, tile, q);
  if (!additive) return;
  for (int i = 0; i < count; i++) rows[i] = view->score_weights + place_of(view, row + i).head * p->head_dim;
  pack_query_rows(rows, count, p->head_dim, ATTEND_F32, negative, tile, q + p->head_dim * tile);
}

/** Whether the queries of a view lie as pack_tile_queries() lays them out: they are read where they are then. */
ATTEND_INLINE bool queries_lie_packed(const attend_view *view) {
#ifdef ATTEND_QUERIES_SIDE_BY_SIDE
  (void)view;
  return false;
#else
  const attend_problem *p = view->p;
  return p->q_dtype == ATTEND_COMPUTE && p->scale >= 0.0f && p->score == ATTEND_SCORE_DOT && view->group == 1 &&
         p->head_dim % PER_OPERAND == 0 && view->q_row == p->head_dim * element_size(p->q_dtype) &&
         (uintptr_t)view->q % sizeof(operand) == 0;
#endif
}

/** Whether a row of a tile attends any of the keys begin to end, by ranges alone. */
ATTEND_OUTLINE bool tile_attends(const key_range *ranges, int64_t count, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < count; i++)
    if (max_i64(begin, ranges[i].begin) < min_i64(end, ranges[i].end)) return true;
  return false;
}

#endif
