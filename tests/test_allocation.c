/* SPDX-License-Identifier: Apache-2.0 */
/** Every allocation the library makes is made to fail: an error, nothing lost, nothing touched, and it works again. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support.h"
#include "verify/internal.h"

/* Problems that are planned in different ways: every feature; split keys; nothing to compute. */
static attend_problem problem_at(int which) {
  switch (which) {
  case 0: return attend_test_full_problem();
  case 1: return attend_test_problem(1, 4, 1, 1, 4096, 16);
  case 2: return attend_test_problem(0, 4, 1, 1, 64, 16);
  default: return attend_test_problem(2, 4, 2, 70, 70, 24);
  }
}
enum { PROBLEMS = 4 };

/* What a process keeps once about its profile is not a part of what is counted: test_profile.c has that. */
static void look_for_a_profile(void) {
  const attend_problem problem = problem_at(PROBLEMS - 1);
  attend_test_accepts(&problem, NULL, "the first plan");
}

TestSuite(allocation, .init = look_for_a_profile);

Test(allocation, that_fails_in_plan_create) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_fail_allocation(0);
    attend_plan *plan = attend_test_plan(&problem, NULL, 3);
    const long made = attend_fail_allocation(0);
    attend_plan_destroy(plan);
    cr_assert_gt(made, 0, "a plan without an allocation");
    for (long nth = 1; nth <= made; nth++) {
      attend_options options = ATTEND_OPTIONS_INIT;
      options.num_threads = 3;
      char what[100];
      snprintf(what, sizeof what, "problem %d, allocation %ld of %ld", which, nth, made);
      attend_fail_allocation(nth);
      attend_test_refuses(&problem, &options, ATTEND_ERROR_OUT_OF_MEMORY, NULL, NULL, what);
      attend_fail_allocation(0);
      attend_test_accepts(&problem, &options, what);
    }
    attend_fail_allocation(made + 1);
    attend_test_accepts(&problem, NULL, "one allocation later");
    attend_fail_allocation(0);
  }
  attend_test_expect_no_leak();
}

Test(allocation, that_fails_in_plan_run) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_plan *plan = attend_test_plan(&problem, NULL, 3);
    attend_test_tensors expected = attend_test_run(plan, &problem), tensors = attend_test_tensors_create(&problem);
    attend_fail_allocation(0);
    cr_expect_eq(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    const long made = attend_fail_allocation(0);
    cr_expect_eq(made > 0, attend_plan_workspace_size(plan) > 0, "%ld allocations", made);
    for (long nth = 1; nth <= made; nth++) {
      attend_test_reset(&tensors);
      attend_fail_allocation(nth);
      EXPECT_ERROR(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_ERROR_OUT_OF_MEMORY, NULL,
                   "problem %d, allocation %ld of %ld", which, nth, made);
      attend_fail_allocation(0);
      cr_expect(attend_test_untouched(&tensors), "outputs were touched");
      cr_expect_eq(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
      cr_expect(attend_test_same(&tensors, &expected));
    }
    attend_test_tensors_destroy(&expected);
    attend_test_tensors_destroy(&tensors);
    attend_plan_destroy(plan);
  }
  attend_test_expect_no_leak();
}

Test(allocation, that_fails_in_forward) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_test_tensors expected = attend_test_tensors_create(&problem), tensors = attend_test_tensors_create(&problem);
    attend_fail_allocation(0);
    cr_expect_eq(attend_forward(&problem, &expected.t), ATTEND_OK, "%s", attend_error_detail());
    const long made = attend_fail_allocation(0);
    cr_assert_gt(made, 0, "forward without an allocation");
    for (long nth = 1; nth <= made; nth++) {
      char what[100];
      snprintf(what, sizeof what, "problem %d, allocation %ld of %ld", which, nth, made);
      attend_test_reset(&tensors);
      attend_test_forget_detail();
      attend_fail_allocation(nth);
      const attend_status status = attend_forward(&problem, &tensors.t);
      attend_fail_allocation(0);
      attend_test_expect_error(status, ATTEND_ERROR_OUT_OF_MEMORY, NULL, NULL, what);
      cr_expect(attend_test_untouched(&tensors), "%s: outputs were touched", what);
      cr_expect_eq(attend_forward(&problem, &tensors.t), ATTEND_OK, "%s: %s", what, attend_error_detail());
      cr_expect(attend_test_same(&tensors, &expected));
    }
    attend_test_tensors_destroy(&expected);
    attend_test_tensors_destroy(&tensors);
  }
  attend_test_expect_no_leak();
}

/* With a workspace of the caller nothing is allocated: not by a run, and not by its parts, with any kernel. */
Test(allocation, none_with_a_workspace) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    for (size_t k = 0; k < attend_kernel_count(); k++) {
      const attend_kernel *kernel = attend_kernel_at(k);
      if (!attend_test_can(kernel, &problem)) continue;
      attend_plan *plan = attend_test_plan(&problem, kernel->name, 3);
      attend_test_tensors tensors = attend_test_tensors_create(&problem);
      size_t size;
      void *workspace = attend_test_workspace(plan, &size);
      const int parts = attend_plan_max_parts(plan);
      attend_fail_allocation(0);
      cr_expect_eq(attend_plan_run(plan, &tensors.t, workspace, size), ATTEND_OK);
      cr_expect_eq(attend_plan_begin(plan, &tensors.t, workspace, size), ATTEND_OK);
      for (int part = 0; part < parts; part++) {
        cr_expect_eq(attend_plan_run_part(plan, &tensors.t, workspace, size, part, parts), ATTEND_OK);
      }
      cr_expect_eq(attend_fail_allocation(0), 0, "%s allocates, problem %d", kernel->name, which);
      free(workspace);
      attend_test_tensors_destroy(&tensors);
      attend_plan_destroy(plan);
    }
  }
  attend_test_expect_no_leak();
}

Test(allocation, has_the_size_that_was_asked_for) {
  for (size_t size = 1; size < 200; size++) {
    void *memory = attend_alloc(size);
    cr_assert(memory && (uintptr_t)memory % 64 == 0);
    attend_test_expect_exact(memory, size);
    attend_free(memory);
  }
}

/* What lies around a buffer is watched while a kernel runs, on both sides and to the byte. */
Test(allocation, buffers_of_verify_are_exact_too) {
  attend_guarded g = {0};
  for (size_t gap = 0; gap < 17; gap++) {
    cr_assert(attend_guarded_place(&g, 101, gap, gap % 2, 1));
    attend_guarded_watch(&g, true);
    if (gap > 0) attend_test_expect_exact(g.data, g.size);
    attend_guarded_watch(&g, false);
    cr_expect(attend_guarded_intact(&g, 1));
  }
  attend_guarded_free(&g);
}
