/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file layers.h
 * Attention layers on top of attend.h: what models are built of, with their weights.
 *
 * INTRODUCTION
 *
 * Multi-head self-attention of a (B, L, E) sequence with the weights of PyTorch's nn.MultiheadAttention, whose packed
 * in_proj_weight is (3 E, E):
 *
 *     attend_mha_problem p = ATTEND_MHA_PROBLEM_INIT;
 *     p.batch = 1, p.q_len = p.kv_len = 1024, p.embed_dim = 768, p.q_heads = 12;
 *     p.out_proj = 1, p.causal = ATTEND_CAUSAL_TOP_LEFT;
 *
 *     attend_mha_plan *plan;
 *     attend_status s = attend_mha_plan_create(&p, NULL, &plan);
 *     if (s != ATTEND_OK) fprintf(stderr, "%s: %s\n", attend_status_string(s), attend_error_detail());
 *
 *     attend_mha_tensors t = ATTEND_MHA_TENSORS_INIT;
 *     t.query = t.key = t.value = x, t.out = out;
 *     t.q_weight = in_proj, t.k_weight = in_proj + 768 * 768, t.v_weight = in_proj + 2 * 768 * 768;
 *     t.out_weight = out_proj;
 *     attend_mha_plan_run(plan, &t, NULL, 0);
 *     attend_mha_plan_destroy(plan);
 *
 * The conventions are those of attend.h: sizes and strides in elements, workspaces in bytes, 0 is the default, every
 * function that can fail returns an attend_status and leaves outputs as they were if it does, plans are immutable and
 * may be run by several threads at once with a workspace each.
 *
 * THREADS
 *
 * Projections are products of a BLAS, attention runs on attend's own threads. Where the process has told its BLAS to
 * use one thread (openblas_set_num_threads(1), or OPENBLAS_NUM_THREADS=1), attend's threads share the projections too,
 * and the result is the same, to the bit, for every number of threads. Otherwise projections run on the threads of the
 * BLAS, however many the plan has; that is correct but often slower, because the threads of either wait busily for more
 * work while those of the other want the processor. attend never changes the setting, which is the whole process's.
 */
#ifndef ATTEND_LAYERS_H
#define ATTEND_LAYERS_H

#include "attend/attend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------------------- multi-head attention */

/** How the matrix of a projection y = x W + b lies in memory. */
typedef enum attend_weight_layout {
  ATTEND_WEIGHT_OUT_IN = 0, /**< rows are outputs, (out, in): PyTorch's nn.Linear */
  ATTEND_WEIGHT_IN_OUT = 1  /**< rows are inputs, (in, out): GPT-2's Conv1D, x W as written down in papers */
} attend_weight_layout;

/** What a mask of nn.MultiheadAttention holds. */
typedef enum attend_layer_mask {
  ATTEND_LAYER_MASK_NONE = 0,
  ATTEND_LAYER_MASK_IGNORE = 1, /**< a byte an element, nonzero = this key is NOT attended: the reverse of attend.h */
  ATTEND_LAYER_MASK_ADD = 2     /**< f32, added to the scores; -inf = this key is not attended */
} attend_layer_mask;

/** Which attention weights are written. */
typedef enum attend_layer_weights {
  ATTEND_LAYER_WEIGHTS_NONE = 0,
  ATTEND_LAYER_WEIGHTS_PER_HEAD = 1, /**< (B, Hq, Lq, T) */
  ATTEND_LAYER_WEIGHTS_AVERAGED = 2  /**< (B, Lq, T), the mean over the heads */
} attend_layer_weights;

/**
 * Strides of a (B, L, E) sequence, in elements; the last dimension is contiguous. Both 0 means contiguous in that
 * order, batch first. Sequence first, (L, B, E), is {E, B * E}. Rows may have gaps, but must neither overlap nor
 * interleave.
 */
typedef struct attend_sequence_strides {
  int64_t batch, row;
} attend_sequence_strides;

