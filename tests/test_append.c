/* SPDX-License-Identifier: Apache-2.0 */
/** Appending to caches: what goes where, every kernel on random cases, errors that leave the cache alone. */
#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/formats.h"
#include "tests/row_kernels.h"
#include "tests/support.h"

static attend_append_problem problem_of(int64_t batch, int64_t heads, int64_t rows, int64_t dim, int64_t cache_len) {
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = batch, p.heads = heads, p.rows = rows, p.dim = dim, p.cache_len = cache_len;
  return p;
}

static attend_append_tensors tensors_of(const void *x, void *cache, const int32_t *positions) {
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  t.x = x, t.cache = cache, t.positions = positions;
  return t;
}

/* Numbers that say where they come from. */
static void count_up(float *x, int count) {
  for (int i = 0; i < count; i++) x[i] = (float)(i + 1);
}

static void expect_floats(const float *got, const float *expected, int count, const char *what) {
  for (int i = 0; i < count; i++)
    cr_expect_eq(got[i], expected[i], "%s: element %d is %g, expected %g", what, i, (double)got[i],
                 (double)expected[i]);
}

/* -------------------------------------------------------------------------------------------------- what goes where */

Test(append, into_a_cache_in_one_piece) {
  float x[2 * 2 * 1 * 2], cache[2 * 2 * 3 * 2] = {0};
  count_up(x, COUNT(x));
  const attend_append_problem p = problem_of(2, 2, 1, 2, 3);
  const attend_append_tensors t = tensors_of(x, cache, (const int32_t[]){2, 0});
  cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  const float expected[] = {0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 4, 5, 6, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0};
  expect_floats(cache, expected, COUNT(expected), "contiguous");
}

/* What a layer makes, (B, L, H, D), into what it keeps, (B, cache_len, H, D). */
Test(append, heads_side_by_side) {
  float x[1 * 2 * 2 * 2], cache[1 * 4 * 2 * 2] = {0};
  count_up(x, COUNT(x));
  attend_append_problem p = problem_of(1, 2, 2, 2, 4);
  p.x_strides = (attend_strides){8, 2, 4}, p.cache_strides = (attend_strides){16, 2, 4};
  const attend_append_tensors t = tensors_of(x, cache, (const int32_t[]){1});
  cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  const float expected[] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0};
  expect_floats(cache, expected, COUNT(expected), "side by side");
}

/* Two rows that cross from one page into another, which lies before it; the entries around them are garbage. */
Test(append, across_pages) {
  float x[3], cache[4 * 2] = {0};
  count_up(x, COUNT(x));
  attend_append_problem p = problem_of(1, 1, 3, 1, 8);
  p.page_rows = 2, p.pages = 4;
  attend_append_tensors t = tensors_of(x, cache, (const int32_t[]){3});
  t.block_table = (const int32_t[]){-7, 2, 0, INT32_MAX};
  cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  expect_floats(cache, (const float[]){2, 3, 0, 0, 0, 1, 0, 0}, 8, "pages");
}

/* Sequences of 2, 0 and 1 new rows; the last row of x belongs to none. */
Test(append, ragged_rows) {
  float x[4], cache[3 * 4] = {0};
  count_up(x, COUNT(x));
  attend_append_problem p = problem_of(3, 1, 2, 1, 4);
  p.x_starts = 1, p.x_total = 4;
  attend_append_tensors t = tensors_of(x, cache, (const int32_t[]){2, 4, 0});
  t.x_starts = (const int32_t[]){0, 2, 2, 3};
  cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  expect_floats(cache, (const float[]){0, 0, 1, 2, 0, 0, 0, 0, 3, 0, 0, 0}, 12, "ragged");
}

