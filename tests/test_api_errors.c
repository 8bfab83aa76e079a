/* SPDX-License-Identifier: Apache-2.0 */
/** What attend_plan_create() and attend_forward() accept and refuse, field by field, and what they say about it. */
#include <criterion/criterion.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

/* A new value for one field of a problem. Enumerations are as wide as int. */
typedef struct change {
  const char *field;
  size_t offset, size;
  int64_t value;
  bool is_enum; /* its value may be shown by name or as unsigned */
} change;

#define LONG(field, value) {#field, offsetof(attend_problem, field), sizeof(int64_t), value, false}
#define FLAG(field, value) {#field, offsetof(attend_problem, field), sizeof(int), value, false}
#define ENUM(field, value) {#field, offsetof(attend_problem, field), sizeof(int), value, true}
_Static_assert(sizeof(attend_dtype) == sizeof(int), "ENUM() needs enumerations as wide as int");

#define MOST ((int64_t)INT32_MAX)

static void apply(attend_problem *problem, const change *c) {
  const int narrow = (int)c->value;
  memcpy((char *)problem + c->offset, c->size == sizeof narrow ? (const void *)&narrow : (const void *)&c->value,
         c->size);
}

/* ------------------------------------------------------------------------------------------------ problem: fields */

Test(problem, fields_out_of_bounds_are_refused) {
  static const change bad[] = {
      LONG(batch, -1),
      LONG(batch, MOST + 1),
      LONG(batch, INT64_MAX),
      LONG(batch, INT64_MIN),
      LONG(q_heads, -1),
      LONG(q_heads, MOST + 1),
      LONG(q_heads, INT64_MAX),
      LONG(q_heads, INT64_MIN),
      LONG(kv_heads, -1),
      LONG(kv_heads, MOST + 1),
      LONG(kv_heads, INT64_MAX),
      LONG(kv_heads, INT64_MIN),
      LONG(q_len, -1),
      LONG(q_len, MOST + 1),
      LONG(q_len, INT64_MAX),
      LONG(q_len, INT64_MIN),
      LONG(kv_len, -1),
      LONG(kv_len, MOST + 1),
      LONG(kv_len, INT64_MAX),
      LONG(kv_len, INT64_MIN),
      LONG(head_dim, -1),
      LONG(head_dim, MOST + 1),
      LONG(head_dim, INT64_MAX),
      LONG(head_dim, INT64_MIN),
      LONG(v_head_dim, -1),
      LONG(v_head_dim, MOST + 1),
      LONG(v_head_dim, INT64_MAX),
      LONG(v_head_dim, INT64_MIN),
      LONG(q_total, -1),
      LONG(q_total, MOST + 1),
      LONG(q_total, INT64_MAX),
      LONG(q_total, INT64_MIN),
      LONG(kv_total, -1),
      LONG(kv_total, MOST + 1),
      LONG(kv_total, INT64_MAX),
      LONG(kv_total, INT64_MIN),
      LONG(page_rows, -1),
      LONG(page_rows, MOST + 1),
      LONG(page_rows, INT64_MAX),
      LONG(page_rows, INT64_MIN),
      LONG(pages, -1),
      LONG(pages, MOST + 1),
      LONG(pages, INT64_MAX),
      LONG(pages, INT64_MIN),
      LONG(block_table_stride, -1),
      LONG(block_table_stride, MOST + 1),
      LONG(block_table_stride, INT64_MAX),
      LONG(block_table_stride, INT64_MIN),
      LONG(causal_offset, -MOST - 1),
      LONG(causal_offset, MOST + 1),
      LONG(causal_offset, INT64_MAX),
      LONG(causal_offset, INT64_MIN),
      LONG(window_left, -2),
      LONG(window_left, MOST + 1),
      LONG(window_left, INT64_MAX),
      LONG(window_left, INT64_MIN),
      LONG(window_right, -2),
      LONG(window_right, MOST + 1),
      LONG(window_right, INT64_MAX),
      LONG(window_right, INT64_MIN),
      /* 4 query heads: no multiple of these */
      LONG(kv_heads, 3),
      LONG(kv_heads, 8),
      LONG(kv_heads, MOST),
      FLAG(window, -1),
      FLAG(window, 2),
      FLAG(window, INT_MAX),
      FLAG(window, INT_MIN),
      FLAG(positions, -1),
      FLAG(positions, 2),
      FLAG(positions, INT_MAX),
      FLAG(positions, INT_MIN),
      FLAG(q_starts, -1),
      FLAG(q_starts, 2),
      FLAG(q_starts, INT_MAX),
      FLAG(q_starts, INT_MIN),
      FLAG(kv_starts, -1),
      FLAG(kv_starts, 2),
      FLAG(kv_starts, INT_MAX),
      FLAG(kv_starts, INT_MIN),
      FLAG(kv_begins, -1),
      FLAG(kv_begins, 2),
      FLAG(kv_begins, INT_MAX),
      FLAG(kv_begins, INT_MIN),
      FLAG(key_ranges, -1),
      FLAG(key_ranges, 2),
      FLAG(key_ranges, INT_MAX),
      FLAG(key_ranges, INT_MIN),
      FLAG(bias_head_scale, -1),
      FLAG(bias_head_scale, 2),
      FLAG(bias_head_scale, INT_MAX),
      FLAG(bias_head_scale, INT_MIN),
      FLAG(mask, -1),
      FLAG(mask, 2),
      FLAG(mask, INT_MAX),
      FLAG(mask, INT_MIN),
      FLAG(alibi, -1),
      FLAG(alibi, 2),
      FLAG(alibi, INT_MAX),
      FLAG(alibi, INT_MIN),
      FLAG(sinks, -1),
      FLAG(sinks, 2),
      FLAG(sinks, INT_MAX),
      FLAG(sinks, INT_MIN),
      FLAG(lse, -1),
      FLAG(lse, 2),
      FLAG(lse, INT_MAX),
      FLAG(lse, INT_MIN),
      FLAG(weights, -1),
      FLAG(weights, 2),
      FLAG(weights, INT_MAX),
      FLAG(weights, INT_MIN),
      FLAG(batch_invariant, -1),
      FLAG(batch_invariant, 2),
      FLAG(batch_invariant, INT_MAX),
      FLAG(batch_invariant, INT_MIN),
      LONG(int8_products, -1),
      LONG(int8_products, 2),
      ENUM(q_dtype, -1),
      ENUM(q_dtype, 4),
      ENUM(q_dtype, 33),
      ENUM(q_dtype, INT_MIN),
      ENUM(k_dtype, -1),
      ENUM(v_dtype, -1),
      ENUM(k_dtype, ATTEND_DTYPE_COUNT),
      ENUM(v_dtype, ATTEND_DTYPE_COUNT),
      ENUM(k_dtype, 33),
      ENUM(v_dtype, 33),
      ENUM(k_dtype, INT_MIN),
      ENUM(v_dtype, INT_MIN),
      ENUM(out_dtype, -1),
      ENUM(out_dtype, 4),
      ENUM(out_dtype, 33),
      ENUM(out_dtype, INT_MIN),
      ENUM(bias_dtype, -1),
      ENUM(bias_dtype, 4),
      ENUM(bias_dtype, 33),
      ENUM(bias_dtype, INT_MIN),
      ENUM(causal, -1),
      ENUM(causal, 4),
      ENUM(causal, INT_MAX),
      ENUM(causal, INT_MIN),
      ENUM(kv_lengths, -1),
      ENUM(kv_lengths, 3),
      ENUM(kv_lengths, INT_MAX),
      ENUM(kv_lengths, INT_MIN),
      ENUM(scores, -1),
      ENUM(scores, 4),
      ENUM(scores, INT_MAX),
      ENUM(scores, INT_MIN),
      ENUM(as_given, 8),
      ENUM(as_given, -1),
      ENUM(as_given, INT_MIN),
      ENUM(score, -1),
      ENUM(score, 2),
      ENUM(score, INT_MIN),
  };
  const attend_problem base = attend_test_full_problem();
  for (size_t i = 0; i < COUNT(bad); i++) {
    char what[80], value[24];
    snprintf(value, sizeof value, "%lld", (long long)bad[i].value);
    snprintf(what, sizeof what, "%s = %s", bad[i].field, value);
    attend_problem problem = base;
    apply(&problem, &bad[i]);
    attend_test_refuses_both(&base, &problem, ATTEND_ERROR_INVALID_ARGUMENT, bad[i].field,
                             bad[i].is_enum ? NULL : value, what);
  }
  attend_test_expect_no_leak();
}