/**
 * Multi-head attention with its projections (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762), all of it in f32:
 *
 *     q = query Wq + bq      (B, Lq, Hq D)        split into heads of D
 *     k = key   Wk + bk      (B, Lk, Hkv D)
 *     v = value Wv + bv      (B, Lk, Hkv Dv)
 *     o = softmax(scale q k^T + attn_mask + key_padding_mask, masked) v
 *     out = o Wo + bo        with out_proj, else out = o
 *
 * A packed projection, be it the rows of a (3 E, E) matrix or the columns of an (E, 3 E) one, is three pointers into it
 * and, for the columns, weight strides of 3 E.
 *
 * Three things are appended behind the projected keys, in this order, as nn.MultiheadAttention does: bias_k and bias_v,
 * a key and a value that every query of every batch entry attends; and with add_zero_attn a key and a value of zeros.
 * They count into T, the length of the key axis of the weights, but not of the masks.
 *
 * KEY/VALUE CACHE. With cache_len set, the caller keeps projected keys and values in k_cache and v_cache, of room for
 * cache_len positions in each batch entry, of which past[b] are filled. A run appends its own Lk behind them and
 * attends to all past[b] + Lk; ATTEND_CAUSAL_BOTTOM_RIGHT is then relative to those. After it the caller adds Lk to
 * past[b]. Prefill is a run with past 0, decode runs with q_len = kv_len = 1; other lengths, and other lengths of past
 * for each batch entry, do as well. The key axis of masks and weights has cache_len elements; weights behind the filled
 * positions are 0. How rows are cut and which kernel runs depends on cache_len, never on past.
 */
typedef struct attend_mha_problem {
  size_t struct_size; /**< sizeof(attend_mha_problem), set by ATTEND_MHA_PROBLEM_INIT */

  int64_t batch;      /**< B >= 0. With B or Lq of 0 nothing is computed, but keys are appended to a cache; no error */
  int64_t q_len;      /**< Lq >= 0 */
  int64_t kv_len;     /**< Lk >= 0: keys and values of this run */
  int64_t embed_dim;  /**< E >= 1: size of a query's row */
  int64_t k_dim;      /**< size of a key's row; 0 = E */
  int64_t v_dim;      /**< size of a value's row; 0 = E */
  int64_t q_heads;    /**< Hq >= 1 */
  int64_t kv_heads;   /**< Hkv; 0 = Hq. Hq % Hkv must be 0 */
  int64_t head_dim;   /**< D; 0 = E / Hq, which must then be whole */
  int64_t v_head_dim; /**< Dv; 0 = D */
  int64_t out_dim;    /**< size of an output's row with out_proj; 0 = E. Without, it is Hq Dv, or 0 */

  int out_proj; /**< 1 = an output projection */
  attend_weight_layout weight_layout;
  /** From one row of a weight matrix to the next; 0 = contiguous. */
  int64_t q_weight_stride, k_weight_stride, v_weight_stride, out_weight_stride;
  attend_sequence_strides query_strides, key_strides, value_strides, out_strides;

  float scale;                        /**< finite; 0 = 1 / sqrt(D) */
  attend_causal causal;               /**< with a cache: none or bottom-right */
  int64_t causal_offset;              /**< with ATTEND_CAUSAL_OFFSET only, as in attend.h */
  attend_layer_mask key_padding_mask; /**< (B, Lk), or (B, cache_len) */
  attend_layer_mask attn_mask;        /**< (Lq, Lk), or (Lq, cache_len) */
  int attn_mask_per_head;             /**< 1 = attn_mask is (B, Hq, Lq, Lk), which (B Hq, Lq, Lk) is as well */
  int bias_kv;                        /**< 1 = bias_k and bias_v. Not with a cache */
  int add_zero_attn;                  /**< 1 = append a key and a value of zeros. Not with a cache */
  attend_layer_weights weights;
  int64_t cache_len; /**< positions of the key/value cache; 0 = none */
} attend_mha_problem;

#define ATTEND_MHA_PROBLEM_INIT ATTEND_INIT_(attend_mha_problem)

/**
 * The addresses of one run; the caller owns them all. Inputs that the problem does not have are ignored and may be
 * NULL, and so may every tensor that has no element. Inputs may overlap; outputs, the cache included, must overlap
 * nothing.
 */
typedef struct attend_mha_tensors {
  size_t struct_size; /**< sizeof(attend_mha_tensors), set by ATTEND_MHA_TENSORS_INIT */

  const float *query; /**< (B, Lq, E) */
  const float *key;   /**< (B, Lk, k_dim) */
  const float *value; /**< (B, Lk, v_dim) */
  float *out;         /**< (B, Lq, out_dim) */

  /** (Hq D, E), (Hkv D, k_dim), (Hkv Dv, v_dim) and (out_dim, Hq Dv), or their transposes, by weight_layout. */
  const float *q_weight, *k_weight, *v_weight, *out_weight;
  const float *q_bias, *k_bias, *v_bias, *out_bias; /**< a number per output of the projection; NULL = none */
  const float *bias_k, *bias_v;                     /**< (Hkv D), (Hkv Dv) */

  const void *key_padding_mask; /**< bytes, or f32 that are finite or -inf; contiguous */
  const void *attn_mask;        /**< likewise */

  float *k_cache, *v_cache; /**< (B, cache_len, Hkv, D) and (B, cache_len, Hkv, Dv), contiguous */
  const int32_t *past;      /**< (B): filled positions of the cache before this run, each from 0 to cache_len - Lk */

  float *weights; /**< contiguous; T is Lk plus what is appended, or cache_len */
} attend_mha_tensors;

