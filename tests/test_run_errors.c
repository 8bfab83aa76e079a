/* SPDX-License-Identifier: Apache-2.0 */
/** What running a plan accepts and refuses: tensors, kv lengths, workspaces and parts. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

/* Every input and every output that a problem can have. */
static attend_problem everything(void) {
  attend_problem problem = attend_test_full_problem();
  problem.score = ATTEND_SCORE_ADDITIVE, problem.dropout = 0.1f;
  return problem;
}

/* A plan on its way, with all that a call needs. */
typedef struct running {
  attend_problem problem;
  attend_plan *plan;
  attend_test_tensors tensors;
  void *workspace;
  size_t size;
} running;

static running start(attend_problem problem) {
  running r = {.problem = problem, .plan = attend_test_plan(&problem, NULL, 3)};
  r.tensors = attend_test_tensors_create(&problem);
  r.workspace = attend_test_workspace(r.plan, &r.size);
  return r;
}

static void finish(running *r) {
  free(r->workspace);
  attend_test_tensors_destroy(&r->tensors);
  attend_plan_destroy(r->plan);
}

/* All ways into a run refuse these tensors, and touch nothing. */
static void expect_refused(running *r, const attend_tensors *tensors, attend_status expected, const char *field,
                           const char *what) {
  EXPECT_ERROR(attend_plan_run(r->plan, tensors, r->workspace, r->size), expected, field, "run: %s", what);
  EXPECT_ERROR(attend_plan_run(r->plan, tensors, NULL, 0), expected, field, "run without workspace: %s", what);
  EXPECT_ERROR(attend_plan_begin(r->plan, tensors, r->workspace, r->size), expected, field, "begin: %s", what);
  EXPECT_ERROR(attend_forward(&r->problem, tensors), expected, field, "forward: %s", what);
  cr_expect(attend_test_untouched(&r->tensors), "%s: outputs were touched", what);
}

static void expect_accepted(running *r, const attend_tensors *tensors, const char *what) {
  cr_expect_eq(attend_plan_run(r->plan, tensors, r->workspace, r->size), ATTEND_OK, "run: %s: %s", what,
               attend_error_detail());
  cr_expect_eq(attend_plan_run(r->plan, tensors, NULL, 0), ATTEND_OK, "run without workspace: %s: %s", what,
               attend_error_detail());
  cr_expect_eq(attend_plan_begin(r->plan, tensors, r->workspace, r->size), ATTEND_OK, "begin: %s: %s", what,
               attend_error_detail());
  cr_expect_eq(attend_forward(&r->problem, tensors), ATTEND_OK, "forward: %s: %s", what, attend_error_detail());
}

/* ------------------------------------------------------------------------------------------------------- tensors */

Test(tensors, needed_ones_must_be_there) {
  running r = start(everything());
  for (attend_test_name name = Q; name < TENSORS; name++) {
    attend_tensors without = r.tensors.t;
    attend_test_point(&without, name, NULL);
    expect_refused(&r, &without, ATTEND_ERROR_INVALID_ARGUMENT, attend_test_names[name], "is NULL");
  }
  expect_accepted(&r, &r.tensors.t, "all there");
  finish(&r);
  attend_test_expect_no_leak();
}

Test(tensors, must_be_aligned_to_their_elements) {
  const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
  for (size_t i = 0; i < COUNT(dtypes); i++) {
    attend_problem problem = everything();
    problem.q_dtype = problem.bias_dtype = dtypes[i];
    running r = start(problem);
    for (attend_test_name name = Q; name < TENSORS; name++) {
      for (size_t shift = 1; shift < r.tensors.element[name]; shift++) {
        attend_tensors shifted = r.tensors.t;
        char what[40];
        snprintf(what, sizeof what, "%s, %zu off", attend_dtype_name(dtypes[i]), shift);
        attend_test_point(&shifted, name, (char *)r.tensors.memory[name] + shift);
        expect_refused(&r, &shifted, ATTEND_ERROR_INVALID_ARGUMENT, attend_test_names[name], what);
      }
    }
    finish(&r);
  }
}