/* Fields that are good by themselves, but not beside others. */
Test(problem, fields_that_contradict_one_another_are_refused) {
  const struct {
    attend_problem base;
    change change;
    const char *names;
  } bad[] = {
      {attend_test_packed_problem(), LONG(q_total, 11), "batch"},
      {attend_test_packed_problem(), LONG(q_total, MOST), "q_len"},
      {attend_test_packed_problem(), LONG(kv_total, 19), "batch"},
      {attend_test_packed_problem(), LONG(kv_total, MOST), "kv_len"},
      {attend_test_packed_problem(), LONG(page_rows, 1), "kv_starts"},
      {attend_test_packed_problem(), LONG(page_rows, MOST), "kv_starts"},
      /* 9 keys in pages of 2 */
      {attend_test_paged_problem(), LONG(block_table_stride, 4), "kv_len"},
      {attend_test_paged_problem(), LONG(block_table_stride, 1), "kv_len"},
  };
  for (size_t i = 0; i < COUNT(bad); i++) {
    char what[80], value[24];
    snprintf(value, sizeof value, "%lld", (long long)bad[i].change.value);
    snprintf(what, sizeof what, "%s = %s, beside others", bad[i].change.field, value);
    attend_test_accepts(&bad[i].base, NULL, what);
    attend_problem problem = bad[i].base;
    apply(&problem, &bad[i].change);
    attend_test_refuses_both(&bad[i].base, &problem, ATTEND_ERROR_INVALID_ARGUMENT, bad[i].change.field, value, what);
    cr_expect(attend_test_has_word(attend_error_detail(), bad[i].names), "%s: %s", what, attend_error_detail());
  }
  attend_test_expect_no_leak();
}

