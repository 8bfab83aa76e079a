/* SPDX-License-Identifier: Apache-2.0 */
/** The check itself: outputs that are right pass, and any one thing that is wrong with them is noticed. */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"
#include "verify/internal.h"
#include "verify/reference.h"

static const attend_kernel f32_kernel = {.name = "test", .compute = ATTEND_F32};
static const attend_kernel bf16_kernel = {.name = "test", .compute = ATTEND_BF16};

static attend_verify_data data;
static attend_verify_expected expected;
static attend_verify_result result;

/* Writes a row of the outputs. */
static void write_row(int64_t b, int64_t h, int64_t q) {
  const attend_problem *p = &data.problem;
  const int64_t row = attend_reference_row(p, &data.tensors, b, h, q);
  float *out = (float *)data.tensors.out + attend_reference_query_at(p, &data.tensors, &p->out_strides, b, h, q);
  for (int64_t d = 0; d < p->v_head_dim; d++) out[d] = (float)expected.out[row * p->v_head_dim + d];
  if (p->lse) data.tensors.lse[row] = (float)expected.lse[row];
  for (int64_t at = row * p->kv_len; at < (row + 1) * p->kv_len; at++) {
    if (p->weights) data.tensors.weights[at] = (float)expected.weights[at];
    if (p->scores) data.tensors.scores[at] = (float)expected.scores[at];
  }
}

/* Makes a case and fills its outputs with what the reference says. */
static void make(const char *name) {
  for (size_t i = 0; i < attend_verify_named_count(); i++) {
    attend_verify_case c;
    attend_verify_named_case(i, 3, ATTEND_F32, &c);
    if (strcmp(c.name, name) != 0) continue;
    cr_assert(attend_verify_fill(&data, &c) && attend_verify_expect(&expected, &data));
    attend_verify_clear_outputs(&data);
    const attend_problem *p = &data.problem;
    for (int64_t b = 0; b < p->batch; b++)
      for (int64_t h = 0; h < p->q_heads; h++)
        for (int64_t q = 0; q < attend_reference_queries(p, &data.tensors, b); q++) write_row(b, h, q);
    return;
  }
  cr_assert_fail("no case %s", name);
}

static bool passes(const attend_kernel *kernel) {
  result = (attend_verify_result){0};
  const bool ok = attend_verify_compare(&data, &expected, &(attend_verify_ran){.kernel = kernel}, &result);
  cr_expect_eq(ok, result.message[0] == '\0');
  return ok;
}

/* Expects that one number, put in the place of another, is noticed. */
static void expect_noticed(float *place, float wrong, const char *what) {
  const float right = *place;
  cr_assert(passes(&f32_kernel), "%s: %s", what, result.message);
  *place = wrong;
  cr_expect_not(passes(&f32_kernel), "%s: not noticed", what);
  *place = right;
}

static void release(void) {
  attend_verify_data_free(&data);
  attend_verify_expected_free(&expected);
}

TestSuite(compare, .fini = release);

Test(compare, wrong_numbers) {
  make("weights");
  float *out = data.tensors.out, *lse = data.tensors.lse, *weights = data.tensors.weights;
  expect_noticed(out + 7, out[7] + 3e-6f * (float)data.v_max, "out");
  expect_noticed(out, NAN, "out NaN");
  expect_noticed(out, INFINITY, "out Inf");
  expect_noticed(lse + 5, lse[5] + 1e-5f, "lse");
  expect_noticed(lse + 5, -INFINITY, "lse -inf");
  expect_noticed(weights + 3, weights[3] + 3e-6f, "weights");
}

Test(compare, a_weight_that_is_masked) {
  make("weights-causal");
  const int64_t last_key = data.problem.kv_len - 1;
  cr_assert_eq(data.tensors.weights[last_key], 0);
  expect_noticed(data.tensors.weights + last_key, 1e-30f, "weights");
}

Test(compare, a_row_that_attends_nothing) {
  make("mask-all-false");
  expect_noticed(data.tensors.out, 1e-30f, "out");
  expect_noticed(data.tensors.lse, -1e30f, "lse");
}

Test(compare, not_a_number_where_there_must_be_one) {
  make("nan-v-causal");
  size_t count = 0;
  float *out = data.tensors.out;
  for (size_t i = 0; i < data.buffer[ATTEND_VERIFY_OUT].size / sizeof *out; i++)
    if (isnan(out[i]) && count++ == 0) expect_noticed(out + i, 0, "out");
  cr_expect_gt(count, 0);
}

