/* SPDX-License-Identifier: Apache-2.0 */
/**
 * streaming on tiles. A unit of work is a block of keys for a group of query rows: scores, softmax, values. While the
 * vector units do a unit's softmax, the tile unit does the values of the unit before and the scores of the one after,
 * a few products after each row; so scores and weights each have two buffers that take turns. A block's keys and values
 * are packed once and serve all groups of the slice. The output stays in f32 in memory: tiles are loaded from there,
 * carried through a whole block and stored.
 *
 * Rows after the last one of a group hold garbage, and so do their results: nobody reads them.
 */
#include "kernels/amx/vec.h"

#include "kernels/amx/products.h"
#include "kernels/amx/softmax.h"
#include "kernels/amx/state.h"
#include "kernels/body/fetch.h"
#include "kernels/body/finish.h"
#include "kernels/body/pack_pairs.h"
#include "kernels/body/slice.h"
#include "kernels/size.h"

enum { GROUP = 2 * TILE_ROWS };

/** Where things lie in the scratch, in bytes. */
typedef struct streaming_layout {
  size_t q, k, v, s, p, o, base, sum, range, rows, total;
} streaming_layout;

/** Elements of a packed query. With a D of 0 it is one step of zeros: the last step writes the tiles of scores. */
static int64_t packed_depth(const attend_problem *p) { return round_up(max_i64(p->head_dim, 1), TILE_DEPTH); }

static streaming_layout lay_out(const attend_problem *problem, const attend_tiling *tiling, int block) {
  const size_t rows = (size_t)round_up(tiling->slice_rows, GROUP);
  const size_t depth = (size_t)packed_depth(problem);
  const size_t width = (size_t)round_up(problem->v_head_dim, LANES), keys = (size_t)block;
  streaming_layout at = {0};
  at.q = size_take(&at.total, size_mul(rows, depth), sizeof(uint16_t));
  at.k = size_take(&at.total, size_mul(depth, keys), sizeof(uint16_t));
  at.v = size_take(&at.total, size_mul(width, keys), sizeof(uint16_t));
  at.s = size_take(&at.total, 2 * GROUP * keys, sizeof(float));
  at.p = size_take(&at.total, 2 * GROUP * keys, sizeof(uint16_t));
  at.o = size_take(&at.total, size_mul(rows, width), sizeof(float));
  at.base = size_take(&at.total, rows, sizeof(float));
  at.sum = size_take(&at.total, size_mul(rows, LANES), sizeof(float));
  at.range = size_take(&at.total, rows, sizeof(key_range));
  at.rows = size_take(&at.total, keys, sizeof(void *));
  return at;
}

/** A slice under way. */
typedef struct streaming {
  const attend_slice *slice;
  const attend_view *view;
  int64_t rows, depth, width; /**< of the slice; of a packed query and of an output row, in elements */
  int64_t BLOCK;
  float factor; /**< of scores, as exponents of 2 */
  bool work;    /**< attend_scores_need_work() */

  uint16_t *q;
  uint32_t *k, *v;
  float *s[2], *o;
  uint16_t *p[2];
  float *base, *sum; /**< of each row; LANES sums */
  key_range *ranges;
  const void **listed;                /**< addresses of the rows of the block that is being packed */
  int64_t packed_keys, packed_values; /**< which blocks are packed, -1: none */
  bool finite;                        /**< all values of the packed block are */
  float alpha[GROUP];                 /**< what the values of the last unit's rows are to be multiplied by */
} streaming;

/** A block of keys and a group of rows, at least one of which attends one of the keys. */
typedef struct unit {
  int64_t block, row;
  int count;
  int64_t begin, end; /**< keys of the block that any row attends, widened to whole steps */
  bool edge;          /**< some row does not attend some of them, or scores need work */
  int buffer;
} unit;

/* ----------------------------------------------------------------------------------------------------------- units */

/** Where to look for the next unit of a slice: block by block, and in each block group by group. */
typedef struct walk {
  int64_t block, row;
  key_range keys; /**< that any row of the slice attends */
  int buffer;
} walk;

static walk walk_begin(const streaming *st) {
  const key_range all = range_union(st->ranges, st->rows);
  return (walk){.block = all.begin / st->BLOCK * st->BLOCK, .keys = all};
}

