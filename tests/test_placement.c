/* SPDX-License-Identifier: Apache-2.0 */
/** Placement: how many threads, on which cores, which of the work belongs to which, and that they begin with that. */
#define _GNU_SOURCE /* sched_setaffinity */
#include <criterion/criterion.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "tests/machines.h"
#include "tests/support.h"

typedef struct limit {
  int which, first, last; /* the processors that may be used */
  int threads;            /* asked for; 0 = none */
  int expected;           /* cores to run on */
  int first_group, last_group;
} limit;

Test(placement, obeys_affinity) {
  static const limit limits[] = {
      {TWO_SOCKETS, 0, 127, 0, 64, 0, 7},   {TWO_SOCKETS, 32, 63, 0, 32, 4, 7}, /* the second socket */
      {TWO_SOCKETS, 64, 95, 0, 32, 0, 3},                                       /* second threads of the first */
      {TWO_SOCKETS, 8, 15, 0, 8, 1, 1},     {TWO_SOCKETS, 63, 64, 0, 2, 0, 7},
      {TWO_SOCKETS, 5, 5, 0, 1, 0, 0},      {TWO_SOCKETS, 5, 5, 32, 64, 0, 7}, /* a bound thread makes a plan for 32 */
      {TWO_SOCKETS, 200, 300, 0, 64, 0, 7},                                    /* a mask of no processor that we know */
      {EIGHT_NODES, 16, 47, 0, 32, 1, 2},   {EIGHT_NODES, 0, 127, 8, 128, 0, 7},
      {HYBRID, 0, 7, 0, 2, 0, 0},           {HYBRID, 0, 7, 2, 2, 0, 0},
      {HYBRID, 0, 7, 3, 6, 0, 0},           {HYBRID, 4, 7, 0, 4, 0, 0}, /* efficiency cores, if there are no others */
      {HYBRID, 0, 1, 0, 1, 0, 0},           {BIG_LITTLE, 0, 5, 0, 2, 1, 1},
      {BIG_LITTLE, 0, 5, 6, 6, 0, 1},       {ONE_CORE, 0, 0, 0, 1, 0, 0},
      {ONE_CORE, 0, 0, 16, 1, 0, 0},        {FOUR_CORE_ARM, 1, 2, 0, 2, 0, 0},
      {VIRTUAL, 0, 7, 0, 8, 0, 0},
  };
  for (size_t i = 0; i < COUNT(limits); i++) {
    const limit *l = &limits[i];
    attend_topology *t = attend_test_complete(&attend_test_machines[l->which]);
    const attend_cpu_set allowed = attend_test_range(l->first, l->last);
    int cores[ATTEND_MOST_GROUPS], first = -1, last = -1, sum = 0;
    cr_expect_eq(attend_place(t, &allowed, l->threads, cores), l->expected, "case %zu", i);
    for (int g = 0; g < t->groups; g++) {
      sum += cores[g];
      if (cores[g] && first < 0) first = g;
      if (cores[g]) last = g;
    }
    cr_expect_eq(sum, l->expected, "case %zu", i);
    cr_expect_eq(first, l->first_group, "case %zu: group %d", i, first);
    cr_expect_eq(last, l->last_group, "case %zu: group %d", i, last);
    free(t);
  }
}

/* The control group's share of processor time limits the default, and nothing that is asked for. */
Test(placement, obeys_the_control_group) {
  unsetenv("ATTEND_NUM_THREADS"), unsetenv("OMP_NUM_THREADS");
  attend_topology *t = attend_test_complete(&attend_test_machines[TWO_SOCKETS]);
  for (t->quota = 0; t->quota <= 100; t->quota++) {
    attend_topology_set_test_machine(t);
    cr_expect_eq(attend_limit_cores(64), t->quota && t->quota < 64 ? t->quota : 64);
    cr_expect_leq(attend_default_threads(), t->quota ? t->quota : 64);
    if (t->quota == 1) cr_expect_eq(attend_default_threads(), 1);
    cr_expect_eq(attend_allowed_cores(), attend_default_threads());
  }
  t->quota = 1;
  attend_topology_set_test_machine(t);
  const attend_problem problem = attend_test_problem(1, 8, 8, 512, 512, 64);
  for (int asked = 0; asked <= 5; asked += 5) {
    attend_plan *plan = attend_test_plan(&problem, NULL, asked);
    cr_expect_eq(attend_plan_max_parts(plan), asked ? asked : 1);
    attend_plan_destroy(plan);
  }
  free(t);
}

/* ------------------------------------------------------------------------------------------------------- dealing */

static void expect_dealt(int64_t items, int64_t together, const int *cores, int groups, const int64_t *expected) {
  int64_t begin[ATTEND_MOST_GROUPS + 1];
  attend_deal(items, together, cores, groups, begin);
  for (int g = 0; g <= groups; g++) {
    cr_expect_eq(begin[g], expected[g], "%lld items by %lld: group %d begins at %lld, expected %lld", (long long)items,
                 (long long)together, g, (long long)begin[g], (long long)expected[g]);
  }
}

