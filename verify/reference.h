/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The reference: attention in three plain passes, as the public header defines it, without regard to speed. It shares
 * no code with the kernels, decodes its 16-bit inputs itself and knows nothing of tiles.
 *
 * All functions take a problem in which every default is filled in: strides, element types, scale, kv_heads and
 * v_head_dim (attend_resolved.p is one). Which tensors are read follows from the problem; the outputs of `tensors` are
 * not touched.
 */
#ifndef ATTEND_VERIFY_REFERENCE_H
#define ATTEND_VERIFY_REFERENCE_H

#include <stdbool.h>

#include "attend/attend.h"

/**
 * Computes in double: `out` (B, Hq, Lq, Dv), `lse` (B, Hq, Lq), `weights` and `scores` (B, Hq, Lq, Lk), all contiguous,
 * or packed as queries are: row attend_reference_row() is that of a query. All but `out` may be NULL; scores are those
 * that the problem asks for. Rows of no sequence are left alone. Needs scratch of O(Lk), and returns false, with
 * nothing written, if there is no memory for it.
 */
bool attend_reference(const attend_problem *problem, const attend_tensors *tensors, double *out, double *lse,
                      double *weights, double *scores);

/** The same passes in plain float, sums taken one by one: the yardstick by which the error of a kernel is judged. */
bool attend_reference_f32(const attend_problem *problem, const attend_tensors *tensors, float *out, float *lse,
                          float *weights, float *scores);

/**
 * The same of one query alone, for problems too large to compute whole: `out` gets Dv numbers, `lse` one, `weights` and
 * `scores` Lk.
 */
bool attend_reference_query(const attend_problem *problem, const attend_tensors *tensors, int64_t b, int64_t h,
                            int64_t i, double *out, double *lse, double *weights, double *scores);
bool attend_reference_query_f32(const attend_problem *problem, const attend_tensors *tensors, int64_t b, int64_t h,
                                int64_t i, float *out, float *lse, float *weights, float *scores);

/** Queries and keys of a sequence. */
int64_t attend_reference_queries(const attend_problem *problem, const attend_tensors *tensors, int64_t b);
int64_t attend_reference_keys(const attend_problem *problem, const attend_tensors *tensors, int64_t b);

/** The row of a query of a head in results, (B, Hq, Lq) or (Hq, rows of all). */
int64_t attend_reference_row(const attend_problem *problem, const attend_tensors *tensors, int64_t b, int64_t h,
                             int64_t i);

/** The first element of a row of q or out, and of k or v, by their strides. */
int64_t attend_reference_query_at(const attend_problem *problem, const attend_tensors *tensors,
                                  const attend_strides *strides, int64_t b, int64_t h, int64_t i);
int64_t attend_reference_key_at(const attend_problem *problem, const attend_tensors *tensors,
                                const attend_strides *strides, int64_t b, int64_t h, int64_t j);

/** The index-th element of a tensor. */
float attend_reference_element(const void *tensor, attend_dtype dtype, int64_t index);

/** How far the key nearest to a query's position lies from it; 0 without keys. */
int64_t attend_reference_nearest(const attend_problem *problem, const attend_tensors *tensors, int64_t b, int64_t i);

/**
 * Whether query i of head h attends key j by every mask given, a bias of -inf included. What is in q, k and v plays no
 * part. (A score that is -inf for another reason, an Inf in k for instance, excludes a key too.)
 */
bool attend_reference_attends(const attend_problem *problem, const attend_tensors *tensors, int64_t b, int64_t h,
                              int64_t i, int64_t j);

/** Whether dropout drops the weight of key j and query i of head h, attended or not. */
bool attend_reference_drops(const attend_problem *problem, const attend_tensors *tensors, int64_t b, int64_t h,
                            int64_t i, int64_t j);

#endif
