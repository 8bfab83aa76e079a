/* SPDX-License-Identifier: Apache-2.0 */
/**
 * blocked and tiled: scores of a strip of query rows with all keys, a plain softmax, and the product with the values.
 *
 * Keys and values that the slice attends are packed once, as a whole. Scores lie register tile by register tile, and in
 * those key block by key block, [rows of the tile][BLOCK]: both products then walk through them at constant distances.
 * Nothing is ever rescaled. What a strip is makes the difference: for blocked all rows of the slice, for tiled as many
 * as keep their scores in the L2 cache.
 */
#ifndef ATTEND_KERNELS_BODY_THREE_PASS_H
#define ATTEND_KERNELS_BODY_THREE_PASS_H

#include "kernels/body/additive.h"
#include "kernels/body/dropout.h"
#include "kernels/body/finish.h"
#include "kernels/body/nonfinite.h"
#include "kernels/body/slice.h"
#include "kernels/body/softmax.h"
#include "kernels/body/tile.h"
#include "kernels/size.h"

/** Where things lie in the scratch, in bytes. */
typedef struct three_pass_layout {
  size_t q, k, v, s, o, max, sum, range, rows, plain, copies, noted, total;
} three_pass_layout;

ATTEND_INLINE three_pass_layout three_pass_plan(const attend_problem *p, const attend_tiling *tiling,
                                                int64_t strip_rows, const tile_products *row) {
  const int ROWS = row->rows, BLOCK = row->block;
  const size_t rows = (size_t)round_up(tiling->slice_rows, ROWS);
  const size_t strip = (size_t)round_up(min_i64(strip_rows, (int64_t)rows), ROWS);
  const size_t keys = (size_t)round_up(min_i64(tiling->split_keys, p->kv_len), BLOCK);
  const size_t depth = (size_t)operands(p->head_dim);
  const size_t width = (size_t)round_up(p->v_head_dim, LANES);
  three_pass_layout at = {0};
  at.q = size_take(&at.total, size_add(size_mul(rows, (size_t)packed_query(p)), LANES), sizeof(operand));
  at.k = size_take(&at.total, size_mul(depth, keys), sizeof(operand));
  at.v = size_take(&at.total, size_mul(width, keys / PER_OPERAND), sizeof(operand));
  at.s = size_take(&at.total, size_mul(strip, keys), sizeof(float));
  at.o = size_take(&at.total, size_mul(strip, width), sizeof(float));
  at.max = size_take(&at.total, strip, sizeof(float));
  at.sum = size_take(&at.total, size_mul(strip, LANES), sizeof(float));
  at.range = size_take(&at.total, rows, sizeof(key_range));
  at.rows = size_take(&at.total, (size_t)BLOCK, sizeof(void *));
  at.plain = size_take(&at.total, plain_kv_size(p, (size_t)BLOCK), 1);
  at.copies = size_take(&at.total, copied_size(p), 1);
  at.noted = size_take(&at.total, keys / (size_t)BLOCK, noted_size((size_t)BLOCK));
  return at;
}

/** Everything one slice works on, so that its steps can be functions. Rows of q and range count from the slice's first,
 *  those of s, o, max and sum from the strip's. */
typedef struct three_pass {
  const tile_products *products;
  const attend_slice *slice;
  const attend_view *view;
  operand *q, *k, *v;
  float *s, *o, *max, *sum;
  key_range *range;
  char *plain;    /**< a block of keys or values, read from a format */
  char *noted;    /**< noted_keys of each block */
  bool every_key; /**< scores of all keys of the sequence are wanted, attended or not */
  weighing *how;
  int64_t first; /**< key of the first block; what lies before the attended keys' panel is not packed */
  int64_t depth, q_stride, width, blocks;
} three_pass;

/** Scores of key block `b` of a tile's rows: row0 counts from the strip's first row. */
ATTEND_INLINE float *tile_scores(const three_pass *w, int64_t row0, int64_t b, int tile) {
  return w->s + (row0 * w->blocks + b * tile) * w->products->block;
}

/** The keys of block `b` whose values are not all finite. */
ATTEND_INLINE noted_keys *noted_in(const three_pass *w, int64_t b) {
  return (noted_keys *)(w->noted + (size_t)b * noted_size((size_t)w->products->block));
}

/** Keys of packed block b that a tile's span touches, counted from the block's first; begin a multiple of the panel. */
ATTEND_INLINE key_range tile_keys(const three_pass *w, key_range span, int64_t b) {
  const int BLOCK = w->products->block, PANEL = w->products->vecs * LANES;
  const key_range keys = range_in_block(span, w->first + b * BLOCK, BLOCK, PANEL);
  return keys.begin < keys.end ? keys : (key_range){0, 0};
}

