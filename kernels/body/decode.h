/* SPDX-License-Identifier: Apache-2.0 */
/**
 * decode: online softmax for few query rows, bound by how fast keys and values can be read.
 *
 * Nothing is packed. Keys are read where they lie, multiplied element by element with several query rows and summed
 * across lanes at the end; further query rows find the block in the cache, so that memory is read once for the whole
 * query-head group. Values are read where they lie, too. While a row is read, a row some KiB further on is prefetched,
 * so that memory does not wait for arithmetic.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_H
#define ATTEND_KERNELS_BODY_DECODE_H

#include "kernels/body/dropout.h"
#include "kernels/body/finish.h"
#include "kernels/body/kv_chunks.h"
#include "kernels/body/nonfinite.h"
#include "kernels/body/softmax.h"
#include "kernels/size.h"

/** Elements of a vector of operands. */
enum { WIDE = PER_OPERAND * LANES };

/** Rows of a score group: four at most, and so many that LANES sums leave four keys a row. */
enum { SCORE_ROWS = LANES >= 16 ? 4 : LANES >= 8 ? 2 : 1 };

#include "kernels/body/decode_queries.h"

/** A head of a slice: where it lies, what it has so far, and what masks do to the block that is at hand. */
typedef struct decode_head {
  const attend_view *view;
  float *partial; /**< see attend_slice */
  operand *q;
  float *s, *o, *max, *alpha, *sum;
  block_masks masks;
  bool selected; /**< values of some key are kept from some row */
} decode_head;

/** Where things lie in the scratch, in bytes. */
typedef struct decode_layout {
  size_t heads, q, s, o, max, alpha, sum, range, copies, noted, plain, total;
  int64_t rows; /**< of a head */
} decode_layout;

ATTEND_INLINE decode_layout decode_plan(const attend_problem *p, const attend_tiling *tiling, const int ROWS,
                                        const int BLOCK) {
  const int64_t heads = max_i64(1, tiling->heads);
  const size_t dim = (size_t)query_stride(p->head_dim);
  const size_t width = (size_t)round_up(p->v_head_dim, WIDE);
  decode_layout at = {.rows = round_up(tiling->slice_rows, ROWS)};
  const size_t rows = size_mul((size_t)at.rows, (size_t)heads);
  at.heads = size_take(&at.total, (size_t)heads, sizeof(decode_head));
  at.q = size_take(&at.total, size_mul(rows, dim), sizeof(operand));
  at.s = size_take(&at.total, size_mul(rows, (size_t)BLOCK), sizeof(float));
  at.o = size_take(&at.total, size_mul(rows, width), sizeof(float));
  at.max = size_take(&at.total, rows, sizeof(float));
  at.alpha = size_take(&at.total, size_add(rows, 16), sizeof(float)); /* whole vectors are stored */
  at.sum = size_take(&at.total, size_mul(rows, LANES), sizeof(float));
  at.range = size_take(&at.total, (size_t)at.rows, sizeof(key_range));
  at.copies =
      size_take(&at.total, size_mul((size_t)p->v_head_dim, attend_dtype_size(plain_dtype(p->v_dtype))), DECODE_CHUNK);
  at.noted = size_take(&at.total, noted_size(DECODE_CHUNK), 1);
  at.plain = size_take(&at.total, plain_kv_size(p, DECODE_CHUNK), 1);
  return at;
}

/**
 * Scores of a group of ROWS query rows with LANES / ROWS keys, `stride` bytes apart, to s, rows ld apart. Every key
 * element that is loaded serves all ROWS rows. Four keys at a time: more pointers than that do not fit registers. FEW:
 * there are only `count` keys, and the last of them takes the place of those that are missing. It is a constant,
 * because a group of 128 elements takes so little time that testing it costs 4 %. So are FETCH and TO_L1: as much is
 * prefetched meanwhile, from `next` on, `apart` bytes from key to key.
 */
