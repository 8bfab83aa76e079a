/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Formats in blocks, one after the other: what a block is made into when it is read, on vectors of 32 bytes, and what
 * makes it of numbers, in portable C. Where fields lie: see kernels/formats.def.
 *
 * Blocks are those that ggml's reference quantiser makes, bit for bit (quantize_row_q8_0_ref() and so on, compiled
 * without contraction; tests/formats holds what it made). What that leaves undefined is defined here: a block with a
 * number that is not finite gets a NaN as its scale. Included after a vec.h.
 */
#ifndef ATTEND_KERNELS_BODY_BLOCKS_H
#define ATTEND_KERNELS_BODY_BLOCKS_H

#include "kernels/body/bytes.h"
#include "kernels/quantise.h"

#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_SCALED(...)
#define ATTEND_FORMAT_BLOCK(id, name, elements, ...)                                                                   \
  _Static_assert((elements) == QUANTISED, name ": blocks are of 32 elements");
#include "kernels/formats.def"

/** A block of 32: element i is scale * integer i, plus offset. */
typedef struct format_block {
  vb integers;
  vf scale, offset;
} format_block;

ATTEND_INLINE uint32_t load_bits(const char *p) {
  uint8_t b[4];
  memcpy(b, p, sizeof b);
  return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/** Element i and element i + 16 share a byte. */
static inline void store_halves(const uint8_t n[QUANTISED], uint8_t *to) {
  for (int i = 0; i < QUANTISED / 2; i++) to[i] = (uint8_t)((n[i] & 15) | (n[i + QUANTISED / 2] & 15) << 4);
}

static inline void store_upper_bits(const uint8_t n[QUANTISED], uint8_t *to) {
  memset(to, 0, QUANTISED / 8);
  for (int i = 0; i < QUANTISED; i++) to[i / 8] |= (uint8_t)((n[i] >> 4 & 1) << i % 8);
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

/* Loaders return whether there is an offset. */

ATTEND_INLINE bool block_Q8_0(const char *p, format_block *b) {
  b->scale = vf_set1_f16(p), b->integers = vb_load(p + 2);
  return false;
}

static inline void quantise_Q8_0(const float *x, uint8_t *to) {
  const float scale = fabsf(farthest(x, QUANTISED)) / 127.0f, inverse = inverse_of(scale);
  store_half(to, scale);
  for (int i = 0; i < QUANTISED; i++) to[2 + i] = (uint8_t)round_away(x[i] * inverse);
}

ATTEND_INLINE bool block_Q4_0(const char *p, format_block *b) {
  b->scale = vf_set1_f16(p), b->integers = vb_add(vb_nibbles(p + 2), -8);
  return false;
}

static inline void quantise_Q4_0(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  store_half(to, quantise_around(x, 8, n));
  store_halves(n, to + 2);
}

ATTEND_INLINE bool block_Q4_1(const char *p, format_block *b) {
  b->scale = vf_set1_f16(p), b->offset = vf_set1_f16(p + 2), b->integers = vb_nibbles(p + 4);
  return true;
}

static inline void quantise_Q4_1(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  float low;
  store_half(to, quantise_between(x, 15, &low, n));
  store_half(to + 2, low);
  store_halves(n, to + 4);
}

ATTEND_INLINE bool block_Q5_0(const char *p, format_block *b) {
  b->scale = vf_set1_f16(p), b->integers = vb_add(vb_add_16(vb_nibbles(p + 6), load_bits(p + 2)), -16);
  return false;
}

static inline void quantise_Q5_0(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  store_half(to, quantise_around(x, 16, n));
  store_upper_bits(n, to + 2);
  store_halves(n, to + 6);
}

ATTEND_INLINE bool block_Q5_1(const char *p, format_block *b) {
  b->scale = vf_set1_f16(p), b->offset = vf_set1_f16(p + 2);
  b->integers = vb_add_16(vb_nibbles(p + 8), load_bits(p + 4));
  return true;
}

static inline void quantise_Q5_1(const float *x, uint8_t *to) {
  uint8_t n[QUANTISED];
  float low;
  store_half(to, quantise_between(x, 31, &low, n));
  store_half(to + 2, low);
  store_upper_bits(n, to + 4);
  store_halves(n, to + 8);
}

static const int8_t iq4_nl_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

ATTEND_INLINE bool block_IQ4_NL(const char *p, format_block *b) {
  b->scale = vf_set1_f16(p), b->integers = vb_lookup(iq4_nl_table, vb_nibbles(p + 2));
  return false;
}

/** The nearest number of the table of iq4_nl; between two, the greater. */
static inline uint8_t nearest_of_table(float x) {
  if (!(x > (float)iq4_nl_table[0])) return 0;
  uint8_t i = 1;
  while (i < 15 && x >= (float)iq4_nl_table[i]) i++;
  return x - (float)iq4_nl_table[i - 1] < (float)iq4_nl_table[i] - x ? i - 1 : i;
}

/** The scale is the one that is best for the integers, by squares weighted with those of the numbers. */
static inline void quantise_IQ4_NL(const float *x, uint8_t *to) {
  const float most = farthest(x, QUANTISED);
  uint8_t n[QUANTISED];
  memset(n, 8, sizeof n); /* the number nearest to 0 */
  float products = 0.0f, squares = 0.0f;
  if (fabsf(most) >= 1e-15f) {
    const float inverse = 1.0f / (most / (float)iq4_nl_table[0]);
    for (int i = 0; i < QUANTISED; i++) {
      n[i] = nearest_of_table(inverse * x[i]);
      const float q = (float)iq4_nl_table[n[i]], weight = x[i] * x[i];
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

#endif
