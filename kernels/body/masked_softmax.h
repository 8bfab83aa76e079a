/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Masked softmax of rows, on its own: the maximum, the sum of exponentials, and the exponentials once more, over what
 * the row attends. Numbers are read anew in each pass rather than kept, so that out may be x and may be of 16 bits.
 */
#ifndef ATTEND_KERNELS_BODY_MASKED_SOFTMAX_H
#define ATTEND_KERNELS_BODY_MASKED_SOFTMAX_H

#include "kernels/body/finish.h"
#include "kernels/body/softmax.h"

/** A row: where it lies, and the columns it may attend: as many as `length`, and of these what the mask says. */
typedef struct softmax_row {
  const void *x;
  void *out;
  const uint8_t *mask; /**< NULL = none */
  int64_t mask_stride, length;
} softmax_row;

/** The next `count` (at most LANES) scores from column j on, -inf where a column is not attended. */
ATTEND_INLINE vf attended_scores(const softmax_row *row, int64_t j, int count, const attend_dtype DTYPE) {
  const void *x = element(row->x, DTYPE, j);
  if (count == LANES && !row->mask) return load_as_f32(x, DTYPE);
  vm attended = vm_range(0, count);
  if (row->mask && row->mask_stride == 1) {
    attended = vm_bytes_n(row->mask + j, count);
  } else if (row->mask) {
    uint8_t t[LANES] = {0};
    for (int i = 0; i < count; i++) t[i] = row->mask[(j + i) * row->mask_stride];
    attended = vm_bytes_n(t, LANES);
  }
  return vf_select(attended, load_as_f32_n(x, DTYPE, count), vf_set1(-INFINITY));
}

ATTEND_INLINE vf exp_of(vf x, vf base) { return vf_exp2(vf_mul(vf_sub(x, base), vf_set1(exp2_factor(1.0f)))); }

ATTEND_INLINE void masked_softmax_row(const softmax_row *row, int64_t columns, const attend_dtype DTYPE) {
  vf max = vf_set1(-INFINITY), sum = vf_zero();
  for (int64_t j = 0; j < row->length; j += LANES)
    max = vf_max(max, attended_scores(row, j, (int)min_i64(LANES, row->length - j), DTYPE));
  const float row_max = vf_hmax(max);
  const vf base = vf_set1(exp_base(row_max));
  for (int64_t j = 0; j < row->length; j += LANES)
    sum = vf_add(sum, exp_of(attended_scores(row, j, (int)min_i64(LANES, row->length - j), DTYPE), base));
  const vf factor = vf_set1(row_finish(row_max, vf_hsum(sum), false, 0.0f, NULL));
  int64_t j = 0;
  for (; j < row->length; j += LANES) {
    const vf x = attended_scores(row, j, (int)min_i64(LANES, row->length - j), DTYPE);
    const vf weight = vf_mul(exp_of(x, base), factor);
    store_as((void *)element(row->out, DTYPE, j), DTYPE, vf_select(vm_gt(vf_set1(-FLT_MAX), x), vf_zero(), weight),
             (int)min_i64(LANES, columns - j));
  }
  for (; j < columns; j += LANES)
    store_as((void *)element(row->out, DTYPE, j), DTYPE, vf_zero(), (int)min_i64(LANES, columns - j));
}

ATTEND_INLINE void masked_softmax_rows(const attend_softmax_problem *p, const attend_softmax_tensors *t, int64_t begin,
                                       int64_t end, const attend_dtype DTYPE) {
  const attend_strides *x = &p->x_strides, *out = &p->out_strides;
  const attend_strides4 *mask = &p->mask_strides;
  for (int64_t n = begin; n < end; n++) {
    const int64_t r = n % p->rows, h = n / p->rows % p->heads, b = n / p->rows / p->heads;
    const softmax_row row = {.x = element(t->x, DTYPE, b * x->batch + h * x->head + r * x->row),
                             .out = (void *)element(t->out, DTYPE, b * out->batch + h * out->head + r * out->row),
                             .mask = p->mask ? t->mask + b * mask->batch + h * mask->head + r * mask->query : NULL,
                             .mask_stride = mask->key,
                             .length = p->lengths == ATTEND_LENGTHS_PER_BATCH   ? t->lengths[b]
                                       : p->lengths == ATTEND_LENGTHS_PER_QUERY ? t->lengths[b * p->rows + r]
                                                                                : p->columns};
    masked_softmax_row(&row, p->columns, DTYPE);
  }
}

#define ATTEND_SOFTMAX(id)                                                                                             \
  static void id(const attend_softmax_problem *problem, const attend_softmax_tensors *tensors, int64_t begin,          \
                 int64_t end) {                                                                                        \
    if (problem->dtype == ATTEND_F32)                                                                                  \
      masked_softmax_rows(problem, tensors, begin, end, ATTEND_F32);                                                   \
    else if (problem->dtype == ATTEND_F16)                                                                             \
      masked_softmax_rows(problem, tensors, begin, end, ATTEND_F16);                                                   \
    else                                                                                                               \
      masked_softmax_rows(problem, tensors, begin, end, ATTEND_BF16);                                                  \
  }                                                                                                                    \
  ATTEND_DESCRIBE_ROWS(id, ATTEND_OP_SOFTMAX, softmax, ATTEND_F32)

#include "kernels/body/expand.h"

#endif
