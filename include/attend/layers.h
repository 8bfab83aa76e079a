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
 * attend_options.parallel_for runs all of a layer on the caller's pool, and so does attend_mha_plan_run_part().
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

/** How rotary position embedding (RoPE) makes pairs of the R = rotary_dim first elements of a head. */
typedef enum attend_rope {
  ATTEND_ROPE_NONE = 0,
  ATTEND_ROPE_INTERLEAVED = 1, /**< elements 2 n and 2 n + 1: the paper, GPT-J, Llama's own code */
  ATTEND_ROPE_HALF = 2         /**< elements n and n + R / 2: GPT-NeoX, Llama and all others in transformers */
} attend_rope;

/**
 * Strides of a (B, L, E) sequence, in elements; the last dimension is contiguous. Both 0 means contiguous in that
 * order, batch first. Sequence first, (L, B, E), is {E, B * E}. Rows may have gaps, but must neither overlap nor
 * interleave. Packed sequences (q_starts, kv_starts) have no batch dimension: `batch` is not read.
 */
typedef struct attend_sequence_strides {
  int64_t batch, row;
} attend_sequence_strides;

/**
 * Multi-head attention with its projections (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762), in f32:
 *
 *     q = query Wq + bq      (B, Lq, Hq D)        split into heads of D
 *     k = key   Wk + bk      (B, Lk, Hkv D)
 *     v = value Wv + bv      (B, Lk, Hkv Dv)
 *     q, k = turned by position                   with rope
 *     s = scale q k^T, softcap                    as in attend.h
 *     o = softmax(s + attn_mask + key_padding_mask, masked, with sinks) v
 *     out = o Wo + bo        with out_proj, else out = o
 *
 * A packed projection, be it the rows of a (3 E, E) matrix or the columns of an (E, 3 E) one, is three pointers into it
 * and, for the columns, weight strides of 3 E. What the scores are and which keys are attended is as in attend.h:
 * scale, softcap, causal, window, kv_lengths, kv_begins, sinks and dropout mean what they mean there.
 *
 * A layer of Llama, for instance, is kv_heads, causal, rope = ATTEND_ROPE_HALF and rope_theta, with a cache; Mistral
 * adds a window; Gemma 2 a softcap, a scale and in every other layer a window; gpt-oss sinks, a window in every other
 * layer, and rope_frequencies and rope_factor as YaRN makes them.
 *
 * APPENDED KEYS. After the projected keys come, in this order, as nn.MultiheadAttention does: bias_k and bias_v, a key
 * and a value that every query of every batch entry attends; and with add_zero_attn a key and a value of zeros. They
 * count into T, the length of the key axis of the weights, but not of the masks. RoPE does not turn them.
 *
 * SEQUENCES. With q_starts the queries of all sequences lie packed in one (q_total, E) tensor, those of b being rows
 * q_starts[b] to q_starts[b + 1]; `out` and the weights are then packed the same way. With kv_starts, keys and values
 * likewise: self-attention over prompts of any lengths has both, with the same numbers. q_len and kv_len are then the
 * most of one sequence. Each sequence has lengths and positions of its own, as in attend.h.
 *
 * KEY/VALUE CACHE. With cache_len set, the caller keeps projected keys and values in k_cache and v_cache, in f32, f16
 * or bf16, with room for cache_len positions in each sequence, of which past[b] are filled. A run appends the new keys
 * of each sequence, Lk or with kv_starts as many as it has, and attends to all past[b] + new of them: those are its
 * keys, to which ATTEND_CAUSAL_BOTTOM_RIGHT and windows are relative. After it the caller adds the new ones to past[b].
 * Prefill is a run with past 0, decode one with a single new token, and one run can do either for each sequence. The
 * key axis of masks and weights has cache_len elements; weights of positions that are not filled are 0. Work is cut up
 * by the lengths of each run. A run writes the new rows of the cache and no others.
 *
 * ROPE (Su et al. 2021, https://arxiv.org/abs/2104.09864). Pair n of a head at position m is turned by the angle
 * m f[n]: (x, y) becomes (x cos - y sin, x sin + y cos), with cos and sin multiplied by rope_factor. f[n] is
 * rope_theta^(-2 n / R), or rope_frequencies[n]: the table is what linear, NTK-aware, Llama 3 and YaRN scaling change,
 * and YaRN (Peng et al. 2023, https://arxiv.org/abs/2309.00071) has a factor as well, its "attention factor". Angles
 * are computed in double. The new key i of sequence b stands at rope_positions[b] + i, which is past[b] + i, or without
 * a cache i, where rope_positions is NULL. A query stands among the keys as causal masks have it, see attend_causal, so
 * in self-attention query i turns as key i does. rope_positions changes no mask.
 */