/* The cache then holds what attention reads: every prefix of a sequence, appended row by row in pages. */
Test(append, attention_reads_what_was_appended) {
  enum { LENGTH = 9, D = 4 };
  float k[LENGTH * D], q[D] = {1, -1, 0.5f, 0.25f}, pages[5 * 2 * D], direct[D], paged[D];
  for (int i = 0; i < LENGTH * D; i++) k[i] = (float)(i * 7 % 11) / 11.0f;
  for (int i = 0; i < (int)COUNT(pages); i++) pages[i] = NAN;
  const int32_t table[] = {3, 1, 4, 0, 2};
  attend_append_problem append = problem_of(1, 1, 1, D, 10);
  append.page_rows = 2, append.pages = 5;
  attend_problem problem = attend_test_problem(1, 1, 1, 1, 10, D);
  problem.page_rows = 2, problem.pages = 5, problem.kv_lengths = ATTEND_LENGTHS_PER_BATCH;
  for (int32_t n = 0; n < LENGTH; n++) {
    attend_append_tensors t = tensors_of(k + n * D, pages, &n);
    t.block_table = table;
    cr_assert_eq(attend_append(&append, &t), ATTEND_OK, "%s", attend_error_detail());
    const int32_t length = n + 1;
    attend_tensors a = ATTEND_TENSORS_INIT;
    a.q = q, a.k = pages, a.v = pages, a.out = paged, a.kv_lengths = &length, a.block_table = table;
    cr_assert_eq(attend_forward(&problem, &a), ATTEND_OK, "%s", attend_error_detail());
    const attend_problem plain = attend_test_problem(1, 1, 1, 1, length, D);
    a = (attend_tensors)ATTEND_TENSORS_INIT;
    a.q = q, a.k = k, a.v = k, a.out = direct;
    cr_assert_eq(attend_forward(&plain, &a), ATTEND_OK, "%s", attend_error_detail());
    for (int d = 0; d < D; d++) cr_expect_float_eq(paged[d], direct[d], 1e-6f, "%d keys", length);
  }
}

/* --------------------------------------------------------------------------------------------------- every kernel */

ParameterizedTestParameters(append, every_kernel_on_random_cases) { return attend_test_each_kernel(ATTEND_OP_APPEND); }

ParameterizedTest(const size_t *index, append, every_kernel_on_random_cases) {
  attend_test_random_cases(ATTEND_OP_APPEND, *index, 1500);
}

/* Every number of 16 bits, and the f32 around all numbers of 16 bits and half-way between them. */
Test(append, every_number) {
  enum { ALL = 1 << 16, AROUND = 6 };
  static float wide[ALL * AROUND], back[ALL];
  static uint16_t narrow[ALL * AROUND], every[ALL];
  static const int32_t positions[1];
  for (int i = 0; i < ALL; i++) every[i] = (uint16_t)i;
  for (attend_dtype dtype = ATTEND_F16; dtype <= ATTEND_BF16; dtype++) {
    for (int i = 0; i < ALL; i++) {
      const uint32_t bits = dtype == ATTEND_F16 ? f32_to_bits(f16_to_f32((uint16_t)i)) : (uint32_t)i << 16;
      const uint32_t half = dtype == ATTEND_F16 ? 0x1000 : 0x8000;
      const uint32_t around[AROUND] = {bits, bits + 1, bits - 1, bits + half, bits + half + 1, bits + half - 1};
      for (int n = 0; n < AROUND; n++) wide[i * AROUND + n] = f32_from_bits(around[n]);
    }
    attend_append_problem p = problem_of(1, 1, 1, ALL * AROUND, 1);
    p.cache_dtype = dtype;
    attend_append_tensors t = tensors_of(wide, narrow, positions);
    cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
    int wrong = 0;
    for (int i = 0; i < ALL * AROUND; i++) {
      const uint16_t expected = dtype == ATTEND_F16 ? f32_to_f16(wide[i]) : f32_to_bf16(wide[i]);
      const float got = dtype == ATTEND_F16 ? f16_to_f32(narrow[i]) : bf16_to_f32(narrow[i]);
      wrong += isnan(wide[i]) ? !isnan(got) : narrow[i] != expected;
    }
    cr_expect_eq(wrong, 0, "%s: %d numbers are rounded otherwise", attend_dtype_name(dtype), wrong);
    p = problem_of(1, 1, 1, ALL, 1);
    p.x_dtype = dtype, p.cache_dtype = ATTEND_F32;
    t = tensors_of(every, back, positions);
    cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
    for (int i = wrong = 0; i < ALL; i++) {
      const float expected = dtype == ATTEND_F16 ? f16_to_f32(every[i]) : bf16_to_f32(every[i]);
      wrong += isnan(expected) ? !isnan(back[i]) : f32_to_bits(expected) != f32_to_bits(back[i]);
    }
    cr_expect_eq(wrong, 0, "%s: %d numbers are widened otherwise", attend_dtype_name(dtype), wrong);
  }
}