/* Lengths, starts, tables and what the kernels can do with them are not a matter of how the problem is laid out. */
Test(problem, packed_and_paged_ones_are_accepted_at_their_bounds) {
  static const change packed[] = {LONG(q_total, 0), LONG(q_total, 1), LONG(q_total, 10), LONG(kv_total, 0),
                                  LONG(kv_total, 1), LONG(kv_total, 18), FLAG(q_starts, 0), FLAG(kv_starts, 0),
                                  /* read with page_rows only */
                                  LONG(pages, MOST), LONG(block_table_stride, 1)};
  static const change paged[] = {LONG(page_rows, 1), LONG(page_rows, 9),  LONG(page_rows, 100),
                                 LONG(pages, 0),     LONG(pages, 100000), LONG(block_table_stride, 0),
                                 LONG(kv_len, 0),    LONG(kv_len, 1),     LONG(block_table_stride, 5),
                                 LONG(q_total, MOST)};
  for (size_t i = 0; i < COUNT(packed) + COUNT(paged); i++) {
    const bool first = i < COUNT(packed);
    const change *c = first ? &packed[i] : &paged[i - COUNT(packed)];
    attend_problem problem = first ? attend_test_packed_problem() : attend_test_paged_problem();
    char what[80];
    snprintf(what, sizeof what, "%s, %s = %lld", first ? "packed" : "paged", c->field, (long long)c->value);
    if (strcmp(c->field, "page_rows") == 0 && c->value == 1) problem.block_table_stride = 9;
    apply(&problem, c);
    attend_test_accepts(&problem, NULL, what);
  }
}

/* With everything computed, and every output written. */
Test(problem, zeros_that_are_meant) {
  for (int which = 0; which < 4; which++) {
    attend_problem problem = attend_test_full_problem();
    if (which & 1) problem.head_dim = 0;
    if (which & 2) problem.v_head_dim = 0, problem.as_given = ATTEND_AS_GIVEN_V_HEAD_DIM;
    for (size_t i = 0; i < attend_kernel_count(); i++) {
      const attend_kernel *kernel = attend_kernel_at(i);
      attend_problem typed = attend_test_typed_for(kernel, problem);
      typed.weights = (kernel->can & ATTEND_CAN_WEIGHTS) != 0;
      if (!attend_test_can(kernel, &typed)) continue;
      attend_plan *plan = attend_test_plan(&typed, kernel->name, 2);
      attend_test_tensors tensors = attend_test_run(plan, &typed);
      attend_test_tensors_destroy(&tensors);
      attend_plan_destroy(plan);
    }
  }
}

