/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention: bad arguments, sizes that overflow and allocations that fail give errors, and lose nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mha_support.h"
#include "tests/support.h"

/** A problem that has everything that goes together. */
static attend_mha_problem full_problem(void) {
  attend_mha_problem p = ATTEND_MHA_PROBLEM_INIT;
  p.batch = 2, p.q_len = 3, p.kv_len = 5, p.embed_dim = 12, p.k_dim = 7, p.v_dim = 6;
  p.q_heads = 4, p.kv_heads = 2, p.head_dim = 3, p.v_head_dim = 5, p.out_proj = 1;
  p.causal = ATTEND_CAUSAL_TOP_LEFT, p.key_padding_mask = ATTEND_LAYER_MASK_ADD, p.attn_mask = ATTEND_LAYER_MASK_IGNORE;
  p.bias_kv = 1, p.add_zero_attn = 1, p.weights = ATTEND_LAYER_WEIGHTS_AVERAGED;
  return p;
}

static attend_mha_problem cache_problem(void) {
  attend_mha_problem p = full_problem();
  p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT, p.bias_kv = p.add_zero_attn = 0, p.cache_len = 9;
  return p;
}

static void refuses(const attend_mha_problem *p, attend_status expected, const char *field) {
  attend_mha_plan *plan = NULL;
  EXPECT_ERROR(attend_mha_plan_create(p, NULL, &plan), expected, field, "%s", field);
  cr_expect_null(plan, "%s", field);
}

