/* SPDX-License-Identifier: Apache-2.0 */
/** Appending rows to a cache: each is converted to the cache's element type, or quantised. */
#ifndef ATTEND_KERNELS_BODY_APPEND_H
#define ATTEND_KERNELS_BODY_APPEND_H

#include "kernels/body/blocks.h"
#include "kernels/body/finish.h"

ATTEND_INLINE void convert_row(const void *from, void *to, int64_t dim, const attend_dtype FROM,
                               const attend_dtype TO) {
  if (FROM == TO) {
    memcpy(to, from, (size_t)(dim * element_size(FROM)));
    return;
  }
  int64_t d = 0;
  for (; d + LANES <= dim; d += LANES)
    store_as((void *)element(to, TO, d), TO, load_as_f32(element(from, FROM, d), FROM), LANES);
  if (d < dim) {
    const int n = (int)(dim - d);
    store_as((void *)element(to, TO, d), TO, load_as_f32_n(element(from, FROM, d), FROM, n), n);
  }
}

ATTEND_INLINE void convert_rows(const attend_row_copy *c, const attend_dtype FROM, const attend_dtype TO) {
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t r = 0; r < c->rows; r++)
      convert_row(c->from + h * c->from_head + r * c->from_row, c->to + h * c->to_head + r * c->to_row, c->dim, FROM,
                  TO);
}

/** Elements d to d + count of a row, at most 32. */
ATTEND_INLINE void read_numbers(const char *row, int64_t d, int count, const attend_dtype FROM, float *x) {
  for (int i = 0; i < count; i += LANES) {
    const int n = (int)min_i64(LANES, count - i);
    vf_store_n(x + i, load_as_f32_n(element(row, FROM, d + i), FROM, n), n);
  }
}

ATTEND_INLINE void store_scale(char *to, attend_dtype dtype, float x) {
  if (dtype == ATTEND_F32)
    memcpy(to, &x, sizeof x);
  else
    store_half((uint8_t *)to, x);
}

/** Chooses the scale, and the zero point, of `count` numbers from element d on. */
ATTEND_INLINE void choose_scale(const attend_row_copy *c, const char *row, int64_t d, int64_t count, char *scale,
                                char *zero, const attend_dtype FROM) {
  const scaled_range range = range_of_scaled(c->to_dtype, c->scales.is_unsigned);
  float low = 0.0f, high = 0.0f, x[QUANTISED];
  bool finite = true;
  for (int64_t i = 0; i < count; i += QUANTISED) {
    const int n = (int)min_i64(QUANTISED, count - i);
    float least, most;
    read_numbers(row, d + i, n, FROM, x);
    finite = finite && all_finite(x, n);
    least_and_greatest(x, n, &least, &most);
    if (least < low) low = least;
    if (most > high) high = most;
  }
  const attend_dtype dtype = c->scales.dtype;
  const float most = high > -low ? high : -low, steps = (float)(range.high - range.low);
  float size = zero ? high / steps - low / steps : most / range.most;
  /* Denormal f16 scales are coarse, and f8 has range to spare. */
  if (is_f8(c->to_dtype) && dtype == ATTEND_F16 && size > 0.0f && size < 0x1p-14f) size = 0x1p-14f;
  store_scale(scale, dtype, finite ? size : NAN);
  if (zero)
    store_scale(zero, dtype, finite ? rintf((float)range.low - low * inverse_of(load_scale(scale, dtype))) : 0.0f);
}

/** One row in a scaled format. `scales` and `zeros` are the row's, or NULL. */
ATTEND_INLINE void quantise_row(const attend_row_copy *c, const char *from, uint8_t *to, char *scales, char *zeros,
                                const attend_dtype FROM) {
  const attend_row_scales *s = &c->scales;
  const scaled_range range = range_of_scaled(c->to_dtype, s->is_unsigned);
  const int64_t group = min_i64(s->group, c->dim);
  for (int64_t d = 0; d < c->dim; d += group) {
    const int64_t at = d / group * s->step;
    char *scale = scales ? scales + at : NULL, *zero = zeros ? zeros + at : NULL;
    if (scale && !c->scales_given) choose_scale(c, from, d, group, scale, zero, FROM);
    const float size = scale ? load_scale(scale, s->dtype) : 1.0f, inverse = isfinite(size) ? inverse_of(size) : 0.0f;
    const float middle = zero ? load_scale(zero, s->dtype) : s->is_unsigned ? (float)((range.high + 1) / 2) : 0.0f;
    float x[QUANTISED];
    for (int64_t i = 0; i < group; i += QUANTISED) {
      const int n = (int)min_i64(QUANTISED, group - i);
      read_numbers(from, d + i, n, FROM, x);
      for (int k = 0; k < n; k++) store_scaled(c->to_dtype, &range, x[k] * inverse + middle, d + i + k, to);
    }
  }
}

ATTEND_OUTLINE void quantise_rows(const attend_row_copy *c, const attend_dtype FROM) {
  const attend_format *format = &attend_formats[c->to_dtype];
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t r = 0; r < c->rows; r++) {
      const char *from = c->from + h * c->from_head + r * c->from_row;
      uint8_t *to = (uint8_t *)c->to + h * c->to_head + r * c->to_row;
      const int64_t at = h * c->scales_head + r * c->scales.stride;
      if (format->kind == ATTEND_SCALED) {
        quantise_row(c, from, to, c->scales.at ? (char *)(uintptr_t)c->scales.at + at : NULL,
                     c->scales.zeros ? (char *)(uintptr_t)c->scales.zeros + at : NULL, FROM);
        continue;
      }
      float x[QUANTISED];
      for (int64_t d = 0; d < c->dim; d += QUANTISED, to += format->bytes) {
        read_numbers(from, d, QUANTISED, FROM, x);
        quantise_block(c->to_dtype, x, to);
      }
    }
}

ATTEND_INLINE void convert_rows_from(const attend_row_copy *c, const attend_dtype FROM) {
  if (attend_is_format(c->to_dtype)) {
    quantise_rows(c, FROM);
    return;
  }
  if (c->to_dtype == ATTEND_F32)
    convert_rows(c, FROM, ATTEND_F32);
  else if (c->to_dtype == ATTEND_F16)
    convert_rows(c, FROM, ATTEND_F16);
  else
    convert_rows(c, FROM, ATTEND_BF16);
}

#define ATTEND_APPEND(id)                                                                                              \
  static void id(const attend_row_copy *copy) {                                                                        \
    if (copy->from_dtype == ATTEND_F32)                                                                                \
      convert_rows_from(copy, ATTEND_F32);                                                                             \
    else if (copy->from_dtype == ATTEND_F16)                                                                           \
      convert_rows_from(copy, ATTEND_F16);                                                                             \
    else                                                                                                               \
      convert_rows_from(copy, ATTEND_BF16);                                                                            \
  }                                                                                                                    \
  ATTEND_DESCRIBE_ROWS(id, ATTEND_OP_APPEND, append, ATTEND_DTYPE_DEFAULT)

#include "kernels/body/expand.h"

#endif