Test(problem, fields_at_their_bounds_are_accepted) {
  static const change small[] = {
      LONG(batch, 0),
      LONG(batch, MOST),
      LONG(q_heads, 0),
      LONG(q_heads, MOST),
      LONG(kv_heads, 0),
      LONG(q_len, 0),
      LONG(q_len, MOST),
      LONG(kv_len, 0),
      LONG(kv_len, MOST),
      LONG(head_dim, 0),
      LONG(head_dim, 1),
      LONG(head_dim, MOST),
      LONG(v_head_dim, 0),
      LONG(v_head_dim, MOST),
      ENUM(causal, ATTEND_CAUSAL_NONE),
      ENUM(causal, ATTEND_CAUSAL_TOP_LEFT),
      ENUM(causal, ATTEND_CAUSAL_BOTTOM_RIGHT),
      ENUM(causal, ATTEND_CAUSAL_OFFSET),
      /* read with window = 1 only */
      LONG(window_left, -2),
      LONG(window_right, INT64_MIN),
      /* read with the tensor only */
      LONG(mask_strides.batch, INT64_MAX),
      LONG(q_total, MOST),
      LONG(kv_total, MOST),
      LONG(pages, MOST),
      LONG(block_table_stride, MOST),
      FLAG(bias_head_scale, 1),
      ENUM(as_given, ATTEND_AS_GIVEN_ALL),
      LONG(bias_strides.key, INT64_MIN),
  };
  const attend_problem one = attend_test_problem(1, 1, 0, 1, 1, 1);
  for (size_t i = 0; i < COUNT(small); i++) {
    char what[80];
    snprintf(what, sizeof what, "%s = %lld", small[i].field, (long long)small[i].value);
    attend_problem problem = one;
    apply(&problem, &small[i]);
    attend_test_accepts(&problem, NULL, what);
  }

  static const change full[] = {
      LONG(kv_heads, 0),
      LONG(kv_heads, 1),
      LONG(kv_heads, 2),
      LONG(kv_heads, 4),
      LONG(causal_offset, -MOST),
      LONG(causal_offset, MOST),
      LONG(window_left, -1),
      LONG(window_left, 0),
      LONG(window_left, MOST),
      LONG(window_right, -1),
      LONG(window_right, 0),
      LONG(window_right, MOST),
      FLAG(window, 0),
      FLAG(mask, 0),
      FLAG(alibi, 0),
      FLAG(sinks, 0),
      FLAG(positions, 0),
      FLAG(kv_begins, 0),
      FLAG(key_ranges, 0),
      FLAG(bias_head_scale, 0),
      FLAG(lse, 0),
      FLAG(weights, 0),
      FLAG(batch_invariant, 0),
      FLAG(batch_invariant, 1),
      LONG(int8_products, 1),
      ENUM(kv_lengths, ATTEND_LENGTHS_NONE),
      ENUM(kv_lengths, ATTEND_LENGTHS_PER_BATCH),
      ENUM(kv_lengths, ATTEND_LENGTHS_PER_QUERY),
      ENUM(score, ATTEND_SCORE_DOT),
      ENUM(score, ATTEND_SCORE_ADDITIVE),
      ENUM(bias_dtype, ATTEND_DTYPE_DEFAULT),
      ENUM(bias_dtype, ATTEND_F32),
      ENUM(bias_dtype, ATTEND_F16),
      ENUM(bias_dtype, ATTEND_BF16),
  };
  for (size_t i = 0; i < COUNT(full); i++) {
    char what[80];
    snprintf(what, sizeof what, "%s = %lld", full[i].field, (long long)full[i].value);
    attend_problem problem = attend_test_full_problem();
    apply(&problem, &full[i]);
    attend_test_accepts(&problem, NULL, what);
  }

  attend_problem heads = attend_test_problem(1, MOST, MOST, 1, 1, 1);
  attend_test_accepts(&heads, NULL, "as many key/value heads as can be");
  heads = attend_test_problem(1, 0, 5, 1, 1, 1);
  attend_test_accepts(&heads, NULL, "no query heads over 5 key/value heads");
}

Test(problem, scale_and_softcap_must_be_finite) {
  const attend_problem base = attend_test_full_problem();
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < COUNT(bad); i++) {
    char what[40];
    attend_problem problem = base;
    problem.scale = bad[i];
    snprintf(what, sizeof what, "scale = %g", (double)bad[i]);
    attend_test_refuses_both(&base, &problem, ATTEND_ERROR_INVALID_ARGUMENT, "scale", NULL, what);
    problem = base;
    problem.softcap = bad[i];
    snprintf(what, sizeof what, "softcap = %g", (double)bad[i]);
    attend_test_refuses_both(&base, &problem, ATTEND_ERROR_INVALID_ARGUMENT, "softcap", NULL, what);
  }
  const float negative[] = {-FLT_TRUE_MIN, -1, -FLT_MAX};
  for (size_t i = 0; i < COUNT(negative); i++) {
    attend_problem problem = base;
    problem.softcap = negative[i];
    attend_test_refuses_both(&base, &problem, ATTEND_ERROR_INVALID_ARGUMENT, "softcap", NULL, "negative softcap");
    problem = base;
    problem.scale = negative[i];
    attend_test_accepts(&problem, NULL, "negative scale");
  }
  const float good[] = {0, -0.0f, FLT_TRUE_MIN, FLT_MIN, 1, FLT_MAX};
  for (size_t i = 0; i < COUNT(good); i++) {
    attend_problem problem = base;
    problem.scale = problem.softcap = good[i];
    attend_test_accepts(&problem, NULL, "finite scale and softcap");
  }
}

