/* SPDX-License-Identifier: Apache-2.0 */
/** The standard shapes: the one table that benchmarks, tuner, report and README read. */
#ifndef ATTEND_BENCH_SHAPES_H
#define ATTEND_BENCH_SHAPES_H

#include "attend/attend.h"

typedef struct attend_shape {
  const char *name;
  int64_t batch, q_heads, kv_heads, q_len, kv_len, head_dim; /**< Dv = D, default scale */
  attend_causal causal;                                      /**< none or bottom-right */
  int64_t length_step; /**< kv length of batch entry b is kv_len - b * length_step; 0 = no kv lengths */
  attend_score score;  /**< dot products unless the table says otherwise */
} attend_shape;

/** In the order of the documentation: small to large, prefill before decode. Ends with a NULL name. */
extern const attend_shape attend_shapes[];

/** One causal head of 64 at 1,024 to 65,536 queries and keys, named sequence-1k and so on: time and memory by length.
 */
extern const attend_shape attend_sequences[];

/** Additive scores: a translator that trains, and one that writes word by word; and a longer text. */
extern const attend_shape attend_additive[];

/** The shape of that name, or NULL. */
const attend_shape *attend_shape_find(const char *name);

/** The problem of a shape: contiguous BHSD tensors, out of q's type. */
attend_problem attend_shape_problem(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype);

/** Keys that batch entry b has, as kv_lengths or without. */
int64_t attend_shape_length(const attend_shape *shape, int64_t b);

/** Keys that query i of batch entry b attends: always the first ones. */
int64_t attend_shape_attended(const attend_shape *shape, int64_t b, int64_t i);

/** Useful arithmetic: (query, attended key) pairs of all heads x 2 (D + Dv); a tanh counts as a product does. */
double attend_shape_flops(const attend_shape *shape);

/** Bytes of q, out, and the keys and values that are attended, each counted once. */
double attend_shape_bytes(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype);

#endif
