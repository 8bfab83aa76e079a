/* SPDX-License-Identifier: Apache-2.0 */
/** Merging results of attention: against attention over all keys, every kernel on random cases, edges, errors. */
#include <criterion/criterion.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "tests/row_kernels.h"
#include "tests/support.h"

static attend_merge_problem problem_of(int64_t parts, int64_t batch, int64_t heads, int64_t rows, int64_t dim) {
  attend_merge_problem p = ATTEND_MERGE_PROBLEM_INIT;
  p.parts = parts, p.batch = batch, p.heads = heads, p.rows = rows, p.dim = dim, p.lse = 1;
  return p;
}

static attend_merge_tensors tensors_of(const void *const *outs, const float *const *lses, void *out, float *lse) {
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  t.outs = outs, t.lses = lses, t.out = out, t.lse = lse;
  return t;
}

/* One row of parts of two numbers each. */
static void merge_row(int parts, const float (*rows)[2], const float *lse, float out[2], float *merged) {
  const void *outs[4];
  const float *lses[4];
  for (int i = 0; i < parts; i++) outs[i] = rows[i], lses[i] = &lse[i];
  const attend_merge_problem p = problem_of(parts, 1, 1, 1, 2);
  const attend_merge_tensors t = tensors_of(outs, lses, out, merged);
  cr_assert_eq(attend_merge(&p, &t), ATTEND_OK, "%s", attend_error_detail());
}

/* ------------------------------------------------------------------------------------------ attention in key ranges */

enum { HEADS = 4, KV_HEADS = 2, QUERIES = 5, KEYS = 40, DIM = 24, ROWS = HEADS * QUERIES };

