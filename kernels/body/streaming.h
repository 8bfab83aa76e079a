/* SPDX-License-Identifier: Apache-2.0 */
/**
 * streaming: online softmax over key blocks, as in FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691).
 *
 * A block's keys and values are packed once and serve all rows of the slice; a register tile's scores for one block
 * stay in the L1 cache; the output rows stay in L2 and are rescaled on the way in, when the next block is added. Memory
 * does not depend on the number of keys.
 */
#ifndef ATTEND_KERNELS_BODY_STREAMING_H
#define ATTEND_KERNELS_BODY_STREAMING_H

#include "kernels/body/additive.h"
#include "kernels/body/dropout.h"
#include "kernels/body/finish.h"
#include "kernels/body/nonfinite.h"
#include "kernels/body/slice.h"
#include "kernels/body/softmax.h"
#include "kernels/body/tile.h"
#include "kernels/size.h"

/** Where things lie in the scratch, in bytes. */
typedef struct streaming_layout {
  size_t q, k, v, s, o, max, sum, range, rows, plain, copies, noted, total;
} streaming_layout;

ATTEND_INLINE streaming_layout streaming_plan(const attend_problem *p, const attend_tiling *tiling,
                                              const tile_products *row) {
  const size_t rows = (size_t)round_up(tiling->slice_rows, row->rows);
  const size_t depth = (size_t)operands(p->head_dim), keys = (size_t)operands(row->block);
  const size_t width = (size_t)round_up(p->v_head_dim, LANES);
  streaming_layout at = {0};
  at.q = size_take(&at.total, size_add(size_mul(rows, (size_t)packed_query(p)), LANES), sizeof(operand));
  at.k = size_take(&at.total, size_mul(depth, (size_t)row->block), sizeof(operand));
  at.v = size_take(&at.total, size_mul(width, keys), sizeof(operand));
  at.s = size_take(&at.total, 2 * (size_t)row->rows * (size_t)row->block, sizeof(float));
  at.o = size_take(&at.total, size_mul(rows, width), sizeof(float));
  at.max = size_take(&at.total, rows, sizeof(float));
  at.sum = size_take(&at.total, size_mul(rows, LANES), sizeof(float));
  at.range = size_take(&at.total, rows, sizeof(key_range));
  at.rows = size_take(&at.total, (size_t)row->block, sizeof(void *));
  at.plain = size_take(&at.total, plain_kv_size(p, (size_t)row->block), 1);
  at.copies = size_take(&at.total, copied_size(p), 1);
  at.noted = size_take(&at.total, noted_size((size_t)row->block), 1);
  return at;
}

/**
 * Lists what will be read or written soon after a tile of a block: the next tile's queries on the first pass over the
 * rows, the tile's share of the next block, or of the next slice's first block (`ahead`), and the output rows on the
 * last pass. `first` and `last` say which pass it is.
 */
ATTEND_OUTLINE void fetch_ahead(fetch_list *list, const attend_slice *slice, int64_t row, int tile, int count,
                                bool first, bool last, const keys_to_fetch *ahead) {
  list->count = list->at = 0;
  list->offset = list->lines = 0;
  if (first) fetch_queries(list, slice, slice->row_begin + row + tile, tile, false);
  if (last && !slice->partial) fetch_queries(list, slice, slice->row_begin + row, count, true);
  fetch_keys_share(list, ahead, row, tile);
  if (last && slice->next && slice->row_begin + row + tile >= slice->row_end)
    fetch_queries(list, slice->next, slice->next->row_begin, tile, false);
}