/** The keys whose scores a tile of `count` rows computes: those it attends, or all. */
ATTEND_INLINE key_range scored_keys(const three_pass *w, int64_t row, int64_t count) {
  return w->every_key ? (key_range){0, (int32_t)w->view->keys.count} : range_union(w->range + row, count);
}

/** A function of its own, for a loop that rarely needs it: inlined, gcc 12 keeps parts of the loop on the stack. */
ATTEND_OUTLINE vf softcapped(vf x, float softcap) {
  return vf_mul(vf_set1(softcap), vf_tanh(vf_div(x, vf_set1(softcap))));
}

/**
 * Writes scores of `count` rows of a tile as they are in the buffer, times `unit`: raw products, or what the softmax
 * takes. Keys without a score there get -inf.
 */
ATTEND_OUTLINE void store_scores(const three_pass *w, int64_t row, int64_t row0, int count, int tile, float unit) {
  const attend_view *view = w->view;
  const int BLOCK = w->products->block;
  const int64_t kv_len = view->p->kv_len;
  const float softcap = view->p->scores == ATTEND_SCORES_SOFTCAP ? view->p->softcap : 0.0f;
  const key_range span = scored_keys(w, row, count);
  for (int r = 0; r < count; r++) {
    const row_place at = place_of(view, w->slice->row_begin + row + r);
    float *out = view->scores + (at.head * view->result_head + at.query) * kv_len;
    const vf shift = vf_set1(w->every_key ? 0.0f : attend_score_shift(view, at.query, at.head));
    for (int64_t j = 0; j < kv_len; j++) out[j] = -INFINITY;
    for (int64_t b = 0; b < w->blocks; b++) {
      const key_range keys = tile_keys(w, span, b);
      const float *s = tile_scores(w, row0, b, tile) + r * BLOCK;
      for (int64_t j = keys.begin; j < keys.end; j += LANES) {
        vf x = vf_sub(vf_mul(vf_load(s + j), vf_set1(unit)), shift);
        if (softcap > 0.0f) x = softcapped(x, softcap);
        vf_store_n(out + w->first + b * BLOCK + j, x, (int)min_i64(LANES, keys.end - j));
      }
    }
  }
}

/** Softmax of `count` rows of a tile over all their key blocks. */
ATTEND_OUTLINE void three_pass_softmax(const three_pass *w, int64_t row, int64_t row0, int count, int tile,
                                       key_range span) {
  const int BLOCK = w->products->block;
  const bool work = attend_scores_need_work(w->view->p);
  const float unit = w->how->unit, one = w->how->one;
  bool selected = w->view->p->weights || one != 1.0f;
  if (w->every_key) store_scores(w, row, row0, count, tile, fabsf(w->view->p->scale));
  for (int64_t b = 0; b < w->blocks; b++) {
    const key_range keys = tile_keys(w, span, b);
    if (keys.end == 0) continue;
    const int64_t block = w->first + b * BLOCK, steps_end = round_up(keys.end, SCORE_STEP);
    const bool edge =
        work || steps_end > keys.end || !ranges_cover(w->range + row, count, block + keys.begin, block + keys.end);
    if (noted_in(w, b)->count > 0) selected = true; /* in any block: a score of -inf excludes its key */
    if (!edge) continue;
    int64_t from = block + keys.begin, to = block + keys.end;
    block_masks masks = masks_of(w->view, w->slice->row_begin + row, count, &from, &to);
    if (from > block + keys.begin || to < block + keys.end) masks = MASKS_MIXED; /* those around are excluded */
    finish_scores(w->view, w->slice->row_begin + row, w->range + row, count, block, keys.begin, steps_end, masks,
                  tile_scores(w, row0, b, tile), BLOCK);
  }
  if (w->view->scores && !w->every_key) store_scores(w, row, row0, count, tile, unit);
  for (int r = 0; r < count; r++) {
    float max = -INFINITY;
    for (int64_t b = 0; b < w->blocks; b++) {
      const key_range keys = tile_keys(w, span, b);
      const float m = row_max(tile_scores(w, row0, b, tile) + r * BLOCK, keys.begin, round_up(keys.end, SCORE_STEP));
      if (m > max) max = m;
    }
    vf sum = vf_zero();
    for (int64_t b = 0; b < w->blocks; b++) {
      const key_range keys = tile_keys(w, span, b);
      float *s = tile_scores(w, row0, b, tile) + r * BLOCK;
      if (selected)
        row_exp_selected(s, keys.begin, round_up(keys.end, SCORE_STEP), exp_base(max), unit, one, &sum);
      else
        row_exp(s, keys.begin, round_up(keys.end, SCORE_STEP), exp_base(max), unit, &sum);
    }
    w->max[row0 + r] = max;
    vf_store(w->sum + (row0 + r) * LANES, sum);
  }
}

