/* SPDX-License-Identifier: Apache-2.0 */
/** Masked softmax: checks, choice of the kernel, threads. */
#include "layers/softmax.h"

#include <inttypes.h>

#include "kernels/size.h"

/* Fields that the first release has. */
#define PROBLEM_FIRST_SIZE (offsetof(attend_softmax_problem, mask_strides) + sizeof(attend_strides4))
#define TENSORS_FIRST_SIZE (offsetof(attend_softmax_tensors, mask) + sizeof(const uint8_t *))

/* ---------------------------------------------------------------------------------------------------------- checks */

static attend_status check_ranges(const attend_softmax_problem *p) {
  const attend_range ranges[] = {
      {"batch", p->batch, 0, ATTEND_MAX_EXTENT},
      {"heads", p->heads, 0, ATTEND_MAX_EXTENT},
      {"rows", p->rows, 0, ATTEND_MAX_EXTENT},
      {"columns", p->columns, 0, ATTEND_MAX_EXTENT},
      {"dtype", p->dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"lengths", p->lengths, ATTEND_LENGTHS_NONE, ATTEND_LENGTHS_PER_QUERY},
      {"mask", p->mask, 0, 1},
      {"num_threads", p->num_threads, 0, ATTEND_MOST_THREADS},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

/** Checks a problem and fills in every default. */
static attend_status resolve(const attend_softmax_problem *problem, attend_softmax_problem *p) {
  attend_status s = attend_read_versioned(p, sizeof *p, PROBLEM_FIRST_SIZE, problem, "attend_softmax_problem");
  if (s != ATTEND_OK || (s = check_ranges(p)) != ATTEND_OK) return s;
  if (p->heads == 0) p->heads = 1;
  if (p->dtype == ATTEND_DTYPE_DEFAULT) p->dtype = ATTEND_F32;
  if (!p->mask) p->mask_strides = (attend_strides4){0};
  const int64_t extent[4] = {p->batch, p->heads, p->rows, p->columns};
  const size_t size = attend_dtype_size(p->dtype);
  if ((s = attend_resolve_strides("x", extent, size, false, false, &p->x_strides)) != ATTEND_OK ||
      (s = attend_resolve_strides("out", extent, size, false, true, &p->out_strides)) != ATTEND_OK ||
      (p->mask && (s = attend_resolve_strides4("mask", extent, 1, false, &p->mask_strides)) != ATTEND_OK))
    return s;
  if (p->lengths == ATTEND_LENGTHS_PER_QUERY &&
      size_mul(size_mul((size_t)p->batch, (size_t)p->rows), sizeof(int32_t)) > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "lengths of %" PRId64 " x %" PRId64 " elements needs more than %td bytes",
                       p->batch, p->rows, PTRDIFF_MAX);
  return ATTEND_OK;
}

static attend_status check_tensors(const attend_softmax_problem *p, const attend_softmax_tensors *tensors,
                                   attend_softmax_tensors *t) {
  attend_status s = attend_read_versioned(t, sizeof *t, TENSORS_FIRST_SIZE, tensors, "attend_softmax_tensors");
  if (s != ATTEND_OK || p->batch == 0 || p->rows == 0 || p->columns == 0) return s;
  if (!p->lengths) t->lengths = NULL;
  if (!p->mask) t->mask = NULL;
  const attend_address addresses[] = {
      {"x", t->x, true, attend_dtype_size(p->dtype)},
      {"out", t->out, true, attend_dtype_size(p->dtype)},
      {"lengths", t->lengths, p->lengths != ATTEND_LENGTHS_NONE, sizeof(int32_t)},
      {"mask", t->mask, p->mask, 1},
  };
  if ((s = attend_check_addresses(addresses, sizeof addresses / sizeof *addresses)) != ATTEND_OK) return s;
  const int64_t count = p->lengths == ATTEND_LENGTHS_PER_QUERY ? p->batch * p->rows : p->batch;
  return t->lengths ? attend_check_lengths("lengths", t->lengths, count, "columns", p->columns) : ATTEND_OK;
}

/* ------------------------------------------------------------------------------------------------------------ run */

typedef struct softmax_run {
  attend_softmax_problem p;
  attend_softmax_tensors t;
  const attend_kernel *kernel;
} softmax_run;

static void softmax_rows(const void *argument, int64_t begin, int64_t end) {
  const softmax_run *run = argument;
  run->kernel->softmax(&run->p, &run->t, begin, end);
}

attend_status attend_masked_softmax_by(const attend_kernel *kernel, const attend_softmax_problem *problem,
                                       const attend_softmax_tensors *tensors) {
  softmax_run run = {.kernel = kernel};
  const attend_softmax_problem *p = &run.p;
  attend_env env;
  attend_status s = resolve(problem, &run.p);
  if (s != ATTEND_OK || (s = check_tensors(p, tensors, &run.t)) != ATTEND_OK ||
      (s = attend_env_read(&env)) != ATTEND_OK)
    return s;
  if (p->batch == 0 || p->rows == 0 || p->columns == 0) return ATTEND_OK;
  if (!kernel) run.kernel = attend_kernel_widest(ATTEND_OP_SOFTMAX, env.isa);
  const int64_t rows = p->batch * p->heads * p->rows; /* fits: out has at least so many elements */
  attend_share_rows(rows, (double)rows * (double)p->columns, p->num_threads, &env, softmax_rows, &run);
  return ATTEND_OK;
}

attend_status attend_masked_softmax(const attend_softmax_problem *problem, const attend_softmax_tensors *tensors) {
  return attend_masked_softmax_by(NULL, problem, tensors);
}
