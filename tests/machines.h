/* SPDX-License-Identifier: Apache-2.0 */
/** Machines that this one is not, for the tests of topology and placement. */
#ifndef ATTEND_TESTS_MACHINES_H
#define ATTEND_TESTS_MACHINES_H

#include "dispatch/machine/topology.h"

typedef struct attend_test_machine {
  const char *name;
  struct {
    int nodes, caches, cores, threads; /**< caches of a node, cores of a cache, threads of a core */
  } regular;                           /**< second threads are numbered after all first ones; or */
  const attend_processor *processors;
  int level;        /**< of the largest cache of a regular machine */
  size_t bytes;     /**< of that */
  const char *from; /**< for hwloc: a synthetic description, or a file of tests/topologies */
  struct {
    int logical, cores, efficiency_cores, nodes, groups, threads;
    int group_cores; /**< of the first group */
  } expected;
} attend_test_machine;

typedef enum attend_test_machine_name {
  TWO_SOCKETS,
  EIGHT_NODES,
  HYBRID,
  FOUR_CORE_ARM,
  BIG_LITTLE,
  ONE_CORE,
  VIRTUAL,
  RECORDED,
  MANY_CACHES,
  MANY_NODES,
  MACHINES
} attend_test_machine_name;

extern const attend_test_machine attend_test_machines[MACHINES];

extern const attend_cpu_set attend_test_nowhere; /**< no processor */
attend_cpu_set attend_test_range(int first, int last);

/** The processors of a machine, as every reader is to find them. Freed with free(). */
attend_topology *attend_test_describe(const attend_test_machine *machine);
/** The same, and what follows. */
attend_topology *attend_test_complete(const attend_test_machine *machine);

#endif
