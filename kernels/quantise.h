/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Numbers into formats, in portable C. Blocks are those that ggml's reference quantiser makes, bit for bit
 * (quantize_row_q8_0_ref() and so on, compiled without contraction; tests/formats holds what it made). What that leaves
 * undefined is defined here: a block with a number that is not finite gets a NaN as its scale.
 */
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

/** Element i and element i + 16 share a byte. */
static inline void store_halves(const uint8_t n[QUANTISED], uint8_t *to) {
  for (int i = 0; i < QUANTISED / 2; i++) to[i] = (uint8_t)((n[i] & 15) | (n[i + QUANTISED / 2] & 15) << 4);
}

static inline void store_upper_bits(const uint8_t n[QUANTISED], uint8_t *to) {
  memset(to, 0, QUANTISED / 8);
  for (int i = 0; i < QUANTISED; i++) to[i / 8] |= (uint8_t)((n[i] >> 4 & 1) << i % 8);
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

/* Where fields lie in a block: see docs/formats.md. */

static inline void quantise_Q8_0(const float *x, uint8_t *to) {
  const float scale = fabsf(farthest(x, QUANTISED)) / 127.0f, inverse = inverse_of(scale);
  store_half(to, scale);
  for (int i = 0; i < QUANTISED; i++) to[2 + i] = (uint8_t)round_away(x[i] * inverse);
}

/** Integers from 0 to 2 middle - 1: the number farthest from 0 is the lowest of them. */
static inline float quantise_around(const float *x, int middle, uint8_t n[QUANTISED]) {
  const float scale = farthest(x, QUANTISED) / (float)-middle, inverse = inverse_of(scale);
  for (int i = 0; i < QUANTISED; i++) {
    const int m = (int)(x[i] * inverse + ((float)middle + 0.5f));
    n[i] = (uint8_t)(m < 2 * middle - 1 ? m : 2 * middle - 1);
  }
  return scale;
}

/** Integers from 0 to `most`, for the least number to the greatest. */
static inline float quantise_between(const float *x, int most, float *low, uint8_t n[QUANTISED]) {
  float high;
  least_and_greatest(x, QUANTISED, low, &high);
  const float scale = (high - *low) / (float)most, inverse = inverse_of(scale);
  for (int i = 0; i < QUANTISED; i++) {
    const int m = (int)((x[i] - *low) * inverse + 0.5f);
    n[i] = (uint8_t)(m < most ? m : most);
  }
  return scale;
}

static inline void quantise_Q4_0(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  store_half(to, quantise_around(x, 8, n));
  store_halves(n, to + 2);
}

static inline void quantise_Q5_0(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  store_half(to, quantise_around(x, 16, n));
  store_upper_bits(n, to + 2);
  store_halves(n, to + 6);
}

static inline void quantise_Q4_1(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  float low;
  store_half(to, quantise_between(x, 15, &low, n));
  store_half(to + 2, low);
  store_halves(n, to + 4);
}

static inline void quantise_Q5_1(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  float low;
  store_half(to, quantise_between(x, 31, &low, n));
  store_half(to + 2, low);
  store_upper_bits(n, to + 4);
  store_halves(n, to + 8);
}

/** The nearest number of the table of iq4_nl; between two, the greater. */
static inline uint8_t nearest_of_table(const int8_t table[16], float x) {
  if (!(x > (float)table[0])) return 0;
  uint8_t i = 1;
  while (i < 15 && x >= (float)table[i]) i++;
  return x - (float)table[i - 1] < (float)table[i] - x ? i - 1 : i;
}

/** The scale is the one that is best for the integers, by squares weighted with those of the numbers. */
static inline void quantise_IQ4_NL(const float *x, uint8_t *to) {
  static const int8_t table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const float most = farthest(x, QUANTISED);
  uint8_t n[QUANTISED];
  memset(n, 8, sizeof n); /* the number nearest to 0 */
  float products = 0.0f, squares = 0.0f;
  if (fabsf(most) >= 1e-15f) {
    const float inverse = 1.0f / (most / (float)table[0]);
    for (int i = 0; i < QUANTISED; i++) {
      n[i] = nearest_of_table(table, inverse * x[i]);
      const float q = (float)table[n[i]], weight = x[i] * x[i];
      products += weight * q * x[i];
      squares += weight * q * q;
    }
  }
  store_half(to, squares > 0.0f ? products / squares : 0.0f);
  store_halves(n, to + 2);
}

static inline void quantise_block(attend_dtype dtype, const float *x, uint8_t *to) {
  static void (*const quantise[])(const float *, uint8_t *) = {
#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_SCALED(...)
#define ATTEND_FORMAT_BLOCK(id, ...) [ATTEND_##id] = quantise_##id,
#include "kernels/formats.def"
  };
  if (all_finite(x, QUANTISED)) {
    quantise[dtype](x, to);
    return;
  }
  const float zeros[QUANTISED] = {0.0f};
  quantise[dtype](zeros, to);
  store_half(to, NAN);
}

/* -------------------------------------------------------------------------------------------------- scaled elements */

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
