/* SPDX-License-Identifier: Apache-2.0 */
/** Projections y = x W + b of whole sequences, by a BLAS. */
#ifndef ATTEND_LAYERS_LINEAR_H
#define ATTEND_LAYERS_LINEAR_H

#include <stdbool.h>

#include "attend/layers.h"
#include "dispatch/dispatch.h"

/** How the input and the output of a projection lie in memory: `matrices` of `rows` rows each, strides in elements. */
typedef struct attend_linear {
  int64_t matrices, rows, in_dim, out_dim;
  int64_t in_matrix, in_row, out_matrix, out_row;
  int64_t weight_row;
  attend_weight_layout layout;
} attend_linear;

/** A projection and its addresses. A NULL bias is none. */
typedef struct attend_linear_call {
  const attend_linear *linear;
  const float *in, *weight, *bias;
  float *out;
  const int32_t *starts;    /**< NULL; or matrix m is rows starts[m] to starts[m + 1] of the input and, unless out_first
                                 says otherwise, of the output; of no matrix more than linear->rows */
  const int32_t *out_first; /**< NULL; or the row of matrix m of the output that the first one computed is */
} attend_linear_call;

/**
 * Computes up to ATTEND_LINEAR_CALLS projections that do not depend on one another, on at most `threads` threads of the
 * host's, or of OpenMP's, if the BLAS has one thread, else on those of the BLAS. No extent or row stride may exceed
 * INT32_MAX.
 */
typedef void attend_linear_function(const attend_host *host, const attend_linear_call *calls, int count, int threads);
enum { ATTEND_LINEAR_CALLS = 3 };

/** OpenBLAS ends the process when too many threads call it at once; Debian's allows at least 128. */
enum { ATTEND_LINEAR_MOST_THREADS = 64 };

/** For threads of the caller's, no more than that: blocks of work, in any order. */
int64_t attend_linear_blocks(const attend_linear_call *calls, int count);
void attend_linear_run_block(const attend_linear_call *calls, int count, int64_t block);

/** That function, or NULL if the library was built without a BLAS. */
attend_linear_function *attend_linear_blas(void);
/** Likewise; ATTEND_ERROR_UNSUPPORTED without a BLAS. */
attend_status attend_linear_require(attend_linear_function **function);

/** For programs, whose process it is: tells the BLAS to use one thread, so that attend's share the projections. */
void attend_linear_one_blas_thread(void);

#endif
