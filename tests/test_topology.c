/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Machines that this one is not: each is read from a sysfs tree made here and, where the library is built with hwloc,
 * from hwloc's description of it, and both have to say the same. What is decided from that, threads and the placement
 * of work, is compared with what the shape of the machine asks for.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dispatch/machine/os_linux.h"
#include "dispatch/machine/topology_hwloc.h"
#include "tests/machines.h"
#include "tests/support.h"

#ifdef ATTEND_HWLOC
#include <hwloc.h>
#endif

static void expect_same_processors(const attend_topology *got, const attend_topology *expected,
                                   const attend_test_machine *m, const char *source) {
  cr_expect_eq(got->end, expected->end, "%s, %s: %d processors", m->name, source, got->end);
  for (int cpu = 0; cpu < expected->end; cpu++) {
    const attend_processor *a = &got->processor[cpu], *b = &expected->processor[cpu];
    const bool same = a->present == b->present && a->efficiency == b->efficiency && a->cache_level == b->cache_level &&
                      a->core == b->core && a->cache == b->cache && a->node == b->node &&
                      a->cache_bytes == b->cache_bytes;
    cr_expect(same, "%s, %s: processor %d: core %d, cache %d (L%d, %zu bytes), node %d, efficiency %d", m->name, source,
              cpu, a->core, a->cache, a->cache_level, a->cache_bytes, a->node, a->efficiency);
  }
}

/* --------------------------------------------------------------------------------------------------------- sysfs */

static char tree[200];

static void remove_tree(void) {
  char command[300];
  snprintf(command, sizeof command, "rm -rf %s", tree);
  if (*tree && system(command) != 0) fprintf(stderr, "cannot remove %s\n", tree);
  *tree = 0;
}

