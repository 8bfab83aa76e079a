/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The products of decode with keys and values whose scales lie in a tensor of their own (ATTEND_FORMAT_SCALED), which
 * become numbers in registers: each once for all rows of a tile, by the operations of read_scaled(), so that every bit
 * is the same by way of a buffer. Included by decode_formats.h.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_SCALED_H
#define ATTEND_KERNELS_BODY_DECODE_SCALED_H

/**
 * Where the scales of a chunk's rows lie as f32: from row to row and from step to step of 32 elements the same number
 * of bytes, with zero points, if there are any, as far behind all of them. As they are in their tensor, if they are f32
 * and for a step or a whole row each; else as they are put. (Putting all of them took i4 1.1 times as long.) Unsigned
 * integers have zero points, so that those without need no operation for signs (0.95 of the time).
 */
typedef struct chunk_scales {
  const char *at[DECODE_CHUNK]; /**< of the first row of each run */
  int64_t row, step, zeros;
  bool is_unsigned;
  float middle; /**< what loaders have subtracted from unsigned integers */
} chunk_scales;

/** A number of each group of `rows` rows that lie evenly, SIZE bytes, as many times as it has steps, to `to`. */
ATTEND_INLINE void copy_scales(const attend_row_scales *scales, const char *from, int64_t rows, int64_t groups,
                               int64_t times, char *to, const int SIZE) {
  for (int64_t i = 0; i < rows; i++, from += scales->stride)
    for (int64_t g = 0; g < groups; g++)
      for (int64_t k = 0; k < times; k++, to += SIZE) memcpy(to, from + g * scales->step, (size_t)SIZE);
}

/** The same as f32 of rows `row` to row + rows that may lie in pages, or without an address `otherwise`. */
ATTEND_OUTLINE void put_scales(const attend_rows *all, const char *at, float otherwise, int64_t row, int64_t rows,
                               int64_t groups, int64_t times, float *to) {
  const attend_row_scales *scales = &all->scales;
  const int64_t steps = groups * times, numbers = rows * steps;
  uint16_t *halves = (uint16_t *)(void *)(to + numbers + LANES), *next = halves;
  if (!at) {
    for (int64_t i = 0; i < numbers; i++) to[i] = otherwise;
    return;
  }
  for (int64_t i = 0, n; i < rows; i += n) {
    n = min_i64(attend_rows_together(all, row + i), rows - i);
    const char *from = at + attend_row_scales_at(all, row + i);
    if (scales->dtype == ATTEND_F32)
      copy_scales(scales, from, n, groups, times, (char *)(to + i * steps), sizeof(float));
    else
      copy_scales(scales, from, n, groups, times, (char *)next, sizeof(uint16_t)), next += n * steps;
  }
  for (int64_t i = 0; scales->dtype != ATTEND_F32 && i < numbers; i += LANES)
    vf_store(to + i, vf_load_f16_n(halves + i, (int)min_i64(LANES, numbers - i)));
}

/** The scales of a chunk of keys or values, the first-th of a block and on. `room` is for what has to be put there. */
ATTEND_OUTLINE void take_scales(const kv_block *block, const attend_rows *all, int64_t first, const kv_rows *chunk,
                                float *room, chunk_scales *to) {
  static const float one = 1.0f;
  const attend_row_scales *from = &all->scales;
  const bool whole = from->group >= block->dim;
  int64_t row = block->key + first;
  *to = (chunk_scales){.is_unsigned = from->is_unsigned,
                       .middle = !from->is_unsigned        ? 0.0f
                                 : all->dtype == ATTEND_I8 ? 128.0f
                                                           : 8.0f};
  if (!from->at && !from->is_unsigned) {
    for (int i = 0; i < chunk->runs; i++) to->at[i] = (const char *)&one;
  } else if (from->dtype == ATTEND_F32 && (whole || from->group == STEP) && (from->zeros || !from->is_unsigned)) {
    to->row = from->stride, to->step = whole ? 0 : from->step;
    to->zeros = (int64_t)((uintptr_t)from->zeros - (uintptr_t)from->at);
    for (int i = 0; i < chunk->runs; row += chunk->run[i].count, i++)
      to->at[i] = from->at + attend_row_scales_at(all, row);
  } else {
    const int64_t groups = whole ? 1 : block->dim / from->group, times = whole ? 1 : from->group / STEP;
    const int64_t steps = groups * times, numbers = DECODE_CHUNK * steps;
    const char *at = (const char *)room;
    put_scales(all, from->at, 1.0f, row, chunk->count, groups, times, room);
    if (from->zeros || from->is_unsigned)
      put_scales(all, from->zeros, to->middle, row, chunk->count, groups, times, room + numbers);
    to->row = steps * (int64_t)sizeof(float), to->step = whole ? 0 : (int64_t)sizeof(float);
    to->zeros = numbers * (int64_t)sizeof(float);
    for (int i = 0; i < chunk->runs; at += chunk->run[i].count * to->row, i++) to->at[i] = at;
  }
}

