/* SPDX-License-Identifier: Apache-2.0 */
/** Linux: processors, caches, memory nodes and kinds of cores from the files of sysfs, where hwloc is not there to ask.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dispatch/machine/os.h"
#include "dispatch/machine/os_linux.h"

static const char *const real = "/sys";

/** Reads the file of a name below `sys`, printf-like. */
static bool read_file(char *text, size_t size, const char *sys, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool read_file(char *text, size_t size, const char *sys, const char *format, ...) {
  char path[512];
  int length = snprintf(path, sizeof path, "%s/devices/", sys);
  if (length < 0 || (size_t)length >= sizeof path) return false;
  va_list arguments;
  va_start(arguments, format);
  int rest = vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
  va_end(arguments);
  return rest >= 0 && (size_t)rest < sizeof path - (size_t)length && attend_linux_read_file(path, text, size);
}

/** Reads a list such as "0-3,8", as far as it is one. Returns its first number, or -1. */
static int parse_list(const char *list, attend_cpu_set *set) {
  unsigned first, last;
  int length;
  while (sscanf(list, "%u%n", &first, &length) == 1) {
    list += length, last = first;
    if (sscanf(list, "-%u%n", &last, &length) == 1) list += length;
    for (unsigned cpu = first; cpu <= last && cpu < ATTEND_MOST_PROCESSORS; cpu++) attend_cpu_set_add(set, (int)cpu);
    if (*list++ != ',') break;
  }
  int least = attend_cpu_set_next(set, 0);
  return least < ATTEND_MOST_PROCESSORS ? least : -1;
}

static void read_processors(const char *sys, attend_topology *t) {
  attend_cpu_set online = {0};
  char text[4096];
  if (!read_file(text, sizeof text, sys, "system/cpu/online") || parse_list(text, &online) < 0) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    for (long cpu = 0; cpu < count && cpu < ATTEND_MOST_PROCESSORS; cpu++) attend_cpu_set_add(&online, (int)cpu);
  }
  for (int cpu = attend_cpu_set_next(&online, 0); cpu < ATTEND_MOST_PROCESSORS;
       cpu = attend_cpu_set_next(&online, cpu + 1)) {
    t->processor[cpu] = (attend_processor){.present = true, .core = (uint16_t)cpu, .cache = (uint16_t)cpu};
    t->end = cpu + 1;
  }
}

/** The nodes say which processors are theirs. */
static void read_nodes(const char *sys, attend_topology *t) {
  attend_cpu_set nodes = {0};
  char text[4096];
  if (!read_file(text, sizeof text, sys, "system/node/online") || parse_list(text, &nodes) < 0) return;
  for (int node = attend_cpu_set_next(&nodes, 0); node < ATTEND_MOST_PROCESSORS;
       node = attend_cpu_set_next(&nodes, node + 1)) {
    attend_cpu_set own = {0};
    if (!read_file(text, sizeof text, sys, "system/node/node%d/cpulist", node)) continue;
    parse_list(text, &own);
    for (int cpu = 0; cpu < t->end; cpu++)
      if (attend_cpu_set_has(&own, cpu)) t->processor[cpu].node = (uint16_t)node;
  }
}

static void read_cores(const char *sys, attend_topology *t) {
  for (int cpu = 0; cpu < t->end; cpu++) {
    attend_cpu_set siblings = {0};
    char text[4096];
    if (!t->processor[cpu].present || t->processor[cpu].core != cpu) continue;
    if (!read_file(text, sizeof text, sys, "system/cpu/cpu%d/topology/thread_siblings_list", cpu)) continue;
    if (parse_list(text, &siblings) != cpu) continue;
    for (int other = cpu; other < t->end; other = attend_cpu_set_next(&siblings, other + 1))
      t->processor[other].core = (uint16_t)cpu;
  }
}