static void make_tree(void) {
  snprintf(tree, sizeof tree, "%s/attend-sysfs-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : P_tmpdir);
  cr_assert_not_null(mkdtemp(tree));
}

/* Writes a file of the tree, its directories included. */
static void put(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(const char *text, const char *format, ...) {
  char path[400];
  int length = snprintf(path, sizeof path, "%s/devices/", tree);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
  va_end(arguments);
  for (char *slash = path + strlen(tree) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    cr_assert(mkdir(path, 0700) == 0 || errno == EEXIST, "%s: %s", path, strerror(errno));
    *slash = '/';
  }
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file, "%s: %s", path, strerror(errno));
  fprintf(file, "%s\n", text);
  fclose(file);
}

/* "0-3,64-67": the processors for which `in` is true of what they have in common with `cpu`. */
static const char *list(const attend_topology *t, int cpu,
                        bool (*in)(const attend_processor *, const attend_processor *)) {
  static char text[4096];
  int length = 0;
  *text = 0;
  for (int first = 0, last; first < t->end; first = last + 1) {
    last = first;
    if (!in(&t->processor[first], &t->processor[cpu])) continue;
    while (last + 1 < t->end && in(&t->processor[last + 1], &t->processor[cpu])) last++;
    length += snprintf(text + length, sizeof text - (size_t)length, length ? ",%d" : "%d", first);
    if (last > first) length += snprintf(text + length, sizeof text - (size_t)length, "-%d", last);
  }
  return text;
}

static bool any(const attend_processor *a, const attend_processor *b) { return a->present && b; }
static bool same_core(const attend_processor *a, const attend_processor *b) { return a->core == b->core; }
static bool same_cache(const attend_processor *a, const attend_processor *b) { return a->cache == b->cache; }
static bool same_node(const attend_processor *a, const attend_processor *b) { return a->node == b->node; }
static bool efficient(const attend_processor *a, const attend_processor *b) { return a->efficiency && b; }

static void put_cache(int cpu, int index, int level, const char *type, size_t kib, const char *sharers) {
  char text[32];
  snprintf(text, sizeof text, "%d", level);
  put(text, "system/cpu/cpu%d/cache/index%d/level", cpu, index);
  put(type, "system/cpu/cpu%d/cache/index%d/type", cpu, index);
  snprintf(text, sizeof text, "%zuK", kib);
  put(text, "system/cpu/cpu%d/cache/index%d/size", cpu, index);
  put(sharers, "system/cpu/cpu%d/cache/index%d/shared_cpu_list", cpu, index);
}

/* What Linux would show of a machine. Intel lists its efficiency cores, Arm gives each processor a capacity. */
static void put_machine(const attend_topology *t, bool intel) {
  char text[32];
  put(list(t, 0, any), "system/cpu/online");
  for (int cpu = 0; cpu < t->end; cpu++) {
    const attend_processor *p = &t->processor[cpu];
    put(list(t, cpu, same_core), "system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    put_cache(cpu, 0, 1, "Data", 32, list(t, cpu, same_core));
    put_cache(cpu, 1, 1, "Instruction", 64, list(t, cpu, same_core));
    put_cache(cpu, 2, p->cache_level, "Unified", p->cache_bytes >> 10, list(t, cpu, same_cache));
    put(p->efficiency && !intel ? "250" : "1024", "system/cpu/cpu%d/cpu_capacity", cpu);
    snprintf(text, sizeof text, "system/node/node%d/cpulist", p->node);
    put(list(t, cpu, same_node), "%s", text);
  }
  snprintf(text, sizeof text, "0-%d", t->processor[t->end - 1].node);
  put(text, "system/node/online");
  if (intel) put(list(t, 0, efficient), "cpu_atom/cpus");
}

TestSuite(sysfs, .init = make_tree, .fini = remove_tree);

Test(sysfs, tells_of_every_machine) {
  for (size_t i = 0; i < MACHINES; i++) {
    const attend_test_machine *m = &attend_test_machines[i];
    attend_topology *expected = attend_test_describe(m), *got = calloc(1, sizeof *got);
    put_machine(expected, i == HYBRID);
    attend_linux_topology(tree, &attend_test_nowhere, got);
    expect_same_processors(got, expected, m, "sysfs");
    cr_expect_str_eq(got->source, "Linux");
    cr_expect_eq(got->l1d, 32 << 10, "%s: L1 of %zu bytes", m->name, got->l1d);
    const size_t largest = expected->processor[i == BIG_LITTLE ? 4 : 0].cache_bytes; /* a performance core's */
    cr_expect_eq(m->level == 3 || i == HYBRID ? got->l3 : got->l2, largest, "%s", m->name);
    free(got);
    free(expected);
    remove_tree();
    make_tree();
  }
}

/* Files that are missing, empty, or hold what they should not: every processor is then a core of its own. */
Test(sysfs, survives_anything) {
  static const char *const texts[] = {"",  "\n",   "-",    "x",    "-1",      "99999999999999999999", "3-1", "0-",
                                      ",", "0,,1", "8191", "8192", "0-99999", "4294967296",           "%s%n"};
  for (size_t i = 0; i < COUNT(texts); i++) {
    for (int file = 0; file < 7; file++) {
      attend_topology *expected = attend_test_describe(&attend_test_machines[FOUR_CORE_ARM]),
                      *got = calloc(1, sizeof *got);
      put_machine(expected, false);
      static const char *const files[] = {"system/cpu/online",
                                          "system/cpu/cpu0/topology/thread_siblings_list",
                                          "system/cpu/cpu0/cache/index2/shared_cpu_list",
                                          "system/node/online",
                                          "system/node/node0/cpulist",
                                          "system/cpu/cpu1/cpu_capacity",
                                          "system/cpu/cpu0/cache/index2/level"};
      put(texts[i], "%s", files[file]);
      attend_linux_topology(tree, &attend_test_nowhere, got);
      attend_topology_complete(got);
      cr_expect_geq(got->cores, 1, "%s is \"%s\"", files[file], texts[i]);
      cr_expect_geq(got->logical, got->cores);
      cr_expect_geq(got->groups, 1);
      int cores[ATTEND_MOST_GROUPS];
      cr_expect_geq(attend_place(got, &attend_test_nowhere, 0, cores), 1);
      free(got);
      free(expected);
    }
  }
  remove_tree(); /* nothing there at all */
  attend_topology *got = calloc(1, sizeof *got);
  attend_linux_topology("/nonexistent", &attend_test_nowhere, got);
  attend_topology_complete(got);
  cr_expect_eq(got->cores, got->logical);
  cr_expect_eq(got->nodes, 1);
  cr_expect_eq(got->groups, 1);
  cr_expect_not(got->l1d_known || got->l2_known || got->l3_known);
  cr_expect_gt(got->l2, 0);
  free(got);
}

/* --------------------------------------------------------------------------------------------------------- hwloc */

#ifdef ATTEND_HWLOC
/* What hwloc says of an XML text, or of a synthetic description if `size` is 0. False if it refuses. */
static bool load(const char *text, size_t size, attend_topology *t) {
  hwloc_topology_t loaded;
  memset(t, 0, sizeof *t);
  cr_assert_eq(hwloc_topology_init(&loaded), 0);
  const int set =
      size ? hwloc_topology_set_xmlbuffer(loaded, text, (int)size) : hwloc_topology_set_synthetic(loaded, text);
  const bool ok = set == 0 && hwloc_topology_load(loaded) == 0 && attend_hwloc_convert(loaded, &attend_test_nowhere, t);
  hwloc_topology_destroy(loaded);
  return ok;
}

/* The text of a file of tests/topologies, with a zero at its end, and its length. */
static char *read_xml(const char *name, size_t *length) {
  static char text[16384];
  char path[512];
  snprintf(path, sizeof path, "%s/tests/topologies/%s", getenv("SOURCE_DIR") ? getenv("SOURCE_DIR") : ".", name);
  FILE *file = fopen(path, "r");
  cr_assert_not_null(file, "%s: %s", path, strerror(errno));
  *length = fread(text, 1, sizeof text - 1, file);
  cr_assert_lt(*length, sizeof text - 1);
  text[*length] = 0;
  fclose(file);
  return text;
}

Test(hwloc, tells_of_every_machine) {
  for (size_t i = 0; i < MACHINES; i++) {
    const attend_test_machine *m = &attend_test_machines[i];
    const bool xml = strstr(m->from, ".xml") != NULL;
    size_t length = 0;
    const char *text = xml ? read_xml(m->from, &length) : m->from;
    attend_topology *expected = attend_test_describe(m), *got = calloc(1, sizeof *got);
    cr_assert(load(text, xml ? length + 1 : 0, got), "%s: %s", m->name, m->from);
    expect_same_processors(got, expected, m, "hwloc");
    cr_expect_str_eq(got->source, "hwloc");
    const size_t largest = expected->processor[i == BIG_LITTLE ? 4 : 0].cache_bytes;
    cr_expect_eq(m->level == 3 || i == HYBRID ? got->l3 : got->l2, largest, "%s", m->name);
    free(got);
    free(expected);
  }
}

/* An XML file that is cut off is refused. hwloc 2.9 loses memory over it, and crashes on some other kinds of damage. */
Test(hwloc, refuses_files_that_were_cut_off) {
  attend_topology *t = calloc(1, sizeof *t);
  size_t length;
  const char *text = read_xml("hybrid.xml", &length), *end = strstr(text, "</topology>");
  cr_assert_not_null(end);
  for (size_t cut = 1; text + cut < end; cut += 13) {
    char *copy = strndup(text, cut); /* of its own, so that reading beyond it shows */
    attend_test_allow_leaks(true);
    cr_expect_not(load(copy, cut + 1, t), "cut off at byte %zu", cut);
    attend_test_allow_leaks(false);
    cr_expect_eq(t->end, 0);
    free(copy);
  }
  free(t);
}

/* The library takes nothing for this machine that describes another one, and what it cannot read it does without. */
static void expect_source(const char *variable, const char *value, const char *this_system, const char *source) {
  setenv(variable, value, 1);
  if (this_system) setenv("HWLOC_THISSYSTEM", this_system, 1);
  cr_expect_str_eq(attend_topology_get()->source, source, "%s=%s", variable, value);
  cr_expect_geq(attend_default_threads(), 1);
}

Test(hwloc, is_asked_about_this_machine) {
  unsetenv("HWLOC_XMLFILE");
  cr_expect_str_eq(attend_topology_get()->source, "hwloc");
}
Test(hwloc, is_not_believed_about_another) { expect_source("HWLOC_SYNTHETIC", "pu:7", NULL, "Linux"); }
Test(hwloc, is_believed_when_told_so) {
  expect_source("HWLOC_SYNTHETIC", "pu:7", "1", "hwloc");
  cr_expect_eq(attend_topology_get()->logical, 7);
}
#endif

/* ------------------------------------------------------------------------------------------------- what follows */

Test(machine, is_counted) {
  for (size_t i = 0; i < MACHINES; i++) {
    const attend_test_machine *m = &attend_test_machines[i];
    attend_topology *t = attend_test_complete(m);
    const attend_cpu_set all = attend_test_range(0, m->expected.logical - 1);
    int cores[ATTEND_MOST_GROUPS];
    cr_expect_eq(t->logical, m->expected.logical, "%s: %d", m->name, t->logical);
    cr_expect_eq(t->cores, m->expected.cores, "%s: %d", m->name, t->cores);
    cr_expect_eq(t->efficiency_cores, m->expected.efficiency_cores, "%s: %d", m->name, t->efficiency_cores);
    cr_expect_eq(t->nodes, m->expected.nodes, "%s: %d", m->name, t->nodes);
    cr_expect_eq(t->groups, m->expected.groups, "%s: %d", m->name, t->groups);
    cr_expect_eq(t->group[0].cores, m->expected.group_cores, "%s: %d", m->name, t->group[0].cores);
    cr_expect_eq(attend_place(t, &all, 0, cores), m->expected.threads, "%s", m->name);
    int sum = 0;
    for (int g = 0; g < t->groups; g++) {
      sum += t->group[g].cores;
      if (g > 0) cr_expect_geq(t->group[g].node, t->group[g - 1].node, "%s: a node's groups are neighbours", m->name);
    }
    cr_expect_eq(sum, m->expected.cores);
    free(t);
  }
}

Test(machine, of_efficiency_cores_only_has_one_kind) {
  attend_topology *t = attend_test_describe(&attend_test_machines[HYBRID]);
  for (int cpu = 0; cpu < 4; cpu++) t->processor[cpu].present = false;
  attend_topology_complete(t);
  cr_expect_eq(t->cores, 4);
  cr_expect_eq(t->efficiency_cores, 0);
  free(t);
}