Test(compare, gaps) {
  make("padded");
  float *out = data.tensors.out;
  const size_t gap = (size_t)data.problem.v_head_dim;
  expect_noticed(out + gap, 0, "behind the first row");
}

Test(compare, around_buffers) {
  make("weights");
  for (int i = ATTEND_VERIFY_OUT; i <= ATTEND_VERIFY_WEIGHTS; i++) {
    attend_guarded *g = &data.buffer[i];
    const size_t before = (size_t)(g->data - g->start), behind = g->usable - before - g->size;
    cr_assert_gt(before + behind, 0, "the buffer fills its pages: choose another case");
    unsigned char *place = before ? g->data - 1 : g->data + g->size;
    cr_assert(passes(&f32_kernel));
    *place ^= 1;
    cr_expect_not(passes(&f32_kernel), "%s", attend_verify_buffer_names[i]);
    *place ^= 1;
  }
}

/* The first row of results that belongs to no sequence. */
static int64_t unowned_row(void) {
  for (int64_t row = 0; row < attend_verify_rows(&data.problem); row++)
    if (!data.row_owned[row]) return row;
  cr_assert_fail("all rows belong to a sequence: choose another case");
  return -1;
}

Test(compare, rows_of_no_sequence) {
  make("ragged-q-weights");
  const attend_problem *p = &data.problem;
  const int64_t row = unowned_row(), last = data.tensors.q_starts[p->batch];
  cr_assert_lt(last, p->q_total);
  expect_noticed((float *)data.tensors.out + last * p->out_strides.row, 0, "out");
  expect_noticed(data.tensors.lse + row, 0, "lse");
  expect_noticed(data.tensors.weights + row * p->kv_len, 0, "weights");
}

Test(compare, wrong_scores) {
  make("scores-attended");
  const int64_t pairs = attend_verify_rows(&data.problem) * data.problem.kv_len;
  int64_t masked = 0, finite = 0;
  while (data.tensors.scores[masked] > -INFINITY) masked++;
  while (!isfinite(data.tensors.scores[finite])) finite++;
  cr_assert(masked < pairs && finite < pairs);
  expect_noticed(data.tensors.scores + masked, -1e30f, "a score that is masked");
  expect_noticed(data.tensors.scores + finite, -INFINITY, "a score that is not");
  expect_noticed(data.tensors.scores + finite, data.tensors.scores[finite] + 1e-3f, "a score");
  make("scores-raw"); /* of keys that are not attended, too: the values of those stay NaN */
  for (int64_t at = 0; at < pairs; at++) cr_assert(isfinite(data.tensors.scores[at]));
  expect_noticed(data.tensors.scores + pairs - 1, -INFINITY, "a raw score");
  make("scores-ragged");
  expect_noticed(data.tensors.scores + unowned_row() * data.problem.kv_len, 0, "a row of no sequence");
}

Test(compare, allows_what_the_types_cost) {
  make("plain");
  float *out = data.tensors.out;
  const float right = out[0];
  out[0] = right + 0x1p-7f * (float)data.v_max;
  cr_expect_not(passes(&f32_kernel));
  cr_expect(passes(&bf16_kernel), "%s", result.message);
  out[0] = right + 0x1p-5f * (float)data.v_max;
  cr_expect_not(passes(&bf16_kernel));
}

/* ------------------------------------------------------------------------------------------------------------ data */

/* Every key and value that is attended is a number, and nothing else is, gaps and neighbourhood included. */
Test(data, is_poisoned) {
  make("lengths");
  const attend_problem *p = &data.problem;
  size_t live = 0, poisoned = 0;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t j = 0; j < p->kv_len; j++) {
      const bool attended = j < data.tensors.kv_lengths[b];
      const float *k = (const float *)data.tensors.k + b * p->k_strides.batch + j * p->k_strides.row;
      const float *v = (const float *)data.tensors.v + b * p->v_strides.batch + j * p->v_strides.row;
      for (int64_t d = 0; d < p->head_dim; d++) {
        cr_expect_eq(isfinite(k[d]), attended);
        cr_expect_eq(isfinite(v[d]), attended);
      }
      *(attended ? &live : &poisoned) += 1;
    }
  cr_expect(live > 0 && poisoned > 0);
  release();
}