/** Finds the next unit, if there is one. */
static bool walk_next(const streaming *st, walk *at, unit *found) {
  for (; at->block < at->keys.end; at->block += st->BLOCK, at->row = 0) {
    while (at->row < st->rows) {
      const int64_t row = at->row, count = min_i64(GROUP, st->rows - row);
      const key_range *ranges = st->ranges + row, span = range_union(ranges, count);
      const key_range part = range_in_block(span, at->block, st->BLOCK, TILE_DEPTH);
      const int64_t begin = part.begin, end = round_up(part.end, TILE_DEPTH);
      at->row += GROUP;
      if (begin >= end ||
          !tile_attends(st->view, st->slice->row_begin + row, ranges, count, at->block, at->block + st->BLOCK))
        continue;
      *found = (unit){at->block, row, (int)count, begin, end, .buffer = at->buffer};
      found->edge = st->work || !ranges_cover(ranges, count, at->block + begin, at->block + end);
      at->buffer = !at->buffer;
      return true;
    }
  }
  return false;
}

/* --------------------------------------------------------------------------------------------------------- packing */

/** Copies a query row, negated for a negative scale (score_unit()), and fills it up with zeros. */
static void pack_query(const streaming *st, int64_t row) {
  const attend_problem *p = st->view->p;
  const uint16_t *from = query_at(st->view, place_of(st->view, st->slice->row_begin + row));
  uint16_t *to = st->q + row * st->depth;
  const vp sign = vp_set1(p->scale < 0.0f ? 0x80008000 : 0);
  for (int64_t d = 0; d < st->depth; d += TILE_DEPTH) {
    const int n = (int)max_i64(0, min_i64(TILE_DEPTH, p->head_dim - d));
    vp_store((uint32_t *)(void *)(to + d), _mm512_xor_si512(vp_load_n(from + d, n), sign));
  }
}

/** Keys of a block that the slice attends, counted from the block's first; begin is that of a tile. */
static key_range keys_of(const streaming *st, int64_t block, const walk *at) {
  return range_in_block(at->keys, block, st->BLOCK, TILE_DEPTH);
}

static void pack_keys_of(streaming *st, int64_t block, const walk *at) {
  if (st->packed_keys == block) return;
  const key_range keys = keys_of(st, block, at);
  list_rows(&st->view->k, block, keys.begin, keys.end, st->listed);
  pack_key_pairs(st->listed, keys.begin, keys.end, st->view->p->head_dim, st->depth / 2, TILE_ROWS, st->k);
  st->packed_keys = block;
}

/** Replaces elements that are not finite by 0; add_nonfinite() adds them. */
ATTEND_OUTLINE void clear_nonfinite(uint32_t *pairs, int64_t count) {
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  for (int64_t i = 0; i < count; i += LANES) {
    const __m512i x = _mm512_loadu_si512(pairs + i);
    const __mmask32 bad = _mm512_cmpeq_epi16_mask(_mm512_and_si512(x, exponent), exponent);
    _mm512_storeu_si512(pairs + i, _mm512_mask_mov_epi16(x, bad, _mm512_setzero_si512()));
  }
}

static void pack_values_of(streaming *st, int64_t block, const walk *at) {
  if (st->packed_values == block) return;
  const key_range keys = keys_of(st, block, at);
  const int64_t first = keys.begin / 2, depth = round_up(keys.end, TILE_DEPTH) / 2;
  list_rows(&st->view->v, block, keys.begin, keys.end, st->listed);
  st->finite = pack_value_pairs(st->listed, keys.begin, keys.end, st->view->p->v_head_dim, depth, TILE_ROWS,
                                st->BLOCK / 2, st->v);
  for (int64_t c = 0; !st->finite && c < st->width; c += LANES)
    clear_nonfinite(st->v + c * st->BLOCK / 2 + first * LANES, (depth - first) * LANES);
  st->packed_values = block;
}

/* -------------------------------------------------------------------------------------------------------- products */

