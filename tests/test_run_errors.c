/* SPDX-License-Identifier: Apache-2.0 */
/** What running a plan accepts and refuses: tensors, kv lengths, workspaces and parts. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

/* Together they have every input and every output that a problem can have. */
enum { PLAIN, PACKED, PAGED, LAYOUTS };

static attend_problem everything(int layout) {
  attend_problem problem = layout == PACKED  ? attend_test_packed_problem()
                           : layout == PAGED ? attend_test_paged_problem()
                                             : attend_test_full_problem();
  problem.score = ATTEND_SCORE_ADDITIVE, problem.dropout = 0.1f, problem.scores = ATTEND_SCORES_RAW;
  if (!attend_test_possible(&problem)) problem.scores = ATTEND_SCORES_NONE; /* no kernel of this machine writes them */
  return problem;
}

/* A plan on its way, with all that a call needs. */
typedef struct running {
  attend_problem problem;
  attend_plan *plan;
  attend_test_tensors tensors;
  void *workspace;
  size_t size;
} running;

static running start(attend_problem problem) {
  running r = {.problem = problem, .plan = attend_test_plan(&problem, NULL, 3)};
  r.tensors = attend_test_tensors_create(&problem);
  r.workspace = attend_test_workspace(r.plan, &r.size);
  return r;
}

static void finish(running *r) {
  free(r->workspace);
  attend_test_tensors_destroy(&r->tensors);
  attend_plan_destroy(r->plan);
}

/* Integers of a run's inputs, to be changed. */
static int32_t *integers(running *r, attend_test_name name) { return r->tensors.memory[name]; }
static size_t count_of(const running *r, attend_test_name name) { return r->tensors.bytes[name] / sizeof(int32_t); }

/* All ways into a run refuse these tensors, and touch nothing. */
static void expect_refused(running *r, const attend_tensors *tensors, attend_status expected, const char *field,
                           const char *what) {
  attend_test_reset(&r->tensors);
  EXPECT_ERROR(attend_plan_run(r->plan, tensors, r->workspace, r->size), expected, field, "run: %s", what);
  EXPECT_ERROR(attend_plan_run(r->plan, tensors, NULL, 0), expected, field, "run without workspace: %s", what);
  EXPECT_ERROR(attend_plan_begin(r->plan, tensors, r->workspace, r->size), expected, field, "begin: %s", what);
  EXPECT_ERROR(attend_forward(&r->problem, tensors), expected, field, "forward: %s", what);
  cr_expect(attend_test_untouched(&r->tensors), "%s: outputs were touched", what);
}

static void expect_accepted(running *r, const attend_tensors *tensors, const char *what) {
  cr_expect_eq(attend_plan_run(r->plan, tensors, r->workspace, r->size), ATTEND_OK, "run: %s: %s", what,
               attend_error_detail());
  cr_expect_eq(attend_plan_run(r->plan, tensors, NULL, 0), ATTEND_OK, "run without workspace: %s: %s", what,
               attend_error_detail());
  cr_expect_eq(attend_plan_begin(r->plan, tensors, r->workspace, r->size), ATTEND_OK, "begin: %s: %s", what,
               attend_error_detail());
  cr_expect_eq(attend_forward(&r->problem, tensors), ATTEND_OK, "forward: %s: %s", what, attend_error_detail());
}

/* ------------------------------------------------------------------------------------------------------- tensors */

Test(tensors, needed_ones_must_be_there) {
  bool seen[TENSORS] = {false};
  for (int layout = 0; layout < LAYOUTS; layout++) {
    running r = start(everything(layout));
    for (attend_test_name name = Q; name < TENSORS; name++) {
      if (!r.tensors.memory[name]) continue;
      attend_tensors without = r.tensors.t;
      attend_test_point(&without, name, NULL);
      expect_refused(&r, &without, ATTEND_ERROR_INVALID_ARGUMENT, attend_test_names[name], "is NULL");
      seen[name] = true;
    }
    expect_accepted(&r, &r.tensors.t, "all there");
    finish(&r);
  }
  for (attend_test_name name = Q; name < SCORES; name++) cr_expect(seen[name], "%s", attend_test_names[name]);
  attend_test_expect_no_leak();
}

