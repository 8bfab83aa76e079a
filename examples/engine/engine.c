/* SPDX-License-Identifier: Apache-2.0 */
/* The attention of an engine: a paged cache in bf16, prompts and single tokens in one ragged batch, a thread pool of
   its own. docs/engines.md goes through it. */
#include <attend/attend.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

enum { HQ = 8, HKV = 2, D = 64 };                        /* the model: one layer of it */
enum { SEQUENCES = 3, MOST_KEYS = 256, MOST_ROWS = 64 }; /* capacities: of a step, MOST_ROWS tokens */
enum { PAGE = 16, TABLE = MOST_KEYS / PAGE, PAGES = 32, THREADS = 2 };

typedef struct engine {
  pool *threads;
  attend_plan *plan;
  void *workspace;
  size_t workspace_size;
  uint16_t k_cache[PAGES * HKV * PAGE * D], v_cache[PAGES * HKV * PAGE * D]; /* bf16: (pages, heads, rows, dim) */
  int32_t table[SEQUENCES * TABLE], pages_used;
  int32_t lengths[SEQUENCES]; /* keys of each sequence */
  float q[MOST_ROWS * HQ * D], k[MOST_ROWS * HKV * D], v[MOST_ROWS * HKV * D], out[MOST_ROWS * HQ * D];
} engine;

static void check(attend_status status) {
  if (status == ATTEND_OK) return;
  fprintf(stderr, "engine: %s: %s\n", attend_status_string(status), attend_error_detail());
  exit(1);
}

/* 1. Once: a plan for capacities. Every step runs it with the lengths of the moment. */
static void open_engine(engine *e) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.batch = SEQUENCES, p.q_heads = HQ, p.kv_heads = HKV, p.head_dim = D;
  p.q_starts = 1, p.q_len = MOST_ROWS, p.q_total = MOST_ROWS;    /* queries of all sequences in a row */
  p.q_strides = p.out_strides = (attend_strides){0, D, HQ * D};  /* heads of a token side by side */
  p.k_dtype = ATTEND_BF16, p.q_dtype = p.out_dtype = ATTEND_F32; /* values are as keys */
  p.kv_len = MOST_KEYS, p.page_rows = PAGE, p.pages = PAGES;     /* keys and values in pages */
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT; /* its end is each sequence's own */
  attend_options o = ATTEND_OPTIONS_INIT;
  e->threads = pool_create(THREADS);
  o.parallel_for = pool_run, o.parallel_context = e->threads, o.num_threads = THREADS;
  o.ignore_environment = 1; /* the engine has settings of its own */
  if (!e->threads) exit(1);
  check(attend_plan_create(&p, &o, &e->plan));
  e->workspace_size = attend_plan_workspace_size(e->plan);
  const size_t rounded = (e->workspace_size + ATTEND_WORKSPACE_ALIGNMENT) / ATTEND_WORKSPACE_ALIGNMENT;
  e->workspace = aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, rounded * ATTEND_WORKSPACE_ALIGNMENT);
  if (!e->workspace) exit(1);
}

static void close_engine(engine *e) {
  attend_plan_destroy(e->plan);
  pool_destroy(e->threads);
  free(e->workspace);
}

/* 2. New keys, or new values, into the cache: as bf16, in the pages that the table names. */
static void append(engine *e, const float *x, uint16_t *cache, const int32_t *starts, const int32_t *positions) {
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = SEQUENCES, p.heads = HKV, p.dim = D, p.rows = MOST_ROWS, p.x_total = MOST_ROWS, p.x_starts = 1;
  p.x_strides = (attend_strides){0, D, HKV * D};
  p.cache_len = MOST_KEYS, p.page_rows = PAGE, p.pages = PAGES, p.cache_dtype = ATTEND_BF16;
  p.num_threads = 1; /* 0: OpenMP's threads, where there is much to copy */
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  t.x = x, t.cache = cache, t.x_starts = starts, t.positions = positions, t.block_table = e->table;
  check(attend_append(&p, &t));
}

