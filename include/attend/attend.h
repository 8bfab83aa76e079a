/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file attend.h
 * attend: CPU attention kernels for inference engines.
 *
 *     out = softmax(scale * Q K^T + bias, masked) V
 *
 * The library detects the processor at run time and picks, for each shape, the fastest of its kernels that the
 * processor can run. Whole layers, with their projections, are in attend/layers.h. Both headers are C11 and can be used
 * from C++.
 *
 * INTRODUCTION
 *
 * One call, contiguous tensors in (batch, heads, length, dim) order:
 *
 *     attend_problem p = ATTEND_PROBLEM_INIT;
 *     p.batch = 1, p.q_heads = 32, p.kv_heads = 8, p.q_len = 2048, p.kv_len = 2048, p.head_dim = 128;
 *     p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
 *
 *     attend_tensors t = ATTEND_TENSORS_INIT;
 *     t.q = q, t.k = k, t.v = v, t.out = out;
 *
 *     attend_status s = attend_forward(&p, &t);
 *     if (s != ATTEND_OK) fprintf(stderr, "%s: %s\n", attend_status_string(s), attend_error_detail());
 *
 * An engine that runs the same shape many times makes a plan once and runs it often. A run then chooses no kernel,
 * reads no environment and allocates nothing:
 *
 *     attend_plan *plan;
 *     attend_plan_create(&p, NULL, &plan);
 *     size_t size = attend_plan_workspace_size(plan);
 *     void *workspace = aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, size);
 *     for (;;) attend_plan_run(plan, &t, workspace, size);
 *     free(workspace);
 *     attend_plan_destroy(plan);
 *
 * An engine with a thread pool of its own hands it over as attend_options.parallel_for; or it calls attend_plan_begin()
 * once and attend_plan_run_part() on each thread. A server makes one plan for its capacities and runs it at each step
 * with the lengths of the moment: see SEQUENCES below. attend_append() (attend/append.h) fills its cache. Keys and
 * values may be quantised: attend/formats.h has the formats.
 *
 * CONVENTIONS
 *
 * - Dimensions: B batch, Hq query heads, Hkv key/value heads, Lq queries, Lk keys, D query/key head dim, Dv value head
 *   dim. Hq must be a multiple of Hkv; query head h reads key/value head h / (Hq / Hkv).
 * - Sizes and strides count elements, but strides of quantised keys and values count bytes, and so do workspaces. 0
 * means the default.
 * - Every function that can fail returns an attend_status: 0 for success, a negative error otherwise. After an error
 *   outputs are as they were.
 * - The library never aborts or exits. It prints only if `verbose` or ATTEND_VERBOSE asks for it, and touches no memory
 *   but its own and the buffers it is given. Two exceptions are not its own. Where firmware contradicts itself, hwloc
 *   says so on stderr unless HWLOC_HIDE_ERRORS=2 is set. And OpenMP's runtimes end the program if they cannot start a
 *   thread: so the first run of each calling thread starts as many threads for a trial, and uses fewer if some cannot
 *   be started. It cannot know what is lacking only later; parallel_for and attend_plan_run_part() never fail so.
 * - Thread safety: every function may be called from several threads at once. A plan never changes after its creation:
 *   any number of threads may run one plan, each run with a workspace of its own. So may a child of fork(), whatever
 *   its parent's threads were doing.
 * - A thread that has configured AMX tiles of its own has that configuration again when a run returns, with its tiles
 *   zeroed: like vector registers, tiles hold nothing across a call.
 * - Structs begin with struct_size, set by their _INIT macro. Fields are only ever added at the end: a program compiled
 *   against an older header of 0.2 or later keeps working, and a program compiled against a newer one gets
 *   ATTEND_ERROR_UNSUPPORTED from an older library only if it sets a field that the library does not know. The structs
 *   of 0.1 were laid out otherwise: they are refused, with an error that says so.
 */
#ifndef ATTEND_ATTEND_H
#define ATTEND_ATTEND_H

#include <stddef.h>
#include <stdint.h>

#include "attend/formats.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ATTEND_VERSION_MAJOR 0
#define ATTEND_VERSION_MINOR 2
#define ATTEND_VERSION_PATCH 0

