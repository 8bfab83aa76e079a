/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Every kernel of attention that runs here against the reference; `attend verify` does the same with more cases. And
 * the rows of the other operations in the table; test_softmax.c, test_append.c and test_merge.c check what they
 * compute.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support.h"
#include "verify/verify.h"

static attend_verify *open_verify(void) {
  attend_env env;
  cr_assert_eq(attend_env_read(&env), ATTEND_OK, "%s", attend_error_detail());
  attend_verify *v = attend_verify_open(env.isa);
  cr_assert_not_null(v);
  return v;
}

/* One case with all kernels. Scalar kernels do everything, but not all of them write weights or take additive scores.
 */
static void run_case(attend_verify *v, const attend_verify_case *c, int *passed) {
  attend_verify_result *result = malloc(sizeof *result);
  cr_assert_not_null(result);
  cr_assert(attend_verify_prepare(v, c), "no memory");
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    attend_verify_run(v, kernel, result);
    cr_expect_neq(result->status, ATTEND_VERIFY_FAILED, "%s", result->message);
    const unsigned needed = (c->problem.weights ? ATTEND_CAN_WEIGHTS : 0) |
                            (c->problem.score == ATTEND_SCORE_ADDITIVE ? ATTEND_CAN_ADDITIVE : 0) |
                            (c->problem.dropout > 0 ? ATTEND_CAN_DROPOUT : 0) |
                            (c->problem.scores ? ATTEND_CAN_SCORES : 0);
    if (kernel->isa == ATTEND_ISA_SCALAR && (kernel->can & needed) == needed)
      cr_expect_eq(result->status, ATTEND_VERIFY_PASSED, "%s skips %s: %s", kernel->name, c->name, result->message);
    *passed += result->status == ATTEND_VERIFY_PASSED;
  }
  /* What the library chooses, which for sequences of few queries may be a second kernel. */
  attend_verify_run(v, NULL, result);
  cr_expect_neq(result->status, ATTEND_VERIFY_FAILED, "%s", result->message);
  if (!c->problem.scores)
    cr_expect_eq(result->status, ATTEND_VERIFY_PASSED, "auto skips %s: %s", c->name, result->message);
  free(result);
}

static void run_named(attend_dtype dtype) {
  attend_verify *v = open_verify();
  int passed = 0;
  for (size_t i = 0; i < attend_verify_named_count(); i++) {
    attend_verify_case c;
    if (attend_verify_named_is_typed(i) && dtype != ATTEND_F32) continue;
    attend_verify_named_case(i, 1, dtype, &c);
    run_case(v, &c, &passed);
  }
  attend_verify_close(v);
  cr_expect_gt(passed, 4 * 150);
}

Test(named_cases, in_f32) { run_named(ATTEND_F32); }
Test(named_cases, in_f16) { run_named(ATTEND_F16); }
Test(named_cases, in_bf16) { run_named(ATTEND_BF16); }

static void run_random(uint64_t first, int count, attend_dtype dtype) {
  attend_verify *v = open_verify();
  int passed = 0;
  for (int i = 0; i < count; i++) {
    attend_verify_case c;
    attend_verify_random_case(first + (uint64_t)i, dtype, &c);
    run_case(v, &c, &passed);
  }
  attend_verify_close(v);
  cr_expect_gt(passed, 3 * count);
}

Test(random_cases, of_all_types) { run_random(1, 300, ATTEND_DTYPE_DEFAULT); }
Test(random_cases, in_f32) { run_random(1001, 60, ATTEND_F32); }
Test(random_cases, in_f16) { run_random(2001, 60, ATTEND_F16); }
Test(random_cases, in_bf16) { run_random(3001, 60, ATTEND_BF16); }

/* --------------------------------------------------------------------------------------------- other operations */

/* The other operations: rows of the same table, which are found by their operation and never as kernels of a plan. */
Test(table, other_operations_are_well_formed) {
  static const char *const names[ATTEND_OP_COUNT] = {"forward", "softmax", "append", "merge"};
  static const char *const prefixes[ATTEND_OP_COUNT] = {NULL, "softmax_f32", "append", "merge_f32"};
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++) {
    cr_expect_str_eq(attend_operation_name(operation), names[operation]);
    if (operation == ATTEND_OP_FORWARD) continue;
    const attend_kernel *kernel, *last = NULL;
    for (size_t i = 0; (kernel = attend_kernel_of(operation, i)); i++, last = kernel) {
      char name[64];
      snprintf(name, sizeof name, "%s__%s", prefixes[operation], attend_isa_name(kernel->isa));
      cr_expect_str_eq(kernel->name, name);
      cr_expect_null(attend_kernel_find(name), "%s is not a kernel of attention", name);
      cr_expect_eq(kernel->operation, operation, "%s", name);
      cr_expect_eq(kernel->body, ATTEND_BODY_ROWS, "%s", name);
      cr_expect_eq(attend_isa_features(kernel->isa) & ~kernel->cpu, 0, "%s does not need all of its ISA", name);
      cr_expect_eq(kernel->dtypes, (unsigned)ATTEND_DTYPES_ALL, "%s", name);
      cr_expect_eq(kernel->can, 0, "%s", name);
      cr_expect_eq(kernel->compute, operation == ATTEND_OP_APPEND ? ATTEND_DTYPE_DEFAULT : ATTEND_F32, "%s", name);
      cr_expect(!kernel->forward && !kernel->scratch && !kernel->enter && !kernel->leave, "%s", name);
      cr_expect_eq(kernel->softmax != NULL, operation == ATTEND_OP_SOFTMAX, "%s", name);
      cr_expect_eq(kernel->append != NULL, operation == ATTEND_OP_APPEND, "%s", name);
      cr_expect_eq(kernel->merge != NULL, operation == ATTEND_OP_MERGE, "%s", name);
      if (last) cr_expect_lt(attend_isa_rank(kernel->isa), attend_isa_rank(last->isa), "%s: widest ISA first", name);
    }
    cr_assert_not_null(last, "no kernel of the operation %s", names[operation]);
    cr_expect_eq(last->isa, ATTEND_ISA_SCALAR);
    cr_expect_eq(attend_kernel_widest(operation, ATTEND_ISA_SCALAR), last);
  }
}
