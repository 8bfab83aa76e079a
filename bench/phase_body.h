/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The phases of streaming and decode on the vector operations of an ISA. A phase_<isa>.c includes that ISA's vec.h,
 * defines
 *
 *   PHASE_ISA                        attend_phases_<isa>'s identifier of the ISA
 *   PHASE_ROWS, _BLOCK, _VECS        of its row of streaming
 *   PHASE_STREAM, PHASE_DECODE       the names of its rows
 *   PHASE_DTYPE, PHASE_LIMIT         the type of q, k and v, and the limit of its products
 *
 * and then this. A unit of streaming is a tile of query rows and a block of keys, of packing a block of keys and
 * values, which many tiles share, of decode 4 query rows and 512 keys; a value has as many numbers as a key.
 */
#ifndef ATTEND_BENCH_PHASE_BODY_H
#define ATTEND_BENCH_PHASE_BODY_H

#include "bench/phases.h"
#include "dispatch/plan/plan.h"
#include "kernels/body/finish.h"
#include "kernels/body/nonfinite.h"
#include "kernels/body/softmax.h"
#include "kernels/body/tile.h"

enum {
  ROWS = PHASE_ROWS,
  BLOCK = PHASE_BLOCK,
  PANEL = PHASE_VECS * LANES,
  DECODE_ROWS = 4,
  DECODE_KEYS = 512,
  WHOLE_ROWS = 48 * PHASE_ROWS, /* as vit-large has */
  WHOLE_BLOCKS = 8,
  L1_BYTES = 16 << 10,
  L2_BYTES = 256 << 10,
  L3_BYTES = 8 << 20,
  MEMORY_BYTES = 64 << 20
};

ATTEND_TILE_PRODUCTS(phase, PHASE_ROWS, PHASE_BLOCK, PHASE_VECS)

/** Where things lie, in bytes; keys and values that are not packed come last, MEMORY_BYTES of them. */
typedef struct places {
  size_t q, k, v, s, p, o, out, rows, listed, copies, noted, kv, total;
} places;

static places place(int dim) {
  const size_t d = (size_t)dim;
  places at = {0};
  at.q = size_take(&at.total, WHOLE_ROWS * d, sizeof(float));
  at.k = size_take(&at.total, BLOCK * d, sizeof(float));
  at.v = size_take(&at.total, BLOCK * d, sizeof(float));
  at.s = size_take(&at.total, ROWS * BLOCK, sizeof(float));
  at.p = size_take(&at.total, ROWS * BLOCK, sizeof(float));
  at.o = size_take(&at.total, ROWS * d, sizeof(float));
  at.out = size_take(&at.total, WHOLE_ROWS * d, sizeof(float));
  at.rows = size_take(&at.total, 16 * (LANES + 2), sizeof(float)); /* statistics */
  at.listed = size_take(&at.total, BLOCK, sizeof(void *));
  at.copies = size_take(&at.total, PER_OPERAND * d, sizeof(float));
  at.noted = size_take(&at.total, noted_size(BLOCK), 1);
  at.kv = size_take(&at.total, MEMORY_BYTES, 1);
  at.total = size_align(at.total, 64);
  return at;
}

static size_t memory_of(int dim) { return place(dim).total; }

/** Bytes of so many rows of keys and as many of values. */
static double kv_bytes(int dim, int keys) {
  return 2.0 * keys * dim * (double)attend_dtype_size((attend_dtype)PHASE_DTYPE);
}

/* -------------------------------------------------------------------------------------------------------- products */

static attend_work product_work(int dim) { return (attend_work){.flops = 4.0 * ROWS * BLOCK * dim}; }

/**
 * Both products of a unit: over one panel of keys, again and again, as if the block's were all in L1, or over the
 * block, which is in L2.
 */
ATTEND_INLINE void products(char *m, int dim, int units, const int64_t step) {
  const places at = place(dim);
  const operand *q = (const operand *)(m + at.q), *k = (const operand *)(m + at.k), *v = (const operand *)(m + at.v);
  const operand *p = (const operand *)(m + at.p);
  float *s = (float *)(m + at.s), *o = (float *)(m + at.o), alpha[16];
  for (int r = 0; r < 16; r++) alpha[r] = 0.5f;
  for (int i = 0; i < units; i++)
    for (int64_t j = 0; j < BLOCK; j += step) {
      phase_scores(ROWS, q, k, operands(dim), 0, step, s, NULL);
      phase_values(ROWS, p, v, 0, step, dim, alpha, o, NULL, NULL);
    }
}