#define ATTEND_API __attribute__((visibility("default")))

/* A struct with every field at its default and struct_size set, as an expression that no compiler warns about. */
#ifdef __cplusplus
#define ATTEND_INIT_(type)                                                                                             \
  ([] {                                                                                                                \
    type init_{};                                                                                                      \
    init_.struct_size = sizeof(type);                                                                                  \
    return init_;                                                                                                      \
  }())
#else
#define ATTEND_INIT_(type) {.struct_size = sizeof(type)}
#endif

/** A workspace must start at a multiple of this many bytes. */
#define ATTEND_WORKSPACE_ALIGNMENT 64

/** Largest value of any dimension: lengths, heads, head dims and batch (2^31 - 1). */
#define ATTEND_MAX_EXTENT INT32_MAX

/* ---------------------------------------------------------------------------------------------------------- status */

/** What a function has to say. 0 is success, everything negative is an error. */
typedef enum attend_status {
  ATTEND_OK = 0,
  ATTEND_ERROR_INVALID_ARGUMENT = -1, /**< a null pointer, a size, stride or value out of its bounds */
  ATTEND_ERROR_OVERFLOW = -2,         /**< a size computed from the arguments does not fit into size_t / ptrdiff_t */
  ATTEND_ERROR_OUT_OF_MEMORY = -3,    /**< an allocation failed */
  ATTEND_ERROR_UNSUPPORTED = -4,      /**< valid, but this library, or the kernel asked for, cannot do it */
  ATTEND_ERROR_WORKSPACE = -5,        /**< workspace null, too small or misaligned */
  ATTEND_ERROR_ENVIRONMENT = -6,      /**< an ATTEND_* environment variable has a value that cannot be honoured */
  ATTEND_ERROR_UNKNOWN_KERNEL = -7    /**< no kernel has the name asked for */
} attend_status;

/** A short English text for a status, never NULL, valid for ever. An unknown value gives "unknown status". */
ATTEND_API const char *attend_status_string(attend_status status);

/**
 * Why the last call on this thread that returned an error failed: the field, its value and what was expected, on one
 * line. Never NULL; empty before any error. Valid until the next call into the library on the same thread.
 */
ATTEND_API const char *attend_error_detail(void);

/** "MAJOR.MINOR.PATCH" of the library that is linked, valid for ever. */
ATTEND_API const char *attend_version(void);

/* --------------------------------------------------------------------------------------------------------- problem */

/**
 * Causal masks. Query i of a sequence stands at position p(i) = i + offset among its keys and attends key j only if
 * j <= p(i). The offset is positions[b] where the problem has positions, whatever the mask. Otherwise it is
 */
typedef enum attend_causal {
  ATTEND_CAUSAL_NONE = 0,         /**< no causal mask; positions are those of ATTEND_CAUSAL_BOTTOM_RIGHT */
  ATTEND_CAUSAL_TOP_LEFT = 1,     /**< 0: the first query stands at the first key */
  ATTEND_CAUSAL_BOTTOM_RIGHT = 2, /**< keys - queries of the sequence itself: its last query stands at its last key */
  ATTEND_CAUSAL_OFFSET = 3        /**< causal_offset, any value */
} attend_causal;

/** Which shape the kv_lengths tensor has. */
typedef enum attend_lengths {
  ATTEND_LENGTHS_NONE = 0,
  ATTEND_LENGTHS_PER_BATCH = 1, /**< (B): sequence b has kv_lengths[b] keys, and its positions count from that */
  ATTEND_LENGTHS_PER_QUERY = 2  /**< (B, Lq), packed as queries are: query i attends keys j < its length; this moves no
                                     position */
} attend_lengths;

/**
 * Strides of a (B, H, L, D) tensor, in elements, of keys and values in a format in bytes; the last dimension is
 * contiguous. All three 0 means contiguous in that order, unless attend_problem.as_given says that zeros are meant.
 * Otherwise they are taken as they stand: BSHD is {L * H * D, D, H * D}, and a batch stride of 0 repeats one batch
 * entry. A stride along a dimension of one element is not read. Inputs may overlap in any way, with negative strides
 * too; rows of an output must neither overlap nor interleave.
 *
 * Packed sequences (q_starts, kv_starts) have no batch dimension: it is (1, H, rows of all, D), and `batch` is not
 * read. Paged keys and values are (pages, H, page_rows, D): `batch` is from page to page.
 */