/* Work for many threads gives the bits that one gives, and nothing is allocated. */
Test(append, threads_change_no_bit) {
  enum { BATCH = 3, ROWS = 701, DIM = 515, TOTAL = 1500 };
  const size_t bytes = sizeof(uint16_t[BATCH * ROWS * DIM]);
  float *x = malloc(sizeof(float[TOTAL * DIM]));
  uint16_t *one = calloc(1, bytes), *several = malloc(bytes);
  cr_assert(x && one && several);
  for (int i = 0; i < TOTAL * DIM; i++) x[i] = (float)(i % 977 * 7919 % 2003) / 200.0f;
  attend_append_problem p = problem_of(BATCH, 1, ROWS, DIM, ROWS);
  p.cache_dtype = ATTEND_F16, p.num_threads = 1, p.x_starts = 1, p.x_total = TOTAL;
  attend_append_tensors t = tensors_of(x, one, (const int32_t[]){0, 1, 200});
  t.x_starts = (const int32_t[]){0, 701, 1200, 1500};
  cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
  t.cache = several;
  attend_fail_allocation(0);
  for (p.num_threads = 0; p.num_threads <= 7; p.num_threads++) {
    memset(several, 0, bytes);
    cr_assert_eq(attend_append(&p, &t), ATTEND_OK);
    cr_expect_arr_eq(one, several, bytes, "%d threads", p.num_threads);
  }
  cr_expect_eq(attend_fail_allocation(0), 0, "an allocation");
  free(x), free(one), free(several);
}

/* ---------------------------------------------------------------------------------------------------------- errors */

enum { B = 2, H = 2, L = 2, D = 3, CACHE = 7, PAGE = 2, ENTRIES = 4, PAGES = 9 };
static float x_memory[B * H * L * D + 1], cache_memory[PAGES * H * PAGE * D + 1];
static const int32_t positions[B] = {5, 0};
static const int32_t starts[B + 1] = {0, 2, 3};
static const int32_t table[B * ENTRIES] = {-1, -1, 8, 0, 3, -1, -1, -1};

static attend_append_problem full_problem(void) {
  attend_append_problem p = problem_of(B, H, L, D, CACHE);
  p.x_starts = 1, p.x_total = 3, p.page_rows = PAGE, p.pages = PAGES;
  return p;
}

static attend_append_tensors full_tensors(void) {
  attend_append_tensors t = tensors_of(x_memory, cache_memory, positions);
  t.x_starts = starts, t.block_table = table;
  return t;
}

static void expect_refused(const void *p, const void *t, attend_status expected, const char *field, const char *what) {
  memset(cache_memory, 0x5a, sizeof cache_memory);
  EXPECT_ERROR(attend_append(p, t), expected, field, "%s", what);
  for (size_t i = 0; i < sizeof cache_memory; i++)
    cr_assert_eq(((const unsigned char *)cache_memory)[i], 0x5a, "%s: the cache was touched", what);
}

static void expect_accepted(const void *p, const void *t, const char *what) {
  cr_expect_eq(attend_append(p, t), ATTEND_OK, "%s: %s", what, attend_error_detail());
}

#define WIDE(field) {#field, offsetof(attend_append_problem, field)}
#define NARROW(field, ...)                                                                                             \
  {                                                                                                                    \
    #field, offsetof(attend_append_problem, field), { __VA_ARGS__ }                                                    \
  }

Test(errors, problems) {
  const attend_append_tensors t = full_tensors();
  const struct {
    const char *field;
    size_t offset;
  } wide[] = {WIDE(batch),     WIDE(heads),     WIDE(rows),
              WIDE(dim),       WIDE(cache_len), WIDE(x_total),
              WIDE(page_rows), WIDE(pages),     WIDE(block_table_stride)};
  const int64_t values[] = {-1, INT64_C(1) << 31, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < COUNT(wide); i++)
    for (size_t n = 0; n < COUNT(values); n++) {
      attend_append_problem p = full_problem();
      memcpy((char *)&p + wide[i].offset, &values[n], sizeof(int64_t));
      expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, wide[i].field, wide[i].field);
    }
  const struct {
    const char *field;
    size_t offset;
    int values[3];
  } narrow[] = {NARROW(x_dtype, -1, 4, INT_MIN), NARROW(cache_dtype, -1, ATTEND_DTYPE_COUNT, INT_MIN),
                NARROW(x_starts, -1, 2, INT_MIN), NARROW(num_threads, -1, 1025, INT_MIN)};
  for (size_t i = 0; i < COUNT(narrow); i++)
    for (size_t n = 0; n < 3; n++) {
      attend_append_problem p = full_problem();
      memcpy((char *)&p + narrow[i].offset, &narrow[i].values[n], sizeof(int));
      expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, narrow[i].field, narrow[i].field);
    }
  attend_append_problem p = full_problem();
  p.cache_strides = (attend_strides){H * PAGE * D, 0, D};
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "cache_strides", "heads that overlap");
  p = full_problem(), p.x_strides.row = INT64_MAX;
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "x", "strides of x that reach too far");
  p = full_problem(), p.cache_strides.head = INT64_MIN;
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "cache", "strides of the cache that reach too far");
  p = full_problem(), p.x_total = B * L + 1;
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x_total", "more than all sequences have");
  p = full_problem(), p.block_table_stride = ENTRIES - 1;
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "block_table_stride", "too short");
  const int64_t most = ATTEND_MAX_EXTENT;
  p = problem_of(most, most, most, most, most);
  expect_refused(&p, &t, ATTEND_ERROR_OVERFLOW, "x", "more than memory can hold");
}

