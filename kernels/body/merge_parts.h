/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Merging the results of attention over several parts of the keys, row by row: a sum with weights that follow from the
 * parts' LSE and sum to 1. (kernels/merge.c merges the partial results of one run's slices, which are not divided yet.)
 */
#ifndef ATTEND_KERNELS_BODY_MERGE_PARTS_H
#define ATTEND_KERNELS_BODY_MERGE_PARTS_H

#include "kernels/body/finish.h"

enum {
  KEPT_WEIGHTS = 64, /* parts whose weight is computed once a row; those of more are computed for each chunk again */
  CHUNK_VECTORS = 4  /* that are summed up side by side, in registers */
};

/** A row: where it lies, and the weights of its parts. */
typedef struct merged_row {
  const attend_merge_tensors *t;
  int64_t parts;
  int64_t at, lse_at; /**< elements into outs[i] and lses[i] */
  float top;          /**< the greatest LSE */
  float factor;       /**< half of 1 / the sum of exp(lse - top) */
  float weights[KEPT_WEIGHTS];
} merged_row;

ATTEND_INLINE float lse_of(const merged_row *row, int64_t i) { return row->t->lses[i][row->lse_at]; }

/** exp(lse - top); equal ones may be infinite. */
ATTEND_INLINE float exp_below(float lse, float top) { return lse == top ? 1.0f : expf(lse - top); }

ATTEND_INLINE float weight_of(const merged_row *row, int64_t i) {
  return i < KEPT_WEIGHTS ? row->weights[i] : row->factor * exp_below(lse_of(row, i), row->top);
}

/** Computes the weights of a row and returns its LSE: -inf where no part attends anything. */
ATTEND_INLINE float weigh_parts(merged_row *row) {
  float sum = 0.0f;
  row->top = -INFINITY;
  for (int64_t i = 0; i < row->parts; i++)
    if (lse_of(row, i) > row->top) row->top = lse_of(row, i);
  for (int64_t i = 0; i < row->parts; i++) {
    const float lse = lse_of(row, i), weight = lse == -INFINITY ? 0.0f : exp_below(lse, row->top);
    if (i < KEPT_WEIGHTS) row->weights[i] = weight;
    sum += weight;
  }
  if (sum == 0.0f) return -INFINITY;
  row->factor = 0.5f / sum;
  for (int64_t i = 0; i < min_i64(row->parts, KEPT_WEIGHTS); i++) row->weights[i] *= row->factor;
  return row->top + logf(sum);
}

/**
 * Columns c and on of a row, n of them in the last of VECS vectors.
 *
 * Half the sum is computed, and the whole is limited to between the least and the greatest of its terms: rounded
 * weights may sum to a little more than 1, so that several values near the greatest finite number would become an
 * infinity. A single part also comes out unchanged, to the bit.
 */
ATTEND_INLINE void merge_columns(const merged_row *row, void *out, int64_t c, int n, const int VECS,
                                 const attend_dtype FROM, const attend_dtype TO) {
  vf half[CHUNK_VECTORS], greatest[CHUNK_VECTORS], least[CHUNK_VECTORS]; /* the least one's negative */
  ATTEND_UNROLL
  for (int v = 0; v < VECS; v++) half[v] = vf_zero(), greatest[v] = least[v] = vf_set1(-INFINITY);
  for (int64_t i = 0; i < row->parts; i++) {
    if (lse_of(row, i) == -INFINITY) continue;
    const void *part = element(row->t->outs[i], FROM, row->at + c);
    const vf weight = vf_set1(weight_of(row, i));
    ATTEND_UNROLL
    for (int v = 0; v < VECS; v++) {
      const void *p = element(part, FROM, v * LANES);
      const vf x = n == LANES ? load_as_f32(p, FROM) : load_as_f32_n(p, FROM, n);
      half[v] = vf_fma(weight, x, half[v]);
      greatest[v] = vf_max(x, greatest[v]);
      least[v] = vf_max(vf_sub(vf_zero(), x), least[v]);
    }
  }
  ATTEND_UNROLL
  for (int v = 0; v < VECS; v++) {
    /* vf_max(a, b) is b where either is NaN, so that a NaN sum comes through. */
    const vf sum = vf_add(half[v], half[v]);
    const vf below = vf_sub(vf_zero(), vf_max(vf_sub(vf_zero(), greatest[v]), vf_sub(vf_zero(), sum)));
    const vf within = vf_max(vf_sub(vf_zero(), least[v]), below);
    store_as((void *)element(out, TO, c + v * LANES), TO, vf_add(within, vf_zero()), n);
  }
}

ATTEND_INLINE void merge_rows(const attend_merge_problem *p, const attend_merge_tensors *t, int64_t begin, int64_t end,
                              const attend_dtype FROM, const attend_dtype TO) {
  const attend_strides *in = &p->part_strides, *os = &p->out_strides;
  merged_row row = {.t = t, .parts = p->parts};
  for (int64_t n = begin; n < end; n++) {
    const int64_t r = n % p->rows, h = n / p->rows % p->heads, b = n / p->rows / p->heads;
    void *out = (void *)element(t->out, TO, b * os->batch + h * os->head + r * os->row);
    row.at = b * in->batch + h * in->head + r * in->row;
    row.lse_at = (b * p->heads + h) * p->lse_stride + r;
    const float lse = weigh_parts(&row);
    int64_t c = 0;
    if (lse == -INFINITY)
      for (; c < p->dim; c += LANES)
        store_as((void *)element(out, TO, c), TO, vf_zero(), (int)min_i64(LANES, p->dim - c));
    for (; c + CHUNK_VECTORS * LANES <= p->dim; c += CHUNK_VECTORS * LANES)
      merge_columns(&row, out, c, LANES, CHUNK_VECTORS, FROM, TO);
    for (; c + LANES <= p->dim; c += LANES) merge_columns(&row, out, c, LANES, 1, FROM, TO);
    if (c < p->dim) merge_columns(&row, out, c, (int)(p->dim - c), 1, FROM, TO);
    if (t->lse) t->lse[row.lse_at] = lse; /* last: it may be the place of a part's */
  }
}

ATTEND_INLINE void merge_rows_from(const attend_merge_problem *p, const attend_merge_tensors *t, int64_t begin,
                                   int64_t end, const attend_dtype FROM) {
  if (p->out_dtype == ATTEND_F32)
    merge_rows(p, t, begin, end, FROM, ATTEND_F32);
  else if (p->out_dtype == ATTEND_F16)
    merge_rows(p, t, begin, end, FROM, ATTEND_F16);
  else
    merge_rows(p, t, begin, end, FROM, ATTEND_BF16);
}

#define ATTEND_MERGE(id)                                                                                               \
  static void id(const attend_merge_problem *problem, const attend_merge_tensors *tensors, int64_t begin,              \
                 int64_t end) {                                                                                        \
    if (problem->part_dtype == ATTEND_F32)                                                                             \
      merge_rows_from(problem, tensors, begin, end, ATTEND_F32);                                                       \
    else if (problem->part_dtype == ATTEND_F16)                                                                        \
      merge_rows_from(problem, tensors, begin, end, ATTEND_F16);                                                       \
    else                                                                                                               \
      merge_rows_from(problem, tensors, begin, end, ATTEND_BF16);                                                      \
  }                                                                                                                    \
  ATTEND_DESCRIBE_ROWS(id, ATTEND_OP_MERGE, merge, ATTEND_F32)

#include "kernels/body/expand.h"

#endif
