/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The attention people write by hand: per head a product with a BLAS, a masked softmax over the rows, and a second
 * product, with OpenMP over the heads. f32 only.
 */
#ifndef ATTEND_BENCH_BASELINE_H
#define ATTEND_BENCH_BASELINE_H

#include "bench/data.h"
#include "bench/peaks.h"

/** A head whose scores need more bytes than this cannot be done. */
#define ATTEND_BASELINE_MAX_SCORES ((size_t)512 << 20)

/** Why it cannot do a shape, or NULL. */
const char *attend_baseline_why_not(const attend_shape *shape);

/** Bytes of scores per head, of which each thread needs one. */
size_t attend_baseline_scores(const attend_shape *shape);

/** Computes the output. `scores` has room for the scores of one head per thread; `peak` supplies the softmax. */
void attend_baseline_run(const attend_bench_data *data, const attend_peak *peak, int threads, float *scores);

/** The processor that OpenBLAS chose its kernels for, "SkylakeX" say. */
const char *attend_baseline_core(void);

/**
 * The value of OPENBLAS_CORETYPE that puts OpenBLAS on a par with attend, or NULL if it is: it may know less of a new
 * processor than attend, or use more of it than ATTEND_ISA allows, and the variable may have been set for other
 * reasons. OpenBLAS reads it once, when a program starts.
 */
const char *attend_baseline_better_core(attend_isa widest);

#endif