/** Keys of a run, and what is the same for all of them. */
typedef struct scaled_keys {
  const char *at, *scale;
  int64_t stride, dim, ahead, row, step, zeros;
  bool to_l1, is_unsigned;
  float middle;
} scaled_keys;

/** The products with one format, with zero points or without: over a full tile of rows, and over a single one. */
typedef struct score_scaled_functions {
  void (*whole)(const operand *q, const scaled_keys *k, float *s, int64_t ld);
  void (*few)(const operand *q, const scaled_keys *k, int64_t count, float *s, int64_t ld);
} score_scaled_functions;
typedef void value_scaled_function(const operand *s, int64_t ld, const kv_rows *v, const chunk_scales *scales,
                                   const float *alpha, float *o);
typedef struct scaled_products {
  const score_scaled_functions *scores, *scores_one;
  value_scaled_function *values, *values_one;
} scaled_products;

#ifdef ATTEND_FORMATS_IN_REGISTERS

ATTEND_INLINE vf scale_at(const char *p) { return vf_set1(*(const float *)(const void *)p); }

/** Loads a step of a row, as numbers. */
ATTEND_INLINE void load_scaled(const char *p, const char *scale, const char *zero, bool is_unsigned, vf middle,
                               vf x[STEP_VECTORS], const attend_dtype DTYPE, const bool ZEROS) {
  const vf by = scale_at(scale), from = ZEROS ? vf_sub(scale_at(zero), middle) : middle;
  load_elements(p, DTYPE, ZEROS && is_unsigned, x);
  ATTEND_UNROLL
  for (int i = 0; i < STEP_VECTORS; i++) x[i] = vf_pin(vf_mul(by, ZEROS ? vf_sub(x[i], from) : x[i]));
}

/** Prefetches COUNT keys, all at once: between their products it would take registers that addresses need. */
ATTEND_INLINE void prefetch_scaled(const scaled_keys *k, const char *at, const int COUNT, int64_t bytes) {
  const uintptr_t next = address_ahead(at, k->ahead);
  if (k->stride == bytes) {
    prefetch_row(next, COUNT * bytes, k->to_l1);
    return;
  }
  for (int j = 0; j < COUNT; j++) prefetch_row(next + (uintptr_t)(j * k->stride), bytes, k->to_l1);
}

/** As score_group(), of keys from k->at on. A few keys are read one by one. */
ATTEND_INLINE void score_scaled_group(const operand *q, const scaled_keys *k, int64_t count, float *s, int64_t ld,
                                      const int ROWS, const attend_dtype DTYPE, const bool ZEROS, const bool FEW) {
  const int KEYS = LANES / ROWS, QUAD = FEW ? 1 : KEYS < 4 ? KEYS : 4, BYTES = (int)attend_row_size(DTYPE, STEP);
  const int64_t step = k->step, bytes = k->dim / STEP * BYTES;
  const bool is_unsigned = k->is_unsigned;
  const vf middle = vf_set1(k->middle);
  vf acc[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) acc[i] = vf_zero();
  ATTEND_UNROLL
  for (int i = 0; i < KEYS; i += QUAD) {
    if (FEW && i >= count) break;
    /* Of four keys the last two are as far from the third one as the first two from the first. */
    const char *at[2] = {k->at + i * k->stride, k->at + (i + 2) * k->stride}, *const end = at[0] + bytes;
    const char *scale[2] = {k->scale + i * k->row, k->scale + (i + 2) * k->row}, *zero[2];
    for (int j = 0; j < 2; j++) zero[j] = (const char *)address_ahead(scale[j], k->zeros);
    if (!FEW && k->ahead) prefetch_scaled(k, at[0], QUAD, bytes);
    for (const operand *row = q; at[0] < end; row += STEP_VECTORS * ROWS * LANES) {
      vo x[STEP_VECTORS * SCORE_ROWS];
      ATTEND_UNROLL
      for (int j = 0; j < STEP_VECTORS * ROWS; j++) x[j] = vo_load(row + j * LANES);
      ATTEND_UNROLL
      for (int j = 0; j < QUAD; j++) {
        vf key[STEP_VECTORS];
        const int64_t of_row = j % 2 ? k->stride : 0, of_scale = j % 2 ? k->row : 0;
        load_scaled(at[j / 2] + of_row, scale[j / 2] + of_scale, zero[j / 2] + of_scale, is_unsigned, middle, key,
                    DTYPE, ZEROS);
        ATTEND_UNROLL
        for (int v = 0; v < STEP_VECTORS; v++) {
          ATTEND_UNROLL
          for (int r = 0; r < ROWS; r++) acc[r * KEYS + i + j] = vf_fma(x[v * ROWS + r], key[v], acc[r * KEYS + i + j]);
        }
      }
      ATTEND_UNROLL
      for (int j = 0; j < 2; j++) at[j] += BYTES, scale[j] += step, zero[j] += step;
    }
  }
  vf_store_groups(s, ld, vf_sum_each(acc), KEYS);
}

