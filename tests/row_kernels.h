/* SPDX-License-Identifier: Apache-2.0 */
/** Tests of the operations that work row by row: one for each kernel. */
#ifndef ATTEND_TESTS_ROW_KERNELS_H
#define ATTEND_TESTS_ROW_KERNELS_H

#include <criterion/parameterized.h>

#include "kernels/kernel.h"

/** The index of every kernel of an operation. */
struct criterion_test_params attend_test_each_kernel(attend_operation operation);

/** Checks a kernel on random cases; the test is skipped where the processor lacks what it needs. */
void attend_test_random_cases(attend_operation operation, size_t index, uint64_t cases);

#endif