static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};

Test(tensors, must_be_aligned_to_their_elements) {
  for (size_t i = 0; i < COUNT(dtypes) * LAYOUTS; i++) {
    attend_problem problem = everything((int)(i % LAYOUTS));
    problem.q_dtype = problem.bias_dtype = dtypes[i / LAYOUTS];
    running r = start(problem);
    for (attend_test_name name = Q; name < TENSORS; name++) {
      for (size_t shift = 1; r.tensors.memory[name] && shift < r.tensors.element[name]; shift++) {
        attend_tensors shifted = r.tensors.t;
        char what[40];
        snprintf(what, sizeof what, "%s, %zu off", attend_dtype_name(problem.q_dtype), shift);
        attend_test_point(&shifted, name, (char *)r.tensors.memory[name] + shift);
        expect_refused(&r, &shifted, ATTEND_ERROR_INVALID_ARGUMENT, attend_test_names[name], what);
      }
    }
    finish(&r);
  }
}

/* The same numbers at an address that is aligned to an element and to nothing more. */
Test(tensors, need_no_more_alignment_than_their_elements) {
  for (size_t i = 0; i < COUNT(dtypes) * LAYOUTS; i++) {
    attend_problem problem = everything((int)(i % LAYOUTS));
    problem.q_dtype = problem.bias_dtype = dtypes[i / LAYOUTS];
    running r = start(problem);
    expect_accepted(&r, &r.tensors.t, "aligned");
    attend_test_tensors odd = attend_test_tensors_create(&problem);
    for (attend_test_name name = Q; name < TENSORS; name++) {
      if (!odd.memory[name]) continue;
      char *memory = realloc(odd.memory[name], odd.bytes[name] + odd.element[name]);
      cr_assert_not_null(memory);
      memmove(memory + odd.element[name], memory, odd.bytes[name]);
      odd.memory[name] = memory;
      attend_test_point(&odd.t, name, memory + odd.element[name]);
    }
    expect_accepted(&r, &odd.t, attend_dtype_name(problem.q_dtype));
    cr_expect_eq(memcmp(odd.t.out, r.tensors.t.out, odd.bytes[OUT]), 0, "out depends on alignment");
    cr_expect_eq(memcmp(odd.t.lse, r.tensors.t.lse, odd.bytes[LSE]), 0, "lse depends on alignment");
    cr_expect_eq(memcmp(odd.t.weights, r.tensors.t.weights, odd.bytes[WEIGHTS]), 0, "weights depend on alignment");
    attend_test_tensors_destroy(&odd);
    finish(&r);
  }
}

Test(tensors, not_of_the_problem_are_ignored) {
  const attend_problem plain = attend_test_problem(2, 4, 2, 5, 9, 8);
  running r = start(plain);
  /* addresses that are neither aligned nor anybody's */
  for (attend_test_name name = KV_LENGTHS; name < TENSORS; name++) {
    attend_test_point(&r.tensors.t, name, (void *)(uintptr_t)1);
  }
  expect_accepted(&r, &r.tensors.t, "tensors that the problem has not");
  cr_expect(attend_test_written(&r.tensors));
  finish(&r);
}

