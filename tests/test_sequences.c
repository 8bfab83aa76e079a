/* SPDX-License-Identifier: Apache-2.0 */
/**
 * With batch_invariant set, what is computed for a sequence has the same bits however it is run: alone or among others,
 * in one piece or in pages, with room to spare or none, all of its queries at once or one at a time.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"
#include "verify/internal.h"

enum { HQ = 4, HKV = 2, D = 24, DV = 20, SEQUENCES = 8, MOST_ROWS = 40 };

typedef struct shape {
  int32_t queries, keys;
} shape;

/* Short and long ones, some longer than the pieces in which keys are split. */
static const shape mixed[SEQUENCES] = {{1, 40}, {5, 1100}, {37, 300}, {0, 10}, {3, 2060}, {20, 20}, {1, 0}, {2, 1024}};

/* As many keys as make one alone be split otherwise than all together, where that is allowed. */
static const shape lengthy[SEQUENCES] = {{1, 8000}, {2, 7000}, {1, 8192}, {0, 0},
                                         {3, 6000}, {1, 7999}, {1, 5000}, {1, 8100}};

static const shape *sequences = mixed;

/* A way to run some of the sequences. */
typedef struct setup {
  const char *what;
  int first, end;    /* sequences */
  int32_t query;     /* >= 0: only that query of the sequence, as a step of generation has it; -1: all */
  bool packed;       /* with starts, else there is one sequence */
  int32_t page_rows; /* 0: no pages */
  int64_t spare;     /* what lengths and totals could hold beyond what there is */
  int threads;
} setup;

/* Results of a row, by sequence and query. */
typedef struct row {
  float out[HQ * DV], lse[HQ];
} row;

typedef row results[SEQUENCES][MOST_ROWS];

static int32_t queries_of(const setup *s, int n) { return s->query >= 0 ? 1 : sequences[n].queries; }

/* The first query of those that are run. */
static int32_t first_query(const setup *s) { return s->query >= 0 ? s->query : 0; }

/* A step of generation finds the keys up to its own. */
static int32_t keys_of(const setup *s, int n) {
  return s->query >= 0 ? sequences[n].keys - sequences[n].queries + s->query + 1 : sequences[n].keys;
}

/* A number of -1 to 1 that follows from what it is an element of. */
static float number(int tensor, int n, int64_t head, int64_t at, int64_t d) {
  return (float)(int32_t)hash((uint64_t)(tensor * 100 + n), (head * 10000 + at) * 64 + d) * 0x1p-31f;
}

static void *allocate(int64_t count, attend_dtype dtype) {
  const size_t size = (size_t)count * attend_verify_dtype_size(dtype) + 1;
  void *memory = malloc(size);
  cr_assert_not_null(memory);
  memset(memory, 0xff, size); /* NaN */
  return memory;
}

static void put(void *tensor, attend_dtype dtype, int64_t at, int64_t dim, int which, int n, int64_t head, int64_t r) {
  for (int64_t d = 0; d < dim; d++) attend_verify_store(tensor, dtype, at + d, number(which, n, head, r, d));
}

static attend_problem problem_of(const setup *s, const attend_problem *masks) {
  attend_problem p = *masks;
  p.batch = s->end - s->first, p.q_heads = HQ, p.kv_heads = HKV, p.head_dim = D, p.v_head_dim = DV;
  p.lse = 1, p.batch_invariant = 1, p.out_dtype = ATTEND_F32;
  for (int n = s->first; n < s->end; n++) {
    if (queries_of(s, n) > p.q_len) p.q_len = queries_of(s, n);
    if (keys_of(s, n) > p.kv_len) p.kv_len = keys_of(s, n);
    p.q_total += queries_of(s, n), p.kv_total += keys_of(s, n);
    if (s->page_rows) p.pages += (keys_of(s, n) + s->page_rows - 1) / s->page_rows;
  }
  p.q_starts = s->packed;
  p.kv_starts = s->packed && !s->page_rows;
  p.page_rows = s->page_rows;
  if (s->page_rows) p.kv_lengths = ATTEND_LENGTHS_PER_BATCH;
  if (s->packed) p.q_len += s->spare, p.q_total += s->spare, p.kv_len += s->spare, p.kv_total += s->spare;
  return p;
}