static amx_product scores_of(const streaming *st, const unit *u) {
  const int64_t stride = st->depth * (int64_t)sizeof *st->q;
  return (amx_product){.a = (const char *)(st->q + u->row * st->depth),
                       .a_stride = stride,
                       .b = (const char *)(st->k + u->begin * st->depth / 2),
                       .b_stride = TILE_ROWS * stride,
                       .c = (char *)(st->s[u->buffer] + u->begin),
                       .c_stride = st->BLOCK * (int64_t)sizeof(float),
                       .depth = st->depth / TILE_DEPTH,
                       .columns = (u->end - u->begin) / TILE_ROWS,
                       .two_rows = u->count > TILE_ROWS};
}

static amx_product values_of(const streaming *st, const unit *u) {
  return (amx_product){.a = (const char *)(st->p[u->buffer] + u->begin),
                       .a_stride = st->BLOCK * (int64_t)sizeof(uint16_t),
                       .b = (const char *)(st->v + u->begin / 2 * TILE_ROWS),
                       .b_stride = st->BLOCK / 2 * TILE_ROW_BYTES,
                       .c = (char *)(st->o + u->row * st->width),
                       .c_stride = st->width * (int64_t)sizeof(float),
                       .depth = (u->end - u->begin) / TILE_DEPTH,
                       .columns = st->width / TILE_ROWS,
                       .two_rows = u->count > TILE_ROWS,
                       .add = true};
}

/* --------------------------------------------------------------------------------------------------------- softmax */

/** A group's share of prefetching the next block, or the first one of the next slice. */
static void fetch_share(const streaming *st, const unit *u, const walk *at, fetch_list *list) {
  *list = (fetch_list){0};
  fetch_next_block(list, st->slice, u->block, st->BLOCK, at->keys.end, u->row, u->count);
  fetch_spread(list, u->count);
}

/** Turns a unit's scores into weights, and does a share of the tiles' work after each row. */
static void softmax_of(streaming *st, const unit *u, const walk *at, amx_queue *queue) {
  fetch_list fetch;
  fetch_share(st, u, at, &fetch);
  for (int r = 0; r < u->count; r++) {
    const int64_t row = u->row + r;
    float *s = st->s[u->buffer] + r * st->BLOCK;
    if (u->edge)
      finish_scores(st->view, st->slice->row_begin + row, st->ranges + row, 1, u->block, u->begin, u->end, s,
                    st->BLOCK);
    st->alpha[r] = row_softmax(s, u->begin, u->end, st->factor, st->base + row, st->sum + row * LANES,
                               st->p[u->buffer] + r * st->BLOCK);
    amx_advance(queue, (queue->left + u->count - r - 1) / (u->count - r));
    fetch_some(&fetch);
  }
}

/**
 * Multiplies the rows' earlier sums by alpha. Denormal results become 0, as tile products make them: whether another
 * product follows may depend on the other rows of the group.
 */
static void rescale(const streaming *st, const unit *u) {
  for (int r = 0; r < u->count; r++) {
    float *o = st->o + (u->row + r) * st->width;
    const vf alpha = vf_set1(st->alpha[r]);
    if (st->alpha[r] == 1.0f) continue;
    for (int64_t c = 0; c < st->width; c += LANES) {
      const vf x = vf_mul(alpha, vf_load(o + c));
      vf_store(o + c, vf_select(vm_gt(vf_set1(FLT_MIN), vf_abs(x)), vf_zero(), x));
    }
  }
}

