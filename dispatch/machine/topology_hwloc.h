/* SPDX-License-Identifier: Apache-2.0 */
/** The topology as hwloc (https://www.open-mpi.org/projects/hwloc/) knows it, in libraries that are built with it. */
#ifndef ATTEND_DISPATCH_TOPOLOGY_HWLOC_H
#define ATTEND_DISPATCH_TOPOLOGY_HWLOC_H

#include "dispatch/machine/topology.h"

struct hwloc_topology;

/**
 * What attend_os_topology() does. False, with the topology still all zeros, if hwloc cannot say, or describes another
 * machine than this: HWLOC_XMLFILE and HWLOC_SYNTHETIC count with HWLOC_THISSYSTEM=1 only.
 */
bool attend_hwloc_topology(const attend_cpu_set *allowed, attend_topology *topology);

/** The same from a topology that is loaded. */
bool attend_hwloc_convert(struct hwloc_topology *loaded, const attend_cpu_set *allowed, attend_topology *topology);

#endif