/* The same numbers at an address that is aligned to an element and to nothing more. */
Test(tensors, need_no_more_alignment_than_their_elements) {
  const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
  for (size_t i = 0; i < COUNT(dtypes); i++) {
    attend_problem problem = everything();
    problem.q_dtype = problem.bias_dtype = dtypes[i];
    running r = start(problem);
    expect_accepted(&r, &r.tensors.t, "aligned");
    attend_test_tensors odd = attend_test_tensors_create(&problem);
    for (attend_test_name name = Q; name < TENSORS; name++) {
      char *memory = realloc(odd.memory[name], odd.bytes[name] + odd.element[name]);
      cr_assert_not_null(memory);
      memmove(memory + odd.element[name], memory, odd.bytes[name]);
      odd.memory[name] = memory;
      attend_test_point(&odd.t, name, memory + odd.element[name]);
    }
    expect_accepted(&r, &odd.t, attend_dtype_name(dtypes[i]));
    cr_expect_eq(memcmp(odd.t.out, r.tensors.t.out, odd.bytes[OUT]), 0, "out depends on alignment");
    cr_expect_eq(memcmp(odd.t.lse, r.tensors.t.lse, odd.bytes[LSE]), 0, "lse depends on alignment");
    cr_expect_eq(memcmp(odd.t.weights, r.tensors.t.weights, odd.bytes[WEIGHTS]), 0, "weights depend on alignment");
    attend_test_tensors_destroy(&odd);
    finish(&r);
  }
}

Test(tensors, not_of_the_problem_are_ignored) {
  const attend_problem plain = attend_test_problem(2, 4, 2, 5, 9, 8);
  running r = start(plain);
  /* addresses that are neither aligned nor anybody's */
  for (attend_test_name name = KV_LENGTHS; name < TENSORS; name++) {
    attend_test_point(&r.tensors.t, name, (void *)(uintptr_t)1);
  }
  expect_accepted(&r, &r.tensors.t, "tensors that the problem has not");
  cr_expect(attend_test_written(&r.tensors));
  finish(&r);
}