static attend_mha_plan *make_plan(const attend_mha_problem *p) {
  attend_mha_plan *plan;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2;
  cr_assert_eq(attend_mha_plan_create(p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  return plan;
}

#define WITH(p, change, expected, field)                                                                               \
  do {                                                                                                                 \
    attend_mha_problem changed = p;                                                                                    \
    change;                                                                                                            \
    refuses(&changed, expected, field);                                                                                \
  } while (0)
#define INVALID(p, what, value, field) WITH(p, changed.what = value, ATTEND_ERROR_INVALID_ARGUMENT, field)

Test(mha_errors, in_the_problem) {
  if (!attend_mha_test_blas()) return;
  const attend_mha_problem full = full_problem(), cache = cache_problem();
  INVALID(full, struct_size, 8, "attend_mha_problem");
  INVALID(full, batch, -1, "batch");
  INVALID(full, q_len, -1, "q_len");
  INVALID(full, kv_len, (int64_t)ATTEND_MAX_EXTENT + 1, "kv_len");
  INVALID(full, embed_dim, 0, "embed_dim");
  INVALID(full, k_dim, -1, "k_dim");
  INVALID(full, v_dim, -1, "v_dim");
  INVALID(full, q_heads, 0, "q_heads");
  INVALID(full, kv_heads, 3, "kv_heads");
  INVALID(full, head_dim, -2, "head_dim");
  INVALID(full, v_head_dim, -2, "v_head_dim");
  INVALID(full, out_dim, -2, "out_dim");
  INVALID(full, out_proj, 2, "out_proj");
  INVALID(full, weight_layout, 2, "weight_layout");
  INVALID(full, causal, 4, "causal");
  INVALID(full, key_padding_mask, 3, "key_padding_mask");
  INVALID(full, attn_mask, 3, "attn_mask");
  INVALID(full, attn_mask_per_head, -1, "attn_mask_per_head");
  INVALID(full, bias_kv, 2, "bias_kv");
  INVALID(full, add_zero_attn, 2, "add_zero_attn");
  INVALID(full, weights, 3, "weights");
  INVALID(full, scale, 0.0f / 0.0f, "scale");
  INVALID(full, q_weight_stride, 11, "q_weight_stride");
  INVALID(full, k_weight_stride, -7, "k_weight_stride");
  INVALID(full, v_weight_stride, 1, "v_weight_stride");
  INVALID(full, out_weight_stride, (int64_t)1 << 40, "out_weight_stride");
  INVALID(full, query_strides.row, 11, "query_strides");
  INVALID(full, key_strides.batch, -1, "key_strides");
  INVALID(full, value_strides.row, (int64_t)1 << 32, "value_strides");
  WITH(full, (changed.out_strides = (attend_sequence_strides){12, 12}), ATTEND_ERROR_INVALID_ARGUMENT, "out_strides");
  WITH(full, (changed.out_proj = 0, changed.out_dim = 12), ATTEND_ERROR_INVALID_ARGUMENT, "out_dim");
  WITH(full, (changed.head_dim = 0, changed.q_heads = 10, changed.embed_dim = 24), ATTEND_ERROR_INVALID_ARGUMENT,
       "head_dim");
  INVALID(cache, cache_len, -1, "cache_len");
  INVALID(cache, cache_len, 4, "cache_len");
  WITH(cache, changed.causal = ATTEND_CAUSAL_TOP_LEFT, ATTEND_ERROR_UNSUPPORTED, "causal");
  WITH(cache, changed.bias_kv = 1, ATTEND_ERROR_UNSUPPORTED, "bias_kv");
  WITH(cache, changed.add_zero_attn = 1, ATTEND_ERROR_UNSUPPORTED, "add_zero_attn");
  EXPECT_ERROR(attend_mha_plan_create(&full, NULL, NULL), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "no plan");
  refuses(NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_mha_problem");
  attend_mha_plan *plan = NULL;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = -1;
  EXPECT_ERROR(attend_mha_plan_create(&full, &options, &plan), ATTEND_ERROR_INVALID_ARGUMENT, "num_threads", "threads");
  attend_test_expect_no_leak();
}

Test(mha_errors, sizes_that_overflow) {
  if (!attend_mha_test_blas()) return;
  const int64_t most = ATTEND_MAX_EXTENT;
  const attend_mha_problem full = full_problem();
  WITH(full, changed.head_dim = most, ATTEND_ERROR_OVERFLOW, NULL);
  WITH(full, changed.v_head_dim = most, ATTEND_ERROR_OVERFLOW, NULL);
  WITH(full, (changed.batch = most, changed.kv_len = most), ATTEND_ERROR_OVERFLOW, NULL);
  WITH(full, (changed.batch = most, changed.q_len = most, changed.kv_len = most), ATTEND_ERROR_OVERFLOW, NULL);
  WITH(full, (changed.embed_dim = changed.head_dim = most / 4, changed.batch = most), ATTEND_ERROR_OVERFLOW, NULL);
  WITH(full, (changed.query_strides = (attend_sequence_strides){INT64_MAX / 2, 12}), ATTEND_ERROR_OVERFLOW, NULL);
  WITH(full, (changed.query_strides = (attend_sequence_strides){INT64_MAX, 12}, changed.batch = 3),
       ATTEND_ERROR_OVERFLOW, NULL);
  attend_mha_problem huge = ATTEND_MHA_PROBLEM_INIT;
  huge.batch = huge.q_len = huge.kv_len = huge.embed_dim = huge.q_heads = most;
  refuses(&huge, ATTEND_ERROR_OVERFLOW, NULL);
  huge.attn_mask = huge.key_padding_mask = ATTEND_LAYER_MASK_ADD, huge.attn_mask_per_head = 1;
  refuses(&huge, ATTEND_ERROR_OVERFLOW, NULL);
  huge.key_padding_mask = ATTEND_LAYER_MASK_NONE;
  refuses(&huge, ATTEND_ERROR_OVERFLOW, NULL);
  attend_mha_problem cached = cache_problem();
  cached.cache_len = most, cached.batch = most;
  refuses(&cached, ATTEND_ERROR_OVERFLOW, NULL);
  attend_test_expect_no_leak();
}

/* ------------------------------------------------------------------------------------------------------------- runs */

static attend_status run(const attend_mha_plan *plan, const attend_mha_tensors *t) {
  return attend_mha_plan_run(plan, t, NULL, 0);
}

Test(mha_errors, tensors_that_are_missing_or_misaligned) {
  if (!attend_mha_test_blas()) return;
  const struct {
    const char *name;
    size_t field;
  } tensors[] = {
#define TENSOR(name) {#name, offsetof(attend_mha_tensors, name)}
      TENSOR(query),     TENSOR(key),      TENSOR(value),      TENSOR(out),
      TENSOR(q_weight),  TENSOR(k_weight), TENSOR(v_weight),   TENSOR(q_bias),
      TENSOR(k_bias),    TENSOR(v_bias),   TENSOR(out_weight), TENSOR(out_bias),
      TENSOR(bias_k),    TENSOR(bias_v),   TENSOR(weights),    TENSOR(key_padding_mask),
      TENSOR(attn_mask), TENSOR(k_cache),  TENSOR(v_cache),    TENSOR(past),
  };
  for (int cached = 0; cached < 2; cached++) {
    const attend_mha_problem problem = cached ? cache_problem() : full_problem();
    attend_mha_test x = attend_mha_test_create(&problem, false, true, BATCH_FIRST);
    attend_mha_plan *plan = make_plan(&x.p);
    for (size_t i = 0; i < COUNT(tensors); i++) {
      attend_mha_tensors t = x.t;
      const char *address, *none = NULL;
      memcpy(&address, (char *)&x.t + tensors[i].field, sizeof address);
      if (!address) continue;
      const bool optional = strstr(tensors[i].name, "_bias") != NULL;
      memcpy((char *)&t + tensors[i].field, &none, sizeof none);
      if (!optional) EXPECT_ERROR(run(plan, &t), ATTEND_ERROR_INVALID_ARGUMENT, tensors[i].name, "missing");
      address++;
      memcpy((char *)&t + tensors[i].field, &address, sizeof address);
      if (strcmp(tensors[i].name, "attn_mask") != 0)
        EXPECT_ERROR(run(plan, &t), ATTEND_ERROR_INVALID_ARGUMENT, tensors[i].name, "misaligned");
      cr_expect(attend_mha_test_untouched(&x), "%s", tensors[i].name);
    }
    attend_mha_tensors t = x.t;
    t.struct_size = 8;
    EXPECT_ERROR(run(plan, &t), ATTEND_ERROR_INVALID_ARGUMENT, "attend_mha_tensors", "struct_size");
    EXPECT_ERROR(run(plan, NULL), ATTEND_ERROR_INVALID_ARGUMENT, "attend_mha_tensors", "no tensors");
    EXPECT_ERROR(run(NULL, &x.t), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "no plan");
    cr_expect(attend_mha_test_untouched(&x));
    attend_mha_plan_destroy(plan);
    attend_mha_test_destroy(&x);
  }
  attend_test_expect_no_leak();
}

Test(mha_errors, a_cache_that_overflows) {
  if (!attend_mha_test_blas()) return;
  const attend_mha_problem problem = cache_problem();
  attend_mha_test x = attend_mha_test_create(&problem, false, true, BATCH_FIRST);
  attend_mha_plan *plan = make_plan(&x.p);
  int32_t *past = x.memory[PAST];
  const int32_t bad[] = {-1, 5, 9, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < COUNT(bad); i++) {
    past[1] = bad[i];
    EXPECT_ERROR(run(plan, &x.t), ATTEND_ERROR_INVALID_ARGUMENT, "past", "past[1] is %d", bad[i]);
    cr_expect(attend_mha_test_untouched(&x), "past[1] is %d", bad[i]);
  }
  past[1] = 4;
  cr_expect_eq(run(plan, &x.t), ATTEND_OK, "%s", attend_error_detail());
  attend_mha_plan_destroy(plan);
  attend_mha_test_destroy(&x);
  attend_test_expect_no_leak();
}

Test(mha_errors, workspaces) {
  if (!attend_mha_test_blas()) return;
  const attend_mha_problem problem = full_problem();
  attend_mha_test x = attend_mha_test_create(&problem, false, true, BATCH_FIRST);
  attend_mha_plan *plan = make_plan(&x.p);
  const size_t size = attend_mha_plan_workspace_size(plan);
  void *memory = NULL;
  cr_assert_eq(posix_memalign(&memory, ATTEND_WORKSPACE_ALIGNMENT, size + ATTEND_WORKSPACE_ALIGNMENT), 0);
  EXPECT_ERROR(attend_mha_plan_run(plan, &x.t, memory, size - 1), ATTEND_ERROR_WORKSPACE, "workspace_size", "small");
  EXPECT_ERROR(attend_mha_plan_run(plan, &x.t, (char *)memory + 8, size), ATTEND_ERROR_WORKSPACE, "workspace", "odd");
  EXPECT_ERROR(attend_mha_plan_run(plan, &x.t, NULL, size), ATTEND_ERROR_WORKSPACE, "workspace", "none");
  cr_expect(attend_mha_test_untouched(&x));
  free(memory);
  attend_mha_plan_destroy(plan);
  attend_mha_plan_destroy(NULL);
  cr_expect_eq(attend_mha_plan_workspace_size(NULL), 0);
  cr_expect_eq(attend_mha_plan_explain(NULL, NULL, 0), 0);
  attend_mha_test_destroy(&x);
  attend_test_expect_no_leak();
}

Test(mha_errors, allocations_that_fail) {
  if (!attend_mha_test_blas()) return;
  const attend_mha_problem problem = full_problem();
  attend_mha_test x = attend_mha_test_create(&problem, false, true, BATCH_FIRST);
  attend_mha_plan *plan = make_plan(&x.p); /* the first one: what a process keeps once is not counted */
  attend_mha_plan_destroy(plan);
  attend_fail_allocation(0);
  plan = make_plan(&x.p);
  const long made = attend_fail_allocation(0);
  cr_assert_gt(made, 1);
  for (long nth = 1; nth <= made; nth++) {
    attend_mha_plan *none = NULL;
    attend_fail_allocation(nth);
    EXPECT_ERROR(attend_mha_plan_create(&x.p, NULL, &none), ATTEND_ERROR_OUT_OF_MEMORY, NULL, "allocation %ld", nth);
    cr_expect_null(none);
  }
  attend_fail_allocation(1);
  EXPECT_ERROR(run(plan, &x.t), ATTEND_ERROR_OUT_OF_MEMORY, NULL, "the workspace");
  attend_fail_allocation(0);
  cr_expect(attend_mha_test_untouched(&x));
  cr_expect_eq(run(plan, &x.t), ATTEND_OK, "%s", attend_error_detail());
  attend_mha_plan_destroy(plan);
  attend_mha_test_destroy(&x);
  attend_test_expect_no_leak();
}
