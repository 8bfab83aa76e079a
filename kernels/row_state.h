/* SPDX-License-Identifier: Apache-2.0 */
/** The last step of a row's softmax, shared by every body and by the merge of partial results. */
#ifndef ATTEND_KERNELS_ROW_STATE_H
#define ATTEND_KERNELS_ROW_STATE_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernel.h"

/**
 * Finishes a row whose attended scores have the maximum `max` (-inf: none) and the sum `sum` of exp(score - max).
 * Returns the factor for the row's exp(score - max), or for their sum with the values. Writes the natural logarithm of
 * the whole denominator, sink included, to *lse unless that is NULL.
 *
 * A row that attends nothing has the sum 0, gets the factor 0 and the LSE -inf or `sink`. A NaN sum, from a NaN or
 * infinite score that is attended, comes out as NaN.
 */
static inline float row_finish(float max, float sum, bool has_sink, float sink, float *lse) {
  if (sum == 0.0f) {
    if (lse) *lse = has_sink ? sink : -INFINITY;
    return 0.0f;
  }
  if (!has_sink) {
    if (lse) *lse = max + logf(sum);
    return 1.0f / sum;
  }
  /* Relative to the greater of the two exponents, so that neither exp overflows; equal ones may be infinite. */
  float top = sink > max ? sink : max;
  float scale = max == top ? 1.0f : expf(max - top);
  float denominator = sum * scale + (sink == top ? 1.0f : expf(sink - top));
  if (lse) *lse = top + logf(denominator);
  return scale / denominator;
}

/** Where a row's LSE goes; NULL if nobody wants it. */
static inline float *lse_at(const attend_view *view, int64_t head, int64_t query) {
  return view->lse ? view->lse + head * view->result_head + query : NULL;
}

/** The same for a row of a view, whose ALiBi counts from where attend_alibi_position() says. */
static inline float row_finish_at(const attend_view *view, int64_t head, int64_t query, float max, float sum,
                                  float *lse) {
  return row_finish(max - attend_score_shift(view, query, head), sum, view->sinks,
                    view->sinks ? view->sinks[head] : 0.0f, lse);
}

/** The greatest result there can be, an average of values; with dropout it is not one. */
static inline float greatest_result(const attend_problem *p) {
  if (p->dropout > 0.0f) return INFINITY;
  if (attend_is_format(p->v_dtype)) return FLT_MAX;
  return p->v_dtype == ATTEND_F16 ? 65504.0f : p->v_dtype == ATTEND_BF16 ? 0x1.fep127f : FLT_MAX;
}

#endif
