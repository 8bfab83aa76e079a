/* SPDX-License-Identifier: Apache-2.0 */
/** Masked softmax: known results, every kernel on random cases, threads, and what it accepts and refuses. */
#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/row_kernels.h"
#include "tests/support.h"

static attend_softmax_problem problem_of(int64_t batch, int64_t rows, int64_t columns) {
  attend_softmax_problem p = ATTEND_SOFTMAX_PROBLEM_INIT;
  p.batch = batch, p.rows = rows, p.columns = columns;
  return p;
}

static attend_softmax_tensors tensors_of(const void *x, void *out) {
  attend_softmax_tensors t = ATTEND_SOFTMAX_TENSORS_INIT;
  t.x = x, t.out = out;
  return t;
}

static void expect_near(const float *got, const double *expected, size_t count, const char *what) {
  for (size_t i = 0; i < count; i++)
    cr_expect(fabs((double)got[i] - expected[i]) <= 3e-7, "%s[%zu] is %.9g instead of %.9g", what, i, (double)got[i],
              expected[i]);
}

/* ---------------------------------------------------------------------------------------------------- known results */

/* Lengths for a batch entry, and for each row of it, as tutorials on sequence models show them. */
Test(softmax, lengths) {
  const float x[16] = {0, 1, 2, NAN, -1, 1, 0, 5, 0.5f, 0.5f, 0.5f, 0.5f, 3, 2, 1, 0};
  const double e = exp(1), e2 = exp(2), e3 = exp(3), minus = exp(-1);
  float out[16];
  attend_softmax_problem p = problem_of(2, 2, 4);
  attend_softmax_tensors t = tensors_of(x, out);
  p.lengths = ATTEND_LENGTHS_PER_BATCH, t.lengths = (const int32_t[]){2, 3};
  cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  const double per_batch[] = {1 / (1 + e),
                              e / (1 + e),
                              0,
                              0,
                              minus / (minus + e),
                              e / (minus + e),
                              0,
                              0,
                              1. / 3,
                              1. / 3,
                              1. / 3,
                              0,
                              e3 / (e3 + e2 + e),
                              e2 / (e3 + e2 + e),
                              e / (e3 + e2 + e),
                              0};
  expect_near(out, per_batch, 16, "per batch");
  p.lengths = ATTEND_LENGTHS_PER_QUERY, t.lengths = (const int32_t[]){1, 3, 2, 0};
  cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  const double sum = minus + e + 1;
  const double per_row[] = {1, 0, 0, 0, minus / sum, e / sum, 1 / sum, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0};
  expect_near(out, per_row, 16, "per row");
}

Test(softmax, mask_minus_infinity_and_in_place) {
  float x[12] = {1, 2, 3, 4, -INFINITY, 0, -INFINITY, 0, NAN, INFINITY, -INFINITY, 7};
  const uint8_t mask[12] = {1, 0, 255, 0, 1, 1, 1, 0, 0, 0, 1, 0};
  attend_softmax_problem p = problem_of(1, 3, 4);
  attend_softmax_tensors t = tensors_of(x, x);
  p.mask = 1, p.mask_strides = (attend_strides4){0, 0, 4, 1}, t.mask = mask;
  cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  const double low = exp(1) / (exp(1) + exp(3));
  const double expected[] = {low, 0, 1 - low, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  expect_near(x, expected, 12, "in place");
}

/* A mask of columns for every row, and one of rows for every column. */
Test(softmax, mask_is_broadcast) {
  const float x[6] = {0};
  float out[6];
  attend_softmax_problem p = problem_of(1, 2, 3);
  attend_softmax_tensors t = tensors_of(x, out);
  p.mask = 1, t.mask = (const uint8_t[]){0, 1, 1};
  p.mask_strides = (attend_strides4){.key = 1};
  cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK);
  expect_near(out, (const double[]){0, 0.5, 0.5, 0, 0.5, 0.5}, 6, "columns");
  p.mask_strides = (attend_strides4){.query = 1};
  cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK);
  expect_near(out, (const double[]){0, 0, 0, 1. / 3, 1. / 3, 1. / 3}, 6, "rows");
}

/* --------------------------------------------------------------------------------------------------- every kernel */

ParameterizedTestParameters(softmax, every_kernel_on_random_cases) {
  return attend_test_each_kernel(ATTEND_OP_SOFTMAX);
}

ParameterizedTest(const size_t *index, softmax, every_kernel_on_random_cases) {
  attend_test_random_cases(ATTEND_OP_SOFTMAX, *index, 1500);
}

/* Work for many threads gives the bits that one gives, and nothing is allocated. */
Test(softmax, threads_change_no_bit) {
  enum { ROWS = 701, COLUMNS = 1003 };
  float *x = malloc(sizeof(float[ROWS * COLUMNS])), *one = malloc(sizeof(float[ROWS * COLUMNS]));
  float *several = malloc(sizeof(float[ROWS * COLUMNS]));
  cr_assert(x && one && several);
  for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = (float)(i % 977 * 7919 % 2003) / 200.0f;
  attend_softmax_problem p = problem_of(1, ROWS, COLUMNS);
  p.lengths = ATTEND_LENGTHS_PER_BATCH;
  attend_softmax_tensors t = tensors_of(x, one);
  t.lengths = (const int32_t[]){COLUMNS - 2};
  p.num_threads = 1;
  cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK);
  t.out = several;
  attend_fail_allocation(0);
  for (p.num_threads = 0; p.num_threads <= 7; p.num_threads++) {
    memset(several, 0xff, sizeof(float[ROWS * COLUMNS]));
    cr_assert_eq(attend_masked_softmax(&p, &t), ATTEND_OK);
    cr_expect_arr_eq(one, several, sizeof(float[ROWS * COLUMNS]), "%d threads", p.num_threads);
  }
  cr_expect_eq(attend_fail_allocation(0), 0, "an allocation");
  free(x), free(one), free(several);
}

