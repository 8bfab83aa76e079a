/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Values that are not finite. A weight of 0 does not keep NaN or Inf out of a sum, so where some row must not see them
 * the products take values in which 0 stands for them: the same multiply-adds in the same order as ever, so that no bit
 * of other results depends on it. Afterwards they are added key by key to the rows that attend them. A row that does
 * not pays for a look at its weight, which then is -0 (row_exp_selected()). Row by row, stepping over such values took
 * up to 3.3 times as long as finite ones.
 */
#ifndef ATTEND_KERNELS_BODY_NONFINITE_H
#define ATTEND_KERNELS_BODY_NONFINITE_H

#include "kernels/body/finish.h"
#include "kernels/body/operand.h"
#include "kernels/size.h"

/** The keys of a block, counted from its first, whose values are not all finite. */
typedef struct noted_keys {
  int32_t count, key[];
} noted_keys;

/** Bytes of the noted keys of a block of `keys`. */
ATTEND_INLINE size_t noted_size(size_t keys) { return size_mul(size_add(keys, 1), sizeof(int32_t)); }

/** Lanes of 0, with NaN among them if an element of a row is not finite. Two sums, and new ones for each row, because a
 * multiply-add waits for the one before. */
ATTEND_INLINE vf look_through_row(const void *row, int64_t dim, const attend_dtype DTYPE) {
  vf a = vf_zero(), b = vf_zero(); /* as in pack_values_as() */
  int64_t d = 0;
  for (; d + 2 * LANES <= dim; d += 2 * LANES) {
    a = vf_fma(vf_zero(), load_as_f32(element(row, DTYPE, d), DTYPE), a);
    b = vf_fma(vf_zero(), load_as_f32(element(row, DTYPE, d + LANES), DTYPE), b);
  }
  for (; d < dim; d += LANES)
    a = vf_fma(vf_zero(), load_as_f32_n(element(row, DTYPE, d), DTYPE, (int)min_i64(LANES, dim - d)), a);
  return vf_add(a, b);
}

ATTEND_INLINE bool rows_finite_as(const char *at, int64_t stride, int64_t count, int64_t dim,
                                  const attend_dtype DTYPE) {
  vf bad = vf_zero();
  for (int64_t i = 0; i < count; i++, at += stride) bad = vf_add(bad, look_through_row(at, dim, DTYPE));
  return vf_hsum(bad) == 0.0f;
}

/** Whether `count` rows, `stride` bytes apart, are all finite. */
ATTEND_OUTLINE bool rows_finite(const char *at, int64_t stride, int64_t count, int64_t dim, attend_dtype dtype) {
  if (dtype == ATTEND_F32) return rows_finite_as(at, stride, count, dim, ATTEND_F32);
  if (dtype == ATTEND_F16) return rows_finite_as(at, stride, count, dim, ATTEND_F16);
  return rows_finite_as(at, stride, count, dim, ATTEND_BF16);
}

/** Copies a row with 0 for what is not finite. Returns whether all of it is. */
ATTEND_OUTLINE bool copy_finite(const char *from, attend_dtype dtype, int64_t dim, char *to) {
  const vf infinity = vf_set1(INFINITY);
  const bool finite = rows_finite(from, 0, 1, dim, dtype);
  if (finite) memcpy(to, from, (size_t)(dim * element_size(dtype)));
  for (int64_t d = 0; !finite && d < dim; d += LANES) {
    const int n = (int)min_i64(LANES, dim - d);
    const vf x = load_as_f32_n(element(from, dtype, d), dtype, n);
    store_as((void *)element(to, dtype, d), dtype, vf_select(vm_gt(infinity, vf_abs(x)), x, vf_zero()), n);
  }
  return finite;
}

/** Bytes of the copies that pack_finite_values() makes. */
ATTEND_INLINE size_t copied_size(const attend_problem *p) {
  return size_mul((size_t)p->v_head_dim, PER_OPERAND * attend_dtype_size(plain_dtype(p->v_dtype)));
}

/**
 * pack_value_operands() with 0 for what is not finite, and notes the keys of it. Operands with such values are packed
 * once more, from copies: `rows` is used up.
 */
ATTEND_OUTLINE void pack_finite_values(const void **rows, attend_dtype dtype, int64_t begin, int64_t end, int64_t dim,
                                       int panel, int64_t block, operand *out, char *copies, noted_keys *noted) {
  noted->count = 0;
  if (pack_value_operands(rows, dtype, begin, end, dim, panel, block, out)) return;
  for (int64_t first = begin; first < end; first += PER_OPERAND) {
    const int64_t next = min_i64(first + PER_OPERAND, end);
    const int32_t before = noted->count;
    char *to = copies;
    for (int64_t i = first; i < next; i++, to += dim * element_size(dtype)) {
      if (!copy_finite(rows[i], dtype, dim, to)) noted->key[noted->count++] = (int32_t)i;
      rows[i] = to;
    }
    if (noted->count > before) pack_value_operands(rows, dtype, first, next, dim, panel, block, out);
  }
}

/** Adds what is not finite of a row of values to a row of sums. */
ATTEND_OUTLINE void add_nonfinite_row(float weight, const char *value, attend_dtype dtype, int64_t dim, float *o) {
  const vf infinity = vf_set1(INFINITY);
  for (int64_t d = 0; d < dim; d += LANES) {
    const vf x = load_as_f32_n(element(value, dtype, d), dtype, (int)min_i64(LANES, dim - d));
    const vf bad = vf_select(vm_gt(infinity, vf_abs(x)), vf_zero(), x);
    vf_store(o + d, vf_fma(vf_set1(weight), bad, vf_load(o + d)));
  }
}

/**
 * Adds what is not finite of the values of noted keys from `begin` to `end` of a block, whose first key is `block`, to
 * `rows` rows of sums, `width` apart, as far as their weights say that they attend them. Rows of weights are ld apart.
 * `plain` has room for a row that is read from a format.
 */
ATTEND_OUTLINE void add_nonfinite(const noted_keys *noted, const attend_rows *v, int64_t dim, int64_t block,
                                  int64_t begin, int64_t end, const float *s, int64_t ld, int64_t rows, float *o,
                                  int64_t width, char *plain) {
  for (int32_t i = 0; i < noted->count; i++) {
    const int64_t j = noted->key[i];
    if (j < begin || j >= end) continue;
    const char *value = plain_row(v, block + j, dim, plain);
    for (int64_t r = 0; r < rows; r++) {
      const float weight = kept_weight(s + r * ld, j);
      if (!signbit(weight)) add_nonfinite_row(weight, value, plain_dtype(v->dtype), dim, o + r * width);
    }
  }
}

#endif
