/* SPDX-License-Identifier: Apache-2.0 */
/** Linux: sysfs for cores and caches, the affinity mask, AMX permission, the auxiliary vector. */
#define _GNU_SOURCE /* sched_getaffinity */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dispatch/os.h"
#include "dispatch/os_linux.h"

bool attend_linux_read_file(const char *path, char *text, size_t size) {
  size_t length = 0;
  int saved_errno = errno, file = open(path, O_RDONLY | O_CLOEXEC);
  while (file >= 0 && length < size - 1) {
    ssize_t got = read(file, text + length, size - 1 - length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    length += (size_t)got;
  }
  if (file >= 0) close(file);
  errno = saved_errno;
  text[length] = 0;
  return length > 0;
}

enum { MAX_CPUS = 8192, WORD_BITS = 8 * (int)sizeof(unsigned long) };

/** A set of logical processors, as the kernel lays it out. */
typedef struct cpu_mask {
  unsigned long words[MAX_CPUS / WORD_BITS];
} cpu_mask;

static void mask_add(cpu_mask *mask, int cpu) { mask->words[cpu / WORD_BITS] |= 1ul << cpu % WORD_BITS; }

static int mask_count(const cpu_mask *mask) {
  int count = 0;
  for (size_t i = 0; i < sizeof mask->words / sizeof *mask->words; i++) count += __builtin_popcountl(mask->words[i]);
  return count;
}

/** The first processor of the set from `cpu` on, or MAX_CPUS. */
static int mask_next(const cpu_mask *mask, int cpu) {
  for (; cpu < MAX_CPUS; cpu = (cpu / WORD_BITS + 1) * WORD_BITS) {
    unsigned long rest = mask->words[cpu / WORD_BITS] >> cpu % WORD_BITS;
    if (rest) return cpu + __builtin_ctzl(rest);
  }
  return MAX_CPUS;
}

/** Reads a list such as "0-3,8", as far as it is one. */
static void mask_parse(cpu_mask *mask, const char *list) {
  unsigned first, last;
  int length;
  while (sscanf(list, "%u%n", &first, &length) == 1) {
    list += length, last = first;
    if (sscanf(list, "-%u%n", &last, &length) == 1) list += length;
    for (unsigned cpu = first; cpu <= last && cpu < MAX_CPUS; cpu++) mask_add(mask, (int)cpu);
    if (*list++ != ',') return;
  }
}

/** For each logical processor the first one of the same core; filled in by attend_os_topology(). */
static uint16_t core_of[MAX_CPUS];

static int count_cores(const cpu_mask *cpus) {
  cpu_mask cores = {0};
  for (int cpu = mask_next(cpus, 0); cpu < MAX_CPUS; cpu = mask_next(cpus, cpu + 1)) mask_add(&cores, core_of[cpu]);
  return mask_count(&cores);
}

static bool read_affinity(cpu_mask *mask) {
  memset(mask, 0, sizeof *mask);
  return sched_getaffinity(0, sizeof mask->words, (cpu_set_t *)mask->words) == 0;
}

static void read_online(cpu_mask *online) {
  char text[4096];
  if (attend_linux_read_file("/sys/devices/system/cpu/online", text, sizeof text)) mask_parse(online, text);
  if (mask_count(online)) return;
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  for (long cpu = 0; cpu < count && cpu < MAX_CPUS; cpu++) mask_add(online, (int)cpu);
}

static void read_cores(const cpu_mask *online) {
  for (int cpu = 0; cpu < MAX_CPUS; cpu++) core_of[cpu] = (uint16_t)cpu;
  for (int cpu = mask_next(online, 0); cpu < MAX_CPUS; cpu = mask_next(online, cpu + 1)) {
    char path[96], text[256];
    unsigned first;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (attend_linux_read_file(path, text, sizeof text) && sscanf(text, "%u", &first) == 1 && first < MAX_CPUS)
      core_of[cpu] = (uint16_t)first;
  }
}

/** The caches of one processor of those that we may use: on a machine with several kinds it is the best guess. */
static void read_caches(int cpu, attend_topology *topology) {
  for (int index = 0; index < 16; index++) {
    char path[96], text[64], unit = 0;
    unsigned level;
    unsigned long size;
    int length = snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/", cpu, index);
    size_t room = sizeof path - (size_t)length;
    snprintf(path + length, room, "level");
    if (!attend_linux_read_file(path, text, sizeof text) || sscanf(text, "%u", &level) != 1) break;
    snprintf(path + length, room, "type");
    if (!attend_linux_read_file(path, text, sizeof text) || strncmp(text, "Instruction", 11) == 0) continue;
    snprintf(path + length, room, "size");
    if (!attend_linux_read_file(path, text, sizeof text) || sscanf(text, "%lu%c", &size, &unit) < 1) continue;
    if (unit == 'K') size <<= 10;
    if (unit == 'M') size <<= 20;
    if (level == 1) topology->l1d = size;
    if (level == 2) topology->l2 = size;
    if (level == 3) topology->l3 = size;
  }
#ifdef _SC_LEVEL1_DCACHE_SIZE /* glibc asks the processor itself; virtual machines may have no cache files */
  long l1d = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (!topology->l1d && l1d > 0) topology->l1d = (size_t)l1d;
  if (!topology->l2 && l2 > 0) topology->l2 = (size_t)l2;
  if (!topology->l3 && l3 > 0) topology->l3 = (size_t)l3;
#endif
}

void attend_os_topology(attend_topology *topology) {
  cpu_mask online = {0}, nodes = {0}, allowed;
  char text[4096];
  read_online(&online);
  read_cores(&online);
  topology->logical = mask_count(&online);
  topology->cores = count_cores(&online);
  if (attend_linux_read_file("/sys/devices/system/node/online", text, sizeof text)) mask_parse(&nodes, text);
  topology->nodes = mask_count(&nodes);
  int cpu = read_affinity(&allowed) ? mask_next(&allowed, 0) : 0;
  read_caches(cpu < MAX_CPUS ? cpu : 0, topology);
}

int attend_os_affinity_cores(void) {
  cpu_mask mask;
  return read_affinity(&mask) ? count_cores(&mask) : 0;
}

void attend_os_yield(void) { sched_yield(); }

#ifdef __x86_64__
const char *attend_os_request_amx(void) {
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0
             ? NULL
             : "the operating system does not permit AMX to this process";
}
#endif

#ifdef __aarch64__
uint64_t attend_os_arm_hwcap(void) { return getauxval(AT_HWCAP); }

uint64_t attend_os_arm_hwcap2(void) { return getauxval(AT_HWCAP2); }

uint64_t attend_os_arm_midr(void) {
  char text[64];
  unsigned long long midr = 0;
  if (attend_linux_read_file("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", text, sizeof text) &&
      sscanf(text, "%llx", &midr) == 1)
    return midr;
  if (attend_os_arm_hwcap() & 1 << 11) /* HWCAP_CPUID: the kernel lets us read it, by emulation */
    __asm__("mrs %0, midr_el1" : "=r"(midr));
  return midr;
}
#endif