static float element(const void *tensor, attend_dtype dtype, int64_t at) {
  if (dtype == ATTEND_F32) return ((const float *)tensor)[at];
  const uint16_t bits = ((const uint16_t *)tensor)[at];
  return dtype == ATTEND_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static void fill(void *tensor, attend_dtype dtype, int count, int salt) {
  for (int i = 0; i < count; i++) {
    const float value = (float)((i + salt) * 7919 % 2003) / 1000.0f - 1.0f;
    if (dtype == ATTEND_F32)
      ((float *)tensor)[i] = value;
    else
      ((uint16_t *)tensor)[i] = dtype == ATTEND_F16 ? f32_to_f16(value) : f32_to_bf16(value);
  }
}

/* Causal, with a window and sinks; the ranges end at odd keys, and some queries attend nothing in some of them. */
static void split_and_merge(attend_dtype dtype, double allowed) {
  static const int ends[] = {3, 17, 33, KEYS};
  static float q[ROWS * DIM], k[KV_HEADS * KEYS * DIM], v[KV_HEADS * KEYS * DIM];
  static float whole[ROWS * DIM], part[COUNT(ends)][ROWS * DIM], merged[ROWS * DIM];
  float whole_lse[ROWS], part_lse[COUNT(ends)][ROWS], merged_lse[ROWS];
  const float sinks[HEADS] = {0.5f, -1, 2, 0};
  fill(q, dtype, ROWS * DIM, 1), fill(k, dtype, KV_HEADS * KEYS * DIM, 2), fill(v, dtype, KV_HEADS * KEYS * DIM, 3);
  attend_problem p = attend_test_problem(1, HEADS, KV_HEADS, QUERIES, KEYS, DIM);
  p.q_dtype = dtype, p.lse = 1, p.sinks = 1, p.causal = ATTEND_CAUSAL_OFFSET;
  p.causal_offset = KEYS - 8, p.window = 1, p.window_left = 25;
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = whole, t.lse = whole_lse, t.sinks = sinks;
  cr_assert_eq(attend_forward(&p, &t), ATTEND_OK, "%s", attend_error_detail());

  const int64_t size = (int64_t)attend_dtype_size(dtype);
  const void *outs[COUNT(ends)];
  const float *lses[COUNT(ends)];
  for (int i = 0, begin = 0; i < (int)COUNT(ends); begin = ends[i++]) {
    attend_problem one = p;
    one.kv_len = ends[i] - begin, one.causal_offset -= begin, one.sinks = i == 1; /* once */
    one.k_strides = one.v_strides = (attend_strides){0, KEYS * DIM, DIM};
    t.k = (const char *)k + begin * DIM * size, t.v = (const char *)v + begin * DIM * size;
    memset(part[i], 0xff, sizeof part[i]);
    t.out = part[i], t.lse = part_lse[i];
    cr_assert_eq(attend_forward(&one, &t), ATTEND_OK, "%s", attend_error_detail());
    outs[i] = part[i], lses[i] = part_lse[i];
  }
  attend_merge_problem m = problem_of(COUNT(ends), 1, HEADS, QUERIES, DIM);
  m.part_dtype = dtype;
  attend_merge_tensors mt = tensors_of(outs, lses, merged, merged_lse);
  cr_assert_eq(attend_merge(&m, &mt), ATTEND_OK, "%s", attend_error_detail());
  /* Kernels that multiply in bf16 round the weights that they add up, each by up to 2^-9 of it. */
  const float lse_allowed = dtype == ATTEND_BF16 ? 0x1p-8f : 2e-6f;
  for (int i = 0; i < ROWS; i++) cr_expect_float_eq(merged_lse[i], whole_lse[i], lse_allowed, "LSE of row %d", i);
  for (int i = 0; i < ROWS * DIM; i++) {
    const float got = element(merged, dtype, i), expected = element(whole, dtype, i);
    cr_expect(fabs((double)got - (double)expected) <= allowed, "%s: element %d is %.9g, expected %.9g",
              attend_dtype_name(dtype), i, (double)got, (double)expected);
  }

  /* Part after part, in place, gives the same up to rounding. */
  m.parts = 2;
  for (int i = 1; i < (int)COUNT(ends); i++) {
    const void *two[] = {part[0], part[i]};
    const float *two_lses[] = {part_lse[0], part_lse[i]};
    mt = tensors_of(two, two_lses, part[0], part_lse[0]);
    cr_assert_eq(attend_merge(&m, &mt), ATTEND_OK, "%s", attend_error_detail());
  }
  for (int i = 0; i < ROWS; i++)
    cr_expect_float_eq(part_lse[0][i], whole_lse[i], 2 * lse_allowed, "in place: LSE of row %d", i);
  for (int i = 0; i < ROWS * DIM; i++)
    cr_expect(fabs((double)element(part[0], dtype, i) - (double)element(whole, dtype, i)) <= 3 * allowed,
              "in place: %s: element %d", attend_dtype_name(dtype), i);
}

Test(merge, is_attention_over_all_keys_in_f32) { split_and_merge(ATTEND_F32, 1e-6); }
Test(merge, is_attention_over_all_keys_in_f16) { split_and_merge(ATTEND_F16, 1e-3); }
Test(merge, is_attention_over_all_keys_in_bf16) { split_and_merge(ATTEND_BF16, 8e-3); }

/* ----------------------------------------------------------------------------------------------------------- edges */

/* What a part holds that attended nothing is not read, wherever it stands. */
Test(merge, parts_that_attend_nothing) {
  float out[2], lse;
  merge_row(2, (const float[][2]){{NAN, INFINITY}, {1, 2}}, (const float[]){-INFINITY, 3}, out, &lse);
  cr_expect(out[0] == 1 && out[1] == 2 && lse == 3, "first: %g, %g, %g", (double)out[0], (double)out[1], (double)lse);
  merge_row(2, (const float[][2]){{1, 2}, {NAN, NAN}}, (const float[]){3, -INFINITY}, out, &lse);
  cr_expect(out[0] == 1 && out[1] == 2 && lse == 3, "last: %g, %g, %g", (double)out[0], (double)out[1], (double)lse);
  merge_row(2, (const float[][2]){{NAN, 1}, {2, NAN}}, (const float[]){-INFINITY, -INFINITY}, out, &lse);
  cr_expect(out[0] == 0 && out[1] == 0 && lse == -INFINITY, "all");
}

Test(merge, nothing_overflows) {
  float out[2], lse;
  const float most[2] = {FLT_MAX, -FLT_MAX};
  for (int n = 1; n <= 4; n++) {
    float rows[4][2], lses[4];
    for (int i = 0; i < n; i++) memcpy(rows[i], most, sizeof most), lses[i] = (float)i * 0.37f;
    merge_row(n, rows, lses, out, &lse);
    cr_expect(out[0] == FLT_MAX && out[1] == -FLT_MAX, "%d parts: %g, %g", n, (double)out[0], (double)out[1]);
  }
  merge_row(2, (const float[][2]){{FLT_MAX, 1}, {-FLT_MAX, 3}}, (const float[]){3e38f, 3e38f}, out, &lse);
  cr_expect(out[0] == 0 && out[1] == 2 && lse == 3e38f, "huge LSE");
  merge_row(2, (const float[][2]){{5, 1}, {7, 3}}, (const float[]){-3e38f, 3e38f}, out, &lse);
  cr_expect(out[0] == 7 && out[1] == 3 && lse == 3e38f, "LSE far apart");
  const float least = 1e-45f;
  merge_row(1, (const float[][2]){{least, -least}}, (const float[]){-20}, out, &lse);
  cr_expect(out[0] == least && out[1] == -least && lse == -20, "a part alone comes out as it is");
}

Test(merge, nan_and_infinity) {
  float out[2], lse;
  merge_row(2, (const float[][2]){{1, 2}, {3, NAN}}, (const float[]){0, 0}, out, &lse);
  cr_expect(out[0] == 2 && isnan(out[1]) && fabsf(lse - logf(2)) < 1e-6f, "NaN in an output");
  merge_row(2, (const float[][2]){{1, 2}, {3, 4}}, (const float[]){0, NAN}, out, &lse);
  cr_expect(isnan(out[0]) && isnan(out[1]) && isnan(lse), "NaN in an LSE");
  merge_row(2, (const float[][2]){{1, 2}, {3, 4}}, (const float[]){NAN, -INFINITY}, out, &lse);
  cr_expect(isnan(out[0]) && isnan(out[1]) && isnan(lse), "NaN in the only LSE that counts");
  merge_row(2, (const float[][2]){{1, INFINITY}, {3, 4}}, (const float[]){0, 0}, out, &lse);
  cr_expect(out[0] == 2 && out[1] == INFINITY, "infinity in an output");
  merge_row(3, (const float[][2]){{1, 2}, {3, 4}, {50, 60}}, (const float[]){INFINITY, INFINITY, 8}, out, &lse);
  cr_expect(out[0] == 2 && out[1] == 3 && lse == INFINITY, "infinite LSE");
}

/* With a dim of 0 only the LSE comes out. */
Test(merge, no_output) {
  float lse, lses[2] = {1, 1};
  const float *parts[] = {&lses[0], &lses[1]};
  const attend_merge_problem p = problem_of(2, 1, 1, 1, 0);
  const attend_merge_tensors t = tensors_of(NULL, parts, NULL, &lse);
  cr_assert_eq(attend_merge(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_float_eq(lse, 1 + logf(2), 1e-6f);
}

/* --------------------------------------------------------------------------------------------------- every kernel */

ParameterizedTestParameters(merge, every_kernel_on_random_cases) { return attend_test_each_kernel(ATTEND_OP_MERGE); }

ParameterizedTest(const size_t *index, merge, every_kernel_on_random_cases) {
  attend_test_random_cases(ATTEND_OP_MERGE, *index, 1500);
}

/* Sums follow the order of the parts, whatever the threads: work for many gives the bits that one gives. */
Test(merge, threads_change_no_bit) {
  enum { PARTS = 5, COUNT_ROWS = 1201, WIDTH = 129 };
  static float part[PARTS][COUNT_ROWS * WIDTH], one[COUNT_ROWS * WIDTH], several[COUNT_ROWS * WIDTH];
  static float lse[PARTS][COUNT_ROWS], one_lse[COUNT_ROWS], several_lse[COUNT_ROWS];
  const void *outs[PARTS];
  const float *lses[PARTS];
  for (int i = 0; i < PARTS; i++) {
    fill(part[i], ATTEND_F32, COUNT_ROWS * WIDTH, 31 * i), fill(lse[i], ATTEND_F32, COUNT_ROWS, 77 * i);
    outs[i] = part[i], lses[i] = lse[i];
  }
  attend_merge_problem p = problem_of(PARTS, 1, 1, COUNT_ROWS, WIDTH);
  p.num_threads = 1;
  attend_merge_tensors t = tensors_of(outs, lses, one, one_lse);
  cr_assert_eq(attend_merge(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  t.out = several, t.lse = several_lse;
  attend_fail_allocation(0);
  for (p.num_threads = 0; p.num_threads <= 7; p.num_threads++) {
    memset(several, 0xff, sizeof several), memset(several_lse, 0xff, sizeof several_lse);
    cr_assert_eq(attend_merge(&p, &t), ATTEND_OK);
    cr_expect_arr_eq(one, several, sizeof several, "%d threads", p.num_threads);
    cr_expect_arr_eq(one_lse, several_lse, sizeof several_lse, "%d threads", p.num_threads);
  }
  cr_expect_eq(attend_fail_allocation(0), 0, "an allocation");
}

/* ---------------------------------------------------------------------------------------------------------- errors */

enum { N = 2, B = 2, H = 2, R = 3, D = 5 };
static float part_memory[N][B * H * R * D + 1], lse_memory[N][B * H * R + 1];
static float out_memory[B * H * R * D + 1], merged_memory[B * H * R + 1];
static const void *outs[N] = {part_memory[0], part_memory[1]};
static const float *lses[N] = {lse_memory[0], lse_memory[1]};

static attend_merge_problem full_problem(void) { return problem_of(N, B, H, R, D); }
static attend_merge_tensors full_tensors(void) { return tensors_of(outs, lses, out_memory, merged_memory); }

static void expect_refused(const void *p, const void *t, attend_status expected, const char *field, const char *what) {
  memset(out_memory, 0x5a, sizeof out_memory), memset(merged_memory, 0x5a, sizeof merged_memory);
  EXPECT_ERROR(attend_merge(p, t), expected, field, "%s", what);
  for (size_t i = 0; i < sizeof out_memory; i++)
    cr_assert_eq(((const unsigned char *)out_memory)[i], 0x5a, "%s: out was touched", what);
  for (size_t i = 0; i < sizeof merged_memory; i++)
    cr_assert_eq(((const unsigned char *)merged_memory)[i], 0x5a, "%s: lse was touched", what);
}

static void expect_accepted(const void *p, const void *t, const char *what) {
  cr_expect_eq(attend_merge(p, t), ATTEND_OK, "%s: %s", what, attend_error_detail());
}

#define WIDE(field) {#field, offsetof(attend_merge_problem, field)}
#define NARROW(field, ...)                                                                                             \
  {                                                                                                                    \
    #field, offsetof(attend_merge_problem, field), { __VA_ARGS__ }                                                     \
  }

Test(errors, problems) {
  const attend_merge_tensors t = full_tensors();
  const struct {
    const char *field;
    size_t offset;
  } wide[] = {WIDE(parts), WIDE(batch), WIDE(heads), WIDE(rows), WIDE(dim), WIDE(lse_stride)};
  const int64_t values[] = {-1, INT64_C(1) << 31, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < COUNT(wide); i++)
    for (size_t n = 0; n < COUNT(values); n++) {
      attend_merge_problem p = full_problem();
      memcpy((char *)&p + wide[i].offset, &values[n], sizeof(int64_t));
      expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, wide[i].field, wide[i].field);
    }
  const struct {
    const char *field;
    size_t offset;
    int values[3];
  } narrow[] = {NARROW(part_dtype, -1, 4, INT_MIN), NARROW(out_dtype, -1, 4, INT_MIN), NARROW(lse, -1, 2, INT_MIN),
                NARROW(num_threads, -1, 1025, INT_MIN)};
  for (size_t i = 0; i < COUNT(narrow); i++)
    for (size_t n = 0; n < 3; n++) {
      attend_merge_problem p = full_problem();
      memcpy((char *)&p + narrow[i].offset, &narrow[i].values[n], sizeof(int));
      expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, narrow[i].field, narrow[i].field);
    }
  attend_merge_problem p = full_problem();
  p.parts = 0, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "parts", "no part");
  p = full_problem(), p.lse_stride = R - 1;
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lse_stride", "too short");
  p = full_problem(), p.out_strides = (attend_strides){H * R * D, R * D, D - 1};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "out_strides", "rows that overlap");
  p = full_problem(), p.part_strides.row = INT64_MAX;
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "part", "strides of the parts that reach too far");
  const int64_t most = ATTEND_MAX_EXTENT;
  p = problem_of(1, most, most, most, 0);
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "lse", "more than memory can hold");
}

