/* SPDX-License-Identifier: Apache-2.0 */
/**
 * decode: online softmax for few query rows, bound by how fast keys and values can be read.
 *
 * Nothing is packed. Keys are read where they lie, multiplied element by element with several query rows and summed
 * across lanes at the end; further query rows find the block in the cache, so that memory is read once for the whole
 * query-head group. Values are read where they lie, too. Each line that is read asks for the one a block further on, so
 * that memory does not wait for arithmetic.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_H
#define ATTEND_KERNELS_BODY_DECODE_H

#include "kernels/body/finish.h"
#include "kernels/body/softmax.h"
#include "kernels/size.h"

/** Where things lie in the scratch, in bytes. */
typedef struct decode_layout {
  size_t q, s, o, max, sum, range, total;
} decode_layout;

ATTEND_INLINE decode_layout decode_plan(const attend_resolved *problem, const attend_tiling *tiling, const int ROWS,
                                        const int BLOCK) {
  const size_t rows = (size_t)round_up(min_i64(tiling->slice_rows, problem->rows), ROWS);
  const size_t dim = (size_t)round_up(problem->p.head_dim, LANES);
  const size_t width = (size_t)round_up(problem->p.v_head_dim, LANES);
  decode_layout at = {0};
  at.q = size_take(&at.total, size_mul(rows, dim), sizeof(float));
  at.s = size_take(&at.total, size_mul(rows, (size_t)BLOCK), sizeof(float));
  at.o = size_take(&at.total, size_mul(rows, width), sizeof(float));
  at.max = size_take(&at.total, rows, sizeof(float));
  at.sum = size_take(&at.total, size_mul(rows, LANES), sizeof(float));
  at.range = size_take(&at.total, rows, sizeof(key_range));
  return at;
}

/** Query rows as f32, `width` floats apart and filled up with zeros, negated for a negative scale (score_unit()). */
ATTEND_OUTLINE void copy_queries(const attend_call *call, const attend_slice *slice, int64_t width, float *q) {
  const attend_problem *p = &call->problem->p;
  const vf sign = vf_set1(p->scale < 0.0f ? -1.0f : 1.0f);
  for (int64_t row = slice->row_begin; row < slice->row_end; row++, q += width) {
    const void *from = query_at(call, place_of(call, slice, row));
    for (int64_t d = 0; d < width; d += LANES) {
      const int n = (int)min_i64(LANES, p->head_dim - d);
      vf_store(q + d, vf_mul(sign, load_as_f32_n(element(from, p->q_dtype, d), p->q_dtype, n)));
    }
  }
}

/** Asks for the cache lines of `rows` rows of `bytes` bytes, `stride` bytes apart. */
ATTEND_INLINE void prefetch_rows(const char *p, int64_t stride, int rows, int64_t bytes) {
  for (int i = 0; i < rows; i++, p += stride)
    for (int64_t at = 0; at < bytes; at += 64) vf_prefetch(p + at);
}

/**
 * Scores of ROWS query rows, q_stride apart, with LANES / ROWS keys, `stride` bytes apart, to s, rows LD apart. Every
 * key element that is loaded serves all ROWS rows. `tail` elements are left over behind the `whole` ones of a key.
 */
ATTEND_INLINE void score_group(const float *q, int64_t q_stride, const char *k, int64_t stride, int64_t whole, int tail,
                               float *s, const int ROWS, const int LD, const attend_dtype DTYPE) {
  const int KEYS = LANES / ROWS;
  vf acc[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) acc[i] = vf_zero();
  for (int64_t d = 0; d < whole; d += LANES) {
    vf key[LANES];
    ATTEND_UNROLL
    for (int i = 0; i < KEYS; i++) key[i] = load_as_f32(element(k + i * stride, DTYPE, d), DTYPE);
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vf row = vf_load(q + r * q_stride + d);
      ATTEND_UNROLL
      for (int i = 0; i < KEYS; i++) acc[r * KEYS + i] = vf_fma(row, key[i], acc[r * KEYS + i]);
    }
  }
  if (tail) {
    for (int r = 0; r < ROWS; r++) {
      const vf row = vf_load(q + r * q_stride + whole);
      ATTEND_UNROLL
      for (int i = 0; i < KEYS; i++)
        acc[r * KEYS + i] =
            vf_fma(row, load_as_f32_n(element(k + i * stride, DTYPE, whole), DTYPE, tail), acc[r * KEYS + i]);
    }
  }
  vf_store_groups(s, LD, vf_sum_each(acc), KEYS);
}

