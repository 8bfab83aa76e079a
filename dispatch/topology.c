/* SPDX-License-Identifier: Apache-2.0 */
/** Cores and caches: what the system knows, and something sensible where it does not. */
#include "dispatch/once.h"

static attend_once_flag once;
static attend_topology topology;
static int quota;

static int limit(int cores) {
  if (cores < 1 || cores > topology.cores) cores = topology.cores;
  return quota && quota < cores ? quota : cores;
}

static void detect(void) {
  attend_topology *t = &topology;
  attend_os_topology(t);
  if (t->logical < 1) t->logical = 1;
  if (t->cores < 1 || t->cores > t->logical) t->cores = t->logical;
  if (t->nodes < 1) t->nodes = 1;
  t->l1d_known = t->l1d > 0;
  t->l2_known = t->l2 > 0;
  t->l3_known = t->l3 > 0;
  if (!t->l1d_known) t->l1d = (size_t)32 << 10;
  if (!t->l2_known) t->l2 = (size_t)1 << 20;
  if (!t->l3_known) t->l3 = (size_t)8 << 20;
  quota = attend_os_cpu_quota();
  t->allowed = limit(attend_os_affinity_cores());
}

const attend_topology *attend_topology_get(void) {
  attend_once(&once, detect);
  return &topology;
}

int attend_limit_cores(int cores) {
  attend_once(&once, detect);
  return limit(cores);
}

int attend_allowed_cores(void) {
  attend_once(&once, detect);
  return limit(attend_os_affinity_cores());
}
