/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention: bad arguments, sizes that overflow and allocations that fail give errors, and lose nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mha_support.h"
#include "tests/mha_world.h"
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
  WITH(full, changed.struct_size = 248, ATTEND_ERROR_UNSUPPORTED, "version 0.1");
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
  INVALID(cache, cache_dtype, 4, "cache_dtype");
  WITH(cache, (changed.k_cache_strides = (attend_strides){3, 3, 3}), ATTEND_ERROR_INVALID_ARGUMENT, "k_cache_strides");
  WITH(cache, (changed.v_cache_strides = (attend_strides){0, 5, 10}), ATTEND_ERROR_INVALID_ARGUMENT, "v_cache_strides");
  WITH(cache, changed.kv_lengths = 1, ATTEND_ERROR_UNSUPPORTED, "kv_lengths");
  WITH(full, changed.kv_starts = 1, ATTEND_ERROR_UNSUPPORTED, "bias_kv");
  WITH(full, (changed.kv_starts = 1, changed.bias_kv = 0), ATTEND_ERROR_UNSUPPORTED, "add_zero_attn");
  INVALID(full, window, 2, "window");
  INVALID(full, window_left, -2, "window_left");
  INVALID(full, window_right, (int64_t)1 << 31, "window_right");
  INVALID(full, causal_offset, (int64_t)1 << 31, "causal_offset");
  INVALID(full, softcap, -1, "softcap");
  INVALID(full, softcap, 1.0f / 0.0f, "softcap");
  INVALID(full, dropout, 1.5f, "dropout");
  INVALID(full, sinks, 2, "sinks");
  INVALID(full, as_given, ATTEND_AS_GIVEN_STRIDES, "as_given");
  INVALID(full, batch_invariant, -1, "batch_invariant");
  INVALID(full, kv_lengths, 2, "kv_lengths");
  INVALID(full, kv_begins, 2, "kv_begins");
  INVALID(full, q_starts, 2, "q_starts");
  INVALID(full, kv_starts, -1, "kv_starts");
  INVALID(full, q_total, -1, "q_total");
  INVALID(full, kv_total, -1, "kv_total");
  WITH(cache, (changed.q_starts = 1, changed.q_total = 7), ATTEND_ERROR_INVALID_ARGUMENT, "q_total");
  WITH(cache, (changed.kv_starts = 1, changed.kv_total = 11), ATTEND_ERROR_INVALID_ARGUMENT, "kv_total");
  INVALID(full, rope, 3, "rope");
  attend_mha_problem rope = full;
  rope.rope = ATTEND_ROPE_HALF, rope.head_dim = 6;
  INVALID(rope, rotary_dim, -2, "rotary_dim");
  INVALID(rope, rotary_dim, 3, "rotary_dim");
  INVALID(rope, rotary_dim, 8, "rotary_dim");
  INVALID(rope, head_dim, 3, "rotary_dim");
  INVALID(rope, rope_theta, -1, "rope_theta");
  INVALID(rope, rope_theta, 1.0f / 0.0f, "rope_theta");
  INVALID(rope, rope_factor, 0.0f / 0.0f, "rope_factor");
  INVALID(rope, rope_factor, -1, "rope_factor");
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

/** A step of a ragged batch with everything that it can have, and what it must leave as it was. */
typedef struct ragged {
  attend_mha_world w;
  attend_mha_run_data run;
  attend_mha_plan *plan;
} ragged;

static ragged make_ragged(void) {
  const attend_mha_model *model = attend_mha_models;
  while (strcmp(model->name, "gpt-oss") != 0) model++;
  ragged r = {.w = attend_mha_world_create(model, ATTEND_F16, false)};
  const attend_mha_step step = {.past = {3, 0, 9}, .news = {1, 5, 2}, .packed = true, .sequences = 3};
  int32_t *zeros = attend_mha_world_allocate(&r.w, WORLD_BATCH * sizeof *zeros);
  memset(zeros, 0, WORLD_BATCH * sizeof *zeros);
  r.w.p.kv_begins = 1, r.w.t.kv_begins = r.w.t.rope_positions = zeros;
  r.w.p.dropout = 0.25f;
  r.run = attend_mha_world_step(&r.w, &step);
  r.plan = make_plan(&r.run.p);
  return r;
}

static void expect_untouched(const ragged *r, const char *what) {
  const int32_t nothing[WORLD_BATCH] = {0};
  cr_expect(attend_mha_world_rest_untouched(&r->w, nothing), "%s: a cache was written", what);
  const unsigned char *out = (const unsigned char *)r->run.t.out;
  for (size_t i = 0; i < (size_t)(r->run.rows * attend_mha_world_dim(&r->run.p)) * sizeof(float); i++)
    if (out[i] != 0xff) {
      cr_expect(false, "%s: the output was written", what);
      return;
    }
}