/** Scores of ROWS rows with all `count` keys of a block; asks for the lines `ahead` bytes on, if that is not 0. */
ATTEND_INLINE void score_rows(const float *q, int64_t dim, const char *k, int64_t stride, int64_t count, int64_t ahead,
                              float *s, const int ROWS, const int LD, const attend_dtype DTYPE) {
  const int KEYS = LANES / ROWS;
  const int64_t whole = dim / LANES * LANES, q_stride = round_up(dim, LANES);
  const int tail = (int)(dim - whole);
  const int64_t bytes = dim * (DTYPE == ATTEND_F32 ? 4 : 2);
  if (count < KEYS) { /* fewer keys than a group holds: one at a time, as a group of copies */
    float one[LANES];
    for (int64_t j = 0; j < count; j++) {
      score_group(q, q_stride, k + j * stride, 0, whole, tail, one, ROWS, KEYS, DTYPE);
      for (int r = 0; r < ROWS; r++) s[r * LD + j] = one[r * KEYS];
    }
    return;
  }
  for (int64_t j = 0; j < count; j += KEYS) {
    const int64_t at = min_i64(j, count - KEYS); /* the last group may overlap the one before: same bits again */
    if (ahead) prefetch_rows(k + at * stride + ahead, stride, KEYS, bytes);
    score_group(q, q_stride, k + at * stride, stride, whole, tail, s + at, ROWS, LD, DTYPE);
  }
}

/** Scores of all rows with `count` keys at k, to s, BLOCK floats apart. */
ATTEND_INLINE void decode_scores(const float *q, int64_t rows, int64_t dim, const char *k, int64_t stride,
                                 int64_t count, float *s, const int ROWS, const int BLOCK, const attend_dtype DTYPE) {
  const int64_t q_stride = round_up(dim, LANES), ahead = BLOCK * stride;
  int64_t r = 0;
  for (; r + ROWS <= rows; r += ROWS)
    score_rows(q + r * q_stride, dim, k, stride, count, r ? 0 : ahead, s + r * BLOCK, ROWS, BLOCK, DTYPE);
  for (; r < rows; r++)
    score_rows(q + r * q_stride, dim, k, stride, count, r ? 0 : ahead, s + r * BLOCK, 1, BLOCK, DTYPE);
}

/** o = alpha * o + p v for ROWS rows and VECS vectors of columns of values that lie `stride` bytes apart. */
ATTEND_INLINE void decode_value_tile(const float *s, const char *v, int64_t stride, int64_t count, const float *alpha,
                                     float *o, int64_t width, int tail, int64_t ahead, const int ROWS, const int VECS,
                                     const int BLOCK, const attend_dtype DTYPE) {
  vf acc[4][8];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) acc[r][c] = vf_mul(vf_set1(alpha[r]), vf_load(o + r * width + c * LANES));
  }
  for (int64_t j = 0; j < count; j++, v += stride) {
    vf column[8];
    if (ahead) prefetch_rows(v + ahead, 0, 1, VECS * LANES * (DTYPE == ATTEND_F32 ? 4 : 2));
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++)
      column[c] = tail ? load_as_f32_n(element(v, DTYPE, c * LANES), DTYPE, tail)
                       : load_as_f32(element(v, DTYPE, c * LANES), DTYPE);
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const vf weight = vf_set1(s[r * BLOCK + j]);
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c++) acc[r][c] = vf_fma(weight, column[c], acc[r][c]);
    }
  }
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) vf_store(o + r * width + c * LANES, acc[r][c]);
  }
}