Test(errors, tensors) {
  const attend_merge_problem p = full_problem();
  attend_merge_tensors t = full_tensors();
  t.outs = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "outs", "NULL"), t = full_tensors();
  t.lses = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lses", "NULL"), t = full_tensors();
  t.out = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "out", "NULL"), t = full_tensors();
  t.lse = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lse", "NULL"), t = full_tensors();
  t.outs = (const void *const[]){part_memory[0], NULL};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "outs", "a part that is NULL"), t = full_tensors();
  t.lses = (const float *const[]){NULL, lse_memory[1]};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lses", "a part that is NULL"), t = full_tensors();
  t.outs = (const void *const[]){part_memory[0], (char *)part_memory[1] + 2};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "outs", "misaligned"), t = full_tensors();
  t.out = (char *)out_memory + 1, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "out", "misaligned");
  t = full_tensors();
  expect_accepted(&p, &t, "all there");
}

Test(errors, structs) {
  attend_merge_problem p = full_problem();
  attend_merge_tensors t = full_tensors();
  attend_test_structs("attend_merge", &p, sizeof p, &t, sizeof t, expect_refused, expect_accepted);
}

Test(errors, nothing_to_merge) {
  const attend_merge_tensors none = ATTEND_MERGE_TENSORS_INIT;
  for (int i = 0; i < 3; i++) {
    attend_merge_problem p = full_problem();
    *(i == 0 ? &p.batch : i == 1 ? &p.heads : &p.rows) = 0;
    expect_accepted(&p, &none, "no row");
  }
}