/* 3. At each step: so many new tokens of each sequence, 0 for one that waits. Their q, k and v are there, in a row. */
static void step(engine *e, const int32_t tokens[SEQUENCES]) {
  int32_t starts[SEQUENCES + 1] = {0}, positions[SEQUENCES];
  for (int b = 0; b < SEQUENCES; b++) {
    starts[b + 1] = starts[b] + tokens[b];
    positions[b] = e->lengths[b];
    e->lengths[b] += tokens[b];
    for (int n = (positions[b] + PAGE - 1) / PAGE; n * PAGE < e->lengths[b]; n++)
      e->table[b * TABLE + n] = e->pages_used++;
  }
  append(e, e->k, e->k_cache, starts, positions); /* before the run: a token attends itself, too */
  append(e, e->v, e->v_cache, starts, positions);
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = e->q, t.k = e->k_cache, t.v = e->v_cache, t.out = e->out;
  t.q_starts = starts, t.kv_lengths = e->lengths, t.block_table = e->table;
  check(attend_plan_run(e->plan, &t, e->workspace, e->workspace_size));
}

/* ------------------------------------------------------------- what stands for a model: numbers for (sequence,
 * position) */

static void project(float *row, int count, int sequence, int position, int which) {
  for (int i = 0; i < count; i++) row[i] = sinf((float)(which * 7 + sequence * 3 + position * 5 + i) * 0.37f);
}

static void feed(engine *e, const int32_t tokens[SEQUENCES]) {
  for (int b = 0, row = 0; b < SEQUENCES; b++)
    for (int i = 0; i < tokens[b]; i++, row++) {
      project(e->q + row * HQ * D, HQ * D, b, e->lengths[b] + i, 0);
      project(e->k + row * HKV * D, HKV * D, b, e->lengths[b] + i, 1);
      project(e->v + row * HKV * D, HKV * D, b, e->lengths[b] + i, 2);
    }
  step(e, tokens);
}

/* The last token of a sequence again, by one call on all its keys: how far the engine's output is from that. */
static float difference(const engine *e, int b, const float *found) {
  static float q[HQ * D], k[MOST_KEYS * HKV * D], v[MOST_KEYS * HKV * D], out[HQ * D];
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.batch = 1, p.q_heads = HQ, p.kv_heads = HKV, p.q_len = 1, p.kv_len = e->lengths[b], p.head_dim = D;
  p.k_strides = p.v_strides = (attend_strides){0, D, HKV * D};
  project(q, HQ * D, b, e->lengths[b] - 1, 0);
  for (int j = 0; j < e->lengths[b]; j++)
    project(k + j * HKV * D, HKV * D, b, j, 1), project(v + j * HKV * D, HKV * D, b, j, 2);
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = out;
  check(attend_forward(&p, &t));
  float most = 0;
  for (int i = 0; i < HQ * D; i++) most = fmaxf(most, fabsf(out[i] - found[i]));
  return most;
}

int main(void) {
  static engine e;
  /* two prompts; a token of each, and a prompt of another user beside them; a token of all */
  const int32_t steps[][SEQUENCES] = {{37, 5, 0}, {1, 1, 0}, {1, 1, 60}, {1, 1, 1}, {1, 1, 1}};
  open_engine(&e);
  for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
    feed(&e, steps[s]);
    printf("step %zu:", s + 1);
    for (int b = 0, row = 0; b < SEQUENCES; b++) {
      row += steps[s][b];
      if (steps[s][b] == 0) continue;
      const float off = difference(&e, b, e.out + (row - 1) * HQ * D);
      printf("  sequence %d of %d keys, off by %.4f", b, e.lengths[b], off);
      if (!(off < 0.01f)) return fprintf(stderr, "engine: more than bf16 in the cache explains\n"), 1;
    }
    printf("\n");
  }
  close_engine(&e);
  return 0;
}
