/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The machine: its processors, the caches that cores share, its memory nodes; and what follows from them for a run.
 *
 * Where it comes from: hwloc (topology_hwloc.c), if the library is built with it and it knows this machine, else the
 * system itself (os_*.c). Both fill in the same facts, and everything that is decided is decided from
 * those, here and in placement.c, so that tests can have any machine.
 */
#ifndef ATTEND_DISPATCH_TOPOLOGY_H
#define ATTEND_DISPATCH_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATTEND_MOST_PROCESSORS = 8192, ATTEND_MOST_GROUPS = 64, ATTEND_WORD_BITS = 8 * (int)sizeof(unsigned long) };

/* ----------------------------------------------------------------------------------------------- sets of processors */

/** A set of logical processors by the system's numbers, laid out as Linux does. */
typedef struct attend_cpu_set {
  unsigned long words[ATTEND_MOST_PROCESSORS / ATTEND_WORD_BITS];
} attend_cpu_set;

static inline void attend_cpu_set_add(attend_cpu_set *set, int cpu) {
  set->words[cpu / ATTEND_WORD_BITS] |= 1ul << cpu % ATTEND_WORD_BITS;
}

static inline bool attend_cpu_set_has(const attend_cpu_set *set, int cpu) {
  return set->words[cpu / ATTEND_WORD_BITS] >> cpu % ATTEND_WORD_BITS & 1;
}

/** The first processor of the set from `cpu` on, or ATTEND_MOST_PROCESSORS. */
int attend_cpu_set_next(const attend_cpu_set *set, int cpu);

/* ------------------------------------------------------------------------------------------------------ the machine */

/** A logical processor. Another processor stands for what several have in common: the first that has it. */
typedef struct attend_processor {
  bool present;
  bool efficiency;     /**< of an efficiency core: one of half the speed of the machine's fastest, or less */
  uint8_t cache_level; /**< of the largest cache it has; 0 = unknown */
  uint16_t core;       /**< the first processor of its core */
  uint16_t cache;      /**< the first processor with the same largest cache */
  uint16_t node;       /**< its memory node, by the system's number */
  uint16_t group;      /**< see attend_group */
  size_t cache_bytes;
} attend_processor;

/** Cores that share a cache and a memory node; where no two cores share a cache, or there are too many: a node. */
typedef struct attend_group {
  int node, cores;
  int cache_level; /**< 0 = they share no cache */
  size_t cache_bytes;
  uint16_t cache; /**< as in attend_processor */
} attend_group;

typedef struct attend_topology {
  int logical;          /**< logical processors of the machine */
  int cores;            /**< physical cores of the machine */
  int efficiency_cores; /**< of those; 0 where all are of one kind */
  int nodes;            /**< memory (NUMA) nodes that have processors */
  int groups;
  size_t l1d, l2, l3; /**< bytes; of one instance of each level. Never 0: a common size where unknown */
  bool l1d_known, l2_known, l3_known;
  int quota;          /**< processors' worth of time that the control group grants this process; 0 = no limit */
  const char *source; /**< "hwloc" or the system's name */
  attend_group group[ATTEND_MOST_GROUPS]; /**< those of a node are neighbours */
  int end;                                /**< one more than the greatest number of a processor */
  attend_processor processor[ATTEND_MOST_PROCESSORS];
} attend_topology;

/* ------------------------------------------------------------------------------------------------------- topology.c */

/** The machine this process runs on, detected once. */
const attend_topology *attend_topology_get(void);

/** For tests: another machine takes its place. Not thread-safe. */
void attend_topology_set_test_machine(const attend_topology *topology);

/** Physical cores the calling thread may use now, by its affinity mask and the control group's quota; at least 1. */
int attend_allowed_cores(void);
/** `cores`, but no more than the control group's quota allows. */
int attend_limit_cores(int cores);

/**
 * For readers: which processor's caches to take for those of the machine. The first of `allowed`, performance cores
 * before efficiency cores; -1 if there is no processor.
 */
int attend_topology_typical(const attend_topology *topology, const attend_cpu_set *allowed);

/** For readers: fills in what follows from the processors and puts common sizes in place of unknown caches. */
void attend_topology_complete(attend_topology *topology);

/* ------------------------------------------------------------------------------------------------------ placement.c */

/** Cores of a set of processors, or of the machine if `set` is NULL: those of each group, and their sum. */
int attend_count_cores(const attend_topology *topology, const attend_cpu_set *set, bool performance_only,
                       int cores[ATTEND_MOST_GROUPS]);

/**
 * Cores to run `threads` threads on (0 = as many as there are cores), as numbers of cores of each group. They are the
 * performance cores among `allowed`; or all cores of it, if those are too few; or all of the machine, since a mask with
 * fewer cores than threads belongs to a thread that was bound by its owner, and says nothing of the others. Returns
 * their sum, which is at least 1.
 *
 * Efficiency cores are left out unless asked for: the last item of a run, on a core of half the speed or less, keeps
 * all the others waiting for as long as they took for two or more of the four or so items that each has.
 */
int attend_place(const attend_topology *topology, const attend_cpu_set *allowed, int threads,
                 int cores[ATTEND_MOST_GROUPS]);

/**
 * Deals `items` items out to groups in proportion to their cores: group g begins with those from begin[g] on, up to
 * begin[g + 1]. `together` neighbours, which read the same keys and values, stay in one group, unless there are fewer
 * such flocks than groups that have cores.
 */
void attend_deal(int64_t items, int64_t together, const int *cores, int groups, int64_t *begin);

/** The group that a part belongs to where nothing else is known: parts spread evenly over the cores, in their order. */
int attend_group_of_part(int part, int parts, const int *cores, int groups);

#endif