/** The same for all columns. */
ATTEND_INLINE void decode_values(const float *s, const char *v, int64_t stride, int64_t count, const float *alpha,
                                 float *o, int64_t dim, int64_t ahead, const int ROWS, const int VECS, const int BLOCK,
                                 const attend_dtype DTYPE) {
  const int64_t width = round_up(dim, LANES);
  int64_t c = 0;
  for (; c + VECS * LANES <= dim; c += VECS * LANES)
    decode_value_tile(s, element(v, DTYPE, c), stride, count, alpha, o + c, width, 0, ahead, ROWS, VECS, BLOCK, DTYPE);
  for (; c + LANES <= dim; c += LANES)
    decode_value_tile(s, element(v, DTYPE, c), stride, count, alpha, o + c, width, 0, ahead, ROWS, 1, BLOCK, DTYPE);
  if (c < dim)
    decode_value_tile(s, element(v, DTYPE, c), stride, count, alpha, o + c, width, (int)(dim - c), ahead, ROWS, 1,
                      BLOCK, DTYPE);
}

/** Whether all values of `count` keys are finite. */
ATTEND_OUTLINE bool values_finite(const attend_call *call, const attend_slice *slice, int64_t key, int64_t count) {
  const attend_problem *p = &call->problem->p;
  vf bad = vf_zero();
  for (int64_t i = 0; i < count; i++) {
    const char *v = value_at(call, slice, key + i);
    for (int64_t d = 0; d < p->v_head_dim; d += LANES)
      bad = vf_fma(vf_zero(),
                   load_as_f32_n(element(v, p->kv_dtype, d), p->kv_dtype, (int)min_i64(LANES, p->v_head_dim - d)), bad);
  }
  return vf_hsum(bad) == 0.0f;
}

/** As value_selected() of the packed bodies: a weight of 0 means "not attended", and its value is not read. */
ATTEND_OUTLINE void decode_values_selected(const attend_call *call, const attend_slice *slice, const float *s,
                                           int64_t key, int64_t count, float alpha, float *o) {
  const attend_problem *p = &call->problem->p;
  for (int64_t d = 0; d < p->v_head_dim; d += LANES) {
    vf acc = vf_mul(vf_set1(alpha), vf_load(o + d));
    for (int64_t j = 0; j < count; j++) {
      const void *v = element(value_at(call, slice, key + j), p->kv_dtype, d);
      const int n = (int)min_i64(LANES, p->v_head_dim - d);
      if (s[j] != 0.0f) acc = vf_fma(vf_set1(s[j]), load_as_f32_n(v, p->kv_dtype, n), acc);
    }
    vf_store(o + d, acc);
  }
}