Test(tensors, without_elements_may_be_null) {
  static const size_t extents[] = {offsetof(attend_problem, batch), offsetof(attend_problem, q_len),
                                   offsetof(attend_problem, q_heads)};
  for (size_t i = 0; i < COUNT(extents); i++) {
    attend_problem problem = attend_test_full_problem();
    memset((char *)&problem + extents[i], 0, sizeof(int64_t));
    running r = start(problem);
    cr_assert_null(r.tensors.t.q);
    cr_assert_null(r.tensors.t.out);
    cr_assert_null(r.tensors.t.weights);
    cr_expect_str_eq(attend_plan_kernel(r.plan), "none");
    cr_expect_geq(attend_plan_max_parts(r.plan), 1);
    expect_accepted(&r, &r.tensors.t, "nothing to compute");
    cr_expect_eq(attend_plan_run_part(r.plan, &r.tensors.t, r.workspace, r.size, 0, 1), ATTEND_OK, "%s",
                 attend_error_detail());
    expect_refused(&r, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors", "nothing to compute, but no tensors");
    finish(&r);
  }
}

Test(tensors, without_keys_give_zeros) {
  attend_problem problem = attend_test_full_problem();
  problem.kv_len = 0, problem.sinks = 0;
  running r = start(problem);
  cr_assert_null(r.tensors.t.k);
  cr_assert_null(r.tensors.t.weights);
  expect_accepted(&r, &r.tensors.t, "no keys");
  const float *out = r.tensors.t.out, *lse = r.tensors.t.lse;
  for (size_t i = 0; i < r.tensors.bytes[OUT] / sizeof *out; i++) cr_expect_eq(out[i], 0.0f);
  for (size_t i = 0; i < r.tensors.bytes[LSE] / sizeof *lse; i++) cr_expect_eq(lse[i], -__builtin_inff());
  finish(&r);
}

Test(tensors, struct_size) {
  running r = start(attend_test_full_problem());
  const size_t sizes[] = {0, 1, sizeof(size_t), sizeof(attend_tensors) - 1, SIZE_MAX};
  for (size_t i = 0; i < COUNT(sizes); i++) {
    attend_tensors wrong = r.tensors.t;
    wrong.struct_size = sizes[i];
    expect_refused(&r, &wrong, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size", "wrong size");
  }
  struct {
    attend_tensors known;
    unsigned char unknown[24];
  } longer = {.known = r.tensors.t};
  longer.known.struct_size = offsetof(__typeof__(longer), unknown) + sizeof longer.unknown;
  for (size_t i = 0; i < sizeof longer.unknown; i++) {
    longer.unknown[i] = 1;
    expect_refused(&r, &longer.known, ATTEND_ERROR_UNSUPPORTED, "attend_tensors", "unknown field set");
    longer.unknown[i] = 0;
  }
  expect_accepted(&r, &longer.known, "unknown fields that are zero");
  attend_tensors old = r.tensors.t;
  old.struct_size = 120;
  expect_refused(&r, &old, ATTEND_ERROR_UNSUPPORTED, "attend_tensors", "tensors of 0.1");
  cr_expect_not_null(strstr(attend_error_detail(), "0.1"), "%s", attend_error_detail());
  expect_accepted(&r, &r.tensors.t, "the size that it has");
  cr_expect(attend_test_written(&r.tensors));
  finish(&r);
}

Test(tensors, null_structs_and_plans) {
  running r = start(attend_test_full_problem());
  expect_refused(&r, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors", "no tensors");
  EXPECT_ERROR(attend_plan_run_part(r.plan, NULL, r.workspace, r.size, 0, 1), ATTEND_ERROR_INVALID_ARGUMENT,
               "attend_tensors", "part: no tensors");
  EXPECT_ERROR(attend_plan_run(NULL, &r.tensors.t, r.workspace, r.size), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "run");
  EXPECT_ERROR(attend_plan_begin(NULL, &r.tensors.t, r.workspace, r.size), ATTEND_ERROR_INVALID_ARGUMENT, "plan",
               "begin");
  EXPECT_ERROR(attend_plan_run_part(NULL, &r.tensors.t, r.workspace, r.size, 0, 1), ATTEND_ERROR_INVALID_ARGUMENT,
               "plan", "part");
  cr_expect(attend_test_untouched(&r.tensors));
  finish(&r);

  attend_plan_destroy(NULL);
  cr_expect_eq(attend_plan_workspace_size(NULL), 0);
  cr_expect_eq(attend_plan_max_parts(NULL), 0);
  cr_expect_str_eq(attend_plan_kernel(NULL), "none");
  char text[300];
  memset(text, 'x', sizeof text);
  size_t length = attend_plan_explain(NULL, text, sizeof text);
  cr_assert_lt(length, sizeof text);
  cr_expect_eq(text[length], '\0', "explain(NULL) does not end its text");
}

/* ---------------------------------------------------------------------------------------------------- kv lengths */

Test(kv_lengths, out_of_range_are_refused) {
  for (int per_query = 0; per_query < 2; per_query++) {
    attend_problem problem = attend_test_full_problem();
    problem.kv_lengths = per_query ? ATTEND_LENGTHS_PER_QUERY : ATTEND_LENGTHS_PER_BATCH;
    running r = start(problem);
    int32_t *lengths = r.tensors.memory[KV_LENGTHS];
    const size_t count = r.tensors.bytes[KV_LENGTHS] / sizeof *lengths;
    const int32_t most = (int32_t)problem.kv_len, bad[] = {-1, most + 1, INT32_MIN, INT32_MAX};
    for (size_t at = 0; at < count; at++) {
      for (size_t i = 0; i < COUNT(bad); i++) {
        const int32_t good = lengths[at];
        char what[60], value[16];
        snprintf(what, sizeof what, "kv_lengths[%zu] = %d", at, (int)bad[i]);
        snprintf(value, sizeof value, "%d", (int)bad[i]);
        lengths[at] = bad[i];
        expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, "kv_lengths", what);
        cr_expect_not_null(strstr(attend_error_detail(), value), "%s: %s", what, attend_error_detail());
        lengths[at] = good;
      }
    }
    for (size_t at = 0; at < count; at++) lengths[at] = 0;
    expect_accepted(&r, &r.tensors.t, "no length");
    for (size_t at = 0; at < count; at++) lengths[at] = most;
    expect_accepted(&r, &r.tensors.t, "full length");
    finish(&r);
  }
}

/* ----------------------------------------------------------------------------------------------------- sequences */

/* Puts each of these numbers in the place of an integer of an input: all are refused. */
static void expect_bad_numbers(running *r, attend_test_name name, size_t at, const int64_t *bad, size_t count) {
  int32_t *numbers = integers(r, name);
  const int32_t good = numbers[at];
  for (size_t i = 0; i < count; i++) {
    char what[60], value[16];
    snprintf(what, sizeof what, "%s[%zu] = %d", attend_test_names[name], at, (int)bad[i]);
    snprintf(value, sizeof value, "%d", (int)bad[i]);
    numbers[at] = (int32_t)bad[i];
    expect_refused(r, &r->tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, attend_test_names[name], what);
    cr_expect_not_null(strstr(attend_error_detail(), value), "%s: %s", what, attend_error_detail());
    cr_expect_eq(attend_plan_useful_parts(r->plan, &r->tensors.t) == 0, name != BLOCK_TABLE, "%s", what);
  }
  numbers[at] = good;
}

Test(sequences, starts_that_fall_or_exceed_their_bounds_are_refused) {
  static const struct {
    attend_test_name name;
    int32_t most, total;
  } starts[] = {{Q_STARTS, 5, 8}, {KV_STARTS, 9, 15}};
  for (size_t i = 0; i < COUNT(starts); i++) {
    running r = start(attend_test_packed_problem());
    const attend_test_name name = starts[i].name;
    const int32_t most = starts[i].most, total = starts[i].total;
    cr_assert_eq(count_of(&r, name), 3);
    cr_assert_eq(integers(&r, name)[2], total);
    expect_bad_numbers(&r, name, 0, (const int64_t[]){-1, 1, INT32_MIN, INT32_MAX}, 4);
    expect_bad_numbers(&r, name, 1, (const int64_t[]){-1, most + 1, total + 1, INT32_MIN, INT32_MAX}, 5);
    expect_bad_numbers(&r, name, 2, (const int64_t[]){-1, most - 1, total + 1, INT32_MIN, INT32_MAX}, 5);
    integers(&r, name)[1] = total - most - 1; /* the second step is too long */
    expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, attend_test_names[name], "a step too long");
    if (name == KV_STARTS) integers(&r, KV_LENGTHS)[0] = integers(&r, KV_LENGTHS)[1] = 0;
    const int32_t good[][3] = {{0, 0, 0}, {0, most, most}, {0, 0, most}, {0, total - most, total}};
    for (size_t g = 0; g < COUNT(good); g++) {
      memcpy(integers(&r, name), good[g], sizeof good[g]);
      expect_accepted(&r, &r.tensors.t, "other starts");
    }
    finish(&r);
  }
}

/* Rows that belong to no sequence: their lengths are not looked at, and their outputs stay as they are. */
Test(sequences, rows_of_no_sequence_are_left_alone) {
  attend_problem problem = attend_test_packed_problem();
  problem.kv_lengths = ATTEND_LENGTHS_PER_QUERY;
  running r = start(problem);
  const size_t total = (size_t)problem.q_total, used = total - 2, row = 6 * sizeof(float);
  integers(&r, Q_STARTS)[2] = (int32_t)used;
  for (size_t i = used; i < total; i++) integers(&r, KV_LENGTHS)[i] = i % 2 ? INT32_MIN : INT32_MAX;
  expect_accepted(&r, &r.tensors.t, "rows of no sequence");
  unsigned char untouched[sizeof(float) * 9];
  memset(untouched, 0xa5, sizeof untouched);
  for (size_t i = 0; i < (size_t)problem.q_heads * total; i++) {
    const bool written = i % total < used;
    cr_expect_eq(memcmp((char *)r.tensors.memory[OUT] + i * row, untouched, row) != 0, written, "out, row %zu", i);
    cr_expect_eq(memcmp((char *)r.tensors.memory[LSE] + i * 4, untouched, 4) != 0, written, "lse, row %zu", i);
    cr_expect_eq(memcmp((char *)r.tensors.memory[WEIGHTS] + i * sizeof untouched, untouched, sizeof untouched) != 0,
                 written, "weights, row %zu", i);
  }
  finish(&r);
}

Test(sequences, lengths_beyond_their_rows_are_refused) {
  running r = start(attend_test_packed_problem());
  expect_bad_numbers(&r, KV_LENGTHS, 0, (const int64_t[]){-1, 10, INT32_MIN, INT32_MAX}, 4);
  expect_bad_numbers(&r, KV_LENGTHS, 1, (const int64_t[]){-1, 7, 9, 10, INT32_MIN, INT32_MAX}, 6);
  integers(&r, KV_LENGTHS)[0] = 9, integers(&r, KV_LENGTHS)[1] = 6;
  expect_accepted(&r, &r.tensors.t, "all rows that there are");
  integers(&r, KV_STARTS)[1] = 8;
  expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, "kv_starts", "one row less");
  finish(&r);
}

