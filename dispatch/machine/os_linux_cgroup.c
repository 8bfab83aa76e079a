/* SPDX-License-Identifier: Apache-2.0 */
/** Linux control groups, both versions: how much processor time the process, often a container, may use. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/machine/os.h"
#include "dispatch/machine/os_linux.h"

enum { MOST_PATH = 4096 };

/** Whole processors in `quota` microseconds of every `period`, at least 1; 0 for no limit. */
static int processors(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return 0;
  long long count = quota / period;
  return count < 1 ? 1 : count > INT_MAX ? INT_MAX : (int)count;
}

static int limit_v2(const char *directory) {
  char path[MOST_PATH + 32], text[64];
  long long quota, period;
  snprintf(path, sizeof path, "%s/cpu.max", directory);
  if (!attend_linux_read_file(path, text, sizeof text) || sscanf(text, "%lld %lld", &quota, &period) != 2) return 0;
  return processors(quota, period);
}

static int limit_v1(const char *directory) {
  char path[MOST_PATH + 32], text[64];
  long long quota, period;
  snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
  if (!attend_linux_read_file(path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1) return 0;
  snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
  if (!attend_linux_read_file(path, text, sizeof text) || sscanf(text, "%lld", &period) != 1) return 0;
  return processors(quota, period);
}

/**
 * The least limit of a group and of all above it. A container may see the path of its group in the host's hierarchy,
 * which does not exist inside. Then only the files that exist count, those of the mount point among them.
 */
static int least_limit(const char *mount, const char *group, int (*limit)(const char *directory)) {
  char directory[MOST_PATH];
  int length = snprintf(directory, sizeof directory, "%s%s", mount, strstr(group, "/..") ? "" : group);
  int least = 0;
  if (length < 0 || (size_t)length >= sizeof directory) return 0;
  for (;;) {
    int here = limit(directory);
    if (here && (!least || here < least)) least = here;
    char *slash = strrchr(directory, '/');
    if (!slash || (size_t)(slash - directory) < strlen(mount)) return least;
    *slash = 0;
  }
}

static bool has_controller(const char *list, const char *name) {
  size_t length = strlen(name);
  for (;;) {
    size_t item = strcspn(list, ",");
    if (item == length && strncmp(list, name, length) == 0) return true;
    if (!list[item]) return false;
    list += item + 1;
  }
}

int attend_os_cpu_quota(void) {
  char text[4096], *next = text;
  int least = 0;
  if (!attend_linux_read_file("/proc/self/cgroup", text, sizeof text)) return 0;
  while (next && *next) { /* lines of "hierarchy:controllers:group" */
    char *line = next, *newline = strchr(line, '\n');
    next = newline ? newline + 1 : NULL;
    if (newline) *newline = 0;
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) continue;
    *controllers++ = 0, *group++ = 0;
    int here = 0;
    if (!*controllers)
      here = least_limit("/sys/fs/cgroup", group, limit_v2);
    else if (has_controller(controllers, "cpu"))
      here = least_limit("/sys/fs/cgroup/cpu", group, limit_v1);
    if (here && (!least || here < least)) least = here;
  }
  return least;
}