Test(deal, keeps_heads_together) {
  /* two sockets of four caches, a prompt of 8 key heads in 64 slices each: a head for each cache */
  expect_dealt(512, 64, (int[]){8, 8, 8, 8, 8, 8, 8, 8}, 8, (int64_t[]){0, 64, 128, 192, 256, 320, 384, 448, 512});
  /* 12 heads on 8 caches: nobody gets a part of a head to begin with */
  expect_dealt(120, 10, (int[]){8, 8, 8, 8, 8, 8, 8, 8}, 8, (int64_t[]){0, 20, 30, 50, 60, 80, 90, 110, 120});
  /* two heads on eight caches: they have to share */
  expect_dealt(128, 64, (int[]){8, 8, 8, 8, 8, 8, 8, 8}, 8, (int64_t[]){0, 16, 32, 48, 64, 80, 96, 112, 128});
  /* by cores: the second socket only; big cores and little ones */
  expect_dealt(100, 10, (int[]){0, 0, 8, 8}, 4, (int64_t[]){0, 0, 0, 50, 100});
  expect_dealt(60, 10, (int[]){4, 2}, 2, (int64_t[]){0, 40, 60});
  expect_dealt(60, 10, (int[]){2, 0}, 2, (int64_t[]){0, 60, 60});
  /* less than there are groups, and nothing */
  expect_dealt(3, 1, (int[]){1, 1, 1, 1}, 4, (int64_t[]){0, 0, 1, 2, 3});
  expect_dealt(0, 7, (int[]){1, 1}, 2, (int64_t[]){0, 0, 0});
}

static uint64_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return *state >> 33;
}

Test(deal, gives_every_item_to_one_group_and_to_each_its_share) {
  uint64_t state = 1;
  for (int round = 0; round < 20000; round++) {
    const int groups = 1 + (int)(next_random(&state) % ATTEND_MOST_GROUPS);
    const int64_t together = 1 + (int64_t)(next_random(&state) % (round % 2 ? 4 : 5000));
    const int64_t flocks = (int64_t)(next_random(&state) >> next_random(&state) % 30);
    const int64_t items = flocks * together;
    int cores[ATTEND_MOST_GROUPS], sum = 0, before = 0;
    for (int g = 0; g < groups; g++) sum += cores[g] = (int)(next_random(&state) % 9);
    if (sum == 0) cores[0] = sum = 1;
    int64_t begin[ATTEND_MOST_GROUPS + 1];
    attend_deal(items, together, cores, groups, begin);
    cr_assert_eq(begin[0], 0);
    cr_assert_eq(begin[groups], items);
    for (int g = 0; g < groups; g++) {
      cr_assert_leq(begin[g], begin[g + 1], "round %d, group %d", round, g);
      if (cores[g] == 0) cr_assert_eq(begin[g], begin[g + 1], "round %d: group %d has no core", round, g);
      if (flocks >= groups) cr_assert_eq(begin[g] % together, 0, "round %d: group %d splits a head", round, g);
      before += cores[g];
      const double ideal = (double)items * before / sum, off = (double)begin[g + 1] - ideal;
      cr_assert(off <= (double)together && off >= -(double)together, "round %d, group %d: %g off", round, g, off);
    }
  }
}

Test(deal, does_not_overflow) {
  const int64_t most = INT64_MAX / 2;
  int64_t begin[3];
  attend_deal(most, 1, (int[]){4096, 4096}, 2, begin);
  cr_expect_eq(begin[1], most / 2);
  cr_expect_eq(begin[2], most);
  attend_deal(most, most, (int[]){1, 1}, 2, begin);
  cr_expect_eq(begin[2], most);
}

Test(part, has_a_group_near_its_neighbours) {
  static const int cores[] = {8, 0, 8, 4};
  for (int parts = 1; parts <= 64; parts++) {
    int in[4] = {0};
    for (int part = 0, last = 0; part < parts; part++) {
      const int g = attend_group_of_part(part, parts, cores, 4);
      cr_assert(g >= last && g < 4, "part %d of %d is in group %d", part, parts, g);
      in[last = g]++;
    }
    cr_expect_eq(in[1], 0, "a group without cores gets a part");
    for (int g = 0; g < 4; g++) /* shares in proportion, to the next whole part */
      cr_expect(in[g] * 20 > (cores[g] * parts) - 20 && in[g] * 20 < cores[g] * parts + 20, "%d parts: %d in group %d",
                parts, in[g], g);
  }
}

/* ---------------------------------------------------------------------------------------------------------- runs */

/* Keeps the calling thread on one processor, and says which. */
static int stay(void) {
  cpu_set_t allowed, one;
  int cpu = 0;
  cr_assert_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  while (!CPU_ISSET(cpu, &allowed)) cpu++;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
  return cpu;
}