typedef struct attend_strides {
  int64_t batch, head, row;
} attend_strides;

/**
 * Strides of a (B, Hq, Lq, Lk) mask or bias, in elements. A stride of 0 broadcasts along that dimension. With q_starts
 * the query stride steps over the rows of all sequences: row q_starts[b] + i is query i of sequence b. A mask that is
 * packed like that has a batch stride of 0.
 */
typedef struct attend_strides4 {
  int64_t batch, head, query, key;
} attend_strides4;

/** How a score is made of a query and a key. */
typedef enum attend_score {
  ATTEND_SCORE_DOT = 0,     /**< dot(q[i], k[j]) */
  ATTEND_SCORE_ADDITIVE = 1 /**< dot(w[h], tanh(q[i] + k[j])), of projected queries and keys (Bahdanau, Cho and Bengio
                                 2015, https://arxiv.org/abs/1409.0473); w is attend_tensors.score_weights */
} attend_score;

/** Which fields of a problem are taken as they stand, though 0 would be a default: bits of attend_problem.as_given. */
enum {
  ATTEND_AS_GIVEN_SCALE = 1 << 0,      /**< a scale of 0 */
  ATTEND_AS_GIVEN_V_HEAD_DIM = 1 << 1, /**< a Dv of 0: nothing but LSE and weights comes out */
  ATTEND_AS_GIVEN_STRIDES = 1 << 2, /**< strides of 0, 0, 0 of q, k, v and out: one row for all (an expanded tensor) */
  ATTEND_AS_GIVEN_ALL = (1 << 3) - 1
};

/** Scores to be written, besides the output. */
typedef enum attend_scores_output {
  ATTEND_SCORES_NONE = 0,
  ATTEND_SCORES_RAW = 1,      /**< scale * q k, of every key of the sequence, attended or not */
  ATTEND_SCORES_SOFTCAP = 2,  /**< the same after softcap */
  ATTEND_SCORES_ATTENDED = 3, /**< after bias, ALiBi and masks: what the softmax takes; -inf where not attended */
} attend_scores_output;

/**
 * An attention problem: everything about a call but the addresses.
 *
 * The score of query i and key j is
 *
 *     s = scale * dot(q[i], k[j])                   or scale * dot(w[h], tanh(q[i] + k[j])), as score says
 *     s = softcap * tanh(s / softcap)               if softcap > 0
 *     s = s + bias[b, h, i, j]                      if bias_dtype is set; times bias_head_scale[h], if that is set
 *     s = s - alibi_slopes[h] * |p(i) - j|          if alibi is set (Press et al. 2021,
 *                                                   https://arxiv.org/abs/2108.12409)
 *
 * A key is attended when it passes every mask that is given: causal, window, kv lengths, first keys, key ranges and
 * boolean mask; and a score of -inf, from a bias for instance, excludes a key just as a mask does. What is in keys and
 * values that are not attended never reaches the output, NaN and Inf included. The weights are the softmax of the
 * attended scores,
 *
 *     w[i, j] = exp(s[i, j]) / (sum over attended j of exp(s[i, j]) + exp(sinks[h]) if sinks is set)
 *
 * and a query that attends no key gives a row of zeros. LSE is the natural logarithm of the whole denominator: -inf for
 * a query that attends no key, or sinks[h]. With dropout, each weight is then set to 0 or divided by 1 - dropout.
 *
 * SEQUENCES. Every sequence of a batch has lengths, positions and memory of its own. It has keys(b) = kv_lengths[b]
 * keys (per batch entry), else kv_starts[b + 1] - kv_starts[b], else kv_len; and q_starts[b + 1] - q_starts[b] queries,
 * else q_len. Query i stands at p(i) = i + offset(b), see attend_causal; causal masks, windows and ALiBi all follow it.
 * The sizes in this struct are capacities: one plan serves every run whose lengths stay within them, and work is cut up
 * anew in each run, by the lengths of the moment.
 */