ATTEND_INLINE void score_group(const operand *q, const char *k, int64_t stride, int64_t count, int64_t dim,
                               uintptr_t next, int64_t apart, float *s, int64_t ld, const int ROWS,
                               const attend_dtype DTYPE, const bool FEW, const bool FETCH, const bool TO_L1) {
  const int KEYS = LANES / ROWS, QUAD = KEYS < 4 ? KEYS : 4;
  const int64_t whole = dim / WIDE * WIDE, size = element_size(DTYPE);
  const bool flat = apart == dim * size;
  vf acc[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) acc[i] = vf_zero();
  ATTEND_UNROLL
  for (int i = 0; i < KEYS; i += QUAD) {
    if (FEW && i >= count) break;
    const int64_t second = FEW && i + 1 >= count ? 0 : stride, third = FEW && i + 2 >= count ? second : 2 * stride;
    const int64_t fourth = FEW && i + 3 >= count ? third : 3 * stride;
    const char *at = k + i * stride, *end = at + whole * size;
    keys_ahead fetch = {next + (uintptr_t)(i * apart), 0};
    const operand *row = q;
    for (; at < end; at += WIDE * size, row += ROWS * LANES) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      vo key[4];
      if (FETCH) prefetch_keys(&fetch, flat, apart, QUAD, (int)(WIDE * size), TO_L1);
      ATTEND_UNROLL
      for (int j = 0; j < QUAD; j++) key[j] = vo_pin(vo_read(keys[j], DTYPE));
      ATTEND_UNROLL
      for (int r = 0; r < ROWS; r++) {
        const vo x = vo_load(row + r * LANES);
        ATTEND_UNROLL
        for (int j = 0; j < QUAD; j++) acc[r * KEYS + i + j] = vo_dot(x, key[j], acc[r * KEYS + i + j]);
      }
    }
    if (whole < dim) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      ATTEND_UNROLL
      for (int j = 0; j < QUAD; j++) {
        const vo key = vo_read_n(keys[j], DTYPE, (int)(dim - whole));
        ATTEND_UNROLL
        for (int r = 0; r < ROWS; r++)
          acc[r * KEYS + i + j] = vo_dot(vo_load(row + r * LANES), key, acc[r * KEYS + i + j]);
      }
    }
  }
  vf_store_groups(s, ld, vf_sum_each(acc), KEYS);
}

/** score_group() for one number of rows and one element type: of as many keys as it takes, and of fewer. */
typedef struct score_functions {
  void (*whole)(const operand *q, const char *k, int64_t stride, int64_t dim, float *s, int64_t ld);
  void (*fetching[2])(const operand *q, const char *k, int64_t stride, int64_t dim, uintptr_t next, int64_t apart,
                      float *s, int64_t ld); /**< into L2, into L1 */
  void (*few)(const operand *q, const char *k, int64_t stride, int64_t count, int64_t dim, float *s, int64_t ld);
} score_functions;