Test(sequences, first_keys_may_be_any_but_negative) {
  running r = start(attend_test_full_problem());
  for (size_t at = 0; at < count_of(&r, KV_BEGINS); at++) {
    expect_bad_numbers(&r, KV_BEGINS, at, (const int64_t[]){-1, INT32_MIN}, 2);
    integers(&r, KV_BEGINS)[at] = INT32_MAX;
    expect_accepted(&r, &r.tensors.t, "no key left");
  }
  finish(&r);
}

/* Positions and key ranges have no bad values. */
Test(sequences, positions_and_key_ranges_may_be_any) {
  static const int32_t values[] = {INT32_MIN, INT32_MIN + 1, -1, 0, 9, 10, INT32_MAX};
  running r = start(attend_test_full_problem());
  for (size_t i = 0; i < COUNT(values); i++) {
    for (size_t at = 0; at < count_of(&r, POSITIONS); at++) integers(&r, POSITIONS)[at] = values[i];
    for (size_t at = 0; at < count_of(&r, KEY_RANGES); at++)
      integers(&r, KEY_RANGES)[at] = values[(i + at) % COUNT(values)];
    expect_accepted(&r, &r.tensors.t, "any position and range");
  }
  finish(&r);
}

Test(sequences, table_entries_that_are_read_name_pages) {
  attend_problem problem = attend_test_paged_problem();
  running r = start(problem);
  expect_accepted(&r, &r.tensors.t, "garbage where nothing is read");
  const int64_t bad[] = {-1, problem.pages, INT32_MIN, INT32_MAX};
  size_t read = 0;
  for (size_t at = 0; at < count_of(&r, BLOCK_TABLE); at++) {
    const size_t b = at / (size_t)problem.block_table_stride, n = at % (size_t)problem.block_table_stride;
    if ((int64_t)n * problem.page_rows >= integers(&r, KV_LENGTHS)[b]) continue;
    int32_t *entry = &integers(&r, BLOCK_TABLE)[at];
    const int32_t good = *entry;
    for (size_t i = 0; i < COUNT(bad); i++) {
      char value[64];
      *entry = (int32_t)bad[i];
      expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, "block_table", "an entry that names no page");
      snprintf(value, sizeof value, "[%zu, %zu] is %d,", b, n, (int)bad[i]);
      cr_expect_not_null(strstr(attend_error_detail(), value), "%s: %s", value, attend_error_detail());
    }
    *entry = good;
    read++;
  }
  cr_expect_eq(read, 5 + 3);
  /* a sequence that grows reads what was garbage */
  integers(&r, KV_LENGTHS)[1] = 7;
  expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, "block_table", "one key more");
  finish(&r);
}

