/* SPDX-License-Identifier: Apache-2.0 */
/** The reference against results that are known without it. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "tests/support.h"
#include "verify/internal.h"
#include "verify/reference.h"

static attend_strides contiguous(int64_t heads, int64_t rows, int64_t dim) {
  return (attend_strides){heads * rows * dim, rows * dim, dim};
}

/* A problem with every default filled in, as the reference wants it. */
static attend_problem filled(int64_t batch, int64_t q_heads, int64_t kv_heads, int64_t q_len, int64_t kv_len,
                             int64_t dim, int64_t v_dim, float scale) {
  attend_problem p = attend_test_problem(batch, q_heads, kv_heads, q_len, kv_len, dim);
  p.v_head_dim = v_dim, p.scale = scale;
  p.q_dtype = p.k_dtype = p.out_dtype = ATTEND_F32;
  p.q_strides = contiguous(q_heads, q_len, dim), p.k_strides = contiguous(kv_heads, kv_len, dim);
  p.v_strides = contiguous(kv_heads, kv_len, v_dim), p.out_strides = contiguous(q_heads, q_len, v_dim);
  return p;
}

static attend_tensors tensors_of(const float *q, const float *k, const float *v) {
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v;
  return t;
}

static void expect_near(const double *got, const double *expected, size_t count, double error, const char *what) {
  for (size_t i = 0; i < count; i++)
    cr_expect(fabs(got[i] - expected[i]) <= error, "%s[%zu] is %.9g instead of %.9g", what, i, got[i], expected[i]);
}

/* Three tokens projected to q, k and v, as an introduction to self-attention works them out by hand. */
Test(reference, three_tokens) {
  const float q[] = {1, 0, 2, 2, 2, 2, 2, 1, 3}, k[] = {0, 1, 1, 4, 4, 0, 2, 3, 1}, v[] = {1, 2, 3, 2, 8, 0, 2, 6, 3};
  const double weights[] = {6.3379e-02, 4.6831e-01, 4.6831e-01, 6.0337e-06, 9.8201e-01,
                            1.7986e-02, 2.9539e-04, 8.8054e-01, 1.1917e-01};
  const attend_problem p = filled(1, 1, 1, 3, 3, 3, 3, 1);
  const attend_tensors t = tensors_of(q, k, v);
  double out[9], lse[3], w[9];
  float plain_out[9], plain_lse[3], plain_w[9];
  cr_assert(attend_reference(&p, &t, out, lse, w, NULL));
  cr_assert(attend_reference_f32(&p, &t, plain_out, plain_lse, plain_w, NULL));
  expect_near(w, weights, 9, 5e-6, "weights");
  for (int i = 0; i < 3; i++) {
    for (int d = 0; d < 3; d++) {
      const double sum = w[3 * i] * (double)v[d] + w[3 * i + 1] * (double)v[3 + d] + w[3 * i + 2] * (double)v[6 + d];
      cr_expect_float_eq(out[3 * i + d], sum, 1e-14);
      cr_expect_float_eq(plain_out[3 * i + d], sum, 1e-5);
    }
    cr_expect_float_eq(plain_lse[i], lse[i], 1e-5);
  }
  cr_expect_float_eq(lse[0], log(exp(2) + exp(4) + exp(4)), 1e-14);
}