#define DEFINE_SCORES(name, rows, dtype, of_group)                                                                     \
  ATTEND_OUTLINE void name##_whole(const operand *q, const char *k, int64_t stride, int64_t dim, float *s,             \
                                   int64_t ld) {                                                                       \
    of_group(q, k, stride, LANES / rows, dim, 0, 0, s, ld, rows, dtype, false, false, false);                          \
  }                                                                                                                    \
  ATTEND_OUTLINE void name##_l2(const operand *q, const char *k, int64_t stride, int64_t dim, uintptr_t next,          \
                                int64_t apart, float *s, int64_t ld) {                                                 \
    of_group(q, k, stride, LANES / rows, dim, next, apart, s, ld, rows, dtype, false, true, false);                    \
  }                                                                                                                    \
  ATTEND_OUTLINE void name##_l1(const operand *q, const char *k, int64_t stride, int64_t dim, uintptr_t next,          \
                                int64_t apart, float *s, int64_t ld) {                                                 \
    of_group(q, k, stride, LANES / rows, dim, next, apart, s, ld, rows, dtype, false, true, true);                     \
  }                                                                                                                    \
  ATTEND_OUTLINE void name##_few(const operand *q, const char *k, int64_t stride, int64_t count, int64_t dim,          \
                                 float *s, int64_t ld) {                                                               \
    of_group(q, k, stride, count, dim, 0, 0, s, ld, rows, dtype, true, false, false);                                  \
  }                                                                                                                    \
  static const score_functions name = {name##_whole, {name##_l2, name##_l1}, name##_few};
#define DEFINE_SCORE_GROUPS(suffix, dtype, ...)                                                                        \
  DEFINE_SCORES(score_group_##suffix, SCORE_ROWS, dtype, score_group)                                                  \
  DEFINE_SCORES(score_group_one_##suffix, 1, dtype, score_group)
ATTEND_EACH_DTYPE(DEFINE_SCORE_GROUPS, )

/** Scores of `rows` rows, as many as `group` takes, with all keys of a run, to s, rows ld apart. */
ATTEND_OUTLINE void score_rows(const operand *q, const kv_run *k, bool to_l1, int64_t dim, float *s, int64_t ld,
                               int rows, const score_functions *group) {
  const int keys = LANES / rows;
  if (k->count < keys) { /* scores are stored by whole groups */
    float few[LANES];
    group->few(q, k->at, k->stride, k->count, dim, few, keys);
    for (int r = 0; r < rows; r++)
      for (int64_t j = 0; j < k->count; j++) s[r * ld + j] = few[r * keys + j];
    return;
  }
  for (int64_t j = 0; j < k->count; j += keys) {
    const int64_t first = min_i64(j, k->count - keys); /* the last group may overlap the one before: same bits again */
    const char *at = k->at + first * k->stride;
    if (k->ahead)
      group->fetching[to_l1](q, at, k->stride, dim, address_ahead(k->at, k->ahead + first * k->apart), k->apart,
                             s + first, ld);
    else
      group->whole(q, at, k->stride, dim, s + first, ld);
  }
}

#include "kernels/body/decode_values.h"

#include "kernels/body/decode_formats.h"

#include "kernels/body/decode_int8.h"

/** Whether the `count` values from row `row` on are all finite. */
ATTEND_OUTLINE bool values_finite(const attend_rows *v, int64_t dim, int64_t row, int64_t count) {
  bool finite = true;
  for (int64_t i = 0, n; i < count && finite; i += n) {
    n = min_i64(attend_rows_together(v, row + i), count - i);
    finite = rows_finite(attend_row(v, row + i), v->stride, n, dim, v->dtype);
  }
  return finite;
}

/**
 * A key, none before which is excluded from any row, by whatever: one of `count`, by whole vectors of scores, or count.
 * Only values from there on that are not finite have to be kept from some row, and looking for them reads them twice.
 */
ATTEND_OUTLINE int64_t first_excluded(const float *s, int64_t rows, int64_t ld, int64_t count) {
  const vf least = vf_set1(-FLT_MAX);
  int64_t first = count;
  for (int64_t r = 0; r < rows; r++, s += ld)
    for (int64_t j = 0; j < first; j += LANES)
      if (vm_any(vm_and(vm_gt(least, vf_load(s + j)), vm_range(0, count - j)))) first = j;
  return first;
}

/** Rows of values that are looked through at once: most hold nothing but finite numbers where others do not. */
enum { LOOK_ROWS = 8 };
_Static_assert(LOOK_ROWS % PER_OPERAND == 0, "operands are copied as a whole");

/**
 * Puts copies, with 0 for what is not finite, in the place of such rows of a chunk of values, and notes their keys.
 * `first` is the chunk's first key, counted from the block's.
 */
ATTEND_OUTLINE void clean_chunk(kv_rows *chunk, attend_dtype dtype, int64_t first, char *copies, noted_keys *noted) {
  const kv_rows all = *chunk;
  chunk->runs = 0;
  for (const kv_run *run = all.run; run < all.run + all.runs; first += run->count, run++) {
    kv_run *to = NULL; /* which the next rows go on with, if they may stay where they are */
    for (int64_t j = 0, n; j < run->count; j += n) {
      const char *at = run->at + j * run->stride;
      n = min_i64(LOOK_ROWS, run->count - j);
      const bool finite = rows_finite(at, run->stride, n, all.dim, dtype);
      if (finite && to) {
        to->count += n;
        continue;
      }
      to = &chunk->run[chunk->runs++];
      *to = *run;
      to->at = at, to->count = n;
      if (run->ahead) to->ahead += j * (run->apart - run->stride);
      if (finite) continue;
      if (run->ahead) to->ahead += (int64_t)((uintptr_t)at - (uintptr_t)copies);
      to->at = copies, to->stride = all.bytes, to = NULL;
      for (int64_t i = 0; i < n; i++, copies += all.bytes)
        if (!copy_finite(at + i * run->stride, dtype, all.dim, copies))
          noted->key[noted->count++] = (int32_t)(first + j + i);
    }
  }
}

/** Scores of all rows with a chunk of keys. The first rows prefetch the lines ahead. */
ATTEND_INLINE void score_chunk(const operand *q, int64_t q_stride, kv_rows *keys, int64_t rows, float *s, int64_t ld,
                               const decode_products *products) {
  for (int i = 0; i < keys->runs; i++) {
    kv_run *k = &keys->run[i];
    for (int64_t r = 0; r < rows; k->ahead = 0) {
      const bool full = r + SCORE_ROWS <= rows;
      const int n = full ? SCORE_ROWS : 1;
      score_rows(q + r * q_stride, k, keys->to_l1, keys->dim, s + r * ld, ld, n,
                 full ? products->scores : products->scores_one);
      r += n;
    }
    s += k->count;
  }
}

/** What all heads of a slice share. */
typedef struct decode_pass_state {
  const attend_problem *p;
  const attend_slice *slice;
  attend_slice *alone; /**< of one of several heads: slice_of_head() */
  const attend_tiling *tiling;
  const decode_products *k_products, *v_products, *of_keys, *of_values; /**< the last two: of elements */
  const scaled_products *k_scaled, *v_scaled;                           /**< of scaled formats in registers, or NULL */
  const key_range *ranges;
  key_range all; /**< keys that some row attends */
  int64_t rows, q_stride, width, block;
  int heads;
  char *plain, *copies;
  noted_keys *noted;
  weighing *how;
} decode_pass_state;

/** The slice as if there were but one of its heads. */
ATTEND_INLINE const attend_slice *slice_of_head(const decode_pass_state *pass, const decode_head *head) {
  if (pass->heads == 1) return pass->slice;
  *pass->alone = *pass->slice;
  pass->alone->heads = 1, pass->alone->view = head->view, pass->alone->partial = head->partial;
  return pass->alone;
}

/** Lays out a head, and takes its queries. */
ATTEND_INLINE void begin_head(const decode_pass_state *pass, const decode_layout *at, int64_t i, char *scratch,
                              decode_head *head) {
  const int64_t first = i * at->rows, rows = pass->rows;
  head->view = pass->slice->view + i;
  head->partial = pass->slice->partial ? pass->slice->partial + i * pass->slice->partial_head : NULL;
  head->q = (operand *)(scratch + at->q) + first * pass->q_stride;
  head->s = (float *)(scratch + at->s) + first * pass->block;
  head->o = (float *)(scratch + at->o) + first * pass->width;
  head->max = (float *)(scratch + at->max) + first;
  head->alpha = (float *)(scratch + at->alpha) + first;
  head->sum = (float *)(scratch + at->sum) + first * LANES;
  for (int64_t r = 0; r < rows; r++) head->max[r] = -INFINITY;
  clear(head->sum, rows * LANES);
  clear(head->o, rows * pass->width);
  take_queries(slice_of_head(pass, head), pass->q_stride, head->q);
}

/** Turns to the `count` keys from `key` on, those of a block up to `end` that masks leave. */
ATTEND_INLINE void turn_to_block(const decode_pass_state *pass, int64_t key, int64_t count, int64_t end, kv_block *k,
                                 kv_block *v) {
  const attend_view *view = pass->slice->view;
  const attend_problem *p = pass->p;
  const int64_t score_passes = pass->rows / SCORE_ROWS + pass->rows % SCORE_ROWS;
  const int64_t value_passes = value_passes_of(pass->of_values, pass->rows, p->v_head_dim);
  take_block(&view->k, p->head_dim, key, count, pass->tiling, score_passes, k);
  take_block(&view->v, p->v_head_dim, key, count, pass->tiling, value_passes, v);
  if (pass->heads > 1) {
    const int64_t least = pass->rows % SCORE_ROWS ? LANES : LANES / SCORE_ROWS;
    const bool k_in_place = keys_in_place(p, pass->k_products);
    const bool v_in_place = !attend_is_format(p->v_dtype) || pass->v_products;
    take_turns(k, pass->heads, view[1].k.at - view->k.at, least, 1, k_in_place, pass->tiling->to_l1);
    take_turns(v, pass->heads, view[1].v.at - view->v.at, least, value_passes, v_in_place, pass->tiling->to_l1);
  }
  expect(k, &view->v, p->v_head_dim, key);
  const attend_slice *then = pass->slice->next;
  if (key + count + v->ahead <= pass->all.end)
    expect(v, &view->k, p->head_dim, key + count);
  else if (end >= pass->all.end && then && !p->window && then->heads == pass->heads &&
           then->key_begin + v->ahead <= then->key_end)
    expect(v, &then->view->k, p->head_dim, then->key_begin);
}

/**
 * Sees what masks do to keys *key to *end. Where heads share masks, each narrows the keys to those that masks leave to
 * some row, which are the same for all; what it has found stays true of fewer keys. Returns whether any is attended.
 */
ATTEND_INLINE bool look_at_masks(const decode_pass_state *pass, int64_t *key, int64_t *end, decode_head *head) {
  _Static_assert(ATTEND_MASK_BLOCK % SCORE_STEP == 0, "lanes of a row do not depend on masks");
  bool any = false;
  for (int h = 0; h < pass->heads; h++) {
    head[h].masks = masks_of(head[h].view, pass->slice->row_begin, pass->rows, key, end);
    any |= head[h].masks != MASKS_EXCLUDE;
  }
  return any;
}

/** Scores of a head with a chunk of keys, which begins at row j of the block. */
ATTEND_INLINE void score_head(const decode_pass_state *pass, const kv_block *block, int64_t j, kv_rows *chunk,
                              const decode_head *head) {
  const attend_rows *all = &head->view->k;
  if (pass->k_scaled) {
    score_scaled(block, all, j, chunk, pass->k_scaled, head->q, pass->q_stride, pass->rows, head->s + j, pass->block,
                 pass->plain);
    return;
  }
  if (attend_is_format(pass->p->k_dtype) && pass->k_products == pass->of_keys)
    read_chunk(block, all, j, chunk, pass->plain);
#ifdef ATTEND_BYTE_DOT
  if (pass->k_products == &int8_after_f32) pack_scales(block, all, j, chunk, pass->plain);
#endif
  score_chunk(head->q, pass->q_stride, chunk, pass->rows, head->s + j, pass->block, pass->k_products);
#ifdef ATTEND_BYTE_DOT
  if (pass->k_products == &int8_alone)
    finish_int8(block, all, j, chunk->count, head->q, pass->q_stride, pass->rows, head->s + j, pass->block);
#endif
  (void)all;
}

/** Turns the scores of a head's block into weights. */
ATTEND_INLINE void weigh_head(const decode_pass_state *pass, int64_t key, int64_t count, int tile, decode_head *head) {
  const attend_view *view = head->view;
  const attend_problem *p = pass->p;
  const int64_t rows = pass->rows, ld = pass->block;
  const int64_t steps = round_up(count, SCORE_STEP);
  const bool edge = attend_scores_need_work(p) || steps > count || !ranges_cover(pass->ranges, rows, key, key + count);
  if (edge) finish_scores(view, pass->slice->row_begin, pass->ranges, rows, key, 0, steps, head->masks, head->s, ld);
  /* If no key is excluded, only the operand that has one key too few holds a weight of 0. Values in a format would
   * have to be read twice to know whether they are finite. */
  const int64_t attended = edge ? first_excluded(head->s, rows, ld, count) : count;
  const int64_t safe = attended / PER_OPERAND * PER_OPERAND;
  head->selected = safe < count &&
                   (attend_is_format(p->v_dtype) || !values_finite(&view->v, p->v_head_dim, key + safe, count - safe));
  for (int64_t r = 0; r < rows; r += tile)
    softmax_step(head->s + r * ld, ld, (int)min_i64(tile, rows - r), 0, steps, pass->how->unit, false, head->selected,
                 pass->how->one, head->max + r, head->sum + r * LANES, head->alpha + r);
  if (p->dropout > 0.0f) drop_tile(slice_of_head(pass, head), 0, (int)rows, key, 0, steps, head->s, ld);
}

/** Adds a chunk of values to a head, which begins at row j of the block. */
ATTEND_INLINE void add_values(const decode_pass_state *pass, const kv_block *block, int64_t j, kv_rows *chunk,
                              decode_head *head) {
  const attend_problem *p = pass->p;
  const attend_rows *all = &head->view->v;
  const bool read = attend_is_format(p->v_dtype) && (head->selected || (!pass->v_products && !pass->v_scaled));
  const operand *weights = (const operand *)head->s + j / PER_OPERAND;
  if (read) read_chunk(block, all, j, chunk, pass->plain);
  pass->noted->count = 0;
  if (head->selected) clean_chunk(chunk, plain_dtype(p->v_dtype), j, pass->copies, pass->noted);
  if (pass->v_scaled && !read)
    value_scaled(block, all, j, chunk, pass->v_scaled, weights, operands_in(pass->block), pass->rows, head->alpha,
                 head->o, pass->width, pass->plain);
  else
    value_chunk(weights, operands_in(pass->block), chunk, pass->rows, head->alpha, head->o, pass->width,
                pass->v_products && !read ? pass->v_products : pass->of_values);
  add_nonfinite(pass->noted, all, p->v_head_dim, block->key, j, j + chunk->count, head->s, pass->block, pass->rows,
                head->o, pass->width, pass->plain);
  for (int64_t r = 0; j == 0 && r < pass->rows; r++) head->alpha[r] = 1.0f;
}

/**
 * Computes a slice of one head, or of several whose keys and values lie side by side: these take turns, chunk by chunk,
 * so that memory is read in long pieces.
 */
ATTEND_OUTLINE void decode_pass(const attend_slice *slice, const attend_tiling *tiling, char *scratch, int ROWS,
                                int BLOCK, const decode_products *of_keys, const decode_products *of_values,
                                weighing *how) {
  const attend_problem *p = slice->view->p;
  const decode_layout at = decode_plan(p, tiling, ROWS, BLOCK);
  decode_head *const head = (decode_head *)(scratch + at.heads);
  key_range *ranges = (key_range *)(scratch + at.range);
  const int heads = slice->heads;
  /* Formats without products of their own are read to a buffer. */
  const decode_products *k_products = products_of_keys(p);
  attend_slice alone;
  decode_pass_state pass = {.p = p,
                            .slice = slice,
                            .alone = &alone,
                            .tiling = tiling,
                            .k_products = k_products ? k_products : of_keys,
                            .v_products = products_of_format(p->v_dtype),
                            .of_keys = of_keys,
                            .of_values = of_values,
                            .k_scaled = k_products ? NULL : products_of_scaled(&slice->view->k, p->head_dim),
                            .v_scaled = products_of_scaled(&slice->view->v, p->v_head_dim),
                            .ranges = ranges,
                            .rows = slice->row_end - slice->row_begin,
                            .q_stride = query_stride(p->head_dim),
                            .width = round_up(p->v_head_dim, WIDE),
                            .block = BLOCK,
                            .heads = heads,
                            .plain = scratch + at.plain,
                            .copies = scratch + at.copies,
                            .noted = (noted_keys *)(scratch + at.noted),
                            .how = how};
  attended_ranges(slice, ranges);
  const key_range all = pass.all = range_union(ranges, ranges_agree(&slice->view->keys) ? 1 : pass.rows);
  for (int h = 0; h < heads; h++) begin_head(&pass, &at, h, scratch, &head[h]);
  for (int64_t block = all.begin / BLOCK * BLOCK; block < all.end; block += BLOCK) {
    /* Keys count from a multiple of SCORE_STEP, so that a row's lanes do not depend on the slice's other rows. */
    const int64_t begin = max_i64(0, all.begin - block) / SCORE_STEP * SCORE_STEP;
    int64_t key = block + begin, end = min_i64(block + BLOCK, all.end);
    kv_rows chunk, of_head;
    kv_block k, v;
    const int64_t block_end = end;
    if (!look_at_masks(&pass, &key, &end, head)) continue;
    const int64_t count = end - key;
    turn_to_block(&pass, key, count, block_end, &k, &v);
    for (int64_t j = 0; j < count; j += chunk.count) {
      next_chunk(&k, j, &chunk);
      for (int h = 0; h < heads; h++) {
        if (head[h].masks == MASKS_EXCLUDE) continue;
        if (heads > 1) chunk_of_head(&k, &chunk, h, &of_head);
        score_head(&pass, &k, j, heads > 1 ? &of_head : &chunk, &head[h]);
      }
    }
    for (int h = 0; h < heads; h++)
      if (head[h].masks != MASKS_EXCLUDE) weigh_head(&pass, key, count, ROWS, &head[h]);
    for (int64_t j = 0; j < count; j += chunk.count) {
      next_chunk(&v, j, &chunk);
      for (int h = 0; h < heads; h++) {
        if (head[h].masks == MASKS_EXCLUDE) continue;
        if (heads > 1) chunk_of_head(&v, &chunk, h, &of_head);
        add_values(&pass, &v, j, heads > 1 ? &of_head : &chunk, &head[h]);
      }
    }
  }
  for (int h = 0; h < heads; h++)
    finish_rows(slice_of_head(&pass, &head[h]), slice->row_begin, pass.rows, head[h].max, head[h].sum, head[h].o,
                pass.width, how);
}

ATTEND_INLINE void decode_run(const attend_slice *slice, const attend_tiling *tiling, char *scratch, int ROWS,
                              int BLOCK, const decode_products *of_keys, const decode_products *of_values) {
  weighing how = ordinary_weights(slice->view->p);
  do decode_pass(slice, tiling, scratch, ROWS, BLOCK, of_keys, of_values, &how);
  while (weigh_again(&how));
}

#define ATTEND_DECODE_PRODUCTS(suffix, dtype, id, rows, block, vecs)                                                   \
  DEFINE_VALUES(id##_values_tall_##suffix, TALL_ROWS(rows), block, (vecs) * (rows) / TALL_ROWS(rows), dtype)           \
  DEFINE_VALUES(id##_values_##suffix, rows, block, vecs, dtype)                                                        \
  DEFINE_VALUES(id##_values_one_##suffix, 1, block, vecs, dtype)                                                       \
  static const decode_products id##_products_##suffix = {                                                              \
      &score_group_##suffix,                                                                                           \
      &score_group_one_##suffix,                                                                                       \
      {{TALL_ROWS(rows) > (rows) ? id##_values_tall_##suffix : id##_values_##suffix, TALL_ROWS(rows),                  \
        (vecs) * (rows) / TALL_ROWS(rows) * LANES},                                                                    \
       {id##_values_##suffix, rows, (vecs) * LANES},                                                                   \
       {id##_values_one_##suffix, 1, (vecs) * LANES}},                                                                 \
      TALL_FROM(dtype)};

#define ATTEND_DECODE_PRODUCTS_AT(suffix, dtype, id) [dtype] = &id##_products_##suffix,

#define ATTEND_DECODE(id, rows, block, vecs)                                                                           \
  ATTEND_EACH_DTYPE(ATTEND_DECODE_PRODUCTS, id, rows, block, vecs)                                                     \
  static size_t id##_scratch(const attend_problem *problem, const attend_tiling *tiling) {                             \
    return decode_plan(problem, tiling, rows, block).total;                                                            \
  }                                                                                                                    \
  static void id(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {                              \
    static const decode_products *const products[] = {ATTEND_EACH_DTYPE(ATTEND_DECODE_PRODUCTS_AT, id)};               \
    const attend_problem *p = slice->view->p;                                                                          \
    decode_run(slice, tiling, scratch, rows, block, products[plain_dtype(p->k_dtype)],                                 \
               products[plain_dtype(p->v_dtype)]);                                                                     \
  }                                                                                                                    \
  ATTEND_DESCRIBE(id, ATTEND_BODY_DECODE,                                                                              \
                  ATTEND_CAN_SPLIT | (ATTEND_CAN_OPERANDS & ATTEND_CAN_DROPOUT) |                                      \
                      (INT8_QUERIES ? ATTEND_CAN_INT8 : 0),                                                            \
                  rows, block)

#include "kernels/body/expand.h"

#endif
