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

/** A call of an operation that must be refused, with the outputs left alone; and one that must not. */
typedef void (*attend_test_refusal)(const void *problem, const void *tensors, attend_status expected, const char *field,
                                    const char *what);
typedef void (*attend_test_acceptance)(const void *problem, const void *tensors, const char *what);

/**
 * NULL for a struct, wrong sizes of each, and an environment that makes no sense are refused; `problem` and `tensors`
 * are right, and have struct_size first. `prefix` is what their types' names begin with.
 */
void attend_test_structs(const char *prefix, void *problem, size_t problem_size, void *tensors, size_t tensors_size,
                         attend_test_refusal refused, attend_test_acceptance accepted);

#endif