typedef struct attend_problem {
  size_t struct_size; /**< sizeof(attend_problem), set by ATTEND_PROBLEM_INIT */

  int64_t batch;      /**< B >= 0. With B, Lq or Hq of 0 there is nothing to compute, which is no error */
  int64_t q_heads;    /**< Hq >= 0 */
  int64_t kv_heads;   /**< Hkv; 0 = Hq. Hq % Hkv must be 0 */
  int64_t q_len;      /**< Lq >= 0; with q_starts the most of one sequence */
  int64_t kv_len;     /**< Lk >= 0; with kv_starts, lengths or pages the most of one sequence */
  int64_t head_dim;   /**< D >= 0. With 0 all scores are 0 before bias and ALiBi */
  int64_t v_head_dim; /**< Dv >= 0; 0 = D, unless as_given */

  int64_t q_total;   /**< with q_starts: rows of all sequences, which the tensors have room for; 0 to B Lq */
  int64_t kv_total;  /**< with kv_starts: likewise, of keys and values; 0 to B Lk */
  int64_t page_rows; /**< > 0: keys and values lie in pages of so many rows; 0 = no pages. Not with kv_starts */
  int64_t pages;     /**< with page_rows: pages that k and v have in all */
  int64_t block_table_stride; /**< with page_rows: entries from row to row; 0 = Lk / page_rows, rounded up */

  attend_strides q_strides, k_strides, v_strides, out_strides;
  attend_strides4 mask_strides, bias_strides;

  int64_t causal_offset; /**< with ATTEND_CAUSAL_OFFSET only; magnitude at most 2^31 - 1 */
  int64_t window_left;   /**< -1 = open, else 0 to 2^31 - 1; read with window = 1 only */
  int64_t window_right;  /**< likewise */

  attend_dtype q_dtype;   /**< type of q: f32, f16 or bf16; default f32 */
  attend_dtype k_dtype;   /**< type of k, any of attend/formats.h; default q_dtype */
  attend_dtype v_dtype;   /**< type of v, likewise; default k_dtype */
  attend_dtype out_dtype; /**< type of out: f32, f16 or bf16; default q_dtype */

  unsigned as_given; /**< ATTEND_AS_GIVEN_...: zeros that are meant */
  float scale;       /**< finite; 0 = 1 / sqrt(D), or 1 with additive scores or a D of 0, unless as_given */
  float softcap;     /**< finite, >= 0; 0 = none */

  /**
   * Dropout: the probability p, 0 to 1, with which each attention weight is set to 0 after the softmax; the others are
   * divided by 1 - p. attend_tensors has the seed, and says which weights are dropped. What is written as weights is
   * what the values are multiplied by; LSE is that of the scores. 0 = none, and then it costs nothing.
   */
  float dropout;

  attend_score score; /**< default: the dot product */
  attend_causal causal;
  int window; /**< 1 = a sliding window: p(i) - window_left <= j <= p(i) + window_right. 0 = none */

  attend_lengths kv_lengths;
  int positions;  /**< 1 = offset(b) is positions[b] */
  int q_starts;   /**< 1 = queries of all sequences are packed, those of b being rows q_starts[b] to q_starts[b + 1] */
  int kv_starts;  /**< 1 = likewise of keys and values */
  int kv_begins;  /**< 1 = keys j < kv_begins[b] are not attended: batches padded on the left. Moves no position */
  int key_ranges; /**< 1 = query i attends keys begin <= j < end, a pair per query */

  int mask;                /**< 1 = a boolean mask: one byte an element, nonzero = attend */
  attend_dtype bias_dtype; /**< set = an additive bias of that type; default: no bias */
  int bias_head_scale;     /**< 1 = the bias is multiplied by bias_head_scale[h]; -inf excludes whatever that is */
  int alibi;               /**< 1 = ALiBi slopes, f32 (Hq) */
  int sinks;               /**< 1 = attention sinks, f32 (Hq) */

  int lse;                     /**< 1 = also write LSE, f32 (B, Hq, Lq), contiguous */
  int weights;                 /**< 1 = also write the attention weights, f32 (B, Hq, Lq, Lk), contiguous */
  attend_scores_output scores; /**< also write scores, f32 (B, Hq, Lq, Lk), contiguous */

  /**
   * 1 = what is computed for a query depends neither on B, nor on the other queries of its sequence, nor on how far
   * capacities reach beyond the sequence's own lengths: to the bit. Costs some speed at small batches.
   */
  int batch_invariant;

  attend_scaling k_scaling, v_scaling; /**< of keys and values in f8, i8 and i4: how their scales lie */

  /**
   * 1 = with keys in q8_0 or i8, a kernel that multiplies bytes may round queries to int8. That is what decode does on
   * processors with AVX512_VNNI or AVX-VNNI where it gains. In i8, head dims and groups of scales must be multiples of
   * 32 and zero points one a row; with a scale a row it takes 0.75 to 1.0 of the time with AVX-512, which takes groups
   * as they are. In q8_0 it takes 0.83 to 0.93 with AVX-512, with 4 query rows or more to a head of keys and head dims
   * that are multiples of 64. In both it takes 0.62 to 0.81 with AVX2. Each query has a step d
   * then, its greatest magnitude / 127, and its elements are rounded to the nearest multiple of d: by d / 2 at most. (A
   * query that is smaller than 2^-100 counts as 0, one with NaN or infinity is NaN.) A product with a key k moves by at
   * most d / 2 times the sum of |k|. Nothing else is rounded, neither keys nor values. Other kernels and other keys
   * take queries as they are, with this as without. 0 = all do.
   */
  int64_t int8_products; /* of 64 bits, because a struct has no holes */
} attend_problem;