/* ---------------------------------------------------------------------------------------------------------- errors */

enum { B = 2, R = 3, C = 5 };
static float x_memory[B * R * C + 1], out_memory[B * R * C + 1];
static const int32_t lengths[B * R] = {5, 0, 2, 5, 1, 3};
static const uint8_t mask[B * R * C] = {1};

static attend_softmax_problem full_problem(void) {
  attend_softmax_problem p = problem_of(B, R, C);
  p.lengths = ATTEND_LENGTHS_PER_QUERY, p.mask = 1, p.mask_strides = (attend_strides4){R * C, 0, C, 1};
  return p;
}

static attend_softmax_tensors full_tensors(void) {
  attend_softmax_tensors t = tensors_of(x_memory, out_memory);
  t.lengths = lengths, t.mask = mask;
  return t;
}

static void expect_refused(const void *p, const void *t, attend_status expected, const char *field, const char *what) {
  memset(out_memory, 0x5a, sizeof out_memory);
  EXPECT_ERROR(attend_masked_softmax(p, t), expected, field, "%s", what);
  for (size_t i = 0; i < sizeof out_memory; i++)
    cr_assert_eq(((const unsigned char *)out_memory)[i], 0x5a, "%s: out was touched", what);
}

static void expect_accepted(const void *p, const void *t, const char *what) {
  cr_expect_eq(attend_masked_softmax(p, t), ATTEND_OK, "%s: %s", what, attend_error_detail());
}

Test(errors, problems) {
  const attend_softmax_tensors t = full_tensors();
  const struct {
    const char *field;
    size_t offset;
    int64_t values[4];
  } wide[] = {{"batch", offsetof(attend_softmax_problem, batch), {-1, INT64_C(1) << 31, INT64_MAX, INT64_MIN}},
              {"heads", offsetof(attend_softmax_problem, heads), {-1, INT64_C(1) << 31, INT64_MAX, INT64_MIN}},
              {"rows", offsetof(attend_softmax_problem, rows), {-1, INT64_C(1) << 31, INT64_MAX, INT64_MIN}},
              {"columns", offsetof(attend_softmax_problem, columns), {-1, INT64_C(1) << 31, INT64_MAX, INT64_MIN}}};
  for (size_t i = 0; i < COUNT(wide); i++)
    for (size_t n = 0; n < 4; n++) {
      attend_softmax_problem p = full_problem();
      memcpy((char *)&p + wide[i].offset, &wide[i].values[n], sizeof(int64_t));
      expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, wide[i].field, wide[i].field);
    }
  const struct {
    const char *field;
    size_t offset;
    int values[3];
  } narrow[] = {{"dtype", offsetof(attend_softmax_problem, dtype), {-1, 4, INT_MIN}},
                {"lengths", offsetof(attend_softmax_problem, lengths), {-1, 3, INT_MIN}},
                {"mask", offsetof(attend_softmax_problem, mask), {-1, 2, INT_MIN}},
                {"num_threads", offsetof(attend_softmax_problem, num_threads), {-1, 1025, INT_MIN}}};
  for (size_t i = 0; i < COUNT(narrow); i++)
    for (size_t n = 0; n < 3; n++) {
      attend_softmax_problem p = full_problem();
      memcpy((char *)&p + narrow[i].offset, &narrow[i].values[n], sizeof(int));
      expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, narrow[i].field, narrow[i].field);
    }
  attend_softmax_problem p = full_problem();
  p.out_strides = (attend_strides){R * C, 0, C - 1};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "out_strides", "rows that overlap");
  p = full_problem();
  p.x_strides = (attend_strides){INT64_MAX, 0, C};
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "x", "strides of x that reach too far");
  p = full_problem();
  p.mask_strides.batch = INT64_MIN;
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "mask", "strides of the mask that reach too far");
  const int64_t most = ATTEND_MAX_EXTENT;
  p = problem_of(most, most, most);
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "x", "more than memory can hold");
  p.x_strides = (attend_strides){0, 0, 1};
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "out", "more than memory can hold");
}

Test(errors, tensors) {
  const attend_softmax_problem p = full_problem();
  attend_softmax_tensors t = full_tensors();
  t.x = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x", "NULL"), t = full_tensors();
  t.out = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "out", "NULL"), t = full_tensors();
  t.lengths = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lengths", "NULL"), t = full_tensors();
  t.mask = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "mask", "NULL"), t = full_tensors();
  t.x = (char *)x_memory + 2, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x", "misaligned");
  t = full_tensors();
  t.out = (char *)out_memory + 1, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "out", "misaligned");
  t = full_tensors();
  t.lengths = (const int32_t[]){5, 0, 2, 5, 6, 3};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lengths", "too long");
  t.lengths = (const int32_t[]){5, 0, 2, 5, 3, -1};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "lengths", "negative");
  t = full_tensors();
  expect_accepted(&p, &t, "all there");
}

Test(errors, structs) {
  attend_softmax_problem p = full_problem();
  attend_softmax_tensors t = full_tensors();
  attend_test_structs("attend_softmax", &p, sizeof p, &t, sizeof t, expect_refused, expect_accepted);
}

Test(errors, nothing_to_compute) {
  const attend_softmax_tensors none = ATTEND_SOFTMAX_TENSORS_INIT;
  for (int i = 0; i < 3; i++) {
    attend_softmax_problem p = full_problem();
    *(i == 0 ? &p.batch : i == 1 ? &p.rows : &p.columns) = 0;
    expect_accepted(&p, &none, "no element");
  }
}
