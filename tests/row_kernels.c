/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/row_kernels.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support.h"
#include "verify/verify.h"

struct criterion_test_params attend_test_each_kernel(attend_operation operation) {
  static size_t indices[ATTEND_ISA_COUNT];
  size_t count = 0;
  for (; count < COUNT(indices) && attend_kernel_of(operation, count); count++) indices[count] = count;
  return cr_make_param_array(size_t, indices, count);
}

void attend_test_random_cases(attend_operation operation, size_t index, uint64_t cases) {
  const attend_kernel *kernel = attend_kernel_of(operation, index);
  attend_verify_result *result = malloc(sizeof *result);
  attend_env env;
  cr_assert(kernel && result && attend_env_read(&env) == ATTEND_OK);
  for (uint64_t seed = 1; seed <= cases; seed++) {
    attend_verify_row_kernel(kernel, env.isa, seed, ATTEND_DTYPE_DEFAULT, result);
    if (kernel->isa != ATTEND_ISA_SCALAR && seed == 1 && result->status == ATTEND_VERIFY_SKIPPED)
      cr_skip_test("%s %s", kernel->name, result->message);
    cr_expect_eq(result->status, ATTEND_VERIFY_PASSED, "%s: %s", kernel->name, result->message);
  }
  free(result);
}

void attend_test_structs(const char *prefix, void *problem, size_t problem_size, void *tensors, size_t tensors_size,
                         attend_test_refusal refused, attend_test_acceptance accepted) {
  char name[64];
  snprintf(name, sizeof name, "%s_problem", prefix);
  refused(NULL, tensors, ATTEND_ERROR_INVALID_ARGUMENT, name, "NULL");
  snprintf(name, sizeof name, "%s_tensors", prefix);
  refused(problem, NULL, ATTEND_ERROR_INVALID_ARGUMENT, name, "NULL");
  void *const structs[] = {problem, tensors};
  const size_t right[] = {problem_size, tensors_size};
  for (size_t s = 0; s < COUNT(structs); s++) {
    const size_t wrong[] = {0, 1, right[s] - 1, SIZE_MAX};
    for (size_t i = 0; i < COUNT(wrong); i++) {
      *(size_t *)structs[s] = wrong[i];
      refused(problem, tensors, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size", s == 0 ? "problem" : "tensors");
    }
    *(size_t *)structs[s] = right[s];
  }
  setenv("ATTEND_ISA", "no such set", 1);
  refused(problem, tensors, ATTEND_ERROR_ENVIRONMENT, "ATTEND_ISA", "environment");
  setenv("ATTEND_ISA", "scalar", 1);
  accepted(problem, tensors, "portable C");
}
