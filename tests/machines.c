/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/machines.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* {present, efficiency, cache level, core, cache, node, group, bytes of cache} */
static const attend_processor hybrid[] = {
    {true, false, 3, 0, 0, 0, 0, 10 << 20}, {true, false, 3, 0, 0, 0, 0, 10 << 20},
    {true, false, 3, 2, 0, 0, 0, 10 << 20}, {true, false, 3, 2, 0, 0, 0, 10 << 20},
    {true, true, 3, 4, 0, 0, 0, 10 << 20},  {true, true, 3, 5, 0, 0, 0, 10 << 20},
    {true, true, 3, 6, 0, 0, 0, 10 << 20},  {true, true, 3, 7, 0, 0, 0, 10 << 20},
};
static const attend_processor big_little[] = {
    {true, true, 2, 0, 0, 0, 0, 512 << 10}, {true, true, 2, 1, 0, 0, 0, 512 << 10},
    {true, true, 2, 2, 0, 0, 0, 512 << 10}, {true, true, 2, 3, 0, 0, 0, 512 << 10},
    {true, false, 2, 4, 4, 0, 0, 1 << 20},  {true, false, 2, 5, 4, 0, 0, 1 << 20},
};

const attend_test_machine attend_test_machines[MACHINES] = {
    [TWO_SOCKETS] = {.name = "two sockets of 32 cores in 4 chiplets",
                     .regular = {2, 4, 8, 2},
                     .level = 3,
                     .bytes = 32 << 20,
                     .from = "pack:2 [numa] l3:4(size=33554432) l2:8 core:1 pu:2(indexes=2*64:1*2)",
                     .expected = {128, 64, 0, 2, 8, 64, 8}},
    [EIGHT_NODES] = {.name = "eight nodes",
                     .regular = {8, 1, 16, 1},
                     .level = 3,
                     .bytes = 64 << 20,
                     .from = "pack:2 die:4 [numa] l3:1(size=67108864) core:16 pu:1",
                     .expected = {128, 128, 0, 8, 8, 128, 16}},
    [HYBRID] = {.name = "hybrid laptop", .processors = hybrid, .from = "hybrid.xml", .expected = {8, 6, 4, 1, 1, 2, 6}},
    [FOUR_CORE_ARM] = {.name = "four-core Arm",
                       .regular = {1, 1, 4, 1},
                       .level = 2,
                       .bytes = 2 << 20,
                       .from = "pack:1 [numa] l2:1(size=2097152) l1:4 core:1 pu:1",
                       .expected = {4, 4, 0, 1, 1, 4, 4}},
    [BIG_LITTLE] = {.name = "Arm board of big and little cores",
                    .processors = big_little,
                    .from = "big-little.xml",
                    .expected = {6, 6, 4, 1, 2, 2, 4}},
    [ONE_CORE] = {.name = "one core",
                  .regular = {1, 1, 1, 1},
                  .level = 3,
                  .bytes = 4 << 20,
                  .from = "pack:1 [numa] l3:1(size=4194304) l2:1 core:1 pu:1",
                  .expected = {1, 1, 0, 1, 1, 1, 1}},
    [VIRTUAL] = {.name = "virtual machine with a cache for each core",
                 .regular = {1, 8, 1, 1},
                 .level = 3,
                 .bytes = 16 << 20,
                 .from = "[numa] pack:8 l3:1(size=16777216) core:1 pu:1",
                 .expected = {8, 8, 0, 1, 1, 8, 8}},
    [RECORDED] = {.name = "recorded: virtual machine on two cores of Zen 5",
                  .regular = {1, 1, 2, 1},
                  .level = 3,
                  .bytes = 32 << 20,
                  .from = "zen5-two-cores.xml",
                  .expected = {2, 2, 0, 1, 1, 2, 2}},
    [MANY_CACHES] = {.name = "more caches than groups",
                     .regular = {4, 32, 2, 1},
                     .level = 3,
                     .bytes = 8 << 20,
                     .from = "pack:4 [numa] l3:32(size=8388608) core:2 pu:1",
                     .expected = {256, 256, 0, 4, 4, 256, 64}},
    [MANY_NODES] = {.name = "more nodes than groups",
                    .regular = {80, 1, 2, 1},
                    .level = 3,
                    .bytes = 8 << 20,
                    .from = "pack:80 [numa] l3:1(size=8388608) core:2 pu:1",
                    .expected = {160, 160, 0, 80, 1, 160, 160}},
};

const attend_cpu_set attend_test_nowhere;

attend_cpu_set attend_test_range(int first, int last) {
  attend_cpu_set set = {0};
  for (int cpu = first; cpu <= last; cpu++) attend_cpu_set_add(&set, cpu);
  return set;
}

attend_topology *attend_test_describe(const attend_test_machine *m) {
  attend_topology *t = calloc(1, sizeof *t);
  cr_assert_not_null(t);
  t->end = m->expected.logical;
  if (m->processors) {
    memcpy(t->processor, m->processors, (size_t)m->expected.logical * sizeof *m->processors);
    return t;
  }
  const int cores = m->regular.cores, caches = m->regular.caches;
  for (int cpu = 0; cpu < m->expected.logical; cpu++) {
    const int core = cpu % m->expected.cores;
    t->processor[cpu] = (attend_processor){true,
                                           false,
                                           (uint8_t)m->level,
                                           (uint16_t)core,
                                           (uint16_t)(core / cores * cores),
                                           (uint16_t)(core / cores / caches),
                                           0,
                                           m->bytes};
  }
  return t;
}

attend_topology *attend_test_complete(const attend_test_machine *m) {
  attend_topology *t = attend_test_describe(m);
  attend_topology_complete(t);
  return t;
}
