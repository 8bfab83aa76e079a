/* SPDX-License-Identifier: Apache-2.0 */
#include "verify/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#include "kernels/exact_floats.h"
#include "verify/formats.h"

/* Element types: binary32 = 1 sign, 8 exponent, 23 fraction bits; binary16 = 1, 5, 10; bfloat16 = 1, 8, 7. */

static float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float float_of_f16(uint16_t bits) {
  const uint32_t sign = (uint32_t)(bits >> 15) << 31, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000u | fraction << 13);
  return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

float attend_reference_element(const void *tensor, attend_dtype dtype, int64_t index) {
  switch (dtype) {
  case ATTEND_F16: return float_of_f16(((const uint16_t *)tensor)[index]);
  case ATTEND_BF16: return float_of_bits((uint32_t)((const uint16_t *)tensor)[index] << 16);
  default: return ((const float *)tensor)[index];
  }
}

/* ------------------------------------------------------------------------------------------------------- sequences */

int64_t attend_reference_queries(const attend_problem *p, const attend_tensors *t, int64_t b) {
  return p->q_starts ? t->q_starts[b + 1] - t->q_starts[b] : p->q_len;
}

int64_t attend_reference_keys(const attend_problem *p, const attend_tensors *t, int64_t b) {
  if (p->kv_lengths == ATTEND_LENGTHS_PER_BATCH) return t->kv_lengths[b];
  return p->kv_starts ? t->kv_starts[b + 1] - t->kv_starts[b] : p->kv_len;
}

/* The place of a query among the queries of all sequences. */
static int64_t query_number(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t i) {
  return p->q_starts ? t->q_starts[b] + i : b * p->q_len + i;
}

int64_t attend_reference_row(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t h, int64_t i) {
  return p->q_starts ? h * p->q_total + t->q_starts[b] + i : (b * p->q_heads + h) * p->q_len + i;
}

int64_t attend_reference_query_at(const attend_problem *p, const attend_tensors *t, const attend_strides *s, int64_t b,
                                  int64_t h, int64_t i) {
  return p->q_starts ? h * s->head + (t->q_starts[b] + i) * s->row : b * s->batch + h * s->head + i * s->row;
}

int64_t attend_reference_key_at(const attend_problem *p, const attend_tensors *t, const attend_strides *s, int64_t b,
                                int64_t h, int64_t j) {
  if (p->page_rows) {
    const int64_t page = t->block_table[b * p->block_table_stride + j / p->page_rows];
    return page * s->batch + h * s->head + j % p->page_rows * s->row;
  }
  return p->kv_starts ? h * s->head + (t->kv_starts[b] + j) * s->row : b * s->batch + h * s->head + j * s->row;
}

static int64_t index4(const attend_problem *p, const attend_tensors *t, const attend_strides4 *s, int64_t b, int64_t h,
                      int64_t i, int64_t j) {
  return b * s->batch + h * s->head + (p->q_starts ? t->q_starts[b] + i : i) * s->query + j * s->key;
}

/* Where a query stands among the keys. */
static int64_t position(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t i) {
  if (p->positions) return i + t->positions[b];
  if (p->causal == ATTEND_CAUSAL_TOP_LEFT) return i;
  if (p->causal == ATTEND_CAUSAL_OFFSET) return i + p->causal_offset;
  return i + attend_reference_keys(p, t, b) - attend_reference_queries(p, t, b);
}

static int64_t distance(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t i, int64_t j) {
  const int64_t d = position(p, t, b, i) - j;
  return d < 0 ? -d : d;
}

int64_t attend_reference_nearest(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t i) {
  const int64_t keys = attend_reference_keys(p, t, b);
  int64_t least = keys ? INT64_MAX : 0;
  for (int64_t j = 0; j < keys; j++)
    if (distance(p, t, b, i, j) < least) least = distance(p, t, b, i, j);
  return least;
}

bool attend_reference_attends(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t h, int64_t i,
                              int64_t j) {
  const int64_t at = position(p, t, b, i), number = query_number(p, t, b, i);
  if (i >= attend_reference_queries(p, t, b) || j >= attend_reference_keys(p, t, b)) return false;
  if (p->causal != ATTEND_CAUSAL_NONE && j > at) return false;
  if (p->window && p->window_left >= 0 && j < at - p->window_left) return false;
  if (p->window && p->window_right >= 0 && j > at + p->window_right) return false;
  if (p->kv_begins && j < t->kv_begins[b]) return false;
  if (p->kv_lengths == ATTEND_LENGTHS_PER_QUERY && j >= t->kv_lengths[number]) return false;
  if (p->key_ranges && (j < t->key_ranges[2 * number] || j >= t->key_ranges[2 * number + 1])) return false;
  if (p->mask && !t->mask[index4(p, t, &p->mask_strides, b, h, i, j)]) return false;
  if (p->bias_dtype &&
      attend_reference_element(t->bias, p->bias_dtype, index4(p, t, &p->bias_strides, b, h, i, j)) == -INFINITY)
    return false;
  return true;
}

/* Philox 4x32-10 as its authors define it: word `word` of what a counter of four words gives. */
static uint32_t philox(const uint32_t counter[4], uint64_t seed, int word) {
  uint32_t c[4], key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  memcpy(c, counter, sizeof c);
  for (int round = 1; round <= 10; round++) {
    const uint64_t first = UINT64_C(0xd2511f53) * c[0], second = UINT64_C(0xcd9e8d57) * c[2];
    const uint32_t next[4] = {(uint32_t)(second >> 32) ^ c[1] ^ key[0], (uint32_t)second,
                              (uint32_t)(first >> 32) ^ c[3] ^ key[1], (uint32_t)first};
    memcpy(c, next, sizeof c);
    key[0] += 0x9e3779b9, key[1] += 0xbb67ae85;
  }
  return c[word];
}

bool attend_reference_drops(const attend_problem *p, const attend_tensors *t, int64_t b, int64_t h, int64_t i,
                            int64_t j) {
  if (p->dropout == 0 || p->dropout == 1) return p->dropout == 1;
  const uint32_t counter[4] = {(uint32_t)(j / 64 * 16 + j % 16), (uint32_t)i, (uint32_t)(b * p->q_heads + h),
                               t->dropout_offset};
  return philox(counter, t->dropout_seed, (int)(j / 16 % 4)) < (uint32_t)((double)p->dropout * 4294967296.0);
}

/* Scratch for the scores of one query: at least one, for malloc(0) may give NULL. */
static void *allocate_scores(int64_t kv_len, size_t size) {
  const uint64_t count = kv_len > 0 ? (uint64_t)kv_len : 1;
  return count > SIZE_MAX / size ? NULL : malloc((size_t)count * size);
}

#define REAL double
#define THREE_PASSES three_passes_f64
#define ONE_QUERY attend_reference_query
#define ALL_QUERIES attend_reference
#include "verify/three_pass.inc"

#define REAL float
#define THREE_PASSES three_passes_f32
#define ONE_QUERY attend_reference_query_f32
#define ALL_QUERIES attend_reference_f32
#include "verify/three_pass.inc"