/* Runs it with a kernel, or the library's choice for NULL, and stores the rows of its sequences. */
static void run(const setup *s, const attend_problem *masks, const char *kernel, results *to) {
  static const float slopes[HQ] = {0.5f, 0.25f, 0.125f, 0.0625f}, sinks[HQ] = {-1, 0, 1, 2};
  const attend_problem p = problem_of(s, masks);
  const attend_dtype dtype = p.q_dtype;
  const int64_t page = s->page_rows ? s->page_rows : p.kv_total, pages = s->page_rows ? p.pages : 1;
  const int64_t stride = s->page_rows ? (p.kv_len + page - 1) / page : 0;
  int32_t q_starts[SEQUENCES + 1] = {0}, kv_starts[SEQUENCES + 1] = {0}, lengths[SEQUENCES];
  int32_t *table = malloc((size_t)(stride * p.batch + 1) * sizeof *table);
  void *q = allocate(HQ * p.q_total * D, dtype);
  void *k = allocate(pages * HKV * page * D, dtype), *v = allocate(pages * HKV * page * DV, dtype);
  float *out = allocate(HQ * p.q_total * DV, ATTEND_F32), *lse = allocate(HQ * p.q_total, ATTEND_F32);
  cr_assert_not_null(table);
  int32_t taken = 0;
  for (int n = s->first, b = 0; n < s->end; n++, b++) {
    q_starts[b + 1] = q_starts[b] + queries_of(s, n), kv_starts[b + 1] = kv_starts[b] + keys_of(s, n);
    lengths[b] = keys_of(s, n);
    for (int64_t i = 0; i < stride; i++)
      table[b * stride + i] = i * page < lengths[b] ? (int32_t)(p.pages - 1 - taken++) : INT32_MAX; /* backwards */
    for (int64_t h = 0; h < HQ; h++)
      for (int64_t i = 0; i < queries_of(s, n); i++)
        put(q, dtype, (h * p.q_total + q_starts[b] + i) * D, D, 1, n, h, first_query(s) + i);
    for (int64_t h = 0; h < HKV; h++)
      for (int64_t j = 0; j < lengths[b]; j++) {
        const int64_t in_page = s->page_rows ? j % page : kv_starts[b] + j;
        const int64_t of_page = s->page_rows ? table[b * stride + j / page] : 0;
        put(k, dtype, ((of_page * HKV + h) * page + in_page) * D, D, 2, n, h, j);
        put(v, dtype, ((of_page * HKV + h) * page + in_page) * DV, DV, 3, n, h, j);
      }
  }
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = out, t.lse = lse;
  t.q_starts = q_starts, t.kv_starts = kv_starts, t.kv_lengths = lengths, t.block_table = table;
  t.alibi_slopes = slopes, t.sinks = sinks;
  attend_plan *plan = attend_test_plan(&p, kernel, s->threads);
  cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK, "%s, %s: %s", s->what, attend_plan_kernel(plan),
               attend_error_detail());
  attend_plan_destroy(plan);
  for (int n = s->first, b = 0; n < s->end; n++, b++)
    for (int64_t i = 0; i < queries_of(s, n); i++)
      for (int64_t h = 0; h < HQ; h++) {
        const int64_t from = h * p.q_total + q_starts[b] + i;
        row *r = &(*to)[n][first_query(s) + i];
        memcpy(r->out + h * DV, out + from * DV, DV * sizeof(float));
        r->lse[h] = lse[from];
      }
  free(q), free(k), free(v), free(out), free(lse), free(table);
}

static results alone, other;

