/* SPDX-License-Identifier: Apache-2.0 */
/** What makes formats of numbers, in portable C: what scales are chosen by, and scaled elements. */
#ifndef ATTEND_KERNELS_QUANTISE_H
#define ATTEND_KERNELS_QUANTISE_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/formats.h"

/** Elements of a block. */
enum { QUANTISED = 32 };

static inline void store_half(uint8_t *to, float x) {
  const uint16_t bits = f32_to_f16(x);
  memcpy(to, &bits, sizeof bits);
}

/** 0 where it is beyond f32: numbers are less than 2^-120 then, and become 0. */
static inline float inverse_of(float scale) {
  const float inverse = 1.0f / scale;
  return isfinite(inverse) ? inverse : 0.0f;
}

/** The first of the numbers that are the farthest from 0. */
static inline float farthest(const float *x, int count) {
  float size = 0.0f, most = 0.0f;
  for (int i = 0; i < count; i++)
    if (size < fabsf(x[i])) size = fabsf(x[i]), most = x[i];
  return most;
}

static inline void least_and_greatest(const float *x, int count, float *low, float *high) {
  *low = FLT_MAX, *high = -FLT_MAX;
  for (int i = 0; i < count; i++) {
    if (x[i] < *low) *low = x[i];
    if (x[i] > *high) *high = x[i];
  }
}

static inline bool all_finite(const float *x, int count) {
  float sum = 0.0f;
  for (int i = 0; i < count; i++) sum += x[i] * 0.0f;
  return sum == 0.0f;
}

/** To nearest, halves away from 0. */
static inline int8_t round_away(float x) {
  const int whole = (int)x;
  const float rest = x - (float)whole;
  return (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
}

/** An 8-bit float of so many fraction bits, to nearest even; what is beyond the greatest becomes that. */
static inline uint8_t f32_to_f8(float x, int fraction) {
  const uint32_t bits = f32_to_bits(x), sign = bits >> 31 << 7, size = bits & 0x7fffffff;
  const uint32_t exponent_bias = fraction == 3 ? 7 : 15, drop = 23 - (uint32_t)fraction;
  const uint8_t most = fraction == 3 ? 0x7e : 0x7b;
  if (size > 0x7f800000) return (uint8_t)(sign | 0x7f);
  if (fraction == 2 && size == 0x7f800000) return (uint8_t)(sign | 0x7c);
  const uint32_t least = (127 - exponent_bias + 1) << 23; /* of the normal numbers */
  uint32_t n;
  if (size < least) {
    const float steps = f32_from_bits(size) * f32_from_bits((127 + exponent_bias - 1 + (uint32_t)fraction) << 23);
    const uint32_t whole = (uint32_t)steps;
    const float rest = steps - (float)whole;
    n = whole + (rest > 0.5f || (rest == 0.5f && whole % 2));
  } else {
    const uint32_t rounded = size + ((1u << (drop - 1)) - 1) + (size >> drop & 1);
    n = (rounded >> drop) - ((127 - exponent_bias) << fraction);
  }
  return (uint8_t)(sign | (n < most ? n : most));
}

static inline bool is_f8(attend_dtype dtype) { return dtype == ATTEND_F8_E4M3 || dtype == ATTEND_F8_E5M2; }

/** What elements of a scaled format may be, and the greatest one that a scale is made for. */
typedef struct scaled_range {
  int low, high;
  float most;
} scaled_range;

static inline scaled_range range_of_scaled(attend_dtype dtype, bool is_unsigned) {
  if (dtype == ATTEND_F8_E4M3) return (scaled_range){0, 0, 448.0f};
  if (dtype == ATTEND_F8_E5M2) return (scaled_range){0, 0, 57344.0f};
  const int half = dtype == ATTEND_I8 ? 128 : 8;
  return is_unsigned ? (scaled_range){0, 2 * half - 1, (float)(half - 1)}
                     : (scaled_range){-half, half - 1, (float)(half - 1)};
}

/** Element d of a row: x in scales, plus the zero point. A NaN becomes the lowest integer. */
static inline void store_scaled(attend_dtype dtype, const scaled_range *range, float x, int64_t d, uint8_t *row) {
  if (is_f8(dtype)) {
    row[d] = f32_to_f8(x, dtype == ATTEND_F8_E4M3 ? 3 : 2);
    return;
  }
  const int n = !(x > (float)range->low) ? range->low : x >= (float)range->high ? range->high : (int)rintf(x);
  if (dtype == ATTEND_I8)
    row[d] = (uint8_t)n;
  else
    row[d / 2] = (uint8_t)(d % 2 ? (row[d / 2] & 15) | (n & 15) << 4 : n & 15);
}

#endif