/* Two cases by name, for what they say of positions: windows and causal masks follow each sequence's own end. */
static void expect_keys(int64_t b, int64_t query, int64_t first, int64_t end) {
  const attend_problem *p = &data.problem;
  for (int64_t h = 0; h < p->q_heads; h++)
    for (int64_t j = 0; j < p->kv_len; j++)
      cr_expect_eq(data.attended[attend_reference_row(p, &data.tensors, b, h, query) * p->kv_len + j],
                   j >= first && j < end, "sequence %d, query %d, key %d", (int)b, (int)query, (int)j);
}

Test(data, positions_are_those_of_each_sequence) {
  make("window-ragged-bottom-right");
  expect_keys(0, 0, 5, 8);
  expect_keys(1, 0, 1, 4);
  make("causal-ragged-lengths");
  for (int64_t i = 0; i < 3; i++) expect_keys(0, i, 0, i + 6), expect_keys(1, i, 0, i + 3);
  release();
}

/* Rows of pages that no sequence has, and rows after the last key of a page, are poison; so is the rest of a table.
 */
Test(data, is_poisoned_page_by_page) {
  make("paged-table-stride");
  const attend_problem *p = &data.problem;
  const attend_tensors *t = &data.tensors;
  bool *used = calloc((size_t)(p->pages * p->page_rows), sizeof *used);
  int64_t live = 0, poisoned = 0, beyond = 0;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t n = 0; n < p->block_table_stride; n++) {
      const int32_t page = t->block_table[b * p->block_table_stride + n];
      const int64_t left = t->kv_lengths[b] - n * p->page_rows;
      if (left <= 0) {
        cr_expect(page < 0 || page >= p->pages);
        beyond++;
        continue;
      }
      cr_assert(page >= 0 && page < p->pages);
      for (int64_t r = 0; r < p->page_rows && r < left; r++) {
        cr_expect_not(used[page * p->page_rows + r], "pages are shared");
        used[page * p->page_rows + r] = true;
      }
    }
  for (int64_t row = 0; row < p->pages * p->page_rows; row++)
    for (int64_t h = 0; h < p->kv_heads; h++) {
      const int64_t at =
          row / p->page_rows * p->k_strides.batch + h * p->k_strides.head + row % p->page_rows * p->k_strides.row;
      for (int64_t d = 0; d < p->head_dim; d++) cr_expect_eq(isfinite(((const float *)t->k)[at + d]), used[row]);
      *(used[row] ? &live : &poisoned) += 1;
    }
  cr_expect(live > 0 && poisoned > 0 && beyond > 0);
  free(used);
  release();
}

/* Whether what a case has is a thing that random cases have as often as they must. */
static int share_of_random_cases(bool (*has)(const attend_verify_data *)) {
  int count = 0;
  for (uint64_t seed = 0; seed < 400; seed++) {
    attend_verify_case c;
    attend_verify_random_case(seed, ATTEND_F32, &c);
    cr_assert(attend_verify_fill(&data, &c));
    count += has(&data);
  }
  release();
  return count / 4;
}

static bool is_ragged(const attend_verify_data *d) { return d->problem.q_starts || d->problem.kv_starts; }
static bool is_paged(const attend_verify_data *d) { return d->problem.page_rows > 0; }
static bool is_ranged(const attend_verify_data *d) { return d->problem.key_ranges; }

static bool has_unused_rows(const attend_verify_data *d) {
  return d->problem.q_starts && d->tensors.q_starts[d->problem.batch] < d->problem.q_total;
}

static bool has_empty_sequence(const attend_verify_data *d) {
  for (int64_t b = 0; d->problem.q_starts && b < d->problem.batch; b++)
    if (attend_reference_queries(&d->problem, &d->tensors, b) == 0) return true;
  return false;
}

static bool has_longest_sequence(const attend_verify_data *d) {
  for (int64_t b = 0; d->problem.q_starts && b < d->problem.batch; b++)
    if (attend_reference_queries(&d->problem, &d->tensors, b) == d->problem.q_len) return true;
  return false;
}