/** Adds the values of a unit that are not finite, to the rows that attend their keys and to no other. */
ATTEND_OUTLINE void add_nonfinite(const streaming *st, const unit *u) {
  const int64_t dim = st->view->p->v_head_dim, end = min_i64(u->end, st->slice->key_end - u->block);
  for (int64_t j = u->begin; j < end; j++) {
    const uint16_t *value = (const uint16_t *)(const void *)attend_row(&st->view->v, u->block + j);
    for (int64_t c = 0; c < dim; c += LANES) {
      const vf v = vf_load_bf16_n(value + c, (int)min_i64(LANES, dim - c));
      const vm finite = vm_gt(vf_set1(INFINITY), vf_abs(v));
      if (finite == vm_first(LANES)) continue;
      for (int r = 0; r < u->count; r++) {
        const int64_t at = r * st->BLOCK + j;
        if (st->s[u->buffer][at] < -FLT_MAX) continue; /* not attended */
        float *o = st->o + (u->row + r) * st->width + c;
        const vf weight = vf_from_bf16(_mm256_set1_epi16((short)st->p[u->buffer][at]));
        vf_store(o, vf_select(finite, vf_load(o), vf_fma(weight, v, vf_load(o))));
      }
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------- slices */

static void begin_rows(streaming *st) {
  attended_ranges(st->slice, st->ranges);
  for (int64_t i = 0; i < st->rows; i++) {
    st->base[i] = -INFINITY;
    pack_query(st, i);
  }
  memset(st->sum, 0, (size_t)(st->rows * LANES) * sizeof *st->sum);
  memset(st->o, 0, (size_t)(round_up(st->rows, GROUP) * st->width) * sizeof *st->o);
}

static void run_units(streaming *st) {
  walk at = walk_begin(st);
  unit before, now, next;
  bool has_before = false, has_now = false, has_next = walk_next(st, &at, &next);
  while (has_before || has_now || has_next) {
    /* One turn: values of `before`, softmax of `now`, scores of `next`. The first and last turns lack some of them. */
    amx_queue queue = {0};
    if (has_before) {
      pack_values_of(st, before.block, &at);
      rescale(st, &before);
      if (!st->finite) add_nonfinite(st, &before);
      amx_enqueue(&queue, values_of(st, &before));
    }
    if (has_next) {
      pack_keys_of(st, next.block, &at);
      amx_enqueue(&queue, scores_of(st, &next));
    }
    if (has_now) softmax_of(st, &now, &at, &queue);
    amx_advance(&queue, queue.left);
    before = now, has_before = has_now;
    now = next, has_now = has_next;
    has_next = has_next && walk_next(st, &at, &next);
  }
}

static void run(const attend_slice *slice, const attend_tiling *tiling, char *scratch, int block) {
  const attend_problem *p = slice->view->p;
  const streaming_layout at = lay_out(p, tiling, block);
  streaming st = {.slice = slice,
                  .view = slice->view,
                  .rows = slice->row_end - slice->row_begin,
                  .depth = packed_depth(p),
                  .width = round_up(p->v_head_dim, LANES),
                  .BLOCK = block,
                  .factor = exp2_factor(score_unit(p)),
                  .work = attend_scores_need_work(p),
                  .q = (uint16_t *)(scratch + at.q),
                  .k = (uint32_t *)(scratch + at.k),
                  .v = (uint32_t *)(scratch + at.v),
                  .s = {(float *)(scratch + at.s), (float *)(scratch + at.s) + GROUP * block},
                  .p = {(uint16_t *)(scratch + at.p), (uint16_t *)(scratch + at.p) + GROUP * block},
                  .o = (float *)(scratch + at.o),
                  .base = (float *)(scratch + at.base),
                  .sum = (float *)(scratch + at.sum),
                  .ranges = (key_range *)(scratch + at.range),
                  .listed = (const void **)(scratch + at.rows),
                  .packed_keys = -1,
                  .packed_values = -1};
  begin_rows(&st);
  run_units(&st);
  for (int64_t i = 0; i < st.rows; i++)
    finish_row(slice, slice->row_begin + i, st.base[i] * score_unit(p), vf_hsum(vf_load(st.sum + i * LANES)),
               st.o + i * st.width);
}

#define ATTEND_ENTER amx_enter
#define ATTEND_LEAVE amx_leave
#define ATTEND_STREAMING(id, rows_, block_)                                                                            \
  _Static_assert(rows_ == GROUP && block_ % TILE_DEPTH == 0, #id);                                                     \
  static size_t id##_scratch(const attend_problem *problem, const attend_tiling *tiling) {                             \
    return lay_out(problem, tiling, block_).total;                                                                     \
  }                                                                                                                    \
  static void id(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {                              \
    run(slice, tiling, scratch, block_);                                                                               \
  }                                                                                                                    \
  ATTEND_DESCRIBE(id, ATTEND_BODY_STREAMING, ATTEND_CAN_SPLIT, rows_, block_)
#include "kernels/body/expand.h"
