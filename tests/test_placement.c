/* SPDX-License-Identifier: Apache-2.0 */
/** Placement: how many threads, on which cores, and which of the work belongs to which. */
#include <criterion/criterion.h>
#include <stdlib.h>

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
