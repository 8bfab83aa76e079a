/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The kernel contract: what a kernel is told, what it must do, and how it describes itself.
 *
 * Rules for every kernel:
 * - A kernel is a leaf. It runs on one thread, keeps no state between calls, allocates nothing, prints nothing and
 *   knows nothing of OpenMP. Threads live in dispatch/plan/parallel.c.
 * - What slices of a run share, attend_view.masks_seen, says of masks what any of them would find: it is read and
 * written by relaxed atomics only, and whoever comes first writes.
 * - It computes one slice: some query rows of one key/value head of one sequence, or (decode) of some heads whose keys
 *   lie side by side, over a range of keys. A view tells it what a head is and where it lies. It knows nothing of
 * batches, starts and block tables (dispatch/plan/sequences.c).
 * - It touches only what its view shows, and of that only what its slice needs, and its own scratch.
 * - What it computes for a row does not depend on which other rows share its slice, so that the work can be cut up in
 *   any way without changing a bit. Key blocks therefore start at multiples of the block from key 0, and a block in
 *   which a row attends nothing leaves the row's state exactly as it was.
 * - No key that a row does not attend leaves a trace in the row: masks select, they never multiply or add.
 */
#ifndef ATTEND_KERNELS_KERNEL_H
#define ATTEND_KERNELS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attend/layers.h"
#include "kernels/exact_floats.h"
#include "kernels/formats.h"
#include "kernels/key_range.h"

/** Processor features, as bit numbers of a 64-bit set, and instruction sets. kernels/cpu.def is the table of both. */
typedef enum attend_cpu_feature {
#define ATTEND_FEATURE(id, name) ATTEND_CPU_##id,
#include "kernels/cpu.def"
  ATTEND_CPU_FEATURE_COUNT
} attend_cpu_feature;

typedef enum attend_isa {
#define ATTEND_ISA(id, name, rank, flops_per_us, decode_flops_per_us, decode_rows, needs) ATTEND_ISA_##id,
#include "kernels/cpu.def"
  ATTEND_ISA_COUNT
} attend_isa;

#define ATTEND_CPU_BIT(feature) (UINT64_C(1) << (ATTEND_CPU_##feature))

/** What a kernel computes. Every operation has its rows in the one table of kernels. */
typedef enum attend_operation {
  ATTEND_OP_FORWARD, /**< attention: what a plan runs */
  ATTEND_OP_SOFTMAX, /**< masked softmax of rows */
  ATTEND_OP_APPEND,  /**< rows into a cache, converted to its type */
  ATTEND_OP_MERGE,   /**< results over several key ranges into one */
  ATTEND_OP_COUNT
} attend_operation;

/** The families of implementations; docs/kernels.md compares them. */
typedef enum attend_body {
  ATTEND_BODY_BLOCKED,   /**< the whole score matrix of the slice: product, softmax, product */
  ATTEND_BODY_TILED,     /**< the same over a strip of query rows whose scores fit the L2 cache */
  ATTEND_BODY_STREAMING, /**< online softmax over key blocks */
  ATTEND_BODY_DECODE,    /**< streaming for few query rows: keys and values are read in place, once */
  ATTEND_BODY_ROWS,      /**< row by row, nothing kept between rows: all operations but attention */
  ATTEND_BODY_COUNT
} attend_body;

/** A problem with every default filled in, and what follows from it. Made by dispatch/plan/problem.c. */
typedef struct attend_resolved {
  attend_problem p; /**< no field at its "default" value any more: strides, dtypes, scale, kv_heads, v_head_dim */
  int64_t group;    /**< query heads per key/value head */
  int64_t rows;     /**< query rows of one key/value head at most: group * q_len */
  bool plain;       /**< there are no tensors but q, k, v and out, and no dropout */
} attend_resolved;

/**
 * Whether scores become other numbers before the softmax than products times the scale. A scale of 0 counts: the
 * softmax cannot take 0 as a unit of scores.
 */