/** As value_blocks_tile(). */
ATTEND_INLINE void value_scaled_tile(const operand *s, int64_t ld, const kv_rows *v, const chunk_scales *scales,
                                     int64_t first, const float *alpha, float *o, int64_t width, const int ROWS,
                                     const int VECS, const attend_dtype DTYPE, const bool ZEROS) {
  const int BYTES = (int)attend_row_size(DTYPE, STEP);
  const vf middle = vf_set1(scales->middle);
  const int64_t step = scales->step;
  vf acc[BLOCK_ROWS][BLOCK_VECTORS];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) acc[r][c] = vf_mul(vf_set1(alpha[r]), vf_load(o + r * width + c * LANES));
  }
  for (int i = 0; i < v->runs; s += v->run[i].count, i++) {
    const kv_run *run = &v->run[i];
    const char *at = run->at + first / STEP * BYTES, *scale = scales->at[i] + first / STEP * step;
    const int64_t ahead = first == 0 ? run->ahead : 0;
    for (int64_t j = 0; j < run->count; j++, at += run->stride, scale += scales->row) {
      if (ahead) prefetch_row(address_ahead(at, ahead), v->bytes, v->to_l1);
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c += STEP_VECTORS) {
        vf column[STEP_VECTORS];
        const char *of_step = scale + c / STEP_VECTORS * step;
        load_scaled(at + c / STEP_VECTORS * BYTES, of_step, (const char *)address_ahead(of_step, scales->zeros),
                    scales->is_unsigned, middle, column, DTYPE, ZEROS);
        ATTEND_UNROLL
        for (int n = 0; n < STEP_VECTORS; n++) {
          ATTEND_UNROLL
          for (int r = 0; r < ROWS; r++) acc[r][c + n] = vf_fma(vf_set1(s[r * ld + j]), column[n], acc[r][c + n]);
        }
      }
    }
  }
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) vf_store(o + r * width + c * LANES, acc[r][c]);
  }
}

ATTEND_INLINE void value_scaled_rows(const operand *s, int64_t ld, const kv_rows *v, const chunk_scales *scales,
                                     const float *alpha, float *o, const int ROWS, const attend_dtype DTYPE,
                                     const bool ZEROS) {
  const int64_t width = round_up(v->dim, WIDE);
  int64_t c = 0;
  for (; c + BLOCK_VECTORS * LANES <= v->dim; c += BLOCK_VECTORS * LANES)
    value_scaled_tile(s, ld, v, scales, c, alpha, o + c, width, ROWS, BLOCK_VECTORS, DTYPE, ZEROS);
  if (c < v->dim) value_scaled_tile(s, ld, v, scales, c, alpha, o + c, width, ROWS, STEP_VECTORS, DTYPE, ZEROS);
}

#ifdef ATTEND_BYTE_DOT /* scores are decode_int8.h's */
#define DEFINE_SCALED_SCORES(name, rows, dtype, zeros) static const score_scaled_functions scores_##name = {NULL, NULL};
#else
#define DEFINE_SCALED_SCORES(name, rows, dtype, zeros)                                                                 \
  ATTEND_OUTLINE void scores_whole_##name(const operand *q, const scaled_keys *k, float *s, int64_t ld) {              \
    score_scaled_group(q, k, LANES, s, ld, rows, dtype, zeros, false);                                                 \
  }                                                                                                                    \
  ATTEND_OUTLINE void scores_few_##name(const operand *q, const scaled_keys *k, int64_t count, float *s, int64_t ld) { \
    score_scaled_group(q, k, count, s, ld, rows, dtype, zeros, true);                                                  \
  }                                                                                                                    \
  static const score_scaled_functions scores_##name = {scores_whole_##name, scores_few_##name};
#endif
#define DEFINE_SCALED_VALUES(name, rows, dtype, zeros)                                                                 \
  ATTEND_OUTLINE void values_##name(const operand *s, int64_t ld, const kv_rows *v, const chunk_scales *scales,        \
                                    const float *alpha, float *o) {                                                    \
    value_scaled_rows(s, ld, v, scales, alpha, o, rows, dtype, zeros);                                                 \
  }
