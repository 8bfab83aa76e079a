/* SPDX-License-Identifier: Apache-2.0 */
/**
 * streaming on tiles. A unit of work is a block of keys for a group of query rows. It is done in turns of 16 keys:
 * while the vector units do the softmax of a turn's scores, the tile unit computes those of the turn after the next and
 * adds the values of the unit before, a few products after each pair of keys. A block's keys and values are packed once
 * and serve all groups of the slice. Outputs stay in f32 in memory, transposed: a column of tiles is loaded from there,
 * carried through a whole unit and stored.
 *
 * Rows after the last one of a group are 0, and their results are read by nobody.
 */
#include "kernels/amx/vec.h"

#include "kernels/amx/state.h"
#include "kernels/amx/turns.h"
#include "kernels/body/fetch.h"
#include "kernels/body/finish.h"
#include "kernels/body/slice.h"
#include "kernels/size.h"

/** Where things lie in the scratch, in bytes. */
typedef struct streaming_layout {
  size_t q, k, v, s, relative, attended, p, o, row, statistics, range, group, listed, plain, total;
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
  at.v = size_take(&at.total, size_mul(width, 2 * keys), sizeof(uint16_t));
  at.s = size_take(&at.total, 2 * TURN_SCORES, sizeof(float));
  at.relative = size_take(&at.total, TURN_SCORES, sizeof(float));
  at.attended = size_take(&at.total, 2 * 2 * keys, sizeof(uint16_t));
  at.p = size_take(&at.total, 2 * GROUP * keys, sizeof(uint16_t));
  at.o = size_take(&at.total, size_mul(rows, width), sizeof(float));
  at.row = size_take(&at.total, size_mul(TILE_ROWS, width), sizeof(float));
  at.statistics = size_take(&at.total, rows / TILE_ROWS, sizeof(row_statistics));
  at.range = size_take(&at.total, rows, sizeof(key_range));
  at.group = size_take(&at.total, rows / GROUP, sizeof(row_group));
  at.listed = size_take(&at.total, keys, sizeof(void *));
  at.plain = size_take(&at.total, plain_kv_size(problem, keys), 1);
  return at;
}

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

/**
 * Whether a row of a group attends any key of a block, by ranges. Only where each query has ranges of its own can a
 * whole block lie between two of them.
 */
static bool group_attends(const streaming *st, int64_t row, int64_t count, int64_t block) {
  return !st->view->keys.ranges || tile_attends(st->ranges + row, count, block, block + st->BLOCK);
}

/** Finds the next unit, if there is one. */
static bool walk_next(const streaming *st, walk *at, work_unit *found) {
  for (; at->block < at->keys.end; at->block += st->BLOCK, at->row = 0) {
    while (at->row < st->rows) {
      const int64_t row = at->row, count = min_i64(GROUP, st->rows - row);
      const row_group *group = st->groups + row / GROUP;
      const key_range part = range_in_block(group->span, at->block, st->BLOCK, TILE_DEPTH);
      int64_t from = at->block + part.begin, to = at->block + part.end;
      at->row += GROUP;
      if (from >= to || !group_attends(st, row, count, at->block)) continue;
      const block_masks masks = masks_of(st->view, st->slice->row_begin + row, count, &from, &to);
      if (masks == MASKS_EXCLUDE) continue;
      const int64_t begin = round_down(from - at->block, TILE_DEPTH), end = round_up(to - at->block, TILE_DEPTH);
      *found = (work_unit){at->block, row, (int)count, begin, end, .masks = masks, .buffer = at->buffer};
      for (int r = 0; r < GROUP; r++) found->alpha[r] = 1.0f;
      found->edge = !ranges_cover(&group->common, 1, at->block + begin, at->block + end);
      at->buffer = !at->buffer;
      return true;
    }
  }
  return false;
}

/* --------------------------------------------------------------------------------------------------------- packing */

/** Keys of a block that the slice attends, counted from the block's first; begin is that of a step. */
static key_range keys_of(const streaming *st, int64_t block, const walk *at) {
  return range_in_block(at->keys, block, st->BLOCK, TILE_DEPTH);
}

static void pack_keys_of(streaming *st, const work_unit *u, const walk *at) {
  if (st->packed_keys == u->block) return;
  const key_range keys = keys_of(st, u->block, at);
  list_plain_rows(&st->view->k, st->view->p->head_dim, u->block, keys.begin, keys.end, st->listed, st->plain);
  pack_key_tiles(st->listed, keys.begin, keys.end, st->view->p->head_dim, st->depth / TILE_DEPTH, st->k);
  st->packed_keys = u->block;
}

