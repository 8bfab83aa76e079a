/* SPDX-License-Identifier: Apache-2.0 */
/** The last step of a row's softmax, shared by every body and by the merge of partial results. */
#ifndef ATTEND_KERNELS_ROW_STATE_H
#define ATTEND_KERNELS_ROW_STATE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

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

#endif