ATTEND_OUTLINE void streaming_pass(const attend_slice *slice, const attend_tiling *tiling, char *scratch,
                                   const tile_products *products, weighing *how) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  const int BLOCK = products->block, PANEL = products->vecs * LANES;
  const streaming_layout at = streaming_plan(p, tiling, products);
  operand *q = (operand *)(scratch + at.q), *k = (operand *)(scratch + at.k), *v = (operand *)(scratch + at.v);
  float *s = (float *)(scratch + at.s), *o = (float *)(scratch + at.o);
  float *max = (float *)(scratch + at.max), *sum = (float *)(scratch + at.sum);
  key_range *ranges = (key_range *)(scratch + at.range);
  const void **listed = (const void **)(scratch + at.rows);
  char *plain = scratch + at.plain;
  noted_keys *noted = (noted_keys *)(scratch + at.noted);
  const int64_t rows = slice->row_end - slice->row_begin;
  const int64_t q_stride = packed_query(p), width = round_up(p->v_head_dim, LANES);

  attended_ranges(slice, ranges);
  const bool lie_packed = queries_lie_packed(view);
  const bool work = attend_scores_need_work(p), agree = ranges_agree(&view->keys);
  const float unit = how->unit;
  const key_range all = range_union(ranges, agree ? 1 : rows);
  const int64_t first = all.begin / BLOCK * BLOCK;
  /* Rows of one block are done with when their tile is: all tiles take the same place then, which stays in L1. */
  const bool once = first + BLOCK >= all.end;
  /* Once round even if no key is attended: the rows have to be written. */
  for (int64_t block = first; block == first || block < all.end; block += BLOCK) {
    const key_range keys = range_in_block(all, block, BLOCK, PANEL);
    const bool last = block + BLOCK >= all.end;
    const keys_to_fetch ahead = keys_after(slice, block, BLOCK, all.end);
    bool packed = false;
    for (int64_t row = 0; row < rows;) {
      /* Two tiles side by side, as far as they attend the same few keys: what is done once for each then waits less. */
      const int tiles = agree && once && rows - row >= 2 * products->rows ? 2 : 1;
      const int tile = tile_rows(rows - row, products->rows);
      const int count = (int)min_i64(tiles * tile, rows - row);
      const int64_t kept = once ? 0 : row; /* where queries and state of the tile are */
      const bool in_place = lie_packed && count == tiles * tile;
      const operand *queries = q + kept * q_stride;
      if (in_place) queries = (const operand *)(const void *)(view->q + (slice->row_begin + row) * view->q_row);
      const int looked_at = agree ? 1 : count; /* rows whose ranges may differ */
      const key_range span = range_union(ranges + row, looked_at);
      const key_range part = range_in_block(span, block, BLOCK, PANEL);
      int64_t from = block + part.begin, to = block + part.end;
      block_masks masks = masks_of(view, slice->row_begin + row, count, &from, &to);
      const int64_t begin = (from - block) / PANEL * PANEL, end = to - block;
      if (masks == MASKS_KEEP && block + begin < from) masks = MASKS_MIXED; /* the panel begins with excluded keys */
      _Static_assert(ATTEND_MASK_BLOCK % SCORE_STEP == 0, "a step ends with the keys that masks leave");
      if (block == first) {
        for (int r = 0; r < count; r++) max[kept + r] = -INFINITY;
        for (int t = 0; t < tiles && !in_place; t++)
          pack_tile_queries(slice, slice->row_begin + row + t * tile, tile, q + (kept + t * tile) * q_stride);
      }
      const bool attends =
          begin < end && masks != MASKS_EXCLUDE && tile_attends(ranges + row, looked_at, block, block + keys.end);
      if (block == first && !attends) {
        clear(sum + kept * LANES, count * LANES);
        clear(o + kept * width, tiles * tile * width);
      }
      if (attends) {
        if (!packed) {
          const attend_dtype k_dtype =
              list_plain_rows(&view->k, p->head_dim, block, keys.begin, keys.end, listed, plain);
          pack_key_operands(listed, k_dtype, keys.begin, keys.end, p->head_dim, PANEL, k);
          const attend_dtype v_dtype =
              list_plain_rows(&view->v, p->v_head_dim, block, keys.begin, keys.end, listed, plain);
          pack_finite_values(listed, v_dtype, keys.begin, keys.end, p->v_head_dim, PANEL, BLOCK, v, scratch + at.copies,
                             noted);
          packed = true;
        }
        const int64_t steps_end = round_up(end, SCORE_STEP);
        const bool edge = work || steps_end > end || !ranges_cover(ranges + row, looked_at, block + begin, block + end);
        const bool selected = noted->count > 0; /* a score may be -inf in any block, and then excludes its key */
        float alpha[2 * MOST_TILE_ROWS];
        fetch_list fetch;
        fetch_ahead(&fetch, slice, row, tiles * tile, count, block == first, last, &ahead);
        /* With every panel, and before and after the softmax. */
        fetch_spread(&fetch, tiles * ((end - begin + PANEL - 1) / PANEL + width / PANEL) + 2);
        for (int t = 0; t < tiles; t++)
          compute_scores(p, products, tile, queries + t * tile * q_stride, k, begin, end, s + t * tile * BLOCK, &fetch);
        if (edge)
          finish_scores(view, slice->row_begin + row, ranges + row, count, block, begin, steps_end, masks, s, BLOCK);
        fetch_some(&fetch);
        softmax_step(s, BLOCK, count, begin, steps_end, unit, block == first, selected, how->one, max + kept,
                     sum + kept * LANES, alpha);
        fetch_some(&fetch);
        if (p->dropout > 0.0f) drop_tile(slice, row, count, block, begin, steps_end, s, BLOCK);
        for (int t = 0; t < tiles; t++) {
          const int64_t first_row = row + t * tile;
          const int own = (int)min_i64(tile, rows - first_row);
          float *t_s = s + t * tile * BLOCK, *t_o = o + (kept + t * tile) * width;
          float *t_sum = sum + (kept + t * tile) * LANES;
          row_results results;
          const bool written =
              last && TILES_FINISH && noted->count == 0 &&
              results_at(slice, slice->row_begin + first_row, own, tile, t_sum, t_o, width, how, &results);
          products->values(tile, (const operand *)t_s, v, begin, end, width, block == first ? NULL : alpha + t * tile,
                           t_o, written ? &results : NULL, &fetch);
          if (written) {
            how->bad = results.bad;
            continue;
          }
          add_nonfinite(noted, &view->v, p->v_head_dim, block, begin, end, t_s, BLOCK, own, t_o, width, plain);
          if (last)
            finish_rows(slice, slice->row_begin + first_row, own, max + kept + t * tile, t_sum, t_o, width, how);
        }
      } else if (last) {
        finish_rows(slice, slice->row_begin + row, count, max + kept, sum + kept * LANES, o + kept * width, width, how);
      }
      row += tiles * tile;
    }
  }
}

ATTEND_INLINE void streaming_run(const attend_slice *slice, const attend_tiling *tiling, char *scratch,
                                 const tile_products *products) {
  weighing how = ordinary_weights(slice->view->p);
  do streaming_pass(slice, tiling, scratch, products, &how);
  while (weigh_again(&how));
}

#define ATTEND_STREAMING(id, rows, block, vecs)                                                                        \
  ATTEND_TILE_PRODUCTS(id, rows, block, vecs)                                                                          \
  static size_t id##_scratch(const attend_problem *problem, const attend_tiling *tiling) {                             \
    return streaming_plan(problem, tiling, &id##_products).total;                                                      \
  }                                                                                                                    \
  static void id(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {                              \
    streaming_run(slice, tiling, scratch, &id##_products);                                                             \
  }                                                                                                                    \
  ATTEND_DESCRIBE(id, ATTEND_BODY_STREAMING, ATTEND_CAN_SPLIT | ATTEND_CAN_OPERANDS, rows, block)
#include "kernels/body/expand.h"

#endif
