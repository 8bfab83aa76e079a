/* SPDX-License-Identifier: Apache-2.0 */
/** Which cores a run is to use, and which of its work belongs to which cores: pure functions of the machine. */
#include <string.h>

#include "dispatch/topology.h"

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
