/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch/machine/topology_hwloc.h"

#include <hwloc.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/machine/os.h"

static bool is_processor(unsigned number) { return number < ATTEND_MOST_PROCESSORS; }

static bool is_cache(hwloc_obj_t object) { return hwloc_obj_type_is_dcache(object->type); }

/** A processor, from the objects it is in: the largest cache is the last one on the way up. */
static attend_processor convert_processor(hwloc_obj_t pu) {
  attend_processor p = {.present = true, .core = (uint16_t)pu->os_index, .cache = (uint16_t)pu->os_index};
  const int node = pu->nodeset ? hwloc_bitmap_first(pu->nodeset) : -1;
  p.node = (uint16_t)(node > 0 ? node : 0);
  for (hwloc_obj_t o = pu->parent; o; o = o->parent) {
    if (o->type == HWLOC_OBJ_CORE) p.core = (uint16_t)hwloc_bitmap_first(o->cpuset);
    if (!is_cache(o)) continue;
    p.cache = (uint16_t)hwloc_bitmap_first(o->cpuset);
    p.cache_level = (uint8_t)o->attr->cache.depth;
    p.cache_bytes = (size_t)o->attr->cache.size;
  }
  return p;
}

/** LinuxCapacity is a number from 1 to 1024 that says how fast a processor is; Intel's slower cores are called Atom. */
static void mark_efficiency(hwloc_topology_t loaded, attend_topology *topology) {
  const int kinds = hwloc_cpukinds_get_nr(loaded, 0);
  hwloc_bitmap_t set = hwloc_bitmap_alloc();
  long fastest = 0;
  for (int pass = 0; set && pass < 2; pass++) {
    for (int kind = 0; kind < kinds; kind++) {
      struct hwloc_info_s *infos;
      unsigned count;
      long capacity = 0;
      bool atom = false;
      if (hwloc_cpukinds_get_info(loaded, (unsigned)kind, set, NULL, &count, &infos, 0) != 0) continue;
      for (unsigned i = 0; i < count; i++) {
        if (strcmp(infos[i].name, "LinuxCapacity") == 0) capacity = strtol(infos[i].value, NULL, 10);
        if (strcmp(infos[i].name, "CoreType") == 0) atom = strcmp(infos[i].value, "IntelAtom") == 0;
      }
      if (capacity > fastest) fastest = capacity;
      if (pass == 0 || !(atom || (capacity > 0 && capacity <= fastest / 2))) continue;
      for (int cpu = hwloc_bitmap_first(set); cpu >= 0 && cpu < topology->end; cpu = hwloc_bitmap_next(set, cpu))
        topology->processor[cpu].efficiency = true;
    }
  }
  hwloc_bitmap_free(set);
}

static void take_caches(hwloc_topology_t loaded, int cpu, attend_topology *topology) {
  hwloc_obj_t o = hwloc_get_pu_obj_by_os_index(loaded, (unsigned)cpu);
  for (; o; o = o->parent) {
    if (o->type == HWLOC_OBJ_L1CACHE) topology->l1d = (size_t)o->attr->cache.size;
    if (o->type == HWLOC_OBJ_L2CACHE) topology->l2 = (size_t)o->attr->cache.size;
    if (o->type == HWLOC_OBJ_L3CACHE) topology->l3 = (size_t)o->attr->cache.size;
  }
}

bool attend_hwloc_convert(hwloc_topology_t loaded, const attend_cpu_set *allowed, attend_topology *topology) {
  hwloc_obj_t pu = NULL;
  while ((pu = hwloc_get_next_obj_by_type(loaded, HWLOC_OBJ_PU, pu))) {
    if (!is_processor(pu->os_index)) continue;
    topology->processor[pu->os_index] = convert_processor(pu);
    if ((int)pu->os_index >= topology->end) topology->end = (int)pu->os_index + 1;
  }
  mark_efficiency(loaded, topology);
  if (hwloc_topology_is_thissystem(loaded)) attend_os_mark_efficiency(topology);
  const int typical = attend_topology_typical(topology, allowed);
  if (typical < 0) return false;
  take_caches(loaded, typical, topology);
  topology->source = "hwloc";
  return true;
}

/** The whole machine, whatever we may use of it. hwloc must not move the calling thread about to run CPUID everywhere.
 */
static bool load(hwloc_topology_t topology) {
  const unsigned long flags = HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED | HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING;
  return hwloc_topology_set_flags(topology, flags) == 0 && hwloc_topology_load(topology) == 0;
}

bool attend_hwloc_topology(const attend_cpu_set *allowed, attend_topology *topology) {
  hwloc_topology_t loaded;
  if (hwloc_topology_init(&loaded) != 0) return false;
  const bool known =
      load(loaded) && hwloc_topology_is_thissystem(loaded) && attend_hwloc_convert(loaded, allowed, topology);
  hwloc_topology_destroy(loaded);
  return known;
}