ATTEND_INLINE void decode_run(const attend_call *call, const attend_slice *slice, char *scratch, const int ROWS,
                              const int BLOCK, const int VECS, const attend_dtype DTYPE) {
  const attend_problem *p = &call->problem->p;
  const decode_layout at = decode_plan(call->problem, &call->tiling, ROWS, BLOCK);
  float *q = (float *)(scratch + at.q), *s = (float *)(scratch + at.s), *o = (float *)(scratch + at.o);
  float *max = (float *)(scratch + at.max), *sum = (float *)(scratch + at.sum);
  key_range *ranges = (key_range *)(scratch + at.range);
  const int64_t rows = slice->row_end - slice->row_begin;
  const int64_t width = round_up(p->v_head_dim, LANES), size = DTYPE == ATTEND_F32 ? 4 : 2;
  /* Rows of a score group: four, as far as LANES sums leave four keys a row. */
  const int SCORE_ROWS = LANES >= 16 ? 4 : LANES >= 8 ? 2 : 1;

  for (int64_t i = 0; i < rows; i++) {
    ranges[i] = attended_range(call, slice, place_of(call, slice, slice->row_begin + i));
    max[i] = -INFINITY;
  }
  memset(sum, 0, (size_t)(rows * LANES) * sizeof *sum);
  memset(o, 0, (size_t)(rows * width) * sizeof *o);
  copy_queries(call, slice, round_up(p->head_dim, LANES), q);

  const bool work = scores_need_work(p);
  const float unit = score_unit(p);
  const key_range all = range_union(ranges, rows);
  for (int64_t block = all.begin / BLOCK * BLOCK; block < all.end; block += BLOCK) {
    /* Keys count from a multiple of LANES, so that a row's lanes do not depend on the slice's other rows. */
    const int64_t begin = max_i64(0, all.begin - block) / LANES * LANES;
    const int64_t count = min_i64(BLOCK, all.end - block) - begin, vectors = round_up(count, LANES);
    const int64_t key = block + begin;
    bool edge = work || vectors > count || !ranges_cover(ranges, rows, key, key + count);
    if (p->mask) {
      bool any = false;
      for (int64_t r = 0; r < rows && !any; r++)
        any = mask_allows_any(call, place_of(call, slice, slice->row_begin + r), max_i64(key, ranges[r].begin),
                              min_i64(key + count, ranges[r].end));
      if (!any) continue;
    }
    const char *k = key_at(call, slice, key), *v = value_at(call, slice, key);
    decode_scores(q, rows, p->head_dim, k, p->k_strides.row * size, count, s, SCORE_ROWS, BLOCK, DTYPE);
    if (edge)
      for (int64_t r = 0; r < rows; r++)
        finish_scores(call, place_of(call, slice, slice->row_begin + r), ranges[r], key, 0, vectors, s + r * BLOCK);
    const bool selected = edge && !values_finite(call, slice, key, count);
    for (int64_t r = 0; r < rows; r += ROWS) {
      const int n = (int)min_i64(ROWS, rows - r);
      float alpha[16];
      softmax_step(s + r * BLOCK, BLOCK, n, 0, vectors, unit, selected, max + r, sum + r * LANES, alpha);
      if (selected) {
        for (int i = 0; i < n; i++)
          decode_values_selected(call, slice, s + (r + i) * BLOCK, key, count, alpha[i], o + (r + i) * width);
        continue;
      }
      const int64_t stride = p->v_strides.row * size;
      const float *weights = s + r * BLOCK;
      float *to = o + r * width;
      const int64_t ahead = r ? 0 : BLOCK * stride;
      if (n == ROWS)
        decode_values(weights, v, stride, count, alpha, to, p->v_head_dim, ahead, ROWS, VECS, BLOCK, DTYPE);
      else
        for (int i = 0; i < n; i++)
          decode_values(weights + i * BLOCK, v, stride, count, alpha + i, to + i * width, p->v_head_dim, i ? 0 : ahead,
                        1, VECS, BLOCK, DTYPE);
    }
  }
  for (int64_t i = 0; i < rows; i++)
    finish_row(call, slice, slice->row_begin + i, max[i] * unit, vf_hsum(vf_load(sum + i * LANES)), o + i * width);
}

#define ATTEND_DECODE(id, rows, block, vecs)                                                                           \
  static size_t id##_scratch(const attend_resolved *problem, const attend_tiling *tiling) {                            \
    return decode_plan(problem, tiling, rows, block).total;                                                            \
  }                                                                                                                    \
  static void id##_run(const attend_call *call, const attend_slice *slice, void *scratch) {                            \
    const attend_dtype dtype = call->problem->p.kv_dtype;                                                              \
    if (dtype == ATTEND_F32)                                                                                           \
      decode_run(call, slice, scratch, rows, block, vecs, ATTEND_F32);                                                 \
    else if (dtype == ATTEND_F16)                                                                                      \
      decode_run(call, slice, scratch, rows, block, vecs, ATTEND_F16);                                                 \
    else                                                                                                               \
      decode_run(call, slice, scratch, rows, block, vecs, ATTEND_BF16);                                                \
  }                                                                                                                    \
  ATTEND_DESCRIBE(id, ATTEND_BODY_DECODE, ATTEND_CAN_SPLIT, rows, block)

#include "kernels/body/expand.h"

#endif
