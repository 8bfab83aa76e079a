/* SPDX-License-Identifier: Apache-2.0 */
/** Every kernel that runs here against the reference; `attend verify` does the same with more cases. */
#include <criterion/criterion.h>
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