static inline bool attend_scores_change(const attend_problem *p) {
  return p->softcap > 0.0f || p->bias_dtype != ATTEND_DTYPE_DEFAULT || p->alibi || p->scale == 0.0f;
}

/** Whether anything is to be done to scores beyond masking by range. */
static inline bool attend_scores_need_work(const attend_problem *p) { return attend_scores_change(p) || p->mask; }

/**
 * The unit of the scores that the softmax takes, which multiplies by it: the scale, if nothing else changes scores, and
 * so it costs nothing. (Its sign goes into the queries.) Otherwise a power of 2 so great that no product times the
 * scale overflows, nor its sum with a bias and ALiBi: multiplying all of them by its inverse rounds nothing but
 * denormals. The inverse itself must not be one: so with scales above 2^124 a product times the scale of 2^254 or more
 * overflows.
 */
static inline float attend_score_unit(const attend_problem *p) {
  const float scale = p->scale < 0.0f ? -p->scale : p->scale;
  if (!attend_scores_change(p)) return scale;
  float unit = 4.0f;
  while (unit < 4.0f * scale && unit < 0x1p126f) unit *= 2.0f;
  return p->softcap > 0.0f && p->softcap < unit * 0x1p-126f ? 4.0f : unit;
}

/** How a plan cuts a problem up for a kernel. Rows are counted in query rows of one key/value head. */
typedef struct attend_tiling {
  int64_t slice_rows; /**< query rows per slice, a multiple of the kernel's q_rows unless it covers all rows */
  int64_t strip_rows; /**< tiled: query rows whose scores are held at once, a multiple of q_rows */
  int64_t split_keys; /**< keys per slice, a multiple of the kernel's k_block; >= kv_len: not split */
  bool to_l1;         /**< decode: rows without gaps are prefetched into L1, not only into L2 (kernels/cpu.def) */
  bool out_of_cache;  /**< decode: keys and values are more than the L2 cache holds */
  int heads;          /**< decode: key/value heads that a slice may have: all, or 1; 0 = 1 */
} attend_tiling;

/** Key/value heads of a slice at most. */
enum { ATTEND_MOST_HEADS = 32 };

/** Scales and zero points of rows in a scaled format: attend_scaling of one head of one sequence. */
typedef struct attend_row_scales {
  const char *at, *zeros;            /**< of row 0; of pages, of row 0 of page 0. NULL: there are none */
  int64_t stride, page_stride, step; /**< bytes from row to row, from page to page and from group to group */
  int64_t group;                     /**< elements of a group */
  attend_dtype dtype;
  bool is_unsigned;
} attend_row_scales;

/** The keys, or the values, of one head of one sequence: rows that lie together, or page by page. */
typedef struct attend_rows {
  const char *at; /**< row 0; of pages, row 0 of page 0 */
  int64_t stride; /**< bytes from row to row */
  attend_dtype dtype;
  int32_t page_rows;        /**< rows of a page; 0: all rows lie together */
  int64_t page_stride;      /**< bytes from page to page */
  const int32_t *pages;     /**< row r is row r % page_rows of page pages[r / page_rows] */
  attend_row_scales scales; /**< of a scaled format */
} attend_rows;

/** The address of a row. */
static inline const char *attend_row(const attend_rows *rows, int64_t row) {
  if (!rows->page_rows) return rows->at + row * rows->stride;
  const uint32_t page = (uint32_t)row / (uint32_t)rows->page_rows; /* rows are below 2^31 */
  return rows->at + rows->pages[page] * rows->page_stride + (row - page * (int64_t)rows->page_rows) * rows->stride;
}

/** How far the scales of a row lie from those of row 0. */
static inline int64_t attend_row_scales_at(const attend_rows *rows, int64_t row) {
  if (!rows->page_rows) return row * rows->scales.stride;
  const uint32_t page = (uint32_t)row / (uint32_t)rows->page_rows;
  return rows->pages[page] * rows->scales.page_stride + (row - page * (int64_t)rows->page_rows) * rows->scales.stride;
}