/** A data or unified cache of a processor: its level, or 0 if there is none of that index, -1 if it is another kind. */
static int read_cache(const char *sys, int cpu, int index, size_t *bytes) {
  char text[64], unit = 0;
  unsigned level;
  unsigned long size;
  if (!read_file(text, sizeof text, sys, "system/cpu/cpu%d/cache/index%d/level", cpu, index) ||
      sscanf(text, "%u", &level) != 1 || level < 1 || level > 9)
    return 0;
  if (!read_file(text, sizeof text, sys, "system/cpu/cpu%d/cache/index%d/type", cpu, index) ||
      strncmp(text, "Instruction", 11) == 0)
    return -1;
  *bytes = 0;
  if (read_file(text, sizeof text, sys, "system/cpu/cpu%d/cache/index%d/size", cpu, index) &&
      sscanf(text, "%lu%c", &size, &unit) >= 1)
    *bytes = (size_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
  return (int)level;
}

/** The largest cache of a processor, and with whom it shares that: the others then need not be asked. */
static void read_largest_cache(const char *sys, int cpu, attend_topology *t) {
  attend_processor *p = &t->processor[cpu];
  attend_cpu_set sharers = {0};
  char text[4096];
  int largest = -1;
  size_t bytes;
  for (int index = 0, level; (level = read_cache(sys, cpu, index, &bytes)) != 0; index++)
    if (level > p->cache_level) largest = index, p->cache_level = (uint8_t)level, p->cache_bytes = bytes;
  if (largest < 0 ||
      !read_file(text, sizeof text, sys, "system/cpu/cpu%d/cache/index%d/shared_cpu_list", cpu, largest) ||
      parse_list(text, &sharers) != cpu)
    return;
  for (int other = cpu; other < t->end; other = attend_cpu_set_next(&sharers, other + 1)) {
    t->processor[other].cache = (uint16_t)cpu;
    t->processor[other].cache_level = p->cache_level;
    t->processor[other].cache_bytes = p->cache_bytes;
  }
}

static void read_caches(const char *sys, const attend_cpu_set *allowed, attend_topology *t) {
  for (int cpu = 0; cpu < t->end; cpu++)
    if (t->processor[cpu].present && t->processor[cpu].cache == cpu) read_largest_cache(sys, cpu, t);
  const int typical = attend_topology_typical(t, allowed);
  size_t bytes;
  for (int index = 0, level; (level = read_cache(sys, typical, index, &bytes)) != 0; index++) {
    if (level == 1) t->l1d = bytes;
    if (level == 2) t->l2 = bytes;
    if (level == 3) t->l3 = bytes;
  }
}

static void mark_efficiency(const char *sys, attend_topology *t) {
  attend_cpu_set atoms = {0};
  uint16_t capacity[ATTEND_MOST_PROCESSORS];
  unsigned fastest = 0, number;
  char text[4096];
  if (read_file(text, sizeof text, sys, "cpu_atom/cpus")) parse_list(text, &atoms);
  for (int cpu = 0; cpu < t->end; cpu++) {
    capacity[cpu] = 0;
    if (!t->processor[cpu].present) continue;
    if (!read_file(text, sizeof text, sys, "system/cpu/cpu%d/cpu_capacity", cpu)) continue;
    if (sscanf(text, "%u", &number) == 1 && number <= UINT16_MAX) capacity[cpu] = (uint16_t)number;
    if (capacity[cpu] > fastest) fastest = capacity[cpu];
  }
  for (int cpu = 0; cpu < t->end; cpu++)
    if (attend_cpu_set_has(&atoms, cpu) || (capacity[cpu] > 0 && capacity[cpu] <= fastest / 2))
      t->processor[cpu].efficiency = true;
}

void attend_linux_topology(const char *sys, const attend_cpu_set *allowed, attend_topology *topology) {
  read_processors(sys, topology);
  read_nodes(sys, topology);
  read_cores(sys, topology);
  mark_efficiency(sys, topology);
  read_caches(sys, allowed, topology);
  topology->source = "Linux";
}

void attend_os_mark_efficiency(attend_topology *topology) { mark_efficiency(real, topology); }

void attend_os_topology(const attend_cpu_set *allowed, attend_topology *topology) {
  attend_linux_topology(real, allowed, topology);
}

void attend_os_fill_in_caches(attend_topology *topology) {
#ifdef _SC_LEVEL1_DCACHE_SIZE
  long l1d = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (!topology->l1d && l1d > 0) topology->l1d = (size_t)l1d;
  if (!topology->l2 && l2 > 0) topology->l2 = (size_t)l2;
  if (!topology->l3 && l3 > 0) topology->l3 = (size_t)l3;
#else
  (void)topology; /* musl does not say */
#endif
}
