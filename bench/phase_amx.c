/* SPDX-License-Identifier: Apache-2.0 */
/** The phases of the AMX kernel: a unit is 32 query rows and 128 keys, with as many numbers in a value as in a key. */
#include "kernels/amx/vec.h"

#include "kernels/amx/state.h"
#include "kernels/amx/turns.h"

#include "bench/phases.h"
#include "kernels/size.h"

enum { KEYS = 128, TURNS = KEYS / TURN, GROUPS = 8, BLOCKS = 8 };

/** Where things lie, in bytes. */
typedef struct places {
  size_t k, v, rows, q, o, p, s, statistics, listed, total;
} places;

static places place(int dim) {
  const size_t d = (size_t)dim, block = KEYS * d * sizeof(uint16_t);
  places at = {0};
  at.k = size_take(&at.total, BLOCKS, block);
  at.v = size_take(&at.total, BLOCKS, block);
  at.rows = size_take(&at.total, BLOCKS, block);
  at.q = size_take(&at.total, GROUPS * GROUP * d, sizeof(uint16_t));
  at.o = size_take(&at.total, GROUPS * GROUP * d, sizeof(float));
  at.p = size_take(&at.total, 2 * GROUP * KEYS, sizeof(uint16_t));
  at.s = size_take(&at.total, 2 * TURN_SCORES, sizeof(float));
  at.statistics = size_take(&at.total, 2, sizeof(row_statistics));
  at.listed = size_take(&at.total, KEYS, sizeof(void *));
  at.total = size_align(at.total, 64);
  return at;
}

static size_t memory_of(int dim) { return place(dim).total; }

/** A slice under way, as kernels/amx/streaming.c has it. */
static streaming prepare(void *memory, int dim) {
  const places at = place(dim);
  char *m = memory;
  streaming st = {
      .depth = dim, .width = dim, .BLOCK = KEYS, .factor = 1.4427f / sqrtf((float)dim), .most = MOST_WEIGHT};
  st.q = (uint16_t *)(m + at.q), st.k = (uint16_t *)(m + at.k), st.v[0] = (uint16_t *)(m + at.v);
  st.o = (float *)(m + at.o), st.s[0] = (float *)(m + at.s), st.s[1] = st.s[0] + TURN_SCORES;
  st.p[0] = (uint16_t *)(m + at.p), st.p[1] = st.p[0] + GROUP * KEYS;
  st.statistics = (row_statistics *)(m + at.statistics);
  st.listed = (const void **)(m + at.listed);
  for (int i = 0; i < 2; i++) /* as after some keys: no base moves */
    for (int r = 0; r < TILE_ROWS; r++) st.statistics[i].shift[r] = 4, st.statistics[i].base[r] = 0;
  return st;
}

static work_unit unit_of(int row, int buffer) {
  work_unit u = {.row = row, .count = GROUP, .end = KEYS, .buffer = buffer};
  for (int r = 0; r < GROUP; r++) u.alpha[r] = 1;
  return u;
}

/* ---------------------------------------------------------------------------------------------------------- tiles */

static attend_work cycles_of(double cycles) { return (attend_work){.cycles = cycles}; }

static attend_work products(int dim) { return cycles_of(16.0 * dim); } /* a product takes 16 cycles */

/** All products of a unit: scores and values, their operands `block` blocks on; tiles are stored only if asked for. */
ATTEND_INLINE void tiles(const streaming *st, int block, const bool far, const bool store) {
  const int64_t depth = st->depth / TILE_DEPTH, step = far ? TILE_BYTES : 0;
  const char *k = (const char *)st->k + (far ? (size_t)block * KEYS * st->depth * sizeof *st->k : 0);
  const char *v = (const char *)st->v[0] + (far ? (size_t)block * KEYS * st->depth * sizeof *st->v[0] : 0);
  for (int turn = 0; turn < TURNS; turn++) {
    amx_scores scores = {.k = k, .q = (const char *)st->q, .depth = depth, .two = true};
    amx_begin_scores(&scores, false);
    for (int64_t i = 0; i < depth; i++) amx_score_step(&scores, i, false);
    k += depth * step;
    if (!store) continue;
    amx_store_first_scores(st->s[0], false);
    amx_store_second_scores(st->s[0] + TILE_PAIRS, false);
  }
  for (int64_t c = 0; c < st->width / TILE_ROWS; c++) {
    char *o = (char *)st->o + c * 2 * TILE_BYTES;
    amx_load(2, o, TILE_ROW_BYTES);
    amx_load(3, o + TILE_BYTES, TILE_ROW_BYTES);
    for (int i = 0; i < KEYS / TILE_DEPTH; i++, v += step) {
      const char *p = (const char *)st->p[0] + i * 2 * TILE_BYTES;
      amx_load(4, v, TILE_ROW_BYTES);
      amx_load(5, p, TILE_ROW_BYTES);
      amx_multiply(2, 4, 5);
      amx_load(5, p + TILE_BYTES, TILE_ROW_BYTES);
      amx_multiply(3, 4, 5);
    }
    if (!store) continue;
    amx_store(2, o, TILE_ROW_BYTES);
    amx_store(3, o + TILE_BYTES, TILE_ROW_BYTES);
  }
}