Test(sequences, useful_parts_need_lengths_only) {
  for (int layout = 0; layout < LAYOUTS; layout++) {
    running r = start(everything(layout));
    attend_tensors lengths = ATTEND_TENSORS_INIT;
    lengths.kv_lengths = r.tensors.t.kv_lengths, lengths.kv_begins = r.tensors.t.kv_begins;
    lengths.q_starts = r.tensors.t.q_starts, lengths.kv_starts = r.tensors.t.kv_starts;
    const int parts = attend_plan_useful_parts(r.plan, &lengths);
    cr_expect(parts >= 1 && parts <= attend_plan_max_parts(r.plan), "%d parts", parts);
    cr_expect_eq(attend_plan_useful_parts(r.plan, NULL), 0);
    cr_expect_eq(attend_plan_useful_parts(NULL, &lengths), 0);
    lengths.struct_size = 120;
    cr_expect_eq(attend_plan_useful_parts(r.plan, &lengths), 0);
    finish(&r);
  }
  running plain = start(attend_test_problem(2, 4, 2, 5, 9, 8));
  cr_expect_eq(attend_plan_useful_parts(plain.plan, NULL), 0);
  cr_expect_geq(attend_plan_useful_parts(plain.plan, &plain.tensors.t), 1);
  finish(&plain);
}