#define ATTEND_PROBLEM_INIT ATTEND_INIT_(attend_problem)

/**
 * The addresses of one run. Tensors lie as the problem says; the caller owns them all. Each must be aligned to its
 * element size. Inputs that the problem does not have are ignored and may be NULL, and so may every tensor that has no
 * element. Outputs must not overlap inputs or one another.
 *
 * With q_starts, what has a number or a row per query is packed as queries are: q and out (1, Hq, q_total, D or Dv),
 * lengths per query (q_total), key_ranges (q_total, 2), lse (Hq, q_total), weights and scores (Hq, q_total, Lk).
 * Rows of outputs that belong to no sequence are not written.
 */
typedef struct attend_tensors {
  size_t struct_size; /**< sizeof(attend_tensors), set by ATTEND_TENSORS_INIT */

  const void *q; /**< (B, Hq, Lq, D) */
  const void *k; /**< (B, Hkv, Lk, D), or (pages, Hkv, page_rows, D) */
  const void *v; /**< (B, Hkv, Lk, Dv), or (pages, Hkv, page_rows, Dv) */
  void *out;     /**< (B, Hq, Lq, Dv) */

  const int32_t *kv_lengths; /**< (B) or (B, Lq), each from 0 to the most keys the sequence has room for */
  const int32_t *positions;  /**< (B): the position of each sequence's first query, any value */
  const int32_t *q_starts;   /**< (B + 1), from 0, not falling, the last at most q_total; steps of at most Lq */
  const int32_t *kv_starts;  /**< (B + 1), likewise, with kv_total and Lk */
  const int32_t *kv_begins;  /**< (B), each >= 0 */
  const int32_t *key_ranges; /**< (B, Lq, 2): begin and end, any values: beyond the sequence there is nothing */

  /**
   * (B, Lk / page_rows rounded up): keys page_rows * n and on of sequence b lie in page block_table[b, n] of k, and
   * their values in that page of v. Entries beyond a sequence's keys are not read; the others are from 0 to pages - 1.
   */
  const int32_t *block_table;

  const uint8_t *mask;          /**< by mask_strides */
  const void *bias;             /**< by bias_strides, of bias_dtype; finite or -inf */
  const float *bias_head_scale; /**< (Hq), finite */
  const float *alibi_slopes;    /**< (Hq) */
  const float *sinks;           /**< (Hq) */
  const float *score_weights;   /**< with ATTEND_SCORE_ADDITIVE: w, (Hq, D) */

  float *lse;     /**< (B, Hq, Lq) */
  float *weights; /**< (B, Hq, Lq, Lk); 0 where a key is not attended or does not exist */
  float *scores;  /**< (B, Hq, Lq, Lk); -inf where a key does not exist */

  /**
   * With dropout: two runs with the same seed and offset drop the same weights, on every machine, with every kernel and
   * number of threads; another offset, for each layer and step say, or another seed, gives others that are independent.
   * The weight of key j and query i in head h of batch entry b is dropped if a word is below p * 2^32, rounded down
   * (with p = 1 always): word j / 16 % 4 of Philox 4x32-10 (Salmon et al. 2011,
   * https://doi.org/10.1145/2063384.2063405) with the key (seed mod 2^32, seed / 2^32) and the counter (j / 64 * 16 + j
   * % 16, i, b * Hq + h, offset). B * Hq must not be over 2^32.
   */
  uint64_t dropout_seed;
  uint64_t dropout_offset; /**< below 2^32 */

  const void *k_scales, *v_scales;           /**< by k_scaling and v_scaling, if these have a dtype */
  const void *k_zero_points, *v_zero_points; /**< likewise, if they have zero points */
} attend_tensors;