static void run_tiles(void *memory, int dim, int units, const bool far, const bool store) {
  const streaming st = prepare(memory, dim);
  attend_thread_state before;
  amx_enter(&before);
  for (int i = 0; i < units; i++) tiles(&st, i % BLOCKS, far, store);
  amx_leave(&before);
}

static void products_l1(void *memory, int dim, int units) { run_tiles(memory, dim, units, false, false); }
static void products_l2(void *memory, int dim, int units) { run_tiles(memory, dim, units, true, false); }
static void tiles_l2(void *memory, int dim, int units) { run_tiles(memory, dim, units, true, true); }

static attend_work stores_work(int dim) {
  return cycles_of(16.0 * (2 * TURNS + 2 * dim / TILE_ROWS));
} /* a row a cycle */
static void stores(void *memory, int dim, int units) {
  const streaming st = prepare(memory, dim);
  attend_thread_state before;
  amx_enter(&before);
  for (int i = 0; i < units; i++)
    for (int t = 0; t < 2 * TURNS + 2 * dim / TILE_ROWS; t += 2) {
      amx_store(2, st.s[0], TILE_ROW_BYTES);
      amx_store(3, st.s[0] + TILE_PAIRS, TILE_ROW_BYTES);
    }
  amx_leave(&before);
}

/* -------------------------------------------------------------------------------------------------- all the rest */

/** Of 32 scores 18 operations, on two ports. */
static attend_work softmax_work(int dim) {
  (void)dim;
  return cycles_of(9.0 * GROUP * KEYS / (2 * LANES));
}

static void softmax(void *memory, int dim, int units) {
  const streaming st = prepare(memory, dim);
  const vf factor = vf_set1(st.factor), shift = vf_load(st.statistics[0].shift);
  vf sum[2] = {vf_zero(), vf_zero()};
  for (int i = 0; i < units * TURNS; i++) {
    const float *s = st.s[i & 1];
    uint32_t *p = (uint32_t *)(void *)(st.p[0] + i % TURNS * (GROUP * TURN));
    for (int pair = 0; pair < TURN_PAIRS; pair++, s += LANES, p += LANES) {
      weigh_pair(s, s + PAIR_DISTANCE * LANES, vf_set1(1.0f), factor, shift, &sum[0], p, false);
      weigh_pair(s + TILE_PAIRS, s + TILE_PAIRS + PAIR_DISTANCE * LANES, vf_set1(1.0f), factor, shift, &sum[1],
                 p + TURN_PAIRS * LANES, false);
    }
  }
  vf_store(st.statistics[0].sum, vf_add(sum[0], sum[1]));
}

/** Stores; shuffles. */
static attend_work packing_work(int dim) { return cycles_of(dim / 32.0 * (KEYS + KEYS / TILE_DEPTH * 160)); }

static void packing(void *memory, int dim, int units) {
  const streaming st = prepare(memory, dim);
  const char *rows = (const char *)memory + place(dim).rows;
  for (int i = 0; i < units; i++) {
    for (int j = 0; j < KEYS; j++)
      st.listed[j] = rows + (size_t)(i % BLOCKS * KEYS + j) * (size_t)dim * sizeof(uint16_t);
    pack_key_tiles(st.listed, 0, KEYS, dim, dim / TILE_DEPTH, st.k);
    pack_value_tiles(st.listed, 0, KEYS, dim, dim / TILE_ROWS, KEYS / TILE_DEPTH, st.v[0]);
  }
}

/** Every turn as the kernel takes it. */
static void turns(void *memory, int dim, int units) {
  streaming st = prepare(memory, dim);
  uint16_t *const k = st.k, *const v = st.v[0];
  float *const o = st.o;
  st.finite[0] = true;
  attend_thread_state before;
  amx_enter(&before);
  amx_values values = {0};
  for (int i = 0; i < units; i++) {
    const size_t block = (size_t)(i / GROUPS % BLOCKS) * KEYS * (size_t)dim;
    work_unit u = unit_of(0, i & 1);
    st.k = k + block, st.v[0] = v + block, st.o = o + (size_t)(i % GROUPS * GROUP) * (size_t)dim,
    st.q = (uint16_t *)((char *)memory + place(dim).q);
    st.q += (size_t)(i % GROUPS * GROUP) * (size_t)dim;
    take_turns(&st, &u, 0, TURNS - 2, &u, 2, &values);
    take_turns(&st, &u, TURNS - 2, TURNS, &u, 0, &values);
    amx_end_values(&values);
    values_of(&st, &u, false, &values);
  }
  amx_leave(&before);
}

#define A_UNIT "32 query rows, 128 keys"

const attend_phases attend_phases_amx = {.isa = ATTEND_ISA_AMX,
                                         .limit = ATTEND_LIMIT_BF16,
                                         .flops_a_cycle = 1024,
                                         .dims = {64, 128, 256},
                                         .memory = memory_of,
                                         .phases = {{"products_l1", A_UNIT, 64, products, products_l1},
                                                    {"products_l2", A_UNIT, 64, products, products_l2},
                                                    {"stores", A_UNIT, 64, stores_work, stores},
                                                    {"products_stores_l2", A_UNIT, 64, products, tiles_l2},
                                                    {"softmax", A_UNIT, 64, softmax_work, softmax},
                                                    {"turns", A_UNIT, 64, products, turns},
                                                    {"packing", A_UNIT, 64, packing_work, packing}}};
