/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/merge.h"

#include "kernels/convert.h"
#include "kernels/row_state.h"

/** A row's parts, one for each split. */
typedef struct row_parts {
  float *first;
  int64_t count, stride;
} row_parts;

static attend_partial *part_of(const row_parts *parts, int64_t split) {
  return (attend_partial *)(parts->first + split * parts->stride);
}

static void scale_values(float *values, float scale, int64_t count) {
  for (int64_t d = 0; d < count; d++) values[d] *= scale;
}

static void add_values(float *restrict values, const float *restrict more, float scale, int64_t count) {
  for (int64_t d = 0; d < count; d++) values[d] += scale * more[d];
}

/**
 * Merges a row into its first part: half its result. Every part is multiplied by its share of the whole before they are
 * added up, and half of an average of values cannot overflow. Values of a part that attends nothing are not read.
 */
static float *merge_row(const attend_view *view, int64_t head, int64_t query, const row_parts *parts) {
  const float unit = attend_score_unit(view->p);
  const int64_t dim = view->p->v_head_dim;
  float *values = part_of(parts, 0)->values;
  float max = -INFINITY, sum = 0;
  for (int64_t s = 0; s < parts->count; s++) {
    const attend_partial *part = part_of(parts, s);
    if (part->sum != 0 && part->max > max) max = part->max;
  }
  for (int64_t s = 0; s < parts->count; s++) {
    attend_partial *part = part_of(parts, s);
    if (part->sum == 0) continue;
    const float weight = part->max == max ? 1.0f : expf((part->max - max) * unit);
    sum += part->sum * weight;
    part->scale *= 0.5f * weight;
  }
  const float factor = row_finish_at(view, head, query, max * unit, sum, lse_at(view, head, query));
  if (part_of(parts, 0)->sum == 0)
    memset(values, 0, (size_t)dim * sizeof(float));
  else
    scale_values(values, part_of(parts, 0)->scale * factor, dim);
  for (int64_t s = 1; s < parts->count; s++) {
    const attend_partial *part = part_of(parts, s);
    if (part->sum != 0) add_values(values, part->values, part->scale * factor, dim);
  }
  return values;
}

/**
 * A result from its half: if only rounding made it greater than it can be, the greatest. -0 becomes 0, as in the
 * bodies: the sign of a 0 must not depend on how rows are cut into slices.
 */
static float whole_of(float half, float greatest) {
  const float whole = half + half;
  if (fabsf(half) < INFINITY && fabsf(whole) > greatest) return copysignf(greatest, half);
  return whole + 0.0f;
}

static void store_row(void *out, attend_dtype dtype, const float *halves, float greatest, int64_t count) {
  switch (dtype) {
  case ATTEND_F16:
    for (int64_t d = 0; d < count; d++) ((uint16_t *)out)[d] = f32_to_f16(whole_of(halves[d], greatest));
    break;
  case ATTEND_BF16:
    for (int64_t d = 0; d < count; d++) ((uint16_t *)out)[d] = f32_to_bf16(whole_of(halves[d], greatest));
    break;
  default:
    for (int64_t d = 0; d < count; d++) ((float *)out)[d] = whole_of(halves[d], greatest);
  }
}

void attend_merge_splits(const attend_view *view, int64_t row_begin, int64_t row_end, float *partial, int64_t splits) {
  const attend_problem *p = view->p;
  const int64_t row_stride = attend_partial_stride(p->v_head_dim);
  row_parts parts = {partial, splits, (row_end - row_begin) * row_stride};
  for (int64_t r = row_begin; r < row_end; r++, parts.first += row_stride) {
    const int64_t query = r / view->group, head = r % view->group;
    const float *halves = merge_row(view, head, query, &parts);
    store_row(view->out + head * view->out_head + query * view->out_row, p->out_dtype, halves, greatest_result(p),
              p->v_head_dim);
  }
}