/** Those of the block before stay where they are: its last unit is still to be multiplied by them. */
static void pack_values_of(streaming *st, work_unit *u, const walk *at) {
  if (st->packed_values != u->block) {
    const key_range keys = keys_of(st, u->block, at);
    const int to = st->values = !st->values;
    list_plain_rows(&st->view->v, st->view->p->v_head_dim, u->block, keys.begin, keys.end, st->listed, st->plain);
    st->finite[to] = pack_value_tiles(st->listed, keys.begin, keys.end, st->view->p->v_head_dim, st->width / TILE_ROWS,
                                      st->BLOCK / TILE_DEPTH, st->v[to]);
    if (!st->finite[to]) clear_nonfinite(st->v[to], st->width * st->BLOCK); /* add_nonfinite() adds them */
    st->packed_values = u->block;
  }
  u->values = st->values;
}

/* ---------------------------------------------------------------------------------------------------------- values */

/**
 * Multiplies the rows' earlier sums by alpha. Denormal results become 0, as tile products make them: whether another
 * product follows may depend on the other rows of the group.
 */
static void rescale(const streaming *st, const work_unit *u) {
  for (int r = 0; r < u->count; r += TILE_ROWS) {
    const vf alpha = vf_load(u->alpha + r);
    if (_mm512_cmp_ps_mask(alpha, vf_set1(1.0f), _CMP_NEQ_UQ) == 0) continue;
    float *o = st->o + u->row * st->width + r * TILE_ROWS;
    for (int64_t c = 0; c < st->width; c++) {
      float *at = o + c / TILE_ROWS * 2 * TILE_PAIRS + c % TILE_ROWS * LANES;
      const vf x = vf_mul(alpha, vf_load(at));
      vf_store(at, vf_select(vm_gt(vf_set1(FLT_MIN), vf_abs(x)), vf_zero(), x));
    }
  }
}

/** Adds one value that is not finite, of key `key` of a unit, to the rows that attend it. */
static void add_value(const streaming *st, const work_unit *u, int64_t key, int64_t column, float value) {
  const int64_t half = key % TILE_DEPTH / TURN, place = key % TURN;
  const uint16_t *p = st->p[u->buffer] + key / TILE_DEPTH * 2 * TILE_ELEMENTS;
  const uint16_t *rows = st->attended[u->buffer] + 2 * key;
  const int64_t element = (half * TURN_PAIRS + place % TURN_PAIRS) * 2 * LANES + place / TURN_PAIRS;
  for (int r = 0; r < u->count; r++) {
    if (!(rows[r / TILE_ROWS] >> r % TILE_ROWS & 1)) continue;
    const uint32_t bits = (uint32_t)p[r / TILE_ROWS * TILE_ELEMENTS + element + r % TILE_ROWS * 2] << 16;
    float weight;
    memcpy(&weight, &bits, sizeof weight);
    if (weight < FLT_MIN) weight = 0.0f; /* as tile products take denormal numbers */
    st->o[u->row * st->width + column / TILE_ROWS * 2 * TILE_PAIRS + r / TILE_ROWS * TILE_PAIRS +
          column % TILE_ROWS * LANES + r % TILE_ROWS] += weight * value;
  }
}

/** Adds the values of a unit that are not finite, to the rows that attend their keys and to no other. */
ATTEND_OUTLINE void add_nonfinite(const streaming *st, const work_unit *u) {
  const int64_t dim = st->view->p->v_head_dim, end = min_i64(u->end, st->slice->key_end - u->block);
  for (int64_t j = u->begin; j < end; j++) {
    const uint16_t *value = (const uint16_t *)(const void *)plain_row(&st->view->v, u->block + j, dim, st->plain);
    for (int64_t c = 0; c < dim; c += LANES) {
      const int n = (int)min_i64(LANES, dim - c);
      const vf v = vf_load_bf16_n(value + c, n);
      unsigned bad = (unsigned)(vm)~vm_gt(vf_set1(INFINITY), vf_abs(v)) & vm_first(n);
      float lanes[LANES];
      vf_store(lanes, v);
      for (; bad; bad &= bad - 1) add_value(st, u, j - u->begin, c + __builtin_ctz(bad), lanes[__builtin_ctz(bad)]);
    }
  }
}

static void clear_outputs(const streaming *st, int64_t row) {
  memset(st->o + row * st->width, 0, (size_t)(GROUP * st->width) * sizeof *st->o);
}