/* A machine of three caches on the nodes given, two cores each; the first is that of processor `cpu`. */
static attend_topology *three_caches(int cpu, const int *nodes) {
  attend_topology *t = calloc(1, sizeof *t);
  cr_assert_not_null(t);
  t->end = cpu + 6;
  for (int i = 0; i < 6; i++) {
    attend_processor p = {.present = true, .cache_level = 3, .core = (uint16_t)(cpu + i)};
    p.cache = (uint16_t)(cpu + i / 2 * 2), p.node = (uint16_t)nodes[i / 2];
    t->processor[cpu + i] = p;
  }
  attend_topology_complete(t);
  cr_assert_eq(t->groups, 3);
  return t;
}

static int heads[64], count; /* in the order in which they were begun */

static const float *first_head; /* of a plan's problem, whose heads lie one after the other */

static void note_head(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {
  (void)tiling, (void)scratch;
  const int head = (int)(((const float *)(const void *)slice->view->k.at - first_head) / (4096 * 64));
  if (count == 0 || heads[count - 1] != head) heads[count++] = head;
}

/* A part takes the heads of the caches it runs at, then those of its node, then the others; and none is left out. */
Test(run, begins_with_what_is_near) {
  static const struct {
    int nodes[3], heads[6];
  } cases[] = {{{0, 0, 1}, {0, 1, 2, 3, 4, 5}}, {{1, 0, 1}, {2, 3, 4, 5, 0, 1}}, {{1, 0, 0}, {4, 5, 0, 1, 2, 3}}};
  const attend_problem problem = attend_test_problem(1, 6, 6, 4096, 4096, 64);
  const int cpu = stay();
  for (size_t i = 0; i < COUNT(cases); i++) {
    attend_topology *t = three_caches(cpu, cases[i].nodes);
    attend_topology_set_test_machine(t);
    attend_plan *plan = attend_test_plan(&problem, NULL, 6), noting = *plan;
    attend_kernel kernel = *plan->choice.kernel;
    kernel.forward = note_head, noting.choice.kernel = &kernel;
    attend_test_tensors tensors = attend_test_tensors_create(&problem);
    size_t size;
    void *workspace = attend_test_workspace(plan, &size);
    cr_assert_eq(attend_plan_begin(&noting, &tensors.t, workspace, size), ATTEND_OK);
    count = 0, first_head = tensors.t.k;
    cr_assert_eq(attend_plan_run_part(&noting, &tensors.t, workspace, size, 3, 6), ATTEND_OK);
    cr_assert_eq(count, 6, "case %zu: %d heads", i, count);
    for (int j = 0; j < 6; j++)
      cr_expect_eq(heads[j], cases[i].heads[j], "case %zu, place %d: head %d", i, j, heads[j]);
    char text[400];
    attend_plan_explain(plan, text, sizeof text);
    cr_expect_not_null(strstr(text, "dealt out to 3 groups of cores"), "%s", text);
    free(workspace);
    attend_test_tensors_destroy(&tensors);
    attend_plan_destroy(plan);
    free(t);
  }
}

/* Whatever the machine, the bits are the same: by OpenMP, and in parts from the last to the first. */
Test(run, gives_the_same_bits_on_every_machine) {
  attend_problem problems[] = {attend_test_problem(1, 4, 2, 200, 200, 20), attend_test_problem(1, 8, 8, 1, 5003, 16),
                               attend_test_problem(5, 3, 3, 64, 130, 12), attend_test_problem(9, 4, 2, 20, 3000, 16)};
  problems[0].causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  problems[3].kv_lengths = ATTEND_LENGTHS_PER_BATCH, problems[3].q_starts = 1, problems[3].q_total = 9 * 20;
  for (size_t i = 0; i < COUNT(problems); i++) {
    attend_plan *plan = attend_test_plan(&problems[i], NULL, 1);
    attend_test_tensors expected = attend_test_run(plan, &problems[i]);
    attend_plan_destroy(plan);
    int dealt = 0;
    for (int m = 0; m < MACHINES; m++) {
      attend_topology *t = attend_test_complete(&attend_test_machines[m]);
      attend_topology_set_test_machine(t);
      for (int threads = 2; threads <= 8; threads += 3) {
        plan = attend_test_plan(&problems[i], NULL, threads);
        attend_test_tensors tensors = attend_test_run(plan, &problems[i]);
        dealt += plan->groups > 1;
        cr_expect(attend_test_same(&tensors, &expected), "problem %zu, %s, %d threads", i, attend_test_machines[m].name,
                  threads);
        attend_test_reset(&tensors);
        size_t size;
        void *workspace = attend_test_workspace(plan, &size);
        cr_assert_eq(attend_plan_begin(plan, &tensors.t, workspace, size), ATTEND_OK);
        for (int part = threads - 1; part >= 0; part--) {
          cr_expect_eq(attend_plan_run_part(plan, &tensors.t, workspace, size, part, threads), ATTEND_OK);
        }
        cr_expect(attend_test_same(&tensors, &expected), "problem %zu, %s, %d parts", i, attend_test_machines[m].name,
                  threads);
        free(workspace);
        attend_test_tensors_destroy(&tensors);
        attend_plan_destroy(plan);
      }
      free(t);
    }
    cr_expect_gt(dealt, 0, "problem %zu: all of it was one group's", i);
    attend_test_tensors_destroy(&expected);
  }
  attend_test_expect_no_leak();
}