Test(dropout, offsets_have_32_bits) {
  running r = start(everything(PLAIN));
  const uint64_t bad[] = {UINT64_C(1) << 32, UINT64_MAX};
  for (size_t i = 0; i < COUNT(bad); i++) {
    r.tensors.t.dropout_offset = bad[i];
    expect_refused(&r, &r.tensors.t, ATTEND_ERROR_INVALID_ARGUMENT, "dropout_offset", "an offset of 33 bits or more");
  }
  r.tensors.t.dropout_offset = UINT32_MAX, r.tensors.t.dropout_seed = UINT64_MAX;
  expect_accepted(&r, &r.tensors.t, "the largest offset and seed");
  finish(&r);
}

/* ---------------------------------------------------------------------------------------------------- workspaces */

/* All ways of running with a workspace refuse this one. */
static void expect_bad_workspace(running *r, const char *field, void *workspace, size_t size, const char *what) {
  const attend_tensors *t = &r->tensors.t;
  const attend_status expected = ATTEND_ERROR_WORKSPACE;
  if (workspace || size) EXPECT_ERROR(attend_plan_run(r->plan, t, workspace, size), expected, field, "%s", what);
  EXPECT_ERROR(attend_plan_begin(r->plan, t, workspace, size), expected, field, "begin: %s", what);
  EXPECT_ERROR(attend_plan_run_part(r->plan, t, workspace, size, 0, 1), expected, field, "part: %s", what);
  cr_expect(attend_test_untouched(&r->tensors), "%s: outputs were touched", what);
}