Test(errors, tensors) {
  const attend_append_problem p = full_problem();
  attend_append_tensors t = full_tensors();
  t.x = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x", "NULL"), t = full_tensors();
  t.cache = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "cache", "NULL"), t = full_tensors();
  t.positions = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "positions", "NULL"), t = full_tensors();
  t.x_starts = NULL, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x_starts", "NULL"), t = full_tensors();
  t.block_table = NULL;
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "block_table", "NULL"), t = full_tensors();
  t.x = (char *)x_memory + 2, expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x", "misaligned");
  t = full_tensors(), t.cache = (char *)cache_memory + 1;
  expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "cache", "misaligned");
  t = full_tensors();
  expect_accepted(&p, &t, "all there");
}

/* Whatever would write outside the cache, or outside a sequence. */
Test(errors, places) {
  const attend_append_problem p = full_problem();
  attend_append_tensors t = full_tensors();
  const int32_t bad_positions[][B] = {{6, 0}, {5, 7}, {-1, 0}, {5, -1}, {INT32_MAX, 0}, {5, INT32_MIN}};
  for (size_t i = 0; i < COUNT(bad_positions); i++) {
    t.positions = bad_positions[i];
    expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "positions", "beyond the cache");
  }
  t = full_tensors();
  const int32_t bad_starts[][B + 1] = {{1, 2, 3}, {0, 3, 3}, {0, 2, 1}, {0, 2, 4}, {0, -1, 1}};
  for (size_t i = 0; i < COUNT(bad_starts); i++) {
    t.x_starts = bad_starts[i];
    expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "x_starts", "starts");
  }
  t = full_tensors();
  for (int n = 0; n < B * ENTRIES; n++)
    for (int32_t value = -1; value <= PAGES; value += PAGES + 1) {
      int32_t entries[B * ENTRIES];
      memcpy(entries, table, sizeof entries);
      entries[n] = value, t.block_table = entries;
      if (n == 2 || n == 3 || n == 4)
        expect_refused(&p, &t, ATTEND_ERROR_INVALID_ARGUMENT, "block_table", "no page");
      else
        expect_accepted(&p, &t, "an entry that is not needed");
    }
}

Test(errors, structs) {
  attend_append_problem p = full_problem();
  attend_append_tensors t = full_tensors();
  attend_test_structs("attend_append", &p, sizeof p, &t, sizeof t, expect_refused, expect_accepted);
}

Test(errors, nothing_to_append) {
  const attend_append_tensors none = ATTEND_APPEND_TENSORS_INIT;
  for (int i = 0; i < 4; i++) {
    attend_append_problem p = full_problem();
    *(i == 0 ? &p.batch : i == 1 ? &p.heads : i == 2 ? &p.rows : &p.dim) = 0;
    if (i == 0 || i == 2) p.x_total = 0;
    expect_accepted(&p, &none, "no element");
  }
  attend_append_problem p = full_problem();
  attend_append_tensors t = full_tensors();
  p.x_total = 0, p.cache_len = 0, t.x = NULL, t.cache = NULL, t.block_table = NULL;
  t.x_starts = (const int32_t[]){0, 0, 0}, t.positions = (const int32_t[]){0, 0};
  expect_accepted(&p, &t, "no rows, and room for none");
}
