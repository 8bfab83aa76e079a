/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The kernel contract: what a kernel is told, what it must do, and how it describes itself.
 *
 * Rules for every kernel:
 * - A kernel is a leaf. It runs on one thread, keeps no state between calls, allocates nothing, prints nothing and
 *   knows nothing of OpenMP. Threads live in dispatch/plan/parallel.c.
 * - It computes one slice: some query rows of one key/value head, over a range of keys.
 * - It touches only the tensors, and of those only what its slice needs, and its own scratch.
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

/** Processor features, as bit numbers of a 64-bit set, and instruction sets. kernels/cpu.def is the table of both. */
typedef enum attend_cpu_feature {
#define ATTEND_FEATURE(id, name) ATTEND_CPU_##id,
#include "kernels/cpu.def"
  ATTEND_CPU_FEATURE_COUNT
} attend_cpu_feature;

typedef enum attend_isa {
#define ATTEND_ISA(id, name, rank, flops_per_us, needs) ATTEND_ISA_##id,
#include "kernels/cpu.def"
  ATTEND_ISA_COUNT
} attend_isa;

#define ATTEND_CPU_BIT(feature) (UINT64_C(1) << (ATTEND_CPU_##feature))

/** The families of implementations; docs/kernels.md compares them. */
typedef enum attend_body {
  ATTEND_BODY_BLOCKED,   /**< the whole score matrix of the slice: product, softmax, product */
  ATTEND_BODY_TILED,     /**< the same over a strip of query rows whose scores fit the L2 cache */
  ATTEND_BODY_STREAMING, /**< online softmax over key blocks */
  ATTEND_BODY_DECODE,    /**< streaming for few query rows: keys and values are read in place, once */
  ATTEND_BODY_COUNT
} attend_body;

/** A problem with every default filled in, and what follows from it. Made by dispatch/plan/problem.c. */
typedef struct attend_resolved {
  attend_problem p; /**< no field at its "default" value any more: strides, dtypes, scale, kv_heads, v_head_dim */
  int64_t group;    /**< query heads per key/value head */
  int64_t rows;     /**< query rows of one key/value head: group * q_len */
  int64_t offset;   /**< query i stands at key position i + offset */
  bool causal;      /**< j <= i + offset is required */
} attend_resolved;

/** Whether anything is to be done to scores beyond masking by range. */
static inline bool attend_scores_need_work(const attend_problem *p) {
  return p->softcap > 0.0f || p->bias_dtype != ATTEND_DTYPE_DEFAULT || p->alibi || p->mask;
}

/** How a plan cuts a problem up for a kernel. Rows are counted in query rows of one key/value head. */
typedef struct attend_tiling {
  int64_t slice_rows; /**< query rows per slice, a multiple of the kernel's q_rows unless it covers all rows */
  int64_t strip_rows; /**< tiled: query rows whose scores are held at once, a multiple of q_rows */
  int64_t split_keys; /**< keys per slice, a multiple of the kernel's k_block; >= kv_len: not split */
} attend_tiling;

/** One run: the problem and the addresses. */
typedef struct attend_call {
  const attend_resolved *problem;
  const attend_tensors *tensors;
  attend_tiling tiling;
} attend_call;

/**
 * The part of a run that one kernel call computes.
 *
 * Row r of a key/value head is query r / group of query head kv_head * group + r % group: the heads of a group lie side
 * by side, so that neighbouring rows attend nearly the same keys.
 */
typedef struct attend_slice {
  int64_t batch, kv_head;
  int64_t row_begin, row_end;
  int64_t key_begin, key_end; /**< key_begin is a multiple of the kernel's k_block; key_end too, or kv_len */

  /**
   * NULL: write the final output. Otherwise keys are split: write a partial result per row of the slice, to be merged
   * by kernels/merge.c, and no output. Row by row, attend_partial_stride(Dv) floats: the maximum of the row's attended
   * scores, or somewhat less (-inf: none), the sum of exp(score - that), then Dv floats of the sum of exp(score - that)
   * * value.
   */
  float *partial;

  /** What the same thread will probably compute next, or NULL: a kernel may ask for its cache lines ahead of time. */
  const struct attend_slice *next;
} attend_slice;

/** Floats per row of a partial result: a multiple of 16, so that rows start on cache lines. */
static inline int64_t attend_partial_stride(int64_t v_head_dim) { return (v_head_dim + 2 + 15) / 16 * 16; }

/** What a kernel can do beyond writing the final output. */
enum {
  ATTEND_CAN_WEIGHTS = 1 << 0,  /**< writes attention weights */
  ATTEND_CAN_SPLIT = 1 << 1,    /**< writes partial results */
  ATTEND_CAN_ADDITIVE = 1 << 2, /**< computes additive scores, beside dot products */
  ATTEND_CAN_DROPOUT = 1 << 3   /**< drops weights */
};

#define ATTEND_DTYPE_BIT(dtype) (1u << (dtype))
#define ATTEND_DTYPES_ALL (ATTEND_DTYPE_BIT(ATTEND_F32) | ATTEND_DTYPE_BIT(ATTEND_F16) | ATTEND_DTYPE_BIT(ATTEND_BF16))

/** What enter() keeps for leave(): as much as the configuration of AMX tiles. */
typedef struct attend_thread_state {
  unsigned char bytes[64];
} attend_thread_state;

/** A kernel row. */
typedef struct attend_kernel {
  const char *name; /**< body_dtype__isa_qROWSkBLOCK, dtype being what it computes in; checked by a test */
  attend_body body;
  attend_isa isa;
  uint64_t cpu;         /**< features it needs, ATTEND_CPU_BIT(...) */
  unsigned can;         /**< ATTEND_CAN_... */
  attend_dtype compute; /**< type of the products' operands */
  unsigned dtypes;      /**< ATTEND_DTYPE_BIT set of element types it takes, for q and k/v each; it writes any */
  int q_rows;           /**< query rows of a register tile */
  int k_block;          /**< keys of a block */

  /** Bytes of scratch one slice needs; SIZE_MAX if that overflows. */
  size_t (*scratch)(const attend_resolved *problem, const attend_tiling *tiling);

  /** Computes a slice. `scratch` is aligned to 64 bytes and not initialised. */
  void (*run)(const attend_call *call, const attend_slice *slice, void *scratch);

  /**
   * Per-thread state around a thread's slices (AMX tiles); both NULL when there is none. `before` is room for what the
   * thread had before, which leave() puts back.
   */
  void (*enter)(attend_thread_state *before);
  void (*leave)(const attend_thread_state *before);
} attend_kernel;

/** A masked softmax, for all element types: named softmax_f32__isa. */
typedef struct attend_softmax_kernel {
  const char *name;
  attend_isa isa;
  uint64_t cpu; /**< features it needs, ATTEND_CPU_BIT(...) */

  /** Computes rows begin to end of all B H R. The problem has no field at its default value any more. */
  void (*run)(const attend_softmax_problem *problem, const attend_softmax_tensors *tensors, int64_t begin, int64_t end);
} attend_softmax_kernel;

#endif
