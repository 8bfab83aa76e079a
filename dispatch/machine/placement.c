/* SPDX-License-Identifier: Apache-2.0 */
/** Which cores a run is to use, and which of its work belongs to which cores: pure functions of the machine. */
#include <string.h>

#include "dispatch/machine/topology.h"

int attend_count_cores(const attend_topology *t, const attend_cpu_set *set, bool performance_only,
                       int cores[ATTEND_MOST_GROUPS]) {
  attend_cpu_set seen = {0};
  int sum = 0;
  memset(cores, 0, (size_t)t->groups * sizeof *cores);
  for (int cpu = 0; cpu < t->end; cpu++) {
    const attend_processor *p = &t->processor[cpu];
    if (!p->present || (performance_only && p->efficiency)) continue;
    if ((set && !attend_cpu_set_has(set, cpu)) || attend_cpu_set_has(&seen, p->core)) continue;
    attend_cpu_set_add(&seen, p->core);
    cores[p->group]++;
    sum++;
  }
  return sum;
}

int attend_place(const attend_topology *topology, const attend_cpu_set *allowed, int threads,
                 int cores[ATTEND_MOST_GROUPS]) {
  const int wanted = threads > 0 ? threads : 1;
  int sum = attend_count_cores(topology, allowed, true, cores);
  if (sum < wanted) sum = attend_count_cores(topology, allowed, false, cores);
  if (sum < wanted) sum = attend_count_cores(topology, NULL, false, cores);
  return sum;
}

/** part / whole of `items`, of which there may be 2^62: exact to the item where that matters. */
static int64_t share(int64_t items, int part, int whole) { return items / whole * part + items % whole * part / whole; }

void attend_deal(int64_t items, int64_t together, const int *cores, int groups, int64_t *begin) {
  int sum = 0, with_cores = 0, before = 0;
  for (int g = 0; g < groups; g++) sum += cores[g], with_cores += cores[g] > 0;
  const int64_t flocks = items / together;
  begin[0] = 0;
  for (int g = 0; g < groups; g++) {
    before += cores[g];
    begin[g + 1] = share(items, before, sum);
    if (flocks >= with_cores) begin[g + 1] = (begin[g + 1] + together / 2) / together * together;
    if (before == sum || begin[g + 1] > items) begin[g + 1] = items;
  }
}

int attend_group_of_part(int part, int parts, const int *cores, int groups) {
  int sum = 0, g = 0;
  for (int i = 0; i < groups; i++) sum += cores[i];
  int64_t core = (int64_t)part * sum / parts;
  while (core >= cores[g]) core -= cores[g++];
  return g;
}