/** How many rows from a row on lie `stride` bytes apart. */
static inline int64_t attend_rows_together(const attend_rows *rows, int64_t row) {
  return rows->page_rows ? rows->page_rows - (int64_t)((uint32_t)row % (uint32_t)rows->page_rows) : INT64_MAX;
}

/** Keys of which masks are looked through at once: some vectors, and a multiple of what a body rounds keys up to. */
enum { ATTEND_MASK_BLOCK = 64 };

/**
 * One key/value head of one sequence, with the group of query heads that read it. Addresses are those of the group's
 * first head and the sequence's first query; what the problem does not have is NULL.
 */
typedef struct attend_view {
  const attend_problem *p; /**< what holds for all sequences: dims, types, scale, which masks there are */
  int64_t group, queries;
  key_limits keys; /**< which keys a query attends, as far as ranges say; how many there are */

  const char *q;
  char *out;
  int64_t q_head, q_row, out_head, out_row; /**< bytes from head to head, and from query to query */
  attend_rows k, v;

  const uint8_t *mask;
  int64_t mask_head, mask_query; /**< bytes; from key to key it is p->mask_strides.key */
  const char *bias;
  int64_t bias_head, bias_query; /**< elements */
  /**
   * What mask and bias do to each ATTEND_MASK_BLOCK keys of a query, as far as a kernel of the run has found out:
   * kernels/body/masks.h. NULL: there are no masks, or heads differ and each
   * looks for itself.
   */
  unsigned char *masks_seen;
  int64_t masks_seen_query;                            /**< bytes from query to query */
  const float *bias_head_scale, *alibi_slopes, *sinks; /**< a number a head */
  const float *score_weights;                          /**< D numbers a head */
  float *lse, *weights, *scores;                       /**< rows of weights and scores have kv_len numbers */
  int64_t result_head;                                 /**< queries from head to head in these three */

  uint64_t dropout_seed;
  uint32_t dropout_offset, dropout_head; /**< the number of the first head among all heads of the batch */
} attend_view;

/**
 * The part of a run that one kernel call computes.
 *
 * Row r of a view is query r / group of its head r % group: the heads of a group lie side by side, so that neighbouring
 * rows attend nearly the same keys.
 */
typedef struct attend_slice {
  const attend_view *view; /**< of its first head; those of the others follow */
  int heads;               /**< more than 1 where the tiling says so; their views differ in addresses only */
  int64_t row_begin, row_end;
  int64_t key_begin, key_end; /**< key_begin is a multiple of the kernel's k_block; key_end too, or view->keys.count */

  /**
   * NULL: write the final output. Otherwise keys are split: write a partial result per row of the slice, an
   * attend_partial each attend_partial_stride(Dv) floats, to be merged by kernels/merge.c, and no output.
   */
  float *partial;
  int64_t partial_head; /**< floats from head to head */

  /**
   * What the same thread will probably compute next, or NULL: a kernel may prefetch its cache lines. Of its heads only
   * the first has a view.
   */
  const struct attend_slice *next;
} attend_slice;

/** What a row has of some of its keys. */
typedef struct attend_partial {
  float max;      /**< of the scores it attends, or somewhat less, in attend_score_unit(); -inf: none */
  float sum;      /**< of exp(score - max); 0: it attends nothing, and values are not written */
  float scale;    /**< what values are to be multiplied by: a power of 2 */
  float values[]; /**< Dv sums of exp(score - max) * value */
} attend_partial;

/** Floats per row of a partial result: a multiple of 16, so that rows start on cache lines. */
static inline int64_t attend_partial_stride(int64_t v_head_dim) { return (v_head_dim + 3 + 15) / 16 * 16; }

/**
 * Where ALiBi takes a query to stand: at the key that is nearest to its position. All its distances are less by the
 * same number then, which the softmax does not see, and far positions cost no digits of its scores.
 */
static inline int64_t attend_alibi_position(const attend_view *view, int64_t query) {
  const int64_t position = query + view->keys.offset, last = view->keys.count - 1;
  return position > last ? last : position < 0 ? 0 : position;
}

