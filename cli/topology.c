/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/topology.h"

#include <stdio.h>

#include "dispatch/dispatch.h"

/* ------------------------------------------------------------------------------------------------------------ text */

/** "32 MiB" */
static const char *format_bytes(size_t bytes, char text[32]) {
  if (bytes >= (size_t)1 << 20 && bytes % ((size_t)1 << 20) == 0)
    snprintf(text, 32, "%zu MiB", bytes >> 20);
  else
    snprintf(text, 32, "%zu KiB", bytes >> 10);
  return text;
}

static void print_cache(const char *name, size_t bytes, bool known) {
  char text[32];
  printf("  %-20s %s%s\n", name, format_bytes(bytes, text), known ? "" : " (assumed: the system does not say)");
}

static bool are_alike(const attend_group *a, const attend_group *b) {
  return a->node == b->node && a->cores == b->cores && a->cache_level == b->cache_level &&
         a->cache_bytes == b->cache_bytes;
}

/** A line for each run of groups that are alike: "node 0  4 groups of 8 cores, each sharing 32 MiB of L3". */
static void print_groups(const attend_topology *t) {
  for (int g = 0, next; g < t->groups; g = next) {
    const attend_group *group = &t->group[g];
    char name[32] = "", text[32];
    for (next = g + 1; next < t->groups && are_alike(group, &t->group[next]);) next++;
    if (g == 0 || group->node != t->group[g - 1].node) snprintf(name, sizeof name, "node %d", group->node);
    printf("  %-20s ", name);
    if (next - g > 1) printf("%d groups of ", next - g);
    printf("%d core%s", group->cores, group->cores == 1 ? "" : "s");
    if (group->cache_level)
      printf(", %s %s of L%d",
             group->cores == 1 ? "with"
             : next - g > 1    ? "each sharing"
                               : "sharing",
             format_bytes(group->cache_bytes, text), group->cache_level);
    else if (group->cores > 1)
      printf(", sharing no cache");
    puts("");
  }
}

void attend_cli_print_topology(void) {
  const attend_topology *t = attend_topology_get();
  puts("\ncaches (one instance)");
  print_cache("L1 data", t->l1d, t->l1d_known);
  print_cache("L2", t->l2, t->l2_known);
  print_cache("L3", t->l3, t->l3_known);
  printf("\ntopology (from %s)\n  %-20s %d\n  %-20s %d", t->source, "logical processors", t->logical, "cores",
         t->cores);
  if (t->efficiency_cores)
    printf(" (%d performance, %d efficiency)", t->cores - t->efficiency_cores, t->efficiency_cores);
  printf(", of which this process may use %d\n", attend_allowed_cores());
  if (t->quota) printf("  %-20s the time of %d processor%s\n", "control group", t->quota, t->quota == 1 ? "" : "s");
  printf("  %-20s %d\n", "NUMA nodes", t->nodes);
  print_groups(t);
}

/* ------------------------------------------------------------------------------------------------------------ JSON */

static void add_cache(cJSON *caches, const char *name, size_t bytes, bool known) {
  cJSON *cache = cJSON_AddObjectToObject(caches, name);
  cJSON_AddNumberToObject(cache, "bytes", (double)bytes);
  cJSON_AddBoolToObject(cache, "known", known);
}

void attend_cli_add_topology(cJSON *root) {
  const attend_topology *t = attend_topology_get();
  cJSON *caches = cJSON_AddObjectToObject(root, "caches");
  add_cache(caches, "l1d", t->l1d, t->l1d_known);
  add_cache(caches, "l2", t->l2, t->l2_known);
  add_cache(caches, "l3", t->l3, t->l3_known);

  cJSON *topology = cJSON_AddObjectToObject(root, "topology");
  cJSON_AddStringToObject(topology, "source", t->source);
  cJSON_AddNumberToObject(topology, "logical", t->logical);
  cJSON_AddNumberToObject(topology, "cores", t->cores);
  cJSON_AddNumberToObject(topology, "efficiency_cores", t->efficiency_cores);
  cJSON_AddNumberToObject(topology, "allowed", attend_allowed_cores());
  cJSON_AddItemToObject(topology, "quota", t->quota ? cJSON_CreateNumber(t->quota) : cJSON_CreateNull());
  cJSON_AddNumberToObject(topology, "numa_nodes", t->nodes);
  cJSON *groups = cJSON_AddArrayToObject(topology, "groups");
  for (int g = 0; g < t->groups; g++) {
    cJSON *group = cJSON_CreateObject();
    cJSON_AddNumberToObject(group, "node", t->group[g].node);
    cJSON_AddNumberToObject(group, "cores", t->group[g].cores);
    cJSON_AddNumberToObject(group, "cache_level", t->group[g].cache_level);
    cJSON_AddNumberToObject(group, "cache_bytes", (double)t->group[g].cache_bytes);
    cJSON_AddItemToArray(groups, group);
  }
}