static void products_l1(void *memory, int dim, int units) { products(memory, dim, units, PANEL); }
static void products_l2(void *memory, int dim, int units) { products(memory, dim, units, BLOCK); }

/* ------------------------------------------------------------------------------------------ softmax, packing, finish
 */

static attend_work softmax_work(int dim) {
  (void)dim;
  return (attend_work){.exps = (double)ROWS * BLOCK};
}

static void softmax_phase(void *memory, int dim, int units) {
  const places at = place(dim);
  char *m = memory;
  float *s = (float *)(m + at.s), *sum = (float *)(m + at.rows), *max = sum + 16 * LANES, alpha[16];
  for (int r = 0; r < 16; r++) max[r] = 4.0f;
  memset(sum, 0, 16 * LANES * sizeof *sum);
  for (int i = 0; i < units; i++) softmax_step(s, BLOCK, ROWS, 0, BLOCK, 0.125f, false, false, 1.0f, max, sum, alpha);
}

static attend_work packing_work(int dim, size_t footprint) {
  return (attend_work){.bytes = kv_bytes(dim, BLOCK), .footprint = footprint};
}
static attend_work packing_l2_work(int dim) { return packing_work(dim, L2_BYTES); }
static attend_work packing_l3_work(int dim) { return packing_work(dim, L3_BYTES); }
static attend_work packing_memory_work(int dim) { return packing_work(dim, MEMORY_BYTES); }

/** Packs blocks of keys and values that lie one after another in `bytes` bytes. */
static void packing(char *m, int dim, int units, size_t bytes) {
  const places at = place(dim);
  const attend_dtype dtype = (attend_dtype)PHASE_DTYPE;
  const size_t row = (size_t)dim * attend_dtype_size(dtype), block = 2 * BLOCK * row;
  const size_t blocks = bytes / block > 0 ? bytes / block : 1;
  const void **listed = (const void **)(m + at.listed);
  for (int i = 0; i < units; i++) {
    const char *rows = m + at.kv + (size_t)i % blocks * block;
    for (int j = 0; j < BLOCK; j++) listed[j] = rows + (size_t)j * row;
    pack_key_operands(listed, dtype, 0, BLOCK, dim, PANEL, (operand *)(m + at.k));
    for (int j = 0; j < BLOCK; j++) listed[j] = rows + (size_t)(BLOCK + j) * row;
    pack_finite_values(listed, dtype, 0, BLOCK, dim, PANEL, BLOCK, (operand *)(m + at.v), m + at.copies,
                       (noted_keys *)(m + at.noted));
  }
}

static void packing_l2(void *memory, int dim, int units) { packing(memory, dim, units, L2_BYTES); }
static void packing_l3(void *memory, int dim, int units) { packing(memory, dim, units, L3_BYTES); }
static void packing_memory(void *memory, int dim, int units) { packing(memory, dim, units, MEMORY_BYTES); }

static attend_work finishing_work(int dim) {
  return (attend_work){.bytes = 2.0 * ROWS * dim * sizeof(float), .footprint = L1_BYTES};
}

static void finishing(void *memory, int dim, int units) {
  const places at = place(dim);
  char *m = memory;
  const attend_problem p = {.head_dim = dim,
                            .v_head_dim = dim,
                            .scale = 0.125f,
                            .v_dtype = (attend_dtype)PHASE_DTYPE,
                            .out_dtype = (attend_dtype)PHASE_DTYPE};
  const attend_view view = {.p = &p, .group = 1, .queries = ROWS, .out = m + at.out, .out_row = dim * 4};
  const attend_slice slice = {.view = &view, .heads = 1, .row_end = ROWS};
  weighing how = ordinary_weights(&p);
  for (int i = 0; i < units; i++)
    for (int r = 0; r < ROWS; r++) finish_row(&slice, r, 1.0f, 2.0f, (const float *)(m + at.o) + r * dim, &how);
}

/* -------------------------------------------------------------------------------------------------------- the whole */

/**
 * Runs a kernel `times` times on one head of keys and values. Keys are split only if `split`: where there are more
 * heads they would not be.
 */