typedef struct attend_mha_problem {
  size_t struct_size; /**< sizeof(attend_mha_problem), set by ATTEND_MHA_PROBLEM_INIT */

  int64_t batch;      /**< B >= 0. With B or Lq of 0 nothing is computed, but keys are appended to a cache; no error */
  int64_t q_len;      /**< Lq >= 0; with q_starts the most of one sequence */
  int64_t kv_len;     /**< Lk >= 0: keys and values of this run; with kv_starts the most of one sequence */
  int64_t embed_dim;  /**< E >= 1: size of a query's row */
  int64_t k_dim;      /**< size of a key's row; 0 = E */
  int64_t v_dim;      /**< size of a value's row; 0 = E */
  int64_t q_heads;    /**< Hq >= 1 */
  int64_t kv_heads;   /**< Hkv; 0 = Hq. Hq % Hkv must be 0 */
  int64_t head_dim;   /**< D; 0 = E / Hq, which must then be whole */
  int64_t v_head_dim; /**< Dv; 0 = D */
  int64_t out_dim;    /**< size of an output's row with out_proj; 0 = E. Without, it is Hq Dv, or 0 */

  int64_t q_total;   /**< with q_starts: rows that query and out have room for; 0 to B Lq */
  int64_t kv_total;  /**< with kv_starts: rows that key and value have room for; 0 to B Lk */
  int64_t cache_len; /**< positions of the key/value cache; 0 = none */

  int64_t causal_offset; /**< with ATTEND_CAUSAL_OFFSET only, as in attend.h */
  int64_t window_left;   /**< -1 = open, else 0 to 2^31 - 1; read with window = 1 only */
  int64_t window_right;  /**< likewise */
  int64_t rotary_dim;    /**< R, even and at most D: the elements of a head that RoPE turns; 0 = D */

  /** From one row of a weight matrix to the next; 0 = contiguous. */
  int64_t q_weight_stride, k_weight_stride, v_weight_stride, out_weight_stride;
  attend_sequence_strides query_strides, key_strides, value_strides, out_strides;
  /** Of the caches as (B, Hkv, cache_len, D or Dv) tensors; all 0 = (B, cache_len, Hkv, D or Dv), contiguous. */
  attend_strides k_cache_strides, v_cache_strides;

  attend_weight_layout weight_layout;
  int out_proj;             /**< 1 = an output projection */
  attend_dtype cache_dtype; /**< type of k_cache and v_cache; default f32 */
  unsigned as_given;        /**< ATTEND_AS_GIVEN_SCALE = a scale of 0 is meant; no other bit */

  float scale;       /**< finite; 0 = 1 / sqrt(D), unless as_given */
  float softcap;     /**< finite, >= 0; 0 = none */
  float dropout;     /**< of the weights, 0 to 1, as in attend.h; 0 = none */
  float rope_theta;  /**< finite, > 0; 0 = 10000 */
  float rope_factor; /**< multiplies cos and sin; finite, > 0; 0 = 1 */
  attend_rope rope;

  attend_causal causal; /**< with a cache: none or bottom-right */
  int window;           /**< 1 = a sliding window: p(i) - window_left <= j <= p(i) + window_right. 0 = none */
  int q_starts;         /**< 1 = queries are packed */
  int kv_starts;        /**< 1 = keys and values are packed. Not with appended keys */
  int kv_lengths;       /**< 1 = sequence b has kv_lengths[b] keys, not Lk. Not with a cache, which knows its own */
  int kv_begins;        /**< 1 = keys j < kv_begins[b] are not attended: batches padded on the left */

  attend_layer_mask key_padding_mask; /**< (B, Lk), or (B, cache_len) */
  attend_layer_mask attn_mask;        /**< (Lq, Lk), or (Lq, cache_len); with q_starts q_total in the place of Lq */
  int attn_mask_per_head;             /**< 1 = attn_mask is (B, Hq, Lq, Lk), which (B Hq, Lq, Lk) is as well; with
                                           q_starts (Hq, q_total, Lk) */
  int bias_kv;                        /**< 1 = bias_k and bias_v. Not with a cache */
  int add_zero_attn;                  /**< 1 = append a key and a value of zeros. Not with a cache */
  int sinks;                          /**< 1 = attention sinks */
  attend_layer_weights weights;       /**< with q_starts (Hq, q_total, T) or (q_total, T) */

  /**
   * 1 = a sequence's result does not depend on the rest of its batch, to the bit: as in attend.h, and its rows are
   * projected apart from those of the others, which reads the weights once for each sequence. (How many of its rows a
   * BLAS multiplies in one call may still change their last bits.)
   */
  int batch_invariant;
} attend_mha_problem;

#define ATTEND_MHA_PROBLEM_INIT ATTEND_INIT_(attend_mha_problem)