static void expect_same(const char *what, const char *kernel, int threads) {
  for (int n = 0; n < SEQUENCES; n++)
    for (int i = 0; i < sequences[n].queries; i++)
      cr_expect_arr_eq(
          &other[n][i], &alone[n][i], sizeof(row),
          "%s, %s, %d threads: other bits than alone in query %d of sequence %d, of %d queries and %d keys", what,
          kernel ? kernel : "auto", threads, i, n, (int)sequences[n].queries, (int)sequences[n].keys);
  memset(other, 0, sizeof other);
}

static void check(const attend_problem *masks, const char *kernel) {
  for (int n = 0; n < SEQUENCES; n++) {
    const setup s = {"alone", n, n + 1, -1, false, 0, 0, 1};
    run(&s, masks, kernel, &alone);
  }
  for (int threads = 1; threads <= 3; threads += 2) {
    const setup ways[] = {{"in a ragged batch", 0, SEQUENCES, -1, true, 0, 0, threads},
                          {"with room to spare", 0, SEQUENCES, -1, true, 0, 3000, threads},
                          {"in pages of 16 rows", 0, SEQUENCES, -1, true, 16, 0, threads},
                          {"in pages of 7 rows, with room to spare", 0, SEQUENCES, -1, true, 7, 1100, threads}};
    for (size_t w = 0; w < COUNT(ways); w++) {
      run(&ways[w], masks, kernel, &other);
      expect_same(ways[w].what, kernel, threads);
    }
    for (int n = 0; n < SEQUENCES; n++) {
      const setup s = {"alone", n, n + 1, -1, false, 0, 0, threads};
      run(&s, masks, kernel, &other);
    }
    expect_same("alone", kernel, threads);
    for (int n = 0; n < SEQUENCES; n++)
      for (int32_t i = 0; i < sequences[n].queries; i++) {
        const setup s = {"one query at a time", n, n + 1, i, false, 0, 0, threads};
        /* Of a sequence without keys the step would have less than none. */
        if (keys_of(&s, n) < 1) {
          memcpy(&other[n][i], &alone[n][i], sizeof(row));
          continue;
        }
        run(&s, masks, kernel, &other);
      }
    expect_same("one query at a time", kernel, threads);
  }
}

/* Masks of which a query's do not depend on what comes after it, so that steps of generation have the same. */
static attend_problem masks_of(attend_dtype dtype, bool window) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.q_dtype = dtype;
  p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  if (window) p.window = 1, p.window_left = 700, p.window_right = -1, p.alibi = 1, p.sinks = 1;
  return p;
}

static void check_kernels(attend_dtype dtype) {
  int checked = 0;
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (kernel->compute != (dtype == ATTEND_BF16 ? ATTEND_BF16 : ATTEND_F32) || !attend_test_runnable(kernel)) continue;
    if (kernel->can & ATTEND_CAN_INT8) continue; /* it takes other keys only */
    for (int window = 0; window < 2; window++) {
      const attend_problem masks = masks_of(dtype, window);
      check(&masks, kernel->name);
    }
    checked++;
  }
  if (checked == 0) cr_skip_test("no kernel of %s runs here", attend_dtype_name(dtype));
}

Test(invariant, kernels_of_f32) { check_kernels(ATTEND_F32); }
Test(invariant, kernels_of_bf16) { check_kernels(ATTEND_BF16); }

Test(invariant, long_sequences) {
  sequences = lengthy;
  const attend_problem f32 = masks_of(ATTEND_F32, false), bf16 = masks_of(ATTEND_BF16, false);
  check(&f32, NULL);
  check(&bf16, NULL);
  for (size_t i = 0; i < attend_kernel_count(); i++) /* one kernel of each instruction set that splits keys */
    if (attend_kernel_at(i)->body == ATTEND_BODY_STREAMING && attend_kernel_at(i)->compute == ATTEND_F32 &&
        attend_test_runnable(attend_kernel_at(i)))
      check(&f32, attend_kernel_at(i)->name);
}

Test(invariant, choice_of_the_library) {
  for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++)
    for (int window = 0; window < 2; window++) {
      const attend_problem masks = masks_of(dtype, window);
      check(&masks, NULL);
    }
}