Test(problem, every_combination_of_dtypes_is_accepted) {
  for (int q = ATTEND_DTYPE_DEFAULT; q <= ATTEND_BF16; q++) {
    for (int kv = ATTEND_DTYPE_DEFAULT; kv <= ATTEND_BF16; kv++) {
      for (int out = ATTEND_DTYPE_DEFAULT; out <= ATTEND_BF16; out++) {
        attend_problem problem = attend_test_full_problem();
        problem.q_dtype = (attend_dtype)q, problem.k_dtype = (attend_dtype)kv, problem.out_dtype = (attend_dtype)out;
        attend_plan *plan = attend_test_plan(&problem, NULL, 0);
        attend_test_tensors tensors = attend_test_run(plan, &problem);
        attend_test_tensors_destroy(&tensors);
        attend_plan_destroy(plan);
      }
    }
  }
}

Test(problem, output_rows_must_not_overlap) {
  /* (2, 2, 3, 4): a row needs 4, a head of rows 4 apart 12, and a batch of such heads 24 */
  attend_problem problem = attend_test_problem(2, 2, 2, 3, 5, 4);
  static const attend_strides bad[] = {{24, 12, 3}, {24, 12, -3}, {24, 12, 0},  {24, 11, 4}, {24, -11, 4},
                                       {24, 0, 4},  {23, 12, 4},  {-23, 12, 4}, {0, 12, 4},  {4, 4, 4},
                                       {24, 4, 7},  {8, 4, 15},   {1, 1, 1},    {-4, 4, 8},  {4, 24, 7},
                                       {12, 3, 24}, {0, 0, 4},    {24, 0, 0},   {0, 4, 0},   {36, 12, 12}};
  for (size_t i = 0; i < COUNT(bad); i++) {
    char what[80];
    snprintf(what, sizeof what, "out_strides %lld, %lld, %lld", (long long)bad[i].batch, (long long)bad[i].head,
             (long long)bad[i].row);
    attend_problem overlapping = problem;
    overlapping.out_strides = bad[i];
    attend_test_refuses_both(&problem, &overlapping, ATTEND_ERROR_INVALID_ARGUMENT, "out_strides", NULL, what);
  }
  static const attend_strides good[] = {{0, 0, 0},   {24, 12, 4}, {24, 4, 8},   {12, 24, 4}, {4, 8, 16},    {4, 24, 8},
                                        {30, 14, 4}, {99, 50, 7}, {24, 12, -4}, {-24, 4, 8}, {-24, -12, -4}};
  for (size_t i = 0; i < COUNT(good); i++) {
    char what[80];
    snprintf(what, sizeof what, "out_strides %lld, %lld, %lld", (long long)good[i].batch, (long long)good[i].head,
             (long long)good[i].row);
    attend_problem apart = problem;
    apart.out_strides = good[i];
    attend_test_accepts(&apart, NULL, what);
  }
  /* the stride of a dimension with one entry is never used */
  problem = attend_test_problem(1, 1, 1, 3, 5, 4);
  problem.out_strides = (attend_strides){0, 1, 4};
  attend_test_accepts(&problem, NULL, "one batch entry and one head");
  problem = attend_test_problem(1, 1, 1, 1, 5, 4);
  problem.out_strides = (attend_strides){1, -1, 1};
  attend_test_accepts(&problem, NULL, "one row");
  /* and inputs may overlap as they like */
  problem = attend_test_problem(2, 2, 2, 3, 5, 4);
  problem.q_strides = (attend_strides){1, 0, 1}, problem.k_strides = (attend_strides){0, -1, 0};
  problem.v_strides = (attend_strides){-7, 1, -4};
  attend_test_accepts(&problem, NULL, "overlapping inputs");
}

/* ----------------------------------------------------------------------------------------------- named kernels */

