/* SPDX-License-Identifier: Apache-2.0 */
/** Writing what a slice has computed: final rows with their LSE, or partial results. */
#ifndef ATTEND_KERNELS_BODY_FINISH_H
#define ATTEND_KERNELS_BODY_FINISH_H

#include <string.h>

#include "kernels/body/rows.h"
#include "kernels/row_state.h"

/** Stores the first n lanes as any element type. */
ATTEND_INLINE void store_as(void *p, attend_dtype dtype, vf x, int n) {
  if (dtype == ATTEND_F32 && n == LANES)
    vf_store((float *)p, x);
  else if (dtype == ATTEND_F32)
    vf_store_n((float *)p, x, n);
  else if (dtype == ATTEND_F16)
    vf_store_f16_n((uint16_t *)p, x, n);
  else
    vf_store_bf16_n((uint16_t *)p, x, n);
}

ATTEND_INLINE void store_row_as(void *out, attend_dtype dtype, const float *o, int64_t dim, float factor) {
  const vf f = vf_set1(factor);
  for (int64_t c = 0; c < dim; c += LANES) {
    const int n = (int)min_i64(LANES, dim - c);
    /* + 0 turns -0 into 0. Weights of 0 would do so too, but only where another row needs their block. */
    store_as((void *)element(out, dtype, c), dtype, vf_add(vf_mul(f, vf_load(o + c)), vf_zero()), n);
  }
}

/** The row's factor (see row_finish()), its LSE written where the problem asks for it. */
ATTEND_INLINE float finish_row_sum(const attend_view *view, row_place at, float max, float sum) {
  float *lse = view->lse ? view->lse + at.head * view->result_head + at.query : NULL;
  return row_finish(max, sum, view->sinks, view->sinks ? view->sinks[at.head] : 0.0f, lse);
}

/**
 * Finishes row `row` of a slice from the maximum, the sum and the weighted values o (a whole number of vectors), and
 * returns the factor that makes weights of exp(score - max).
 */
ATTEND_OUTLINE float finish_row(const attend_slice *slice, int64_t row, float max, float sum, const float *o) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  if (slice->partial) {
    float *partial = slice->partial + (row - slice->row_begin) * attend_partial_stride(p->v_head_dim);
    partial[0] = max;
    partial[1] = sum;
    memcpy(partial + 2, o, (size_t)p->v_head_dim * sizeof *o);
    return 0.0f;
  }
  const row_place at = place_of(view, row);
  const float factor = finish_row_sum(view, at, max, sum);
  void *out = output_at(view, at);
  if (p->out_dtype == ATTEND_F32)
    store_row_as(out, ATTEND_F32, o, p->v_head_dim, factor);
  else if (p->out_dtype == ATTEND_F16)
    store_row_as(out, ATTEND_F16, o, p->v_head_dim, factor);
  else
    store_row_as(out, ATTEND_BF16, o, p->v_head_dim, factor);
  return factor;
}

#endif
