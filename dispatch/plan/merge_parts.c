/* SPDX-License-Identifier: Apache-2.0 */
/** Merging results of attention: checks, choice of the kernel, threads. */
#include <inttypes.h>

#include "dispatch/dispatch.h"
#include "kernels/size.h"

/* Fields that 0.2 has. */
#define PROBLEM_FIRST_SIZE (offsetof(attend_merge_problem, num_threads) + sizeof(int))
#define TENSORS_FIRST_SIZE (offsetof(attend_merge_tensors, lse) + sizeof(float *))

typedef struct merge_run {
  attend_merge_problem p;
  attend_merge_tensors t;
  const attend_kernel *kernel;
} merge_run;

static attend_status check_ranges(const attend_merge_problem *p) {
  const attend_range ranges[] = {
      {"parts", p->parts, 1, ATTEND_MAX_EXTENT},
      {"batch", p->batch, 0, ATTEND_MAX_EXTENT},
      {"heads", p->heads, 0, ATTEND_MAX_EXTENT},
      {"rows", p->rows, 0, ATTEND_MAX_EXTENT},
      {"dim", p->dim, 0, ATTEND_MAX_EXTENT},
      {"lse_stride", p->lse_stride, 0, ATTEND_MAX_EXTENT},
      {"part_dtype", p->part_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"out_dtype", p->out_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"lse", p->lse, 0, 1},
      {"num_threads", p->num_threads, 0, ATTEND_MOST_THREADS},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

static bool is_empty(const attend_merge_problem *p) { return p->batch == 0 || p->heads == 0 || p->rows == 0; }

/** Checks a problem and fills in every default. */
static attend_status resolve(const attend_merge_problem *problem, attend_merge_problem *p) {
  attend_status s = attend_read_versioned(p, sizeof *p, PROBLEM_FIRST_SIZE, problem, "attend_merge_problem");
  if (s != ATTEND_OK || (s = check_ranges(p)) != ATTEND_OK) return s;
  if (p->part_dtype == ATTEND_DTYPE_DEFAULT) p->part_dtype = ATTEND_F32;
  if (p->out_dtype == ATTEND_DTYPE_DEFAULT) p->out_dtype = p->part_dtype;
  if (p->lse_stride == 0) p->lse_stride = p->rows;
  if (p->lse_stride < p->rows)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "lse_stride is %" PRId64 ", expected at least rows %" PRId64,
                       p->lse_stride, p->rows);
  const int64_t extent[4] = {p->batch, p->heads, p->rows, p->dim};
  s = attend_resolve_strides("part", extent, attend_dtype_size(p->part_dtype), false, false, &p->part_strides);
  if (s == ATTEND_OK)
    s = attend_resolve_strides("out", extent, attend_dtype_size(p->out_dtype), false, true, &p->out_strides);
  if (s != ATTEND_OK || is_empty(p)) return s;
  const size_t heads = size_mul((size_t)p->batch, (size_t)p->heads);
  if (size_mul(size_mul(heads, (size_t)p->lse_stride), sizeof(float)) > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW,
                       "lse of %" PRId64 " x %" PRId64 " x %" PRId64 " elements needs more than %td bytes", p->batch,
                       p->heads, p->lse_stride, PTRDIFF_MAX);
  return ATTEND_OK;
}

static attend_status check_tensors(const attend_merge_problem *p, const attend_merge_tensors *tensors,
                                   attend_merge_tensors *t) {
  attend_status s = attend_read_versioned(t, sizeof *t, TENSORS_FIRST_SIZE, tensors, "attend_merge_tensors");
  if (s != ATTEND_OK || is_empty(p)) return s;
  if (!p->lse) t->lse = NULL;
  const attend_address addresses[] = {
      {"outs", t->outs, p->dim > 0, sizeof(void *)},
      {"lses", t->lses, true, sizeof(void *)},
      {"out", t->out, p->dim > 0, attend_dtype_size(p->out_dtype)},
      {"lse", t->lse, p->lse, sizeof(float)},
  };
  s = attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
  for (int64_t i = 0; s == ATTEND_OK && i < p->parts; i++) {
    const attend_address part[] = {
        {"outs", p->dim > 0 ? t->outs[i] : NULL, p->dim > 0, attend_dtype_size(p->part_dtype)},
        {"lses", t->lses[i], true, sizeof(float)},
    };
    s = attend_check_addresses(part, sizeof part / sizeof *part);
  }
  return s;
}

static void merge_rows(const void *argument, int64_t begin, int64_t end) {
  const merge_run *run = argument;
  run->kernel->merge(&run->p, &run->t, begin, end);
}

attend_status attend_merge_by(const attend_kernel *kernel, const attend_merge_problem *problem,
                              const attend_merge_tensors *tensors) {
  merge_run run = {.kernel = kernel};
  attend_env env;
  attend_status s = resolve(problem, &run.p);
  if (s != ATTEND_OK || (s = check_tensors(&run.p, tensors, &run.t)) != ATTEND_OK ||
      (s = attend_env_read(&env)) != ATTEND_OK)
    return s;
  if (is_empty(&run.p)) return ATTEND_OK;
  if (!kernel) run.kernel = attend_kernel_widest(ATTEND_OP_MERGE, env.isa);
  const int64_t rows = run.p.batch * run.p.heads * run.p.rows; /* fits: an LSE has so many elements */
  attend_share_rows(rows, (double)rows * (double)run.p.dim * (double)run.p.parts, run.p.num_threads, &env, merge_rows,
                    &run);
  return ATTEND_OK;
}

attend_status attend_merge(const attend_merge_problem *problem, const attend_merge_tensors *tensors) {
  return attend_merge_by(NULL, problem, tensors);
}