/* A problem that asks for something only kernels with the ability `can` have; others say so with the word `named`. */
static void expect_only_those_that_can(const attend_problem *untyped, unsigned can, const char *named) {
  size_t without = 0, with = 0;
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    const attend_problem asking = attend_test_typed_for(kernel, *untyped);
    const attend_problem plain = attend_test_typed_for(kernel, attend_test_problem(1, 2, 1, 5, 7, 8));
    attend_options options = ATTEND_OPTIONS_INIT;
    options.kernel = kernel->name;
    if (kernel->can & ATTEND_CAN_INT8) continue; /* it needs more than a type: test_int8.c */
    if (!attend_test_runnable(kernel)) {
      attend_test_refuses(&plain, &options, ATTEND_ERROR_UNSUPPORTED, kernel->name, NULL, kernel->name);
    } else if (kernel->can & can) {
      attend_test_accepts(&asking, &options, kernel->name);
      with++;
    } else {
      attend_test_refuses(&asking, &options, ATTEND_ERROR_UNSUPPORTED, kernel->name, NULL, kernel->name);
      attend_test_refuses(&asking, &options, ATTEND_ERROR_UNSUPPORTED, named, NULL, kernel->name);
      attend_test_accepts(&plain, &options, kernel->name);
      without++;
    }
  }
  cr_expect_gt(with, 0);
  cr_expect_gt(without, 0);
}

/* Types that a kernel does not take, of q and of k and v, beside one that it does. */
Test(named, every_kernel_says_which_types_it_does_not_take) {
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (!attend_test_runnable(kernel) || kernel->can & ATTEND_CAN_INT8) continue;
    attend_options options = ATTEND_OPTIONS_INIT;
    options.kernel = kernel->name;
    for (int which = 0; which < 2; which++)
      for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++) {
        attend_problem problem = attend_test_typed_for(kernel, attend_test_problem(1, 2, 1, 5, 7, 8));
        *(which ? &problem.k_dtype : &problem.q_dtype) = dtype;
        if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype))
          attend_test_accepts(&problem, &options, kernel->name);
        else
          attend_test_refuses(&problem, &options, ATTEND_ERROR_UNSUPPORTED, which ? "k" : "q", NULL, kernel->name);
      }
  }
}

Test(named, every_kernel_says_what_it_cannot_do) {
  const attend_problem weights = attend_test_full_problem();
  attend_problem additive = attend_test_problem(1, 2, 1, 5, 7, 8);
  additive.score = ATTEND_SCORE_ADDITIVE;
  expect_only_those_that_can(&weights, ATTEND_CAN_WEIGHTS, "weights");
  expect_only_those_that_can(&additive, ATTEND_CAN_ADDITIVE, "additive");
  attend_test_expect_no_leak();
}

/* ------------------------------------------------------------------------------------------------------ the rest */

Test(status, strings_and_version) {
  for (int status = ATTEND_ERROR_UNKNOWN_KERNEL; status <= ATTEND_OK; status++) {
    const char *text = attend_status_string((attend_status)status);
    cr_expect_str_not_empty(text);
    cr_expect_str_neq(text, "unknown status");
    for (int other = ATTEND_ERROR_UNKNOWN_KERNEL; other < status; other++) {
      cr_expect_str_neq(text, attend_status_string((attend_status)other));
    }
  }
  cr_expect_str_eq(attend_status_string((attend_status)1), "unknown status");
  cr_expect_str_eq(attend_status_string((attend_status)(ATTEND_ERROR_UNKNOWN_KERNEL - 1)), "unknown status");
  cr_expect_str_eq(attend_status_string((attend_status)INT_MIN), "unknown status");

  char version[40];
  snprintf(version, sizeof version, "%d.%d.%d", ATTEND_VERSION_MAJOR, ATTEND_VERSION_MINOR, ATTEND_VERSION_PATCH);
  cr_expect_str_eq(attend_version(), version);
}

Test(status, detail_is_that_of_the_last_error) {
  cr_expect_str_eq(attend_error_detail(), "", "a detail before any error");
  attend_problem problem = attend_test_problem(1, 1, 1, 2, 3, 4);
  attend_test_accepts(&problem, NULL, "good problem");
  cr_expect_str_eq(attend_error_detail(), "", "a detail before any error");

  problem.batch = -17;
  attend_test_refuses(&problem, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "batch", "-17", "batch");
  problem.batch = 1;
  attend_test_accepts(&problem, NULL, "good problem");
  cr_expect(attend_test_has_word(attend_error_detail(), "batch"), "a success took the detail of the last error away");
  problem.q_len = -18;
  attend_test_refuses(&problem, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "q_len", "-18", "q_len");
}