/* Two hidden units, worked out by hand: score of key j = scale (w0 tanh(q0 + kj0) + w1 tanh(q1 + kj1)). */
Test(reference, additive_scores) {
  const float q[] = {0.5f, -1}, k[] = {0, 1, 2, 0.25f, -0.5f, 3}, v[] = {1, 10, 100}, w[] = {1, -2};
  attend_problem p = filled(1, 1, 1, 1, 3, 2, 1, 1);
  p.score = ATTEND_SCORE_ADDITIVE;
  attend_tensors t = tensors_of(q, k, v);
  t.score_weights = w;
  const double s[] = {tanh(0.5) - 2 * tanh(0), tanh(2.5) - 2 * tanh(-0.75), tanh(0) - 2 * tanh(2)};
  const double sum = exp(s[0]) + exp(s[1]) + exp(s[2]);
  double out, lse, weights[3];
  float plain_out, plain_lse, plain_weights[3];
  cr_assert(attend_reference(&p, &t, &out, &lse, weights, NULL));
  cr_assert(attend_reference_f32(&p, &t, &plain_out, &plain_lse, plain_weights, NULL));
  expect_near(weights, (double[]){exp(s[0]) / sum, exp(s[1]) / sum, exp(s[2]) / sum}, 3, 1e-14, "weights");
  cr_expect_float_eq(out, (exp(s[0]) + 10 * exp(s[1]) + 100 * exp(s[2])) / sum, 1e-12);
  cr_expect_float_eq(lse, log(sum), 1e-14);
  cr_expect_float_eq((double)plain_out, out, 1e-5);
  cr_expect_float_eq((double)plain_lse, lse, 1e-6);
}

/* Equal keys: the output is the mean of the values that are attended. */
Test(reference, lengths) {
  float q[4] = {0.3f, -1, 2, 0.5f}, k[40], v[80];
  for (int i = 0; i < 40; i++) k[i] = 1;
  for (int i = 0; i < 80; i++) v[i] = (float)(i % 40);
  attend_problem p = filled(2, 1, 1, 1, 10, 2, 4, 0.7f);
  attend_tensors t = tensors_of(q, k, v);
  const int32_t lengths[] = {2, 6};
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = lengths;
  double out[8];
  cr_assert(attend_reference(&p, &t, out, NULL, NULL, NULL));
  expect_near(out, (double[]){2, 3, 4, 5, 10, 11, 12, 13}, 8, 1e-13, "out");
}

/*
 * With q all 0 every score is 0 before the bias, so that a row's weights are even over the keys it attends, and their
 * number shows in the LSE.
 */
static void expect_attended(const attend_problem *p, attend_tensors *t, const int *expected, const char *what) {
  static const float zeros[64];
  double out[64], lse[64], weights[256];
  t->q = t->k = t->v = zeros;
  cr_assert(attend_reference(p, t, out, lse, weights, NULL));
  for (int64_t i = 0; i < p->q_len; i++) {
    int count = 0;
    for (int64_t j = 0; j < p->kv_len; j++) count += expected[i * p->kv_len + j];
    cr_expect_eq(lse[i], count ? log(count) : -INFINITY, "%s: LSE of query %d", what, (int)i);
    for (int64_t j = 0; j < p->kv_len; j++)
      cr_expect_eq(weights[i * p->kv_len + j], expected[i * p->kv_len + j] ? 1.0 / count : 0.0, "%s: query %d, key %d",
                   what, (int)i, (int)j);
  }
}