Test(tensors, without_elements_may_be_null) {
  static const size_t extents[] = {offsetof(attend_problem, batch), offsetof(attend_problem, q_len),
                                   offsetof(attend_problem, q_heads)};
  for (size_t i = 0; i < COUNT(extents); i++) {
    attend_problem problem = attend_test_full_problem();
    memset((char *)&problem + extents[i], 0, sizeof(int64_t));
    running r = start(problem);
    cr_assert_null(r.tensors.t.q);
    cr_assert_null(r.tensors.t.out);
    cr_assert_null(r.tensors.t.weights);
    cr_expect_str_eq(attend_plan_kernel(r.plan), "none");
    cr_expect_geq(attend_plan_max_parts(r.plan), 1);
    expect_accepted(&r, &r.tensors.t, "nothing to compute");
    cr_expect_eq(attend_plan_run_part(r.plan, &r.tensors.t, r.workspace, r.size, 0, 1), ATTEND_OK, "%s",
                 attend_error_detail());
    expect_refused(&r, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors", "nothing to compute, but no tensors");
    finish(&r);
  }
}

Test(tensors, without_keys_give_zeros) {
  attend_problem problem = attend_test_full_problem();
  problem.kv_len = 0, problem.sinks = 0;
  running r = start(problem);
  cr_assert_null(r.tensors.t.k);
  cr_assert_null(r.tensors.t.weights);
  expect_accepted(&r, &r.tensors.t, "no keys");
  const float *out = r.tensors.t.out, *lse = r.tensors.t.lse;
  for (size_t i = 0; i < r.tensors.bytes[OUT] / sizeof *out; i++) cr_expect_eq(out[i], 0.0f);
  for (size_t i = 0; i < r.tensors.bytes[LSE] / sizeof *lse; i++) cr_expect_eq(lse[i], -__builtin_inff());
  finish(&r);
}

/* attend_tensors as the first header had it. */
#define FIRST_SIZE offsetof(attend_tensors, score_weights)

Test(tensors, struct_size) {
  running r = start(attend_test_full_problem());
  const size_t sizes[] = {0, 1, sizeof(size_t), FIRST_SIZE - 1, SIZE_MAX};
  for (size_t i = 0; i < COUNT(sizes); i++) {
    attend_tensors wrong = r.tensors.t;
    wrong.struct_size = sizes[i];
    expect_refused(&r, &wrong, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size", "wrong size");
  }
  struct {
    attend_tensors known;
    unsigned char unknown[24];
  } longer = {.known = r.tensors.t};
  longer.known.struct_size = offsetof(__typeof__(longer), unknown) + sizeof longer.unknown;
  for (size_t i = 0; i < sizeof longer.unknown; i++) {
    longer.unknown[i] = 1;
    expect_refused(&r, &longer.known, ATTEND_ERROR_UNSUPPORTED, "attend_tensors", "unknown field set");
    longer.unknown[i] = 0;
  }
  expect_accepted(&r, &longer.known, "unknown fields that are zero");
  longer.known.struct_size = FIRST_SIZE;
  longer.known.score_weights = (const float *)(uintptr_t)1;
  expect_accepted(&r, &longer.known, "a struct of the first header, and what comes behind it");
  cr_expect(attend_test_written(&r.tensors));
  finish(&r);
}

Test(tensors, null_structs_and_plans) {
  running r = start(attend_test_full_problem());
  expect_refused(&r, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors", "no tensors");
  EXPECT_ERROR(attend_plan_run_part(r.plan, NULL, r.workspace, r.size, 0, 1), ATTEND_ERROR_INVALID_ARGUMENT,
               "attend_tensors", "part: no tensors");
  EXPECT_ERROR(attend_plan_run(NULL, &r.tensors.t, r.workspace, r.size), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "run");
  EXPECT_ERROR(attend_plan_begin(NULL, &r.tensors.t, r.workspace, r.size), ATTEND_ERROR_INVALID_ARGUMENT, "plan",
               "begin");
  EXPECT_ERROR(attend_plan_run_part(NULL, &r.tensors.t, r.workspace, r.size, 0, 1), ATTEND_ERROR_INVALID_ARGUMENT,
               "plan", "part");
  cr_expect(attend_test_untouched(&r.tensors));
  finish(&r);

  attend_plan_destroy(NULL);
  cr_expect_eq(attend_plan_workspace_size(NULL), 0);
  cr_expect_eq(attend_plan_max_parts(NULL), 0);
  cr_expect_str_eq(attend_plan_kernel(NULL), "none");
  char text[300];
  memset(text, 'x', sizeof text);
  size_t length = attend_plan_explain(NULL, text, sizeof text);
  cr_assert_lt(length, sizeof text);
  cr_expect_eq(text[length], '\0', "explain(NULL) does not end its text");
}

/* ---------------------------------------------------------------------------------------------------- kv lengths */

Test(kv_lengths, out_of_range_are_refused) {
  for (int per_query = 0; per_query < 2; per_query++) {
    attend_problem problem = attend_test_full_problem();
    problem.kv_lengths = per_query ? ATTEND_LENGTHS_PER_QUERY : ATTEND_LENGTHS_PER_BATCH;
    running r = start(problem);
    int32_t *lengths = r.tensors.memory[KV_LENGTHS];
    const size_t count = r.tensors.bytes[KV_LENGTHS] / sizeof *lengths;
    const int32_t most = (int32_t)problem.kv_len, bad[] = {-1, most + 1, INT32_MIN, INT32_MAX};
    for (size_t at = 0; at < count; at++) {
      for (size_t i = 0; i < COUNT(bad); i++) {
        const int32_t good = lengths[at];
        char what[60], value[16];
        snprintf(what, sizeof what, "kv_lengths[%zu] = %d", at, (int)bad[i]);
        snprintf(value, sizeof value, "%d", (int)bad[i]);
        lengths[at] = bad[i];
        expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, "kv_lengths", what);
        cr_expect_not_null(strstr(attend_error_detail(), value), "%s: %s", what, attend_error_detail());
        lengths[at] = good;
      }
    }
    for (size_t at = 0; at < count; at++) lengths[at] = 0;
    expect_accepted(&r, &r.tensors.t, "no length");
    for (size_t at = 0; at < count; at++) lengths[at] = most;
    expect_accepted(&r, &r.tensors.t, "full length");
    finish(&r);
  }
}

/* ---------------------------------------------------------------------------------------------------- workspaces */

/* All ways of running with a workspace refuse this one. */
static void expect_bad_workspace(running *r, const char *field, void *workspace, size_t size, const char *what) {
  const attend_tensors *t = &r->tensors.t;
  const attend_status expected = ATTEND_ERROR_WORKSPACE;
  if (workspace || size) EXPECT_ERROR(attend_plan_run(r->plan, t, workspace, size), expected, field, "%s", what);
  EXPECT_ERROR(attend_plan_begin(r->plan, t, workspace, size), expected, field, "begin: %s", what);
  EXPECT_ERROR(attend_plan_run_part(r->plan, t, workspace, size, 0, 1), expected, field, "part: %s", what);
  cr_expect(attend_test_untouched(&r->tensors), "%s: outputs were touched", what);
}

Test(workspace, must_be_large_and_aligned) {
  size_t checked = 0;
  const attend_problem problem = attend_test_full_problem();
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    if (!attend_test_can(attend_kernel_at(i), &problem)) continue;
    running r = {.problem = problem, .plan = attend_test_plan(&problem, attend_kernel_at(i)->name, 2)};
    r.tensors = attend_test_tensors_create(&problem);
    r.size = attend_plan_workspace_size(r.plan);
    cr_assert_gt(r.size, 0, "nothing to check: %s needs no workspace", attend_plan_kernel(r.plan));
    const size_t room =
        (r.size + 2 * ATTEND_WORKSPACE_ALIGNMENT - 1) / ATTEND_WORKSPACE_ALIGNMENT * ATTEND_WORKSPACE_ALIGNMENT;
    char *workspace = r.workspace = aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, room);
    cr_assert_not_null(workspace);
    expect_bad_workspace(&r, "workspace", NULL, r.size, "NULL with a size");
    expect_bad_workspace(&r, "workspace", NULL, 1, "NULL with a size of 1");
    expect_bad_workspace(&r, "workspace", NULL, SIZE_MAX, "NULL with the largest size");
    expect_bad_workspace(&r, "workspace", NULL, 0, "none");
    expect_bad_workspace(&r, "workspace_size", workspace, 0, "size 0");
    expect_bad_workspace(&r, "workspace_size", workspace, 1, "size 1");
    expect_bad_workspace(&r, "workspace_size", workspace, r.size - 1, "a byte too few");
    for (size_t shift = 1; shift < ATTEND_WORKSPACE_ALIGNMENT; shift++) {
      char what[40];
      snprintf(what, sizeof what, "%zu bytes off", shift);
      expect_bad_workspace(&r, "workspace", workspace + shift, r.size, what);
    }
    cr_expect_eq(attend_plan_run(r.plan, &r.tensors.t, workspace, r.size), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(attend_plan_run(r.plan, &r.tensors.t, workspace, SIZE_MAX / 2), ATTEND_OK, "%s",
                 attend_error_detail());
    cr_expect(attend_test_written(&r.tensors));
    finish(&r);
    checked++;
  }
  cr_expect_gt(checked, 0);
  attend_test_expect_no_leak();
}

/* --------------------------------------------------------------------------------------------------------- parts */

Test(parts, must_be_in_range) {
  running r = start(attend_test_problem(2, 8, 8, 64, 64, 16));
  const int most = attend_plan_max_parts(r.plan);
  cr_assert_eq(most, 3);
  const int bad[][2] = {
      {0, 0}, {0, -1},      {-1, 1},      {1, 1},       {most, most}, {-1, most},         {0, most + 1},
      {2, 2}, {INT_MAX, 3}, {INT_MIN, 3}, {0, INT_MAX}, {0, INT_MIN}, {INT_MIN, INT_MIN}, {most, most + 1}};
  cr_assert_eq(attend_plan_begin(r.plan, &r.tensors.t, r.workspace, r.size), ATTEND_OK);
  for (size_t i = 0; i < COUNT(bad); i++) {
    EXPECT_ERROR(attend_plan_run_part(r.plan, &r.tensors.t, r.workspace, r.size, bad[i][0], bad[i][1]),
                 ATTEND_ERROR_INVALID_ARGUMENT, bad[i][1] < 1 || bad[i][1] > most ? "parts" : "part", "part %d of %d",
                 bad[i][0], bad[i][1]);
  }
  cr_expect(attend_test_untouched(&r.tensors));
  /* and the run that was begun is none the worse for it */
  for (int part = 0; part < most; part++) {
    cr_expect_eq(attend_plan_run_part(r.plan, &r.tensors.t, r.workspace, r.size, part, most), ATTEND_OK);
  }
  cr_expect(attend_test_written(&r.tensors));
  finish(&r);
}