/** Prepares the values of a unit, whose weights are all there. */
static void begin_values(streaming *st, const work_unit *u, amx_values *values) {
  row_group *group = st->groups + u->row / GROUP;
  if (group->begun) rescale(st, u);
  if (!st->finite[u->values]) {
    if (!group->begun) clear_outputs(st, u->row);
    add_nonfinite(st, u);
    group->begun = true;
  }
  values_of(st, u, !group->begun, values);
  group->begun = true;
}

/* ---------------------------------------------------------------------------------------------------------- slices */

static void begin_rows(streaming *st) {
  attended_ranges(st->slice, st->ranges);
  for (int64_t row = 0; row < st->rows; row += GROUP) {
    const int64_t count = min_i64(GROUP, st->rows - row);
    row_group *group = st->groups + row / GROUP;
    *group = (row_group){.span = range_union(st->ranges + row, count), .common = st->ranges[row]};
    for (int64_t r = 1; r < count; r++) {
      const key_range *range = st->ranges + row + r;
      if (range->begin > group->common.begin) group->common.begin = range->begin;
      if (range->end < group->common.end) group->common.end = range->end;
    }
  }
  for (int64_t i = 0; i < round_up(st->rows, GROUP); i += TILE_ROWS) {
    row_statistics *row = st->statistics + i / TILE_ROWS;
    memset(row, 0, sizeof *row);
    for (int64_t r = 0; r < min_i64(TILE_ROWS, st->rows - i); r++) row->shift[r] = -INFINITY;
    pack_query_tiles(st->slice, st->slice->row_begin + i, st->depth / TILE_DEPTH, st->q + i * st->depth);
  }
}

/** A group's share of prefetching the next block, or the first one of the next slice. */
static void fetch_share(const streaming *st, const work_unit *u, const walk *at, fetch_list *list) {
  *list = (fetch_list){0};
  const keys_to_fetch next = keys_after(st->slice, u->block, st->BLOCK, at->keys.end);
  fetch_keys_share(list, &next, u->row, u->count);
  fetch_spread(list, 2);
}

/** The first unit's first turns, beside which there is no softmax. */
static void begin_scores(const streaming *st, const work_unit *u) {
  const amx_scores first = scores_of(st, u, 0), second = scores_of(st, u, 1);
  amx_begin_scores(&first, false);
  amx_begin_scores(&second, true);
  for (int64_t i = 0; i < first.depth; i++) amx_score_step(&first, i, false);
  for (int64_t i = 0; i < second.depth; i++) amx_score_step(&second, i, true);
  amx_store_first_scores(st->s[0], false);
  if (first.two) amx_store_second_scores(st->s[0] + TILE_PAIRS, false);
}

/** A unit, beside the values of the one before and the first scores of the next, which may be NULL. */
static void take_unit(streaming *st, work_unit *u, work_unit *next, const walk *at, amx_values *values) {
  const int64_t turns = (u->end - u->begin) / TURN; /* an even number */
  fetch_list fetch;
  fetch_share(st, u, at, &fetch);
  fetch_some(&fetch);
  take_turns(st, u, 0, turns - 2, u, 2, values);
  if (next) pack_keys_of(st, next, at); /* nobody needs those of `u` any more */
  fetch_some(&fetch);
  take_turns(st, u, turns - 2, turns, next, 0, values);
  amx_end_values(values);
  if (next) pack_values_of(st, next, at);
}

static void run_units(streaming *st) {
  walk at = walk_begin(st);
  work_unit units[2], *now = &units[0], *next = &units[1];
  amx_values values = {0}; /* of the unit before */
  if (!walk_next(st, &at, now)) return;
  pack_keys_of(st, now, &at);
  pack_values_of(st, now, &at);
  begin_scores(st, now);
  for (bool more = true; more;) {
    more = walk_next(st, &at, next);
    take_unit(st, now, more ? next : NULL, &at, &values);
    begin_values(st, now, &values);
    work_unit *done = now;
    now = next, next = done;
  }
  amx_value_steps(&values, values.left);
  amx_end_values(&values);
}

/** 16 columns of 16 outputs, as rows, each times its factor. */
ATTEND_INLINE void output_tile(const float *o, vf factor, vf t[LANES]) {
  /* + 0 as in store_row_as() */
  for (int i = 0; i < LANES; i++) t[i] = vf_add(vf_mul(factor, vf_load(o + i * LANES)), vf_zero());
  vf_transpose(t);
}