#define ATTEND_MHA_TENSORS_INIT ATTEND_INIT_(attend_mha_tensors)

/** A layer without its weights: the plan of its attention, and how its projections are cut up. Opaque and immutable. */
typedef struct attend_mha_plan attend_mha_plan;

/**
 * Makes a plan. `options` are those of the attention's plan and may be NULL. Neither struct is kept. On success *plan
 * is to be destroyed with attend_mha_plan_destroy(); on an error *plan is not touched. A library built without a BLAS
 * returns ATTEND_ERROR_UNSUPPORTED.
 */
ATTEND_API attend_status attend_mha_plan_create(const attend_mha_problem *problem, const attend_options *options,
                                                attend_mha_plan **plan);

/** Frees a plan. NULL is allowed. No run of the plan may be under way. */
ATTEND_API void attend_mha_plan_destroy(attend_mha_plan *plan);

/** Bytes of workspace that a run needs, as attend_plan_workspace_size(). NULL gives 0. */
ATTEND_API size_t attend_mha_plan_workspace_size(const attend_mha_plan *plan);

/**
 * Runs a layer. The workspace is that of attend_plan_run(): aligned, or NULL with a size of 0 for one that the library
 * allocates for the duration of the call. A query that attends no key gets zeros from the attention, where PyTorch
 * gives NaN.
 */
ATTEND_API attend_status attend_mha_plan_run(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                             void *workspace, size_t workspace_size);

/** Says on one line how the attention of a layer is run, as attend_plan_explain(). */
ATTEND_API size_t attend_mha_plan_explain(const attend_mha_plan *plan, char *buffer, size_t size);

/* ---------------------------------------------------------------------------------------------- additive attention */

/**
 * Additive attention with its projections (Bahdanau, Cho and Bengio 2015, https://arxiv.org/abs/1409.0473), in f32:
 *
 *     s[i, j] = dot(w, tanh(query[i] Wq + bq + key[j] Wk))
 *     out = softmax(s, masked) value
 *
 * Queries, keys and values have sizes of their own. All tensors are contiguous. Queries and keys that are projected
 * already are for attend.h: attend_problem.score, which takes every stride, mask, type and number of heads.
 */
typedef struct attend_additive_problem {
  size_t struct_size; /**< sizeof(attend_additive_problem), set by ATTEND_ADDITIVE_PROBLEM_INIT */

  int64_t batch;  /**< B >= 0. With B or Lq of 0 there is nothing to compute, which is no error */
  int64_t q_len;  /**< Lq >= 0 */
  int64_t kv_len; /**< Lk >= 0 */
  int64_t q_dim;  /**< size of a query's row, >= 1 */
  int64_t k_dim;  /**< size of a key's row, >= 1 */
  int64_t v_dim;  /**< size of a value's and an output's row, >= 1 */
  int64_t hidden; /**< H >= 1: what both are projected to */

  attend_weight_layout weight_layout;
  attend_lengths kv_lengths; /**< as in attend.h */
  int mask;                  /**< 1 = a boolean mask (B, Lq, Lk): one byte an element, nonzero = attend */
  int weights;               /**< 1 = also write the attention weights */
  int batch_invariant;       /**< 1 = as in attend.h */
  float dropout;             /**< of the weights, as in attend.h; 0 = none */
} attend_additive_problem;

#define ATTEND_ADDITIVE_PROBLEM_INIT ATTEND_INIT_(attend_additive_problem)

/** The addresses of one run; the caller owns them all. Outputs must not overlap inputs or one another. */
typedef struct attend_additive_tensors {
  size_t struct_size; /**< sizeof(attend_additive_tensors), set by ATTEND_ADDITIVE_TENSORS_INIT */

  const float *query; /**< (B, Lq, q_dim) */
  const float *key;   /**< (B, Lk, k_dim) */
  const float *value; /**< (B, Lk, v_dim) */
  float *out;         /**< (B, Lq, v_dim) */

  const float *q_weight, *k_weight; /**< (H, q_dim) and (H, k_dim), or their transposes, by weight_layout */
  const float *q_bias;              /**< (H); NULL = none */
  const float *score_weight;        /**< w, (H) */

  const int32_t *kv_lengths; /**< (B) or (B, Lq), each from 0 to Lk */
  const uint8_t *mask;       /**< (B, Lq, Lk) */
  float *weights;            /**< (B, Lq, Lk) */

  uint64_t dropout_seed;   /**< as in attend.h */
  uint64_t dropout_offset; /**< likewise */
} attend_additive_tensors;