#define DEFINE_SCALED(name, dtype, zeros)                                                                              \
  DEFINE_SCALED_SCORES(name, SCORE_ROWS, dtype, zeros)                                                                 \
  DEFINE_SCALED_SCORES(one_##name, 1, dtype, zeros)                                                                    \
  DEFINE_SCALED_VALUES(name, BLOCK_ROWS, dtype, zeros)                                                                 \
  DEFINE_SCALED_VALUES(one_##name, 1, dtype, zeros)                                                                    \
  static const scaled_products name = {&scores_##name, &scores_one_##name, values_##name, values_one_##name};
#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_BLOCK(...)
#define ATTEND_FORMAT_SCALED(id, ...) DEFINE_SCALED(scaled_##id, ATTEND_##id, false)
#include "kernels/formats.def"
DEFINE_SCALED(moved_I8, ATTEND_I8, true)
DEFINE_SCALED(moved_I4, ATTEND_I4, true)

/** The products with keys or values of a scaled format, if their scales allow it; NULL for others. */
ATTEND_INLINE const scaled_products *products_of_scaled(const attend_rows *all, int64_t dim) {
  const attend_row_scales *s = &all->scales;
  if (attend_formats[all->dtype].kind != ATTEND_SCALED) return NULL;
  if (dim == 0 || dim % STEP || (s->at && s->group < dim && s->group % STEP)) return NULL;
  if (s->zeros || s->is_unsigned) return all->dtype == ATTEND_I8 ? &moved_I8 : &moved_I4; /* others have neither */
  switch (all->dtype) {
#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_BLOCK(...)
#define ATTEND_FORMAT_SCALED(id, ...)                                                                                  \
  case ATTEND_##id: return &scaled_##id;
#include "kernels/formats.def"
  default: return NULL;
  }
}

#else

ATTEND_INLINE const scaled_products *products_of_scaled(const attend_rows *all, int64_t dim) {
  (void)all, (void)dim;
  return NULL;
}

#endif

/** As score_rows(): of `rows` rows with the keys of a run. */
ATTEND_INLINE void score_scaled_rows(const operand *q, scaled_keys *k, int64_t count, float *s, int64_t ld, int rows,
                                     const score_scaled_functions *group) {
  const int keys = LANES / rows;
  const char *at = k->at, *scale = k->scale;
  if (count < keys) { /* scores are stored by whole groups */
    float few[LANES];
    group->few(q, k, count, few, keys);
    for (int r = 0; r < rows; r++)
      for (int64_t j = 0; j < count; j++) s[r * ld + j] = few[r * keys + j];
    return;
  }
  for (int64_t j = 0; j < count; j += keys) {
    const int64_t first = min_i64(j, count - keys); /* the last group may overlap the one before: same bits again */
    k->at = at + first * k->stride, k->scale = scale + first * k->row;
    group->whole(q, k, s + first, ld);
  }
  k->at = at, k->scale = scale;
}

/** As score_chunk(), for the keys of a block from its row `first` on. */
ATTEND_INLINE void score_scaled(const kv_block *block, const attend_rows *all, int64_t first, kv_rows *keys,
                                const scaled_products *products, const operand *q, int64_t q_stride, int64_t rows,
                                float *s, int64_t ld, char *room) {
  chunk_scales scales;
  take_scales(block, all, first, keys, (float *)(void *)room, &scales);
  for (int i = 0; i < keys->runs; i++) {
    const kv_run *run = &keys->run[i];
    scaled_keys k = {.at = run->at,
                     .scale = scales.at[i],
                     .stride = run->stride,
                     .dim = keys->dim,
                     .ahead = run->ahead,
                     .row = scales.row,
                     .step = scales.step,
                     .zeros = scales.zeros,
                     .to_l1 = keys->to_l1,
                     .is_unsigned = scales.is_unsigned,
                     .middle = scales.middle};
    for (int64_t r = 0; r < rows; k.ahead = 0) {
      const bool full = r + SCORE_ROWS <= rows;
      score_scaled_rows(q + r * q_stride, &k, run->count, s + r * ld, ld, full ? SCORE_ROWS : 1,
                        full ? products->scores : products->scores_one);
      r += full ? SCORE_ROWS : 1;
    }
    s += run->count;
  }
}

/** As value_chunk(). */
ATTEND_INLINE void value_scaled(const kv_block *block, const attend_rows *all, int64_t first, kv_rows *v,
                                const scaled_products *products, const operand *s, int64_t ld, int64_t rows,
                                const float *alpha, float *o, int64_t width, char *room) {
  chunk_scales scales;
  take_scales(block, all, first, v, (float *)(void *)room, &scales);
  for (int64_t r = 0; r < rows;) {
    const bool full = r + BLOCK_ROWS <= rows;
    (full ? products->values : products->values_one)(s + r * ld, ld, v, &scales, alpha + r, o + r * width);
    for (kv_run *run = v->run; run < v->run + v->runs; run++) run->ahead = 0;
    r += full ? BLOCK_ROWS : 1;
  }
}

#endif