#define ATTEND_TENSORS_INIT ATTEND_INIT_(attend_tensors)

/* ------------------------------------------------------------------------------------------------------------ plan */

/**
 * How a problem shall be run. All of it is optional. Functions and their contexts must stay valid as long as the plan;
 * strings need not. A layer's plan (attend/layers.h) hands them on to all that it does.
 */
typedef struct attend_options {
  size_t struct_size; /**< sizeof(attend_options), set by ATTEND_OPTIONS_INIT */

  /**
   * Name of the kernel to use, as `attend kernels` lists them, or NULL or "auto" for ATTEND_KERNEL if that is set, else
   * the library's choice. A kernel that cannot run here, or cannot do this problem, is ATTEND_ERROR_UNSUPPORTED.
   */
  const char *kernel;

  /**
   * The tuning profile to use: a file, or "off" for none. A file that cannot be used is ATTEND_ERROR_INVALID_ARGUMENT;
   * one that can is read once and kept as long as the process lives. NULL = ATTEND_PROFILE, else the usual places.
   */
  const char *profile;

  /**
   * Where the plan's memory comes from, and that of runs that bring no workspace: `allocate` returns `size` bytes at a
   * multiple of ATTEND_WORKSPACE_ALIGNMENT, or NULL, which is ATTEND_ERROR_OUT_OF_MEMORY; `release` gets the same size
   * back. Memory at another address is released again, and is ATTEND_ERROR_INVALID_ARGUMENT. Both NULL = the C library.
   * They may be called from any thread that uses the plan, and from several at once.
   */
  void *(*allocate)(void *context, size_t size);
  void (*release)(void *context, void *memory, size_t size);
  void *memory_context;

  /**
   * Gets a line of text, without its end, for each plan that is made. It is valid during the call only. NULL = stderr,
   * if `verbose` or ATTEND_VERBOSE.
   */
  void (*log)(void *context, const char *line);
  void *log_context;

  /**
   * A pool of the caller's for attend_plan_run() to use instead of OpenMP, inside OpenMP's parallel regions and in
   * builds without OpenMP too: calls task(argument, i) once for every i from 0 to count - 1, on as many threads as it
   * likes, one included, in any order, and returns when all have returned. `count` is as many as the work of the run
   * pays for, at most num_threads; for 1 it is not called. A layer's projections use it if the BLAS has one thread.
   */
  void (*parallel_for)(void *context, int count, void (*task)(void *argument, int i), void *argument);
  void *parallel_context;

  /**
   * The most threads, or parts, that will work on a run; 1 to 1024. 0 = ATTEND_NUM_THREADS if set, else the first
   * number of OMP_NUM_THREADS if OpenMP would accept it (at most 1024), else the number of physical cores this process
   * may use: affinity mask and cgroup limit respected, efficiency cores of a hybrid processor left out as long as there
   * are others. The result is the same, to the bit, for every number.
   */
  int num_threads;

  /**
   * 1 = attend_plan_run() keeps each of its OpenMP threads, the calling one included, on the cores that share one
   * cache, or one memory node, while it works, and puts their affinity masks back. Cores outside a thread's mask are
   * not used. Without effect where the machine has one such group of cores only, or the system does not let us. 0
   * leaves threads where they are: OMP_PROC_BIND and OMP_PLACES place them for good, without three system calls a
   * thread and run. Threads that call attend_plan_run_part(), and those of parallel_for, are never bound.
   */
  int bind_threads;

  /**
   * 1 = no ATTEND_* variable is read, nor OMP_NUM_THREADS, HOME and the like: what is not set here is at its default,
   * and no profile is used but the one that `profile` names.
   */
  int ignore_environment;

  int verbose; /**< 1 = as ATTEND_VERBOSE=1 */
} attend_options;

