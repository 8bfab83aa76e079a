/* SPDX-License-Identifier: Apache-2.0 */
/** How the work of a run is cut up where sequences have lengths of their own. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/run_state.h"
#include "tests/machines.h"
#include "tests/support.h"

enum { B = 32, THREADS = 16 };

static int32_t lengths[B];

/* 32 sequences of one query, on 8 key heads of 4 query heads each. */
static attend_problem decode_problem(void) {
  attend_problem p = attend_test_problem(B, 32, 8, 1, 8192, 16);
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH;
  /* One row for all keys: what is cut up does not depend on memory. */
  p.k_strides = p.v_strides = (attend_strides){0}, p.as_given = ATTEND_AS_GIVEN_STRIDES;
  p.q_strides = p.out_strides = (attend_strides){32 * 16, 16, 16};
  return p;
}

/* A run that has begun, with its workspace to be freed. */
static attend_run_state *begin(const attend_plan *plan, const int32_t *kv_begins) {
  static float q[B * 32 * 16], out[B * 32 * 16], row[16];
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = t.v = row, t.out = out, t.kv_lengths = lengths, t.kv_begins = kv_begins;
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  cr_assert_eq(attend_plan_begin(plan, &t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(attend_plan_useful_parts(plan, &t), ((attend_run_state *)workspace)->cut->useful);
  return workspace;
}

/* Keys of an item of a share: of a slice, or of a chunk. */
static int64_t item_keys(const attend_run_state *run, const attend_share *share) {
  const int64_t keys = lengths[share->sequence], split = run->cut->split_keys[share->way];
  return share->splits > 1 && split < keys ? split : keys;
}

/* A batch of one 8192-key sequence and thirty-one of 64 keys keeps 16 threads busy. */
Test(cut, a_long_sequence_among_short_ones_is_split) {
  const attend_problem problem = decode_problem();
  attend_plan *plan = attend_test_plan(&problem, NULL, THREADS);
  for (int b = 0; b < B; b++) lengths[b] = b == 13 ? 8192 : 64;
  attend_run_state *run = begin(plan, NULL);
  const int64_t all = 8 * (8192 + 31 * 64);
  cr_assert_eq(run->cut->shares, B);
  cr_expect_eq(run->shares[0].sequence, 13, "the longest first, not %d", (int)run->shares[0].sequence);
  cr_expect_gt(run->shares[0].splits, 1);
  for (int s = 0; s < B; s++)
    cr_expect_leq(item_keys(run, &run->shares[s]) * THREADS, all,
                  "an item of sequence %d has more than a thread's share", (int)run->shares[s].sequence);
  for (int s = 1; s < B; s++) cr_expect_eq(run->shares[s].splits, 1);
  free(run);
  attend_plan_destroy(plan);
}

Test(cut, sequences_of_one_length_are_not_split_where_there_are_many) {
  const attend_problem problem = decode_problem();
  attend_plan *plan = attend_test_plan(&problem, NULL, THREADS);
  for (int b = 0; b < B; b++) lengths[b] = 4096;
  attend_run_state *run = begin(plan, NULL);
  cr_expect_eq(run->cut->items, 8 * B);
  for (int s = 0; s < B; s++) cr_expect_eq(run->shares[s].splits, 1);
  free(run);
  attend_plan_destroy(plan);
}

/* Keys that nobody attends, before the first, are no work: not of a slice, and no reason to split. */
Test(cut, keys_before_the_first_make_no_slices) {
  attend_problem problem = decode_problem();
  problem.kv_begins = 1;
  attend_plan *plan = attend_test_plan(&problem, NULL, THREADS);
  int32_t begins[B];
  for (int b = 0; b < B; b++) lengths[b] = 8192, begins[b] = b == 5 ? 0 : b == 6 ? 9000 : 8000;
  attend_run_state *run = begin(plan, begins);
  cr_expect_eq(run->shares[0].sequence, 5);
  cr_expect_gt(run->shares[0].splits, 1);
  for (int s = 1; s < B; s++) cr_expect_eq(run->shares[s].splits, 1, "sequence %d", (int)run->shares[s].sequence);
  free(run);
  for (int b = 0; b < B; b++) begins[b] = 8000;
  run = begin(plan, begins);
  for (int s = 0; s < B; s++) cr_expect_eq(run->shares[s].splits, 1, "sequence %d", (int)run->shares[s].sequence);
  free(run);
  attend_plan_destroy(plan);
}

/* Whatever the lengths: items of shares follow one another, and partial results fit the room there is. */
Test(cut, everything_is_handed_out_once) {
  const attend_problem problem = decode_problem();
  attend_plan *plan = attend_test_plan(&problem, NULL, THREADS);
  for (int seed = 0; seed < 200; seed++) {
    srand((unsigned)seed);
    for (int b = 0; b < B; b++) lengths[b] = rand() % 5 == 0 ? 0 : rand() % (seed % 2 ? 8193 : 300);
    attend_run_state *run = begin(plan, NULL);
    int64_t items = 0, rows = 0, chunks = 0;
    for (int s = 0; s < run->cut->shares; s++) {
      const attend_share *share = &run->shares[s];
      cr_assert_eq(share->first_item, items);
      if (share->splits > 1) {
        cr_assert_eq(share->partials_at, rows);
        cr_assert_eq(share->first_chunk, chunks);
        rows += 8 * 4 * share->splits, chunks += 8 * share->chunks;
      }
      items += 8 * attend_head_items(plan, share);
    }
    cr_expect_eq(run->cut->shares, B, "a sequence without keys has its zeros to be written");
    cr_expect_eq(run->cut->items, items);
    cr_expect_eq(run->cut->split_chunks, chunks);
    cr_expect_leq(rows, plan->partial_rows);
    cr_expect_eq(run->cut->begin[0], 0);
    cr_expect_eq(run->cut->begin[plan->groups], items);
    free(run);
  }
  attend_plan_destroy(plan);
}

/* Each group of cores gets its share of the keys, though the longest sequences come first. */
Test(cut, groups_of_cores_share_the_work) {
  attend_topology *machine = attend_test_complete(&attend_test_machines[TWO_SOCKETS]);
  attend_topology_set_test_machine(machine);
  const attend_problem problem = decode_problem();
  attend_plan *plan = attend_test_plan(&problem, NULL, 64);
  cr_assert_gt(plan->groups, 1);
  double all = 0;
  for (int b = 0; b < B; b++) lengths[b] = 250 * (b + 1), all += 8.0 * lengths[b];
  attend_run_state *run = begin(plan, NULL);
  for (int g = 0; g < plan->groups; g++) {
    double keys = 0;
    for (int s = 0; s < run->cut->shares; s++) {
      const attend_share *share = &run->shares[s];
      const int64_t first = share->first_item, end = first + 8 * attend_head_items(plan, share);
      const int64_t from = first > run->cut->begin[g] ? first : run->cut->begin[g];
      const int64_t to = end < run->cut->begin[g + 1] ? end : run->cut->begin[g + 1];
      if (from < to) keys += 8.0 * lengths[share->sequence] * (double)(to - from) / (double)(end - first);
    }
    const double wanted = all * plan->cores[g] / plan->all_cores;
    cr_expect(keys > 0.8 * wanted && keys < 1.2 * wanted, "group %d has %g of %g keys", g, keys, wanted);
  }
  free(run);
  attend_plan_destroy(plan);
  free(machine);
}

Test(cut, useful_parts_follow_the_lengths) {
  const attend_problem problem = decode_problem();
  attend_plan *plan = attend_test_plan(&problem, NULL, THREADS);
  attend_tensors t = ATTEND_TENSORS_INIT;
  memset(lengths, 0, sizeof lengths);
  t.kv_lengths = lengths;
  cr_expect_eq(attend_plan_useful_parts(plan, &t), 1, "nothing but zeros to write");
  for (int b = 0; b < B; b++) lengths[b] = 8192;
  cr_expect_eq(attend_plan_useful_parts(plan, &t), THREADS);
  lengths[7] = 8193;
  cr_expect_eq(attend_plan_useful_parts(plan, &t), 0, "a length out of its bounds");
  cr_expect_eq(attend_plan_useful_parts(NULL, &t), 0);
  attend_plan_destroy(plan);
}
