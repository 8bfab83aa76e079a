/* SPDX-License-Identifier: Apache-2.0 */
/** The machine: who is asked about it, and what follows from the answer. */
#include "dispatch/machine/topology.h"

#include <errno.h>
#include <string.h>

#include "dispatch/machine/topology_hwloc.h"
#include "dispatch/once.h"

int attend_cpu_set_next(const attend_cpu_set *set, int cpu) {
  for (; cpu < ATTEND_MOST_PROCESSORS; cpu = (cpu / ATTEND_WORD_BITS + 1) * ATTEND_WORD_BITS) {
    unsigned long rest = set->words[cpu / ATTEND_WORD_BITS] >> cpu % ATTEND_WORD_BITS;
    if (rest) return cpu + __builtin_ctzl(rest);
  }
  return ATTEND_MOST_PROCESSORS;
}

/* ---------------------------------------------------------------------------------------------------- what follows */

int attend_topology_typical(const attend_topology *t, const attend_cpu_set *allowed) {
  int typical = -1;
  for (int cpu = t->end - 1; cpu >= 0; cpu--) {
    const attend_processor *p = &t->processor[cpu], *best = typical < 0 ? NULL : &t->processor[typical];
    if (!p->present) continue;
    bool in = attend_cpu_set_has(allowed, cpu), best_in = best && attend_cpu_set_has(allowed, typical);
    if (!best || in > best_in || (in == best_in && p->efficiency <= best->efficiency)) typical = cpu;
  }
  return typical;
}

/** Nothing is known of a machine without any processor: it is taken to have one. */
static void count_processors(attend_topology *t) {
  if (attend_topology_typical(t, &(attend_cpu_set){0}) < 0) {
    t->processor[0] = (attend_processor){.present = true};
    t->end = 1;
  }
  int performance_cores = 0;
  for (int cpu = 0; cpu < t->end; cpu++) {
    attend_processor *p = &t->processor[cpu];
    if (!p->present) continue;
    if (!t->processor[p->core].present) p->core = (uint16_t)cpu;
    if (!t->processor[p->cache].present) p->cache = (uint16_t)cpu;
    t->logical++;
    if (p->core != cpu) continue;
    t->cores++;
    if (!p->efficiency) performance_cores++;
  }
  if (!performance_cores) /* then they are the fastest there are */
    for (int cpu = 0; cpu < t->end; cpu++) t->processor[cpu].efficiency = false;
  else
    t->efficiency_cores = t->cores - performance_cores;
}

static bool cores_share_caches(const attend_topology *t) {
  for (int cpu = 0; cpu < t->end; cpu++) {
    const attend_processor *p = &t->processor[cpu];
    if (p->present && p->core != t->processor[p->cache].core) return true;
  }
  return false;
}

/** What the processors of a group have in common. */
typedef enum grouping { BY_CACHE, BY_NODE, ALL_IN_ONE } grouping;

/** Puts a processor into its group, which may be a new one. False if there are too many. */
static bool join_group(attend_topology *t, attend_processor *p, grouping by) {
  int g = 0;
  for (; g < t->groups; g++) {
    const attend_group *group = &t->group[g];
    if (by == ALL_IN_ONE || (group->node == p->node && (by == BY_NODE || group->cache == p->cache))) break;
  }
  if (g == ATTEND_MOST_GROUPS) return false;
  if (g == t->groups) {
    t->group[t->groups++] = (attend_group){.node = p->node, .cache = p->cache};
    if (by == BY_CACHE) t->group[g].cache_level = p->cache_level, t->group[g].cache_bytes = p->cache_bytes;
  }
  p->group = (uint16_t)g;
  t->group[g].cores += p == &t->processor[p->core];
  return true;
}

/** Forms groups and counts nodes: node by node, so that the groups of a node are neighbours. False if too many. */
static bool form_groups(attend_topology *t, grouping by) {
  t->groups = t->nodes = 0;
  for (int node = -1, next;; node = next) {
    next = INT32_MAX;
    for (int cpu = 0; cpu < t->end; cpu++) {
      const attend_processor *p = &t->processor[cpu];
      if (p->present && p->node > node && p->node < next) next = p->node;
    }
    if (next == INT32_MAX) return true;
    t->nodes++;
    for (int cpu = 0; cpu < t->end; cpu++) {
      attend_processor *p = &t->processor[cpu];
      if (p->present && p->node == next && !join_group(t, p, by)) return false;
    }
  }
}

void attend_topology_complete(attend_topology *t) {
  count_processors(t);
  if (!(cores_share_caches(t) && form_groups(t, BY_CACHE)) && !form_groups(t, BY_NODE)) form_groups(t, ALL_IN_ONE);
  t->l1d_known = t->l1d > 0;
  t->l2_known = t->l2 > 0;
  t->l3_known = t->l3 > 0;
  if (!t->l1d_known) t->l1d = (size_t)32 << 10;
  if (!t->l2_known) t->l2 = (size_t)1 << 20;
  if (!t->l3_known) t->l3 = (size_t)8 << 20;
}

/* -------------------------------------------------------------------------------------------------------- detection */

static attend_once_flag once;
static attend_topology machine;

#ifdef ATTEND_HWLOC
/** Asks hwloc once only: a second time is in a child of fork(), where a lock of hwloc's may be held for ever. */
static bool ask_hwloc(const attend_cpu_set *allowed) {
  static bool asked;
  if (asked) return false;
  asked = true;
  return attend_hwloc_topology(allowed, &machine);
}
#else
static bool ask_hwloc(const attend_cpu_set *allowed) { return (void)allowed, false; }
#endif

static void detect(void) {
  const int saved_errno = errno;
  attend_cpu_set allowed;
  memset(&machine, 0, sizeof machine);
  attend_os_get_affinity(&allowed);
  if (!ask_hwloc(&allowed)) attend_os_topology(&allowed, &machine);
  attend_os_fill_in_caches(&machine);
  attend_topology_complete(&machine);
  machine.quota = attend_os_cpu_quota();
  errno = saved_errno;
}

const attend_topology *attend_topology_get(void) {
  attend_once(&once, detect);
  return &machine;
}

void attend_topology_set_test_machine(const attend_topology *topology) {
  attend_once(&once, detect);
  machine = *topology;
}

int attend_limit_cores(int cores) {
  const int quota = attend_topology_get()->quota;
  return quota && quota < cores ? quota : cores;
}

int attend_allowed_cores(void) {
  const attend_topology *t = attend_topology_get();
  attend_cpu_set allowed;
  int cores[ATTEND_MOST_GROUPS];
  attend_os_get_affinity(&allowed);
  int count = attend_count_cores(t, &allowed, false, cores);
  return attend_limit_cores(count ? count : t->cores);
}