/** What a row's scores are greater by, to the softmax, than they are. */
static inline float attend_score_shift(const attend_view *view, int64_t query, int64_t head) {
  if (!view->alibi_slopes) return 0.0f;
  const int64_t distance = query + view->keys.offset - attend_alibi_position(view, query);
  return view->alibi_slopes[head] * (float)(distance < 0 ? -distance : distance);
}

/** Rows of some heads that one call of an append kernel copies: each from where it lies to where it belongs. */
typedef struct attend_row_copy {
  const char *from;
  char *to;
  int64_t from_head, from_row, to_head, to_row; /**< bytes from head to head, and from row to row */
  attend_dtype from_dtype, to_dtype;
  int64_t heads, rows, dim;

  /* Where `to` is in a scaled format: */
  attend_row_scales scales; /**< of the first row; `at` and `zeros` may be written to */
  int64_t scales_head;      /**< bytes from head to head */
  bool scales_given;        /**< they are read, not chosen */
} attend_row_copy;

/** What a kernel of attention can do beyond writing the final output. */
enum {
  ATTEND_CAN_WEIGHTS = 1 << 0,  /**< writes attention weights */
  ATTEND_CAN_SPLIT = 1 << 1,    /**< writes partial results */
  ATTEND_CAN_ADDITIVE = 1 << 2, /**< computes additive scores, beside dot products */
  ATTEND_CAN_DROPOUT = 1 << 3,  /**< drops weights */
  ATTEND_CAN_SCORES = 1 << 4,   /**< writes scores */
  ATTEND_CAN_INT8 = 1 << 5      /**< rounds queries to int8, and so takes only problems that allow it */
};
enum { ATTEND_CAN_COUNT = 6 };

/** What enter() keeps for leave(): as much as the configuration of AMX tiles. */
typedef struct attend_thread_state {
  unsigned char bytes[64];
} attend_thread_state;

/** A kernel: a row of the table. What no kernel of its operation has is 0 or NULL. */
typedef struct attend_kernel {
  const char *name; /**< docs/naming.md has the grammar; checked by a test */
  attend_operation operation;
  attend_body body;
  attend_isa isa;
  uint64_t cpu;         /**< features it needs, ATTEND_CPU_BIT(...) */
  unsigned can;         /**< ATTEND_CAN_... */
  attend_dtype compute; /**< type of the products' operands, or of sums; default: it computes nothing */
  unsigned dtypes;      /**< ATTEND_DTYPE_BIT set of element types it takes, for each input; it writes any */

  /* -- attention -- */
  int q_rows;  /**< query rows of a register tile */
  int k_block; /**< keys of a block */

  /** Bytes of scratch one slice needs; SIZE_MAX if that overflows. */
  size_t (*scratch)(const attend_problem *problem, const attend_tiling *tiling);

  /** Computes a slice of a run with that tiling. `scratch` is aligned to 64 bytes and not initialised. */
  void (*forward)(const attend_slice *slice, const attend_tiling *tiling, void *scratch);

  /**
   * Per-thread state around a thread's slices (AMX tiles); both NULL when there is none. `before` is room for what the
   * thread had before, which leave() puts back.
   */
  void (*enter)(attend_thread_state *before);
  void (*leave)(const attend_thread_state *before);

  /* -- the other operations: one of these each. Problems have no field at its default value any more -- */

  /** Computes rows begin to end of all B H R. */
  void (*softmax)(const attend_softmax_problem *problem, const attend_softmax_tensors *tensors, int64_t begin,
                  int64_t end);

  /** Converts to nearest even, NaN staying NaN, or quantises; where the types are the same, bytes are copied. */
  void (*append)(const attend_row_copy *copy);

  /** Merges rows begin to end of all B H R, the parts in their order. */
  void (*merge)(const attend_merge_problem *problem, const attend_merge_tensors *tensors, int64_t begin, int64_t end);
} attend_kernel;

#endif