/* Pages that a table names are not in the order of their keys. */
static bool is_shuffled(const attend_verify_data *d) {
  const attend_problem *p = &d->problem;
  for (int64_t b = 0; p->page_rows && b < p->batch; b++) {
    const int64_t used = (attend_reference_keys(p, &d->tensors, b) + p->page_rows - 1) / p->page_rows;
    const int32_t *table = d->tensors.block_table + b * p->block_table_stride;
    for (int64_t n = 1; n < used; n++)
      if (table[n] < table[n - 1]) return true;
  }
  return false;
}

Test(data, random_cases_have_sequences_of_all_kinds) {
  cr_expect_geq(share_of_random_cases(is_ragged), 50);
  cr_expect_geq(share_of_random_cases(is_paged), 33);
  cr_expect_geq(share_of_random_cases(is_ranged), 30);
  cr_expect_geq(share_of_random_cases(is_shuffled), 15);
  cr_expect_geq(share_of_random_cases(has_unused_rows), 10);
  cr_expect_geq(share_of_random_cases(has_empty_sequence), 15);
  cr_expect_geq(share_of_random_cases(has_longest_sequence), 15);
}

Test(data, follows_from_the_seed) {
  attend_verify_case a, b;
  attend_verify_data other = {0};
  for (uint64_t seed = 0; seed < 40; seed++) {
    attend_verify_random_case(seed, ATTEND_DTYPE_DEFAULT, &a);
    attend_verify_random_case(seed, ATTEND_DTYPE_DEFAULT, &b);
    char first[2048], second[2048];
    cr_assert_lt(attend_verify_describe(&a, first, sizeof first), sizeof first);
    attend_verify_describe(&b, second, sizeof second);
    cr_expect_str_eq(first, second);
    cr_assert(attend_verify_fill(&data, &a) && attend_verify_fill(&other, &b));
    for (int i = 0; i < ATTEND_VERIFY_WORKSPACE; i++) {
      cr_assert_eq(data.buffer[i].size, other.buffer[i].size);
      if (data.buffer[i].size) cr_expect_arr_eq(data.buffer[i].data, other.buffer[i].data, data.buffer[i].size);
    }
  }
  attend_verify_data_free(&other);
  release();
}

Test(data, touches_all_alignments) {
  attend_verify_case c;
  unsigned seen = 0;
  for (uint64_t seed = 0; seed < 300; seed++) {
    attend_verify_random_case(seed, ATTEND_F32, &c);
    cr_assert(attend_verify_fill(&data, &c));
    if (data.buffer[ATTEND_VERIFY_K].size) seen |= 1u << (uintptr_t)data.buffer[ATTEND_VERIFY_K].data % 64 / 4;
  }
  cr_expect_eq(seen, 0xffff);
  release();
}

Test(data, guard_pages_lie_against_the_buffer) {
  attend_guarded g = {0};
  cr_assert(attend_guarded_place(&g, 100, 0, false, 1));
  cr_expect_eq(g.data + g.size, g.start + g.usable);
  cr_assert(attend_guarded_place(&g, 100, 0, true, 1));
  cr_expect_eq(g.data, g.start);
  ptrdiff_t at;
  cr_expect(attend_guarded_near(&g, g.data - 1, &at));
  cr_expect_eq(at, -1);
  cr_assert(attend_guarded_place(&g, 100000, 4, false, 1));
  cr_expect_eq(g.data + g.size + 4, g.start + g.usable);
  cr_expect(attend_guarded_intact(&g, 1));
  g.data[g.size] = 0;
  cr_expect_not(attend_guarded_intact(&g, 1));
  attend_guarded_free(&g);
}

/* A kernel that goes astray ends the process, unless the check catches it: a sanitizer must not get in between. */
static void let_signals_through(void) { signal(SIGSEGV, SIG_DFL); }

TestSuite(astray, .init = let_signals_through);

Test(astray, before_a_buffer, .signal = SIGSEGV) {
  attend_guarded g = {0};
  cr_assert(attend_guarded_place(&g, 100, 0, true, 1));
  ((volatile unsigned char *)g.data)[-1] = 0;
}

Test(astray, behind_a_buffer, .signal = SIGSEGV) {
  attend_guarded g = {0};
  cr_assert(attend_guarded_place(&g, 100, 0, false, 1));
  ((volatile unsigned char *)g.data)[100] = 0;
}

Test(astray, in_an_input, .signal = SIGSEGV) {
  make("plain");
  *(volatile float *)(uintptr_t)data.tensors.q = 0;
}