Test(reference, masks) {
  attend_problem p = filled(1, 1, 1, 3, 5, 1, 1, 1);
  attend_tensors t = ATTEND_TENSORS_INIT;
  p.causal = ATTEND_CAUSAL_TOP_LEFT;
  expect_attended(&p, &t, (int[]){1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0}, "top-left");
  p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  expect_attended(&p, &t, (int[]){1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1}, "bottom-right");
  p.causal = ATTEND_CAUSAL_OFFSET, p.causal_offset = -1;
  expect_attended(&p, &t, (int[]){0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0}, "offset -1");
  p.window = 1, p.window_left = 0, p.window_right = -1;
  expect_attended(&p, &t, (int[]){0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "offset -1 and a window");
  p.causal = ATTEND_CAUSAL_NONE, p.window_left = 1, p.window_right = 1; /* centred as bottom-right */
  expect_attended(&p, &t, (int[]){0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1}, "window");
  p.window = 0;
  const int32_t lengths[] = {1, 0, 4};
  p.kv_lengths = ATTEND_LENGTHS_PER_QUERY, t.kv_lengths = lengths;
  expect_attended(&p, &t, (int[]){1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0}, "lengths per query");
  const uint8_t mask[] = {0, 255, 1, 2, 0};
  p.mask = 1, p.mask_strides = (attend_strides4){0, 0, 0, 1}, t.mask = mask;
  expect_attended(&p, &t, (int[]){0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0}, "lengths and a mask");
  const uint16_t bias[] = {0, 0xfc00, 0}; /* f16: 0, -inf, 0, along the queries */
  p.kv_lengths = ATTEND_LENGTHS_NONE;
  p.bias_dtype = ATTEND_F16, p.bias_strides = (attend_strides4){0, 0, 1, 0}, t.bias = bias;
  expect_attended(&p, &t, (int[]){0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0}, "a mask and a bias");
}

/*
 * The same for one sequence of a batch: `expected` has a text a query, with a '1' for each key it attends and a '.' for
 * each other one, and for none of the others up to kv_len.
 */
static void expect_sequence(const attend_problem *p, attend_tensors *t, int64_t b, const char *const *expected,
                            const char *what) {
  static const float zeros[64];
  double out[64], lse[64], weights[256];
  t->q = t->k = t->v = zeros;
  cr_assert(attend_verify_rows(p) <= 16 && p->kv_len <= 16);
  cr_assert(attend_reference(p, t, out, lse, weights, NULL));
  for (int64_t i = 0; i < attend_reference_queries(p, t, b); i++) {
    const int64_t row = attend_reference_row(p, t, b, 0, i), given = (int64_t)strlen(expected[i]);
    int count = 0;
    for (int64_t j = 0; j < given; j++) count += expected[i][j] == '1';
    cr_expect_eq(lse[row], count ? log(count) : -INFINITY, "%s: LSE of query %d", what, (int)i);
    for (int64_t j = 0; j < p->kv_len; j++) {
      const bool attended = j < given && expected[i][j] == '1';
      cr_expect_eq(attend_reference_attends(p, t, b, 0, i, j), attended, "%s: query %d, key %d", what, (int)i, (int)j);
      cr_expect_eq(weights[row * p->kv_len + j], attended ? 1.0 / count : 0.0, "%s: query %d, key %d", what, (int)i,
                   (int)j);
    }
  }
}

#define SEQUENCE(p, t, b, what, ...) expect_sequence(p, t, b, (const char *const[]){__VA_ARGS__}, what)

/* A window over a cache of several lengths follows each one's own end. */
Test(reference, window_ragged_bottom_right) {
  attend_problem p = filled(2, 1, 1, 1, 8, 1, 1, 1);
  attend_tensors t = ATTEND_TENSORS_INIT;
  const int32_t lengths[] = {8, 4};
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = lengths;
  p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  p.window = 1, p.window_left = 2, p.window_right = 0;
  SEQUENCE(&p, &t, 0, "8 keys", ".....111");
  SEQUENCE(&p, &t, 1, "4 keys", ".111");
}

Test(reference, causal_ragged_lengths) {
  attend_problem p = filled(2, 1, 1, 3, 8, 1, 1, 1);
  attend_tensors t = ATTEND_TENSORS_INIT;
  const int32_t lengths[] = {8, 5}, positions[] = {-1, 7};
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = lengths;
  p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  SEQUENCE(&p, &t, 0, "8 keys", "111111", "1111111", "11111111");
  SEQUENCE(&p, &t, 1, "5 keys", "111", "1111", "11111");
  p.causal = ATTEND_CAUSAL_TOP_LEFT;
  SEQUENCE(&p, &t, 1, "top-left", "1", "11", "111");
  p.positions = 1, t.positions = positions;
  SEQUENCE(&p, &t, 0, "position -1", "", "1", "11");
  SEQUENCE(&p, &t, 1, "position 7", "11111", "11111", "11111");
  p.causal = ATTEND_CAUSAL_NONE, p.window = 1, p.window_left = 3, p.window_right = 1;
  SEQUENCE(&p, &t, 0, "position -1, a window", "1", "11", "111");
  SEQUENCE(&p, &t, 1, "position 7, a window", "....1", "", "");
}

/* Packed queries and keys: 2 and 0 and 3 queries of 4 and 5 and 2 keys, and a row of each that is in none. */
Test(reference, packed_sequences) {
  attend_problem p = filled(3, 1, 1, 3, 5, 1, 1, 1);
  attend_tensors t = ATTEND_TENSORS_INIT;
  const int32_t q_starts[] = {0, 2, 2, 5}, kv_starts[] = {0, 4, 9, 11}, begins[] = {1, 0, 7};
  const int32_t ranges[] = {-5, 2, 1, 1, 0, 1, 1, 100, 2, 1, -1, -1}, lengths[] = {3, 1, 1, 0, 5, -1};
  p.q_starts = p.kv_starts = 1, p.q_total = 6, p.kv_total = 12;
  p.q_strides = p.out_strides = (attend_strides){6, 6, 1}, p.k_strides = p.v_strides = (attend_strides){12, 12, 1};
  t.q_starts = q_starts, t.kv_starts = kv_starts;
  p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  SEQUENCE(&p, &t, 0, "first", "111", "1111");
  SEQUENCE(&p, &t, 2, "third", "", "1", "11");
  p.kv_begins = 1, t.kv_begins = begins;
  SEQUENCE(&p, &t, 0, "first, begins at 1", ".11", ".111");
  SEQUENCE(&p, &t, 2, "third, begins behind its end", "", "", "");
  p.causal = ATTEND_CAUSAL_NONE, p.kv_begins = 0;
  p.key_ranges = 1, t.key_ranges = ranges;
  SEQUENCE(&p, &t, 0, "first, ranges", "11", "");
  SEQUENCE(&p, &t, 2, "third, ranges", "1", ".1", "");
  p.key_ranges = 0, p.kv_lengths = ATTEND_LENGTHS_PER_QUERY, t.kv_lengths = lengths;
  SEQUENCE(&p, &t, 0, "first, lengths per query", "111", "1");
  SEQUENCE(&p, &t, 2, "third, lengths per query", "1", "", "11");
}

/* Equal keys: the output is the mean of the values that are attended, wherever they lie. */
Test(reference, rows_of_packed_and_paged_values) {
  float q[3] = {1, 1, NAN}, k[12], v[12] = {1, 2, NAN, 4, 8, 16, 32, NAN, 64, 128, NAN, NAN};
  for (int i = 0; i < 12; i++) k[i] = 0;
  double out[3] = {-1, -1, -1}, lse[3] = {-1, -1, -1};
  attend_problem p = filled(2, 1, 1, 1, 7, 1, 1, 1);
  attend_tensors t = tensors_of(q, k, v);
  /* Two queries of 2 and 4 keys; rows after them are not written. */
  const int32_t q_starts[] = {0, 1, 2}, kv_starts[] = {0, 3, 7}, lengths[] = {2, 4};
  p.q_starts = p.kv_starts = 1, p.q_total = 3, p.kv_total = 12;
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = lengths;
  t.q_starts = q_starts, t.kv_starts = kv_starts;
  cr_assert(attend_reference(&p, &t, out, lse, NULL, NULL));
  expect_near(out, (double[]){1.5, 15, -1}, 3, 1e-14, "out of packed rows");
  cr_expect_eq(lse[2], -1);
  /* Pages of 4 rows, in any order; entries after the last key's name no page. */
  const int32_t table[] = {1, 2, -7, 0, INT32_MAX, -1}, paged[] = {6, 2};
  p.kv_starts = 0, p.page_rows = 4, p.pages = 3, p.block_table_stride = 3, t.block_table = table, t.kv_lengths = paged;
  p.k_strides = p.v_strides = (attend_strides){4, 4, 1};
  v[7] = 0;
  cr_assert(attend_reference(&p, &t, out, lse, NULL, NULL));
  expect_near(out, (double[]){(8 + 16 + 32 + 0 + 64 + 128) / 6.0, 1.5, -1}, 3, 1e-13, "out of pages");
}

/* Zeros that are meant: all scores are 0 before the bias. */
Test(reference, zeros_that_are_meant) {
  const float q[] = {3, 4}, k[] = {1, 2, 5, 6}, v[] = {1, 3}, bias[] = {1, -INFINITY}, zero[] = {0};
  double out[1], lse[1], weights[2];
  attend_problem p = filled(1, 1, 1, 1, 2, 2, 1, 0);
  attend_tensors t = tensors_of(q, k, v);
  cr_assert(attend_reference(&p, &t, out, lse, weights, NULL));
  expect_near(out, (double[]){2}, 1, 1e-15, "scale 0");
  cr_expect_float_eq(lse[0], log(2), 1e-15);
  p.scale = 1, p.head_dim = 0;
  cr_assert(attend_reference(&p, &t, out, lse, weights, NULL));
  expect_near(out, (double[]){2}, 1, 1e-15, "D 0");
  /* A factor of 0 makes nothing of a bias, but -inf excludes whatever it is. */
  p.bias_dtype = ATTEND_F32, p.bias_strides.key = 1, p.bias_head_scale = 1, t.bias = bias, t.bias_head_scale = zero;
  cr_assert(attend_reference(&p, &t, out, lse, weights, NULL));
  expect_near(out, (double[]){1}, 1, 0, "a factor of 0");
  cr_expect_eq(lse[0], 0);
  p.v_head_dim = 0, out[0] = -1;
  cr_assert(attend_reference(&p, &t, out, lse, weights, NULL));
  cr_expect_eq(out[0], -1);
  expect_near(weights, (double[]){1, 0}, 2, 0, "weights");
}

/* Scores of a key that is attended, one that is masked and one that does not exist, as they are made. */
Test(reference, scores_that_are_written) {
  const float q[] = {1}, k[] = {3, -1, NAN}, v[] = {1, NAN, NAN}, bias[] = {0.5f, 0.25f, NAN}, factor[] = {2};
  const uint8_t mask[] = {1, 0, 1};
  const int32_t lengths[] = {2};
  const double expected[][2] = {{6, -2}, {4 * tanh(1.5), 4 * tanh(-0.5)}, {4 * tanh(1.5) + 1, -INFINITY}};
  attend_problem p = filled(1, 1, 1, 1, 3, 1, 1, 2);
  attend_tensors t = tensors_of(q, k, v);
  p.softcap = 4;
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = lengths;
  p.mask = 1, p.mask_strides.key = 1, t.mask = mask;
  p.bias_dtype = ATTEND_F32, p.bias_strides.key = 1, t.bias = bias, p.bias_head_scale = 1, t.bias_head_scale = factor;
  for (int which = 0; which < 3; which++) {
    double out, scores[3];
    p.scores = (attend_scores_output)(ATTEND_SCORES_RAW + which);
    cr_assert(attend_reference(&p, &t, &out, NULL, NULL, scores));
    cr_expect_eq(out, 1);
    for (int j = 0; j < 2; j++)
      cr_expect(scores[j] == expected[which][j] || fabs(scores[j] - expected[which][j]) < 1e-14,
                "scores %d, key %d is %g", which, j, scores[j]);
    cr_expect_eq(scores[2], -INFINITY);
  }
}

/* One query, two keys with dot products 3 and -1: every step of the score can be written down. */
Test(reference, scores) {
  const float q[] = {1}, k[] = {3, -1}, v[] = {1, 0}, slopes[] = {0.25f}, sinks[] = {0.5f}, bias[] = {0.1f, 0.2f};
  attend_problem p = filled(1, 1, 1, 1, 2, 1, 1, 2);
  attend_tensors t = tensors_of(q, k, v);
  p.softcap = 4;
  p.bias_dtype = ATTEND_F32, p.bias_strides = (attend_strides4){0, 0, 0, 1}, t.bias = bias;
  p.alibi = 1, t.alibi_slopes = slopes;
  p.sinks = 1, t.sinks = sinks;
  p.causal = ATTEND_CAUSAL_OFFSET, p.causal_offset = 3; /* distances 3 and 2 */
  const double first = 4 * tanh(6 / 4.0) + (double)0.1f - 0.75, second = 4 * tanh(-2 / 4.0) + (double)0.2f - 0.5;
  const double sum = exp(first) + exp(second) + exp(0.5);
  double out, lse, weights[2];
  cr_assert(attend_reference(&p, &t, &out, &lse, weights, NULL));
  cr_expect_float_eq(lse, log(sum), 1e-14);
  cr_expect_float_eq(weights[0], exp(first) / sum, 1e-15);
  cr_expect_float_eq(weights[1], exp(second) / sum, 1e-15);
  cr_expect_float_eq(out, exp(first) / sum, 1e-15);
}

/* Query heads 0 and 1 read key head 0, 2 and 3 key head 1. */
Test(reference, head_groups) {
  const float q[4] = {1, 1, 1, 1}, k[2] = {1, 1}, v[2] = {5, 7};
  const attend_problem p = filled(1, 4, 2, 1, 1, 1, 1, 1);
  const attend_tensors t = tensors_of(q, k, v);
  double out[4];
  cr_assert(attend_reference(&p, &t, out, NULL, NULL, NULL));
  expect_near(out, (double[]){5, 5, 7, 7}, 4, 0, "out");
}

Test(reference, rows_that_attend_nothing) {
  const float nan3[3] = {NAN, NAN, NAN}, sinks[] = {1.5f};
  attend_problem p = filled(1, 1, 1, 1, 3, 1, 1, 1);
  attend_tensors t = tensors_of(nan3, nan3, nan3);
  const int32_t lengths[] = {0};
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = lengths;
  double out = 1, lse = 1, weights[3] = {1, 1, 1};
  cr_assert(attend_reference(&p, &t, &out, &lse, weights, NULL));
  cr_expect_eq(out, 0);
  cr_expect_eq(lse, -INFINITY);
  expect_near(weights, (double[]){0, 0, 0}, 3, 0, "weights");
  p.sinks = 1, t.sinks = sinks;
  cr_assert(attend_reference(&p, &t, &out, &lse, NULL, NULL));
  cr_expect_eq(out, 0);
  cr_expect_eq(lse, 1.5);
}

Test(reference, what_is_not_finite) {
  const float q[] = {1, 1}, v[] = {1, NAN, 3};
  float k[] = {0, NAN, 0};
  attend_problem p = filled(1, 1, 1, 2, 3, 1, 1, 1);
  attend_tensors t = tensors_of(q, k, v);
  const uint8_t mask[] = {1, 0, 1, 1, 1, 1};
  p.mask = 1, p.mask_strides = (attend_strides4){0, 0, 3, 1}, t.mask = mask;
  double out[2], lse[2], weights[6];
  cr_assert(attend_reference(&p, &t, out, lse, weights, NULL));
  cr_expect_eq(out[0], 2);
  cr_expect_eq(lse[0], log(2));
  cr_expect_eq(weights[1], 0);
  cr_expect(isnan(out[1]) && isnan(lse[1]) && isnan(weights[3]));
  k[1] = -INFINITY; /* excludes the key, and with it the NaN in v */
  cr_assert(attend_reference(&p, &t, out, lse, weights, NULL));
  cr_expect_eq(out[1], 2);
  cr_expect_eq(weights[4], 0);
}

Test(reference, element_types) {
  const uint16_t f16[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x03ff, 0x7c00, 0xfc00, 0x7e00};
  const uint16_t bf16[] = {0x3f80, 0xc000, 0x0001, 0x7f80, 0x7fc0};
  const float f32[] = {1, -0.1f};
  const float from_f16[] = {1, -2, 65504, 0x1p-24f, -0.0f, 0x1.ff8p-15f, INFINITY, -INFINITY};
  const float from_bf16[] = {1, -2, 0x1p-133f, INFINITY};
  for (int i = 0; i < 8; i++) cr_expect_eq(attend_reference_element(f16, ATTEND_F16, i), from_f16[i], "f16 %d", i);
  for (int i = 0; i < 4; i++) cr_expect_eq(attend_reference_element(bf16, ATTEND_BF16, i), from_bf16[i], "bf16 %d", i);
  cr_expect(signbit(attend_reference_element(f16, ATTEND_F16, 4)));
  cr_expect(isnan(attend_reference_element(f16, ATTEND_F16, 8)) &&
            isnan(attend_reference_element(bf16, ATTEND_BF16, 4)));
  cr_expect_eq(attend_reference_element(f32, ATTEND_F32, 1), -0.1f);
}