#define ATTEND_OPTIONS_INIT ATTEND_INIT_(attend_options)

/** A problem, the kernel chosen for it and how the work is cut up. Opaque and immutable. */
typedef struct attend_plan attend_plan;

/**
 * Makes a plan. `options` may be NULL for defaults. Neither struct is kept. On success *plan is to be destroyed with
 * attend_plan_destroy(); on an error *plan is not touched. Reads the environment (ATTEND_* and OMP_NUM_THREADS), unless
 * the options have ignore_environment.
 */
ATTEND_API attend_status attend_plan_create(const attend_problem *problem, const attend_options *options,
                                            attend_plan **plan);

/** Frees a plan. NULL is allowed. No run of the plan may be under way. */
ATTEND_API void attend_plan_destroy(attend_plan *plan);

/**
 * Bytes of workspace that a run of the plan needs, possibly 0. It holds nothing between runs: its content need not be
 * initialised, and it may be used for anything else in between. NULL gives 0.
 */
ATTEND_API size_t attend_plan_workspace_size(const attend_plan *plan);

/**
 * Runs a plan on up to its number of threads, fewer when the work is too small to share: on those of parallel_for where
 * the options have it, else on OpenMP's, but inside a parallel region or without OpenMP on the calling thread alone.
 * `workspace` has at least attend_plan_workspace_size() bytes and starts at a multiple of ATTEND_WORKSPACE_ALIGNMENT
 * (NULL if the size is 0); with NULL and a size of 0 the library allocates one for the duration of the call.
 */
ATTEND_API attend_status attend_plan_run(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                                         size_t workspace_size);

/**
 * Running a plan on threads of your own: no allocation, no lock, no OpenMP.
 *
 * 1. One thread calls attend_plan_begin(). It checks the tensors and prepares the workspace.
 * 2. Once it has returned ATTEND_OK, every thread calls attend_plan_run_part() with the same tensors and workspace, and
 *    a `part` of its own from 0 to `parts` - 1. The parts share the work out among themselves, so that they may start
 *    at different times and run at different speeds; a part that comes late finds less to do.
 * 3. When all parts have returned, the outputs are complete.
 *
 * `parts` is at most attend_plan_max_parts(). Calls for one run that name different `parts` are not allowed.
 *
 * On a machine with several caches that cores share, or several memory (NUMA) nodes, each has work of its own to begin
 * with, mostly whole heads, the same in every run. A part asks the system where its thread is just then, begins with
 * the work of that cache, goes on with that of the same node, and helps with the rest last. So `part` numbers mean
 * nothing. Threads need not be bound; bound ones find keys and values where they left them or touched them first.
 */
ATTEND_API attend_status attend_plan_begin(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                                           size_t workspace_size);
ATTEND_API attend_status attend_plan_run_part(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                                              size_t workspace_size, int part, int parts);

/** The most parts a run of the plan can be cut into: the plan's number of threads, at least 1. NULL gives 0. */
ATTEND_API int attend_plan_max_parts(const attend_plan *plan);

/**
 * How many parts, on a thread each, the work of a run pays for, by the lengths that `tensors` say: 1 to
 * attend_plan_max_parts(), or 0 where there is nothing to compute. To wake more threads makes a run longer. Needs no
 * other tensor than those of lengths and starts. 0 too for a NULL plan, or for tensors that are an error.
 */