/** Drops weights of `count` rows of a tile in all their key blocks. */
ATTEND_OUTLINE void three_pass_drop(const three_pass *w, int64_t row, int64_t row0, int count, int tile,
                                    key_range span) {
  const int BLOCK = w->products->block;
  for (int64_t b = 0; b < w->blocks; b++) {
    const key_range keys = tile_keys(w, span, b);
    drop_tile(w->slice, row, count, w->first + b * BLOCK, keys.begin, round_up(keys.end, LANES),
              tile_scores(w, row0, b, tile), BLOCK);
  }
}

/**
 * Writes a row of attention weights: exp(score - max) times the row's factor where keys are attended, 0 elsewhere, even
 * where the factor is NaN: row_exp_selected() leaves -0 for excluded keys.
 */
ATTEND_OUTLINE void store_weights(const three_pass *w, int64_t row, int64_t row0, int r, int tile, key_range span,
                                  float factor) {
  const int BLOCK = w->products->block;
  const int64_t kv_len = w->view->p->kv_len;
  const row_place at = place_of(w->view, w->slice->row_begin + row + r);
  float *out = w->view->weights + (at.head * w->view->result_head + at.query) * kv_len;
  if (kv_len) memset(out, 0, (size_t)kv_len * sizeof *out);
  for (int64_t b = 0; b < w->blocks; b++) {
    const key_range keys = tile_keys(w, span, b);
    const float *s = tile_scores(w, row0, b, tile) + r * BLOCK;
    float *to = out + w->first + b * BLOCK;
    for (int64_t j = keys.begin; j < keys.end; j += LANES) {
      const vf p = kept_weights(s, j);
      const vm excluded = vm_gt(vf_zero(), vf_div(vf_set1(1.0f), p)); /* -0 */
      vf_store_n(to + j, vf_select(excluded, vf_zero(), vf_mul(p, vf_set1(factor))), (int)min_i64(LANES, keys.end - j));
    }
  }
}

ATTEND_OUTLINE void three_pass_strip(const three_pass *w, int64_t strip, int64_t strip_end) {
  const int ROWS = w->products->rows, BLOCK = w->products->block;
  static const float keep[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  for (int64_t b = 0; b < w->blocks; b++) {
    for (int64_t row = strip; row < strip_end;) {
      const int tile = tile_rows(strip_end - row, ROWS);
      const key_range keys = tile_keys(w, scored_keys(w, row, min_i64(tile, strip_end - row)), b);
      float *s = tile_scores(w, row - strip, b, tile);
      compute_scores(w->view->p, w->products, tile, w->q + row * w->q_stride, w->k + b * BLOCK * w->depth, keys.begin,
                     keys.end, s, NULL);
      row += tile;
    }
  }
  memset(w->o, 0, (size_t)(round_up(strip_end - strip, ROWS) * w->width) * sizeof *w->o);
  for (int64_t row = strip; row < strip_end;) {
    const int tile = tile_rows(strip_end - row, ROWS);
    const int count = (int)min_i64(tile, strip_end - row);
    const key_range span = range_union(w->range + row, count);
    three_pass_softmax(w, row, row - strip, count, tile, span);
    if (w->view->p->dropout > 0.0f) three_pass_drop(w, row, row - strip, count, tile, span);
    float *o = w->o + (row - strip) * w->width;
    for (int64_t b = 0; b < w->blocks; b++) {
      const key_range keys = tile_keys(w, span, b);
      const float *s = tile_scores(w, row - strip, b, tile);
      const operand *v = w->v + b * operands(BLOCK) * w->width;
      if (keys.end == 0) continue;
      w->products->values(tile, (const operand *)s, v, keys.begin, keys.end, w->width, keep, o, NULL, NULL);
      add_nonfinite(noted_in(w, b), &w->view->v, w->view->p->v_head_dim, w->first + b * BLOCK, keys.begin, keys.end, s,
                    BLOCK, count, o, w->width, w->plain);
    }
    for (int r = 0; r < count; r++) {
      const int64_t row0 = row - strip + r;
      const float factor = finish_row(w->slice, w->slice->row_begin + row + r, w->max[row0],
                                      vf_hsum(vf_load(w->sum + row0 * LANES)), w->o + row0 * w->width, w->how);
      /* With small weights the least of them would lose digits, and those of the first time are right. */
      if (w->view->p->weights && w->how->one == 1.0f) store_weights(w, row, row - strip, r, tile, span, factor);
    }
    row += tile;
  }
}

ATTEND_OUTLINE void three_pass_once(const attend_slice *slice, const attend_tiling *tiling, char *scratch,
                                    int64_t strip_rows, const tile_products *products, weighing *how) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  const three_pass_layout at = three_pass_plan(p, tiling, strip_rows, products);
  const int ROWS = products->rows, BLOCK = products->block, PANEL = products->vecs * LANES;
  three_pass w = {.products = products,
                  .slice = slice,
                  .view = view,
                  .q = (operand *)(scratch + at.q),
                  .k = (operand *)(scratch + at.k),
                  .v = (operand *)(scratch + at.v),
                  .s = (float *)(scratch + at.s),
                  .o = (float *)(scratch + at.o),
                  .max = (float *)(scratch + at.max),
                  .sum = (float *)(scratch + at.sum),
                  .range = (key_range *)(scratch + at.range),
                  .plain = scratch + at.plain,
                  .noted = scratch + at.noted,
                  .every_key = view->scores && p->scores != ATTEND_SCORES_ATTENDED,
                  .how = how,
                  .depth = operands(p->head_dim),
                  .q_stride = packed_query(p),
                  .width = round_up(p->v_head_dim, LANES)};
  const int64_t rows = slice->row_end - slice->row_begin;
  const void **listed = (const void **)(scratch + at.rows);
  attended_ranges(slice, w.range);
  for (int64_t row = 0; row < rows;) {
    const int tile = tile_rows(rows - row, ROWS);
    pack_tile_queries(slice, slice->row_begin + row, tile, w.q + row * w.q_stride);
    row += tile;
  }

  const key_range attended = range_union(w.range, rows), all = scored_keys(&w, 0, rows);
  w.first = all.begin / BLOCK * BLOCK;
  w.blocks = (all.end - w.first + BLOCK - 1) / BLOCK;
  for (int64_t b = 0; b < w.blocks; b++) {
    const int64_t block = w.first + b * BLOCK;
    const key_range keys = tile_keys(&w, all, b), values = tile_keys(&w, attended, b);
    const attend_dtype k_dtype = list_plain_rows(&view->k, p->head_dim, block, keys.begin, keys.end, listed, w.plain);
    pack_key_operands(listed, k_dtype, keys.begin, keys.end, p->head_dim, PANEL, w.k + b * BLOCK * w.depth);
    const attend_dtype v_dtype =
        list_plain_rows(&view->v, p->v_head_dim, block, values.begin, values.end, listed, w.plain);
    pack_finite_values(listed, v_dtype, values.begin, values.end, p->v_head_dim, PANEL, BLOCK,
                       w.v + b * operands(BLOCK) * w.width, scratch + at.copies, noted_in(&w, b));
  }
  strip_rows = round_up(min_i64(strip_rows, rows), ROWS);
  for (int64_t row = 0; row < rows; row += strip_rows) three_pass_strip(&w, row, min_i64(rows, row + strip_rows));
}