/** Finishes up to 16 rows. */
static void finish_tile_rows(const streaming *st, int64_t row, weighing *w) {
  const attend_view *view = st->view;
  const attend_problem *p = view->p;
  const row_statistics *of = st->statistics + row / TILE_ROWS;
  const float unit = attend_score_unit(p), ln2 = 0.69314718055994531f;
  const vf shift = vf_sub(vf_load(of->shift), vf_set1(st->small)), base = vf_load(of->base);
  const float *o = st->o + row / GROUP * GROUP * st->width + row % GROUP * TILE_ROWS;
  const int count = (int)min_i64(TILE_ROWS, st->rows - row);
  float max[TILE_ROWS], factor[TILE_ROWS] = {0};
  char *out[TILE_ROWS];
  const vf overflow = vf_set1(overflow_factor(p->out_dtype));
  vf t[LANES];
  if (st->slice->partial || w->one != 1.0f) {
    vf_store(max, vf_fma(shift, vf_set1(fminf(ln2 / unit, FLT_MAX)), base));
    for (int64_t c = 0; c < st->width; c += LANES, o += 2 * TILE_PAIRS) {
      output_tile(o, vf_set1(1.0f), t);
      for (int i = 0; i < LANES; i++) vf_store(st->row + i * st->width + c, t[i]);
    }
    for (int i = 0; i < count; i++)
      finish_row(st->slice, st->slice->row_begin + row + i, max[i], of->sum[i], st->row + i * st->width, w);
    return;
  }
  vf_store(max, vf_fma(base, vf_set1(unit), vf_mul(shift, vf_set1(ln2))));
  for (int i = 0; i < count; i++) {
    const row_place at = place_of(view, st->slice->row_begin + row + i);
    factor[i] = row_finish_at(view, at.head, at.query, max[i], of->sum[i], lse_at(view, at.head, at.query));
    out[i] = output_at(view, at);
  }
  for (int64_t c = 0; c < p->v_head_dim; c += LANES, o += 2 * TILE_PAIRS) {
    const int n = (int)min_i64(LANES, p->v_head_dim - c);
    output_tile(o, vf_load(factor), t);
    for (int i = 0; i < count; i++) {
      if (isfinite(of->sum[i])) w->bad = look_for_overflow(vf_mul(overflow, t[i]), w->bad);
      store_as(out[i] + c * element_size(p->out_dtype), p->out_dtype, t[i], n);
    }
  }
}

static void run_once(const attend_slice *slice, const attend_tiling *tiling, char *scratch, int block, weighing *w) {
  const attend_problem *p = slice->view->p;
  const streaming_layout at = lay_out(p, tiling, block);
  streaming st = {
      .slice = slice,
      .view = slice->view,
      .rows = slice->row_end - slice->row_begin,
      .depth = packed_depth(p),
      .width = round_up(p->v_head_dim, LANES),
      .BLOCK = block,
      .factor = exp2_factor(attend_score_unit(p)),
      .work = attend_scores_need_work(p),
      .in = score_terms_of(p),
      .small = log2f(w->many),
      .most = MOST_WEIGHT * w->one,
      .q = (uint16_t *)(scratch + at.q),
      .k = (uint16_t *)(scratch + at.k),
      .v = {(uint16_t *)(scratch + at.v), (uint16_t *)(scratch + at.v) + round_up(p->v_head_dim, LANES) * block},
      .relative = (float *)(scratch + at.relative),
      .attended = {(uint16_t *)(scratch + at.attended), (uint16_t *)(scratch + at.attended) + 2 * block},
      .s = {(float *)(scratch + at.s), (float *)(scratch + at.s) + TURN_SCORES},
      .p = {(uint16_t *)(scratch + at.p), (uint16_t *)(scratch + at.p) + GROUP * block},
      .o = (float *)(scratch + at.o),
      .row = (float *)(scratch + at.row),
      .statistics = (row_statistics *)(scratch + at.statistics),
      .ranges = (key_range *)(scratch + at.range),
      .groups = (row_group *)(scratch + at.group),
      .listed = (const void **)(scratch + at.listed),
      .plain = scratch + at.plain,
      .packed_keys = -1,
      .packed_values = -1};
  begin_rows(&st);
  run_units(&st);
  for (int64_t row = 0; row < st.rows; row += TILE_ROWS) {
    if (!st.groups[row / GROUP].begun && row % GROUP == 0) clear_outputs(&st, row);
    finish_tile_rows(&st, row, w);
  }
}

static void run(const attend_slice *slice, const attend_tiling *tiling, char *scratch, int block) {
  weighing how = ordinary_weights(slice->view->p);
  do run_once(slice, tiling, scratch, block, &how);
  while (weigh_again(&how));
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
