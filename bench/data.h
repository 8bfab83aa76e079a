/* SPDX-License-Identifier: Apache-2.0 */
/** Random tensors of a standard shape, and a check of what was computed from them. */
#ifndef ATTEND_BENCH_DATA_H
#define ATTEND_BENCH_DATA_H

#include <stdbool.h>

#include "bench/shapes.h"

/**
 * Memory on huge pages where the system has them, so that figures do not depend on the system's default. NULL if there
 * is none; to be given back with free().
 */
void *attend_bench_alloc(size_t size);

/** Rows of the output that are compared with the reference. */
enum { ATTEND_BENCH_CHECKED_ROWS = 12 };

typedef struct attend_bench_data {
  const attend_shape *shape;
  attend_problem problem; /**< with every default filled in */
  attend_tensors tensors;
  double largest_value;     /**< max |v| */
  int64_t out_elements;     /**< of all rows */
  double *expected, *plain; /**< (checked rows, Dv), of the reference and of plain f32; NULL until the first check */
  void *memory;             /**< all tensors, side by side */
  size_t size;
} attend_bench_data;

/** Roughly normal numbers of variance 1, the same on every machine; false if there is no memory. */
bool attend_bench_data_create(attend_bench_data *data, const attend_shape *shape, attend_dtype q_dtype,
                              attend_dtype kv_dtype);
void attend_bench_data_destroy(attend_bench_data *data);

/** Fills the output with NaN, so that an element that is not written is found. */
void attend_bench_data_poison(attend_bench_data *data);

/** The largest |out - reference| / max |v| that was found, and that of plain f32 arithmetic at the same rows. */
typedef struct attend_bench_accuracy {
  double error, plain_error;
} attend_bench_accuracy;

/**
 * Compares some rows of the output, the first and the last among them, with the reference of verify/reference.h, and
 * looks for NaN in all of it. `compute` is the type that products were computed in. If something is wrong, false and a
 * line of text.
 */
bool attend_bench_data_check(attend_bench_data *data, attend_dtype compute, attend_bench_accuracy *accuracy, char *why,
                             size_t why_size);

#endif