ATTEND_INLINE void three_pass_run(const attend_slice *slice, const attend_tiling *tiling, char *scratch,
                                  int64_t strip_rows, const tile_products *products) {
  weighing how = ordinary_weights(slice->view->p);
  do three_pass_once(slice, tiling, scratch, strip_rows, products, &how);
  while (weigh_again(&how));
}

#define ATTEND_BLOCKED(id, rows, block, vecs)                                                                          \
  ATTEND_TILE_PRODUCTS(id, rows, block, vecs)                                                                          \
  static size_t id##_scratch(const attend_problem *problem, const attend_tiling *tiling) {                             \
    return three_pass_plan(problem, tiling, tiling->slice_rows, &id##_products).total;                                 \
  }                                                                                                                    \
  static void id(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {                              \
    three_pass_run(slice, tiling, scratch, tiling->slice_rows, &id##_products);                                        \
  }                                                                                                                    \
  ATTEND_DESCRIBE(id, ATTEND_BODY_BLOCKED,                                                                             \
                  ATTEND_CAN_WEIGHTS | ATTEND_CAN_SCORES | ATTEND_CAN_SPLIT | ATTEND_CAN_OPERANDS, rows, block)

#define ATTEND_TILED(id, rows, block, vecs)                                                                            \
  ATTEND_TILE_PRODUCTS(id, rows, block, vecs)                                                                          \
  static size_t id##_scratch(const attend_problem *problem, const attend_tiling *tiling) {                             \
    return three_pass_plan(problem, tiling, tiling->strip_rows, &id##_products).total;                                 \
  }                                                                                                                    \
  static void id(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {                              \
    three_pass_run(slice, tiling, scratch, tiling->strip_rows, &id##_products);                                        \
  }                                                                                                                    \
  ATTEND_DESCRIBE(id, ATTEND_BODY_TILED,                                                                               \
                  ATTEND_CAN_WEIGHTS | ATTEND_CAN_SCORES | ATTEND_CAN_SPLIT | ATTEND_CAN_OPERANDS, rows, block)

#include "kernels/body/expand.h"

#endif