Test(workspace, must_be_large_and_aligned) {
  size_t checked = 0;
  const attend_problem problem = attend_test_full_problem();
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    if (!attend_test_can(attend_kernel_at(i), &problem)) continue;
    running r = {.problem = problem, .plan = attend_test_plan(&problem, attend_kernel_at(i)->name, 2)};
    r.tensors = attend_test_tensors_create(&problem);
    r.size = attend_plan_workspace_size(r.plan);
    cr_assert_gt(r.size, 0, "nothing to check: %s needs no workspace", attend_plan_kernel(r.plan));
    const size_t room =
        (r.size + 2 * ATTEND_WORKSPACE_ALIGNMENT - 1) / ATTEND_WORKSPACE_ALIGNMENT * ATTEND_WORKSPACE_ALIGNMENT;
    char *workspace = r.workspace = aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, room);
    cr_assert_not_null(workspace);
    expect_bad_workspace(&r, "workspace", NULL, r.size, "NULL with a size");
    expect_bad_workspace(&r, "workspace", NULL, 1, "NULL with a size of 1");
    expect_bad_workspace(&r, "workspace", NULL, SIZE_MAX, "NULL with the largest size");
    expect_bad_workspace(&r, "workspace", NULL, 0, "none");
    expect_bad_workspace(&r, "workspace_size", workspace, 0, "size 0");
    expect_bad_workspace(&r, "workspace_size", workspace, 1, "size 1");
    expect_bad_workspace(&r, "workspace_size", workspace, r.size - 1, "a byte too few");
    for (size_t shift = 1; shift < ATTEND_WORKSPACE_ALIGNMENT; shift++) {
      char what[40];
      snprintf(what, sizeof what, "%zu bytes off", shift);
      expect_bad_workspace(&r, "workspace", workspace + shift, r.size, what);
    }
    cr_expect_eq(attend_plan_run(r.plan, &r.tensors.t, workspace, r.size), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(attend_plan_run(r.plan, &r.tensors.t, workspace, SIZE_MAX / 2), ATTEND_OK, "%s",
                 attend_error_detail());
    cr_expect(attend_test_written(&r.tensors));
    finish(&r);
    checked++;
  }
  cr_expect_gt(checked, 0);
  attend_test_expect_no_leak();
}

/* --------------------------------------------------------------------------------------------------------- parts */

Test(parts, must_be_in_range) {
  running r = start(attend_test_problem(2, 8, 8, 64, 64, 16));
  const int most = attend_plan_max_parts(r.plan);
  cr_assert_eq(most, 3);
  const int bad[][2] = {
      {0, 0}, {0, -1},      {-1, 1},      {1, 1},       {most, most}, {-1, most},         {0, most + 1},
      {2, 2}, {INT_MAX, 3}, {INT_MIN, 3}, {0, INT_MAX}, {0, INT_MIN}, {INT_MIN, INT_MIN}, {most, most + 1}};
  cr_assert_eq(attend_plan_begin(r.plan, &r.tensors.t, r.workspace, r.size), ATTEND_OK);
  for (size_t i = 0; i < COUNT(bad); i++) {
    EXPECT_ERROR(attend_plan_run_part(r.plan, &r.tensors.t, r.workspace, r.size, bad[i][0], bad[i][1]),
                 ATTEND_ERROR_INVALID_ARGUMENT, bad[i][1] < 1 || bad[i][1] > most ? "parts" : "part", "part %d of %d",
                 bad[i][0], bad[i][1]);
  }
  cr_expect(attend_test_untouched(&r.tensors));
  /* and the run that was begun still gives its result */
  for (int part = 0; part < most; part++) {
    cr_expect_eq(attend_plan_run_part(r.plan, &r.tensors.t, r.workspace, r.size, part, most), ATTEND_OK);
  }
  cr_expect(attend_test_written(&r.tensors));
  finish(&r);
}