static void run_kernel(char *m, int dim, const char *kernel, int64_t heads, int64_t queries, int64_t keys, bool split,
                       int times) {
  const places at = place(dim);
  attend_problem p = ATTEND_PROBLEM_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  attend_tensors t = ATTEND_TENSORS_INIT;
  attend_plan *plan;
  p.batch = 1, p.q_heads = heads, p.kv_heads = 1, p.q_len = queries, p.kv_len = keys, p.head_dim = dim;
  p.q_dtype = p.k_dtype = p.v_dtype = p.out_dtype = (attend_dtype)PHASE_DTYPE;
  options.kernel = kernel, options.num_threads = 1, options.profile = "off";
  t.q = m + at.q, t.k = m + at.kv, t.v = m + at.kv + (size_t)kv_bytes(dim, 1) / 2 * (size_t)keys, t.out = m + at.out;
  attend_resolved r;
  const attend_kernel *row = attend_kernel_find(kernel);
  if (!row || attend_resolve(&p, &r) != ATTEND_OK) return; /* its time is that of nothing, which is seen */
  const attend_tiling tiling = attend_tiling_of(&r, row, (attend_variant){.whole = !split}, 1);
  if (attend_plan_create_tiled(&p, &options, &tiling, &plan) != ATTEND_OK) return;
  for (int i = 0; i < times; i++) attend_plan_run(plan, &t, NULL, 0);
  attend_plan_destroy(plan);
}

static void whole(void *memory, int dim, int units) {
  const int of_run = WHOLE_ROWS / ROWS * WHOLE_BLOCKS;
  run_kernel(memory, dim, PHASE_STREAM, 1, WHOLE_ROWS, WHOLE_BLOCKS * BLOCK, false, units / of_run);
}

static attend_work decode_work(int dim, size_t footprint) {
  return (attend_work){
      .flops = 4.0 * DECODE_ROWS * DECODE_KEYS * dim, .bytes = kv_bytes(dim, DECODE_KEYS), .footprint = footprint};
}
static attend_work decode_l2_work(int dim) { return decode_work(dim, L2_BYTES); }
static attend_work decode_l3_work(int dim) { return decode_work(dim, L3_BYTES); }
static attend_work decode_memory_work(int dim) { return decode_work(dim, MEMORY_BYTES); }

static void decode(char *m, int dim, int units, size_t bytes) {
  const int of_run = (int)max_i64(1, (int64_t)((double)bytes / kv_bytes(dim, DECODE_KEYS)));
  run_kernel(m, dim, PHASE_DECODE, DECODE_ROWS, 1, (int64_t)of_run * DECODE_KEYS, true, units / of_run);
}

static void decode_l2(void *memory, int dim, int units) { decode(memory, dim, units, L2_BYTES); }
static void decode_l3(void *memory, int dim, int units) { decode(memory, dim, units, L3_BYTES); }
static void decode_memory(void *memory, int dim, int units) { decode(memory, dim, units, MEMORY_BYTES); }

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#define A_TILE TEXT_OF(PHASE_ROWS) " query rows, " TEXT_OF(PHASE_BLOCK) " keys"
#define A_BLOCK TEXT_OF(PHASE_BLOCK) " keys and values"

/** Units of a phase: what takes some milliseconds, and a multiple of what the kernel does at once. */
#define PHASES_OF_BODY                                                                                                 \
  {                                                                                                                    \
    {"products_l1", A_TILE, 256, product_work, products_l1}, {"products_l2", A_TILE, 256, product_work, products_l2},  \
        {"softmax", A_TILE, 512, softmax_work, softmax_phase},                                                         \
        {"packing_l2", A_BLOCK, 64, packing_l2_work, packing_l2},                                                      \
        {"packing_l3", A_BLOCK, 128, packing_l3_work, packing_l3},                                                     \
        {"packing_memory", A_BLOCK, 1024, packing_memory_work, packing_memory},                                        \
        {"finishing", A_TILE, 1024, finishing_work, finishing},                                                        \
        {"whole", A_TILE, WHOLE_ROWS / PHASE_ROWS * WHOLE_BLOCKS, product_work, whole},                                \
        {"decode_l2", "4 query rows, 512 keys", 64, decode_l2_work, decode_l2},                                        \
        {"decode_l3", "4 query rows, 512 keys", 256, decode_l3_work, decode_l3}, {                                     \
      "decode_memory", "4 query rows, 512 keys", 1024, decode_memory_work, decode_memory                               \
    }                                                                                                                  \
  }

#endif