ATTEND_API int attend_plan_useful_parts(const attend_plan *plan, const attend_tensors *tensors);

/** Name of the kernel the plan runs, valid for ever; "none" for a plan with nothing to compute. NULL gives "none". */
ATTEND_API const char *attend_plan_kernel(const attend_plan *plan);

/**
 * Says on one line which kernel was chosen and why, and how the work is cut up. Writes at most `size` bytes with the
 * terminating zero, and returns the length of the whole text without it, as snprintf does. `buffer` may be NULL if
 * `size` is 0.
 */
ATTEND_API size_t attend_plan_explain(const attend_plan *plan, char *buffer, size_t size);

/** Makes a plan with default options, runs it once and destroys it. For a shape that is run often make a plan. */
ATTEND_API attend_status attend_forward(const attend_problem *problem, const attend_tensors *tensors);

/* ----------------------------------------------------------------------------------------------------------- merge */

/**
 * Merging results of attention, each over keys of its own, into the result over all of them:
 *
 *     w[i] = exp(lses[i]) / (sum over all parts of exp(lses))
 *     out = sum over all parts of w[i] outs[i],   lse = log(sum over all parts of exp(lses))
 *
 * row by row, the parts always in their order. Finite outputs give a finite one: nothing overflows on the way.
 *
 * - A part with an LSE of -inf has attended nothing: what its output holds there is not read. Where all parts have
 * that, the row is zeros and its LSE -inf.
 * - An attention sink is in the LSE of the part that had it: give `sinks` to one part only, else each counts.
 * - A NaN in an LSE makes the row NaN, one in an output that element. Parts with an LSE of +inf share a row equally.
 */
typedef struct attend_merge_problem {
  size_t struct_size; /**< sizeof(attend_merge_problem), set by ATTEND_MERGE_PROBLEM_INIT */
  int64_t parts;      /**< n >= 1 */
  int64_t batch;      /**< B >= 0. With B, H or rows of 0 there is nothing to merge, which is no error */
  int64_t heads;      /**< H >= 0: Hq of the attention problem */
  int64_t rows;       /**< rows of a head, >= 0: Lq; of packed queries, with B = 1, as many as belong to sequences */
  int64_t dim;        /**< elements of a row, >= 0: Dv. With 0 nothing but the LSE comes out */

  attend_strides part_strides; /**< of (B, H, rows, dim): how the output of every part lies */
  attend_strides out_strides;  /**< of (B, H, rows, dim) */
  int64_t lse_stride; /**< of every LSE from head to head, at least `rows`, which 0 means; H times that a sequence */

  attend_dtype part_dtype; /**< type of the parts' outputs; default f32 */
  attend_dtype out_dtype;  /**< type of out; default part_dtype. Sums are f32 whatever the types */
  int lse;                 /**< 1 = also write the merged LSE */
  int num_threads;         /**< as in attend_options; the result is the same, to the bit, for every number */
} attend_merge_problem;

#define ATTEND_MERGE_PROBLEM_INIT ATTEND_INIT_(attend_merge_problem)

/** The addresses of one call, under the rules of attend_tensors; but a result may be merged with others in place. */
typedef struct attend_merge_tensors {
  size_t struct_size;       /**< sizeof(attend_merge_tensors), set by ATTEND_MERGE_TENSORS_INIT */
  const void *const *outs;  /**< (n): the output of each part */
  const float *const *lses; /**< (n): the LSE of each part, (B, H, rows) */
  void *out;  /**< the output of one part itself, with the same strides and type, or no byte of any input */
  float *lse; /**< the LSE of one part itself, or no byte of any input */
} attend_merge_tensors;

#define ATTEND_MERGE_TENSORS_INIT ATTEND_INIT_(attend_merge_tensors)

/** Merges at once, as attend_append() does its work. No two calls may write the same rows at a time. */
ATTEND_API attend_status attend_merge(const attend_merge_problem *problem, const attend_merge_tensors *tensors);

#ifdef __cplusplus
}
#endif

#include "attend/append.h"

#endif