/**
 * The addresses of one run; the caller owns them all. Each is aligned to its element size. Inputs that the problem does
 * not have are ignored and may be NULL, and so may every tensor that has no element. Inputs may overlap; outputs, the
 * cache included, must overlap nothing. Rows of outputs that belong to no sequence are not written.
 */
typedef struct attend_mha_tensors {
  size_t struct_size; /**< sizeof(attend_mha_tensors), set by ATTEND_MHA_TENSORS_INIT */

  const float *query; /**< (B, Lq, E), or (q_total, E) */
  const float *key;   /**< (B, Lk, k_dim), or (kv_total, k_dim) */
  const float *value; /**< (B, Lk, v_dim), or (kv_total, v_dim) */
  float *out;         /**< (B, Lq, out_dim), or (q_total, out_dim) */

  /** (Hq D, E), (Hkv D, k_dim), (Hkv Dv, v_dim) and (out_dim, Hq Dv), or their transposes, by weight_layout. */
  const float *q_weight, *k_weight, *v_weight, *out_weight;
  const float *q_bias, *k_bias, *v_bias, *out_bias; /**< a number per output of the projection; NULL = none */
  const float *bias_k, *bias_v;                     /**< (Hkv D), (Hkv Dv) */

  const int32_t *q_starts;   /**< (B + 1), from 0, not falling, the last at most q_total; steps of at most Lq */
  const int32_t *kv_starts;  /**< (B + 1), likewise, with kv_total and Lk */
  const int32_t *kv_lengths; /**< (B), each from 0 to Lk, or to what kv_starts gives */
  const int32_t *kv_begins;  /**< (B), each >= 0 */

  void *k_cache, *v_cache; /**< by k_cache_strides and v_cache_strides, of cache_dtype */
  const int32_t *past;     /**< (B): filled positions of the cache before this run, each from 0 to cache_len - new */

  const int32_t *rope_positions; /**< (B): position of each sequence's first new key, any; NULL = past[b], or 0 */
  const float *rope_frequencies; /**< (R / 2), radians a position; NULL = by rope_theta */

  const void *key_padding_mask; /**< bytes, or f32 that are finite or -inf; contiguous */
  const void *attn_mask;        /**< likewise */
  const float *sinks;           /**< (Hq): each adds exp(sink) to its head's denominators */
  float *weights;               /**< contiguous; T is Lk plus what is appended, or cache_len */

  uint64_t dropout_seed;   /**< as in attend.h */
  uint64_t dropout_offset; /**< likewise: below 2^32 */
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
 * gives NaN. After an error outputs and caches are as they were.
 */
ATTEND_API attend_status attend_mha_plan_run(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                             void *workspace, size_t workspace_size);

/**
 * Running a layer on threads of your own: no allocation, no lock, no OpenMP.
 *
 * 1. One thread calls attend_mha_plan_begin(). It checks the tensors and prepares the workspace.
 * 2. For each phase from 0 to attend_mha_plan_phases() - 1, every thread calls attend_mha_plan_run_part() with the same
 *    tensors and workspace, and a `part` of its own from 0 to `parts` - 1; and then waits until all parts of that phase
 *    have returned, before any begins the next.
 * 3. When all parts of the last phase have returned, the outputs are complete.
 *
 * The phases are: the projections of queries, keys and values; RoPE and what is copied into the cache; attention; mean
 * weights; and the output projection; without those that have nothing to do. In each, parts share the work out among
 * themselves, as those of attend_plan_run_part() do. `parts` is at most attend_mha_plan_max_parts(), and the same in
 * all phases of a run.
 *
 * Every part calls the BLAS for itself, so the BLAS should be told to use one thread, see THREADS above. The result is
 * then the same, to the bit, for any number of parts, and that of attend_mha_plan_run().
 */
ATTEND_API attend_status attend_mha_plan_begin(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                               void *workspace, size_t workspace_size);
ATTEND_API attend_status attend_mha_plan_run_part(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                                  void *workspace, size_t workspace_size, int phase, int part,
                                                  int parts);

/** How many phases a run of the plan has, at least 1. NULL gives 0. */
ATTEND_API int attend_mha_plan_phases(const attend_mha_plan *plan);

/** The most parts a run of the plan can be cut into: the plan's number of threads, at least 1. NULL gives 0. */
ATTEND_API int attend_mha_plan_max_parts(const attend_mha_plan *plan);

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
  float dropout;             /**< of the weights, as in attend.h; 0 = none */
  int batch_invariant;       /**< 1 = as in attend.h */
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
 * attend_plan_run() does, and reads the environment as attend_plan_create() does.
 */
ATTEND_API attend_status attend_masked_softmax(const attend_softmax_problem *problem,
                                               const attend_softmax_tensors *tensors);

#ifdef __cplusplus
}
#endif

#endif
