/* SPDX-License-Identifier: Apache-2.0 */
/** The standard shapes: the one table that benchmarks, tuner, report and README read. */
#ifndef ATTEND_BENCH_SHAPES_H
#define ATTEND_BENCH_SHAPES_H

#include "attend/attend.h"

/** How a shape comes to the library: what its tensors look like, not what is computed. */
typedef enum attend_shape_form {
  ATTEND_FORM_PLAIN,         /**< contiguous BHSD tensors; masks are flags and lengths */
  ATTEND_FORM_ADDITIVE_MASK, /**< the causal mask is an f16 bias of 0 and -inf, (Lq, Lk), shared by heads: llama.cpp */
  ATTEND_FORM_SIDE_BY_SIDE,  /**< keys and values of all heads of a token side by side: BSHD */
  ATTEND_FORM_PAGES,         /**< the same in shuffled pages */
  ATTEND_FORM_SERVING,       /**< sequences of their own lengths: queries packed, keys and values in shuffled pages */
  ATTEND_FORM_V_IN_K         /**< v is the first Dv columns of k: multi-head latent attention, absorbed */
} attend_shape_form;

typedef struct attend_shape {
  const char *name;
  int64_t batch, q_heads, kv_heads, q_len, kv_len, head_dim, v_head_dim; /**< default scale; lengths are the most */
  attend_causal causal; /**< none or bottom-right, by each sequence's own lengths */
  int64_t length_step;  /**< not where served: sequence b has kv_len - b * length_step keys; 0 = no kv lengths */
  attend_shape_form form;
  attend_score score; /**< dot products unless the table says otherwise */
} attend_shape;

/** In the order of the documentation: small to large, prefill before decode. Ends with a NULL name. */
extern const attend_shape attend_shapes[];

/** One causal head of 64 at 1,024 to 65,536 queries and keys, named sequence-1k and so on: time and memory by length.
 */
extern const attend_shape attend_sequences[];

/** Additive scores: a translator that trains, and one that writes word by word; and a longer text. */
extern const attend_shape attend_additive[];

/** Decode over caches as engines keep them: heads of a token side by side, in one piece and in pages. */
extern const attend_shape attend_caches[];

/** "plain", "additive-mask", "side-by-side", "pages", "serving" or "v-in-k". */
const char *attend_shape_form_name(attend_shape_form form);

/** The problem of a shape, with tensors as attend_shape_form says; out has q's type, and keys and values have one. */
attend_problem attend_shape_problem(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype);

/** Queries of sequence b, and of all sequences. */
int64_t attend_shape_queries(const attend_shape *shape, int64_t b);
int64_t attend_shape_total_queries(const attend_shape *shape);

/** Keys that sequence b has, as kv_lengths or without. */
int64_t attend_shape_length(const attend_shape *shape, int64_t b);

/** Rows of a page, and pages that sequence b needs; 0 where keys are not in pages. */
int64_t attend_shape_page_rows(const attend_shape *shape);
int64_t attend_shape_pages(const attend_shape *shape, int64_t b);

/** Keys that query i of sequence b attends: always the first ones. */
int64_t attend_shape_attended(const attend_shape *shape, int64_t b, int64_t i);

/** Useful arithmetic: (query, attended key) pairs of all heads x 2 (D + Dv); a tanh counts as a product does. */
double attend_shape_flops(const attend_shape *shape);

/** Bytes of q, out, and the keys and values that are attended, with their scales, each counted once: values in keys are
 * no more bytes. */
double attend_shape_bytes(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype);

/* Keys and values in any type: contiguous rows, and scales of formats that have them in a tensor of their own. */

/** Scales of a row: one, or of i4 one for 32 elements where these divide it; 0 where there are none. */
int64_t attend_shape_scales(attend_dtype dtype, int64_t dim);

/** How they lie in a tensor of (batch or pages, heads, rows, dim): contiguous, in f32. */
attend_scaling attend_shape_scaling(attend_dtype dtype, int64_t heads, int64_t rows, int64_t dim);

/** Converts contiguous rows of numbers, as attend_append() does. `scales` is written where there are any. */
attend_status attend_shape_store(attend_dtype dtype, int64_t rows, int64_t dim, const float *numbers, void *to,
                                 float *scales);

#endif
