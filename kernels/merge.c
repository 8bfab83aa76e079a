/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/merge.h"

#include "kernels/convert.h"
#include "kernels/row_state.h"

/** A row of a partial result, as attend_slice describes it. */
typedef struct row_state {
  float max, sum;
  float values[];
} row_state;

static row_state *state_of(float *partial, int64_t split, int64_t split_stride, int64_t row, int64_t row_stride) {
  return (row_state *)(partial + split * split_stride + row * row_stride);
}

static void scale_values(float *values, float scale, int64_t count) {
  for (int64_t d = 0; d < count; d++) values[d] *= scale;
}

static void add_values(float *restrict values, const float *restrict more, float scale, int64_t count) {
  for (int64_t d = 0; d < count; d++) values[d] += scale * more[d];
}

/** Merges a row into its first split. A split that attends nothing has the sum 0 and its values are not read. */
static row_state *merge_row(float *partial, int64_t splits, int64_t split_stride, int64_t row, int64_t row_stride,
                            int64_t v_head_dim) {
  row_state *merged = state_of(partial, 0, split_stride, row, row_stride);
  float max = -INFINITY, sum = 0;
  for (int64_t s = 0; s < splits; s++) {
    const row_state *split = state_of(partial, s, split_stride, row, row_stride);
    if (split->sum != 0 && split->max > max) max = split->max;
  }
  for (int64_t s = 0; s < splits; s++) {
    const row_state *split = state_of(partial, s, split_stride, row, row_stride);
    if (split->sum == 0) {
      if (s == 0) memset(merged->values, 0, (size_t)v_head_dim * sizeof(float));
      continue;
    }
    float scale = split->max == max ? 1.0f : expf(split->max - max);
    sum += split->sum * scale;
    if (s == 0)
      scale_values(merged->values, scale, v_head_dim);
    else
      add_values(merged->values, split->values, scale, v_head_dim);
  }
  merged->max = max;
  merged->sum = sum;
  return merged;
}

/* + 0 makes -0 a 0, as in the bodies: the sign of a 0 must not depend on how rows are cut into slices. */
static void store_row(void *out, attend_dtype dtype, const float *values, float factor, int64_t count) {
  switch (dtype) {
  case ATTEND_F16:
    for (int64_t d = 0; d < count; d++) ((uint16_t *)out)[d] = f32_to_f16(values[d] * factor + 0.0f);
    break;
  case ATTEND_BF16:
    for (int64_t d = 0; d < count; d++) ((uint16_t *)out)[d] = f32_to_bf16(values[d] * factor + 0.0f);
    break;
  default:
    for (int64_t d = 0; d < count; d++) ((float *)out)[d] = values[d] * factor + 0.0f;
  }
}

void attend_merge_splits(const attend_view *view, int64_t row_begin, int64_t row_end, float *partial, int64_t splits) {
  const attend_problem *p = view->p;
  const int64_t row_stride = attend_partial_stride(p->v_head_dim), split_stride = (row_end - row_begin) * row_stride;
  for (int64_t r = row_begin; r < row_end; r++) {
    const int64_t query = r / view->group, head = r % view->group;
    row_state *row = merge_row(partial, splits, split_stride, r - row_begin, row_stride, p->v_head_dim);
    float *lse = view->lse ? view->lse + head * view->result_head + query : NULL;
    const float factor = row_finish(row->max, row->sum, view->sinks, view->sinks ? view->sinks[head] : 0, lse);
    store_row(view->out + head * view->out_head + query * view->out_row, p->out_dtype, row->values, factor,
              p->v_head_dim);
  }
}