#define ATTEND_ADDITIVE_TENSORS_INIT ATTEND_INIT_(attend_additive_tensors)

/** A layer without its weights. Opaque and immutable. */
typedef struct attend_additive_plan attend_additive_plan;

/** Makes a plan, as attend_mha_plan_create() does. */
ATTEND_API attend_status attend_additive_plan_create(const attend_additive_problem *problem,
                                                     const attend_options *options, attend_additive_plan **plan);

/** Frees a plan. NULL is allowed. No run of the plan may be under way. */
ATTEND_API void attend_additive_plan_destroy(attend_additive_plan *plan);

/** Bytes of workspace that a run needs, as attend_plan_workspace_size(). NULL gives 0. */
ATTEND_API size_t attend_additive_plan_workspace_size(const attend_additive_plan *plan);

/** Runs a layer; the workspace is that of attend_plan_run(). A query that attends no key gets zeros. */
ATTEND_API attend_status attend_additive_plan_run(const attend_additive_plan *plan,
                                                  const attend_additive_tensors *tensors, void *workspace,
                                                  size_t workspace_size);

/** Says on one line how the attention of a layer is run, as attend_plan_explain(). */
ATTEND_API size_t attend_additive_plan_explain(const attend_additive_plan *plan, char *buffer, size_t size);

/* -------------------------------------------------------------------------------------------------- masked softmax */

/**
 * Masked softmax of the rows of x, (B, H, R, C), such as scores of H heads, R queries and C keys:
 *
 *     out[b, h, r, c] = exp(x[b, h, r, c]) / (sum over attended c of exp(x[b, h, r, c]))
 *
 * A column is attended when it passes the lengths and the mask, as far as they are given; and an x of -inf excludes a
 * column just as a mask does. Elsewhere out is 0, whatever x is there, NaN included; a row that attends nothing is
 * zeros. It is computed in f32.
 */
typedef struct attend_softmax_problem {
  size_t struct_size; /**< sizeof(attend_softmax_problem), set by ATTEND_SOFTMAX_PROBLEM_INIT */

  int64_t batch;   /**< B >= 0. With B, R or C of 0 there is nothing to compute, which is no error */
  int64_t heads;   /**< H; 0 = 1 */
  int64_t rows;    /**< R >= 0 */
  int64_t columns; /**< C >= 0 */

  attend_dtype dtype;     /**< type of x and out; default f32 */
  attend_lengths lengths; /**< (B): columns c < lengths[b] are attended; or (B, R): columns c < lengths[b * R + r] */
  int mask;               /**< 1 = a boolean mask: one byte an element, nonzero = attend */
  int num_threads;        /**< as in attend_options; the result is the same, to the bit, for every number */

  attend_strides x_strides, out_strides; /**< as in attend.h; a row is C elements that lie together */
  attend_strides4 mask_strides;          /**< of batch, head, row (query) and column (key); 0 broadcasts */
} attend_softmax_problem;

#define ATTEND_SOFTMAX_PROBLEM_INIT ATTEND_INIT_(attend_softmax_problem)

/** The addresses of one run; the caller owns them all. Tensors that the problem does not have are ignored. */
typedef struct attend_softmax_tensors {
  size_t struct_size; /**< sizeof(attend_softmax_tensors), set by ATTEND_SOFTMAX_TENSORS_INIT */

  const void *x;
  void *out; /**< x itself with the same strides, or no byte of any input */

  const int32_t *lengths; /**< (B) or (B, R), contiguous, each from 0 to C */
  const uint8_t *mask;    /**< by mask_strides */
} attend_softmax_tensors;

#define ATTEND_SOFTMAX_TENSORS_INIT ATTEND_INIT_(attend_softmax_tensors)

/**
 * Computes it at once: there is no plan, no workspace and no allocation. Runs on up to num_threads OpenMP threads, as
 * attend_plan_run() does, and reads the ATTEND_* environment variables.
 */
ATTEND_API attend_status attend_masked_softmax(const attend_softmax_problem *problem,
                                               const attend_softmax_tensors *tensors);

#ifdef __cplusplus
}
#endif

#endif
