/* SPDX-License-Identifier: Apache-2.0 */
#include "verify/append_formats.h"

#include <math.h>
#include <stdlib.h>

#include "verify/reference.h"

/** Elements that share a scale. */
static int64_t group_of(const attend_verify_row *row, int64_t dim) {
  if (!attend_verify_is_scaled(row->dtype)) return attend_verify_block_elements(row->dtype);
  return row->scales && row->scaling->group ? row->scaling->group : dim;
}

typedef struct span {
  double low, high, size; /* of some numbers; the first two of 0 as well */
} span;

/** Without fmin() and fmax(): gcc 12 for AArch64 ends in an internal error when it makes vectors of them here. */
static span span_of(const float *x, int64_t count) {
  span s = {0, 0, 0};
  for (int64_t i = 0; i < count; i++) {
    const double number = (double)x[i];
    if (number < s.low) s.low = number;
    if (number > s.high) s.high = number;
  }
  s.size = s.high > -s.low ? s.high : -s.low;
  return s;
}

/** What an element of a scaled format may be off by where its scale was chosen for the numbers. */
static double most_error(const attend_verify_row *row, double scale, double x) {
  if (row->dtype == ATTEND_F8_E4M3) return fmax(0x1p-4 * fabs(x), 0x1p-10 * scale);
  if (row->dtype == ATTEND_F8_E5M2) return fmax(0x1p-3 * fabs(x), 0x1p-17 * scale);
  return (row->zeros ? 1 : 0.5) * scale; /* the zero point is rounded, too */
}

/** The least scale with which all numbers are within the range; of f8 no denormal f16, which would be coarse. */
static double least_scale(const attend_verify_row *row, const span *s) {
  const double least = row->scaling->dtype == ATTEND_F16 ? 0x1p-14 : 0;
  if (row->dtype == ATTEND_F8_E4M3) return fmax(s->size / 448, least);
  if (row->dtype == ATTEND_F8_E5M2) return fmax(s->size / 57344, least);
  const int wide = row->dtype == ATTEND_I8 ? 256 : 16;
  return row->zeros ? (s->high - s->low) / (wide - 1) : s->size / (wide / 2 - 1);
}

bool attend_verify_append_is_right(const attend_verify_row *row, int64_t dim, const float *x, bool given,
                                   int64_t *wrong) {
  enum { MOST_BYTES = 512 };
  unsigned char bytes[MOST_BYTES];
  attend_verify_row own = *row;
  own.tensor = bytes, own.at = 0;
  *wrong = 0;
  if (attend_verify_row_extent(row->dtype, dim) > MOST_BYTES) return false;
  attend_verify_quantise(&own, dim, x);
  const bool scaled = attend_verify_is_scaled(row->dtype);
  const int64_t group = group_of(row, dim);
  for (int64_t first = 0; first < dim; first += group) {
    const span s = span_of(x + first, group);
    double scale = 1;
    if (row->scales)
      scale = (double)attend_reference_element(row->scales, row->scaling->dtype,
                                               row->scales_at + first / group * row->scaling->step);
    else if (!scaled) /* the first number of a block, and ggml's scales are not greater than ours */
      scale = (double)attend_reference_element(bytes + attend_verify_row_extent(row->dtype, first), ATTEND_F16, 0);
    const bool chosen = row->scales && !given && s.size > 0;
    *wrong = first;
    if (chosen && !(scale <= 1.01 * least_scale(row, &s) + 0x1p-24)) return false;
    const double most = scaled ? 0 : 1.02 * attend_verify_block_error(row->dtype) * scale;
    /* Of a scale in f16, which may be denormal, times the greatest integer. */
    const double rounding = 0x1p-9 * s.size + (row->scales && row->scaling->dtype == ATTEND_F16 ? 0x1p-17 : 0x1p-24);
    for (int64_t d = first; d < first + group; d++) {
      const double number = (double)x[d], error = fabs(attend_verify_row_element(row, d) - number);
      *wrong = d;
      if (!scaled) {
        if (!(error <= most + rounding)) return false;
        continue;
      }
      const double ours = fabs(attend_verify_row_element(&own, d) - number);
      if (!(error <= ours + 0x1p-8 * scale + 0x1p-10 * fabs(number))) return false;
      if (chosen && !(error <= 1.02 * most_error(row, scale, number) + rounding)) return false;
    }
  }
  return true;
}