#define REFUSED(change, field)                                                                                         \
  do {                                                                                                                 \
    attend_mha_tensors changed = r.run.t;                                                                              \
    change;                                                                                                            \
    EXPECT_ERROR(run(r.plan, &changed), ATTEND_ERROR_INVALID_ARGUMENT, field, "%s", #change);                          \
    expect_untouched(&r, #change);                                                                                     \
  } while (0)

Test(mha_errors, ragged_steps) {
  if (!attend_mha_test_blas()) return;
  ragged r = make_ragged();
  const int32_t too_far[] = {27, 0, 9}, full[] = {3, 23, 9}, negative[] = {3, 0, -1}, begins[] = {0, -1, 0};
  const int32_t from_one[] = {1, 2, 7, 8}, falling[] = {0, 6, 1, 8}, too_many[] = {0, 1, 6, 9},
                long_one[] = {0, 0, 6, 8};
  REFUSED(changed.past = too_far, "past[0]");
  REFUSED(changed.past = full, "past[1]");
  REFUSED(changed.past = negative, "past[2]");
  REFUSED(changed.kv_begins = begins, "kv_begins[1]");
  REFUSED(changed.q_starts = from_one, "q_starts[0]");
  REFUSED(changed.q_starts = falling, "q_starts");
  REFUSED(changed.q_starts = too_many, "q_starts[3]");
  REFUSED(changed.q_starts = long_one, "q_starts[2]");
  REFUSED(changed.kv_starts = from_one, "kv_starts[0]");
  REFUSED(changed.kv_starts = falling, "kv_starts");
  REFUSED(changed.kv_starts = too_many, "kv_starts[3]");
  REFUSED(changed.kv_starts = long_one, "kv_starts[2]");
  REFUSED(changed.q_starts = NULL, "q_starts");
  REFUSED(changed.kv_starts = NULL, "kv_starts");
  REFUSED(changed.kv_begins = NULL, "kv_begins");
  REFUSED(changed.sinks = NULL, "sinks");
  REFUSED(changed.past = NULL, "past");
  REFUSED(changed.k_cache = NULL, "k_cache");
  REFUSED(changed.v_cache = NULL, "v_cache");
  REFUSED(changed.v_cache = (char *)changed.v_cache + 1, "v_cache");
  REFUSED(changed.rope_positions = (const void *)((const char *)changed.rope_positions + 2), "rope_positions");
  REFUSED(changed.rope_frequencies = (const void *)((const char *)changed.rope_frequencies + 1), "rope_frequencies");
  REFUSED(changed.query = NULL, "query");
  REFUSED(changed.dropout_offset = (uint64_t)1 << 32, "dropout_offset");
  attend_mha_tensors old = r.run.t;
  old.struct_size = 168;
  EXPECT_ERROR(run(r.plan, &old), ATTEND_ERROR_UNSUPPORTED, "attend_mha_tensors", "those of 0.1");
  cr_expect_eq(run(r.plan, &r.run.t), ATTEND_OK, "%s", attend_error_detail());
  attend_mha_plan_destroy(r.plan);
  attend_mha_world_destroy(&r.w);
  attend_test_expect_no_leak();
}

Test(mha_errors, parts) {
  if (!attend_mha_test_blas()) return;
  ragged r = make_ragged();
  const size_t size = attend_mha_plan_workspace_size(r.plan);
  const int phases = attend_mha_plan_phases(r.plan);
  const attend_mha_tensors *t = &r.run.t;
  void *memory = NULL;
  cr_assert_eq(posix_memalign(&memory, ATTEND_WORKSPACE_ALIGNMENT, size), 0);
  memset(memory, 0, size);
  cr_expect_eq(phases, 4);
  EXPECT_ERROR(attend_mha_plan_run_part(r.plan, t, memory, size, 0, 0, 1), ATTEND_ERROR_WORKSPACE, "workspace",
               "no begin");
  EXPECT_ERROR(attend_mha_plan_begin(NULL, t, memory, size), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "no plan");
  EXPECT_ERROR(attend_mha_plan_begin(r.plan, NULL, memory, size), ATTEND_ERROR_INVALID_ARGUMENT, "attend_mha_tensors",
               "none");
  EXPECT_ERROR(attend_mha_plan_begin(r.plan, t, memory, size - 1), ATTEND_ERROR_WORKSPACE, "workspace_size", "small");
  EXPECT_ERROR(attend_mha_plan_begin(r.plan, t, NULL, 0), ATTEND_ERROR_WORKSPACE, "workspace", "none");
  cr_assert_eq(attend_mha_plan_begin(r.plan, t, memory, size), ATTEND_OK, "%s", attend_error_detail());
  const struct {
    int phase, part, parts;
    const char *field;
  } bad[] = {{-1, 0, 1, "phase"}, {phases, 0, 1, "phase"}, {0, 0, 0, "parts"},
             {0, 0, 3, "parts"},  {0, -1, 2, "part"},      {0, 2, 2, "part"}};
  for (size_t i = 0; i < COUNT(bad); i++)
    EXPECT_ERROR(attend_mha_plan_run_part(r.plan, t, memory, size, bad[i].phase, bad[i].part, bad[i].parts),
                 ATTEND_ERROR_INVALID_ARGUMENT, bad[i].field, "%zu", i);
  EXPECT_ERROR(attend_mha_plan_run_part(NULL, t, memory, size, 0, 0, 1), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "none");
  EXPECT_ERROR(attend_mha_plan_run_part(r.plan, NULL, memory, size, 0, 0, 1), ATTEND_ERROR_INVALID_ARGUMENT,
               "attend_mha_tensors", "none");
  EXPECT_ERROR(attend_mha_plan_run_part(r.plan, t, NULL, 0, 0, 0, 1), ATTEND_ERROR_WORKSPACE, "workspace", "none");
  expect_untouched(&r, "parts");
  cr_expect_eq(attend_mha_plan_phases(NULL), 0);
  cr_expect_eq(attend_mha_plan_max_parts(NULL), 0);
  free(memory);
  attend_mha_plan_destroy(r.plan);
  attend_mha_world_destroy(&r.w);
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
