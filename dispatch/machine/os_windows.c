/* SPDX-License-Identifier: Apache-2.0 */
/** Windows, compiled by mingw-w64. It knows the processors of the process's own processor group: at most 64. */
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>
#include <windows.h>

#include "dispatch/machine/os.h"

void *attend_os_allocate(size_t alignment, size_t size) { return _aligned_malloc(size, alignment); }

void attend_os_release(void *memory) { _aligned_free(memory); }

void attend_os_yield(void) { SwitchToThread(); }

/* There is no fork(), and no limit on threads that is met before the memory is used up. */
int attend_os_forks(void) { return 0; }

bool attend_os_survived_fork(void) { return false; }

bool attend_os_run_on_helper(void (*work)(void *argument), void *argument) { return (void)work, (void)argument, false; }

int attend_os_startable(int threads, size_t stack) { return (void)stack, threads; }

/* ----------------------------------------------------------------------------------------------------- processors */

enum { MOST = 8 * sizeof(ULONG_PTR) };

static bool has(ULONG_PTR mask, int cpu) { return mask >> cpu & 1; }

/** Those of this process; only Windows knows those of a thread. */
bool attend_os_get_affinity(attend_cpu_set *set) {
  DWORD_PTR process, all;
  if (!GetProcessAffinityMask(GetCurrentProcess(), &process, &all) || !process) {
    memset(set, 0xff, sizeof *set);
    return false;
  }
  memset(set, 0, sizeof *set);
  for (int cpu = 0; cpu < MOST; cpu++)
    if (has(process, cpu)) attend_cpu_set_add(set, cpu);
  return true;
}

bool attend_os_set_affinity(const attend_cpu_set *set) {
  DWORD_PTR mask = 0;
  for (int cpu = 0; cpu < MOST; cpu++)
    if (attend_cpu_set_has(set, cpu)) mask |= (DWORD_PTR)1 << cpu;
  return mask && SetThreadAffinityMask(GetCurrentThread(), mask);
}

int attend_os_current_processor(void) { return (int)GetCurrentProcessorNumber(); }

int attend_os_cpu_quota(void) { return 0; } /* job objects are not looked at */

/** What Windows says of cores, caches and nodes: an array to be freed by attend_free(), or NULL. */
static SYSTEM_LOGICAL_PROCESSOR_INFORMATION *describe(DWORD *count) {
  DWORD size = 0;
  if (GetLogicalProcessorInformation(NULL, &size) || GetLastError() != ERROR_INSUFFICIENT_BUFFER) return NULL;
  SYSTEM_LOGICAL_PROCESSOR_INFORMATION *list = attend_alloc(size);
  if (list && !GetLogicalProcessorInformation(list, &size)) {
    attend_free(list);
    return NULL;
  }
  *count = size / (DWORD)sizeof *list;
  return list;
}

/** What the processors of a mask have in common, `first` being the first of them. */
static void enter(const SYSTEM_LOGICAL_PROCESSOR_INFORMATION *about, int first, attend_topology *t) {
  const CACHE_DESCRIPTOR *cache = &about->Cache;
  const bool data =
      about->Relationship == RelationCache && cache->Type != CacheInstruction && cache->Type != CacheTrace;
  for (int cpu = first; cpu < t->end; cpu++) {
    attend_processor *p = &t->processor[cpu];
    if (!has(about->ProcessorMask, cpu) || !p->present) continue;
    if (about->Relationship == RelationProcessorCore) p->core = (uint16_t)first;
    if (about->Relationship == RelationNumaNode) p->node = (uint16_t)about->NumaNode.NodeNumber;
    if (data && cache->Level > p->cache_level)
      p->cache = (uint16_t)first, p->cache_level = cache->Level, p->cache_bytes = cache->Size;
  }
  if (data && cache->Level == 1) t->l1d = cache->Size;
  if (data && cache->Level == 2) t->l2 = cache->Size;
  if (data && cache->Level == 3) t->l3 = cache->Size;
}

void attend_os_topology(const attend_cpu_set *allowed, attend_topology *topology) {
  DWORD_PTR process, all = 0;
  DWORD count = 0;
  (void)allowed; /* caches of other kinds of cores are not told apart */
  topology->source = "Windows";
  if (!GetProcessAffinityMask(GetCurrentProcess(), &process, &all)) return;
  for (int cpu = 0; cpu < MOST; cpu++) {
    if (!has(all, cpu)) continue;
    topology->processor[cpu] = (attend_processor){.present = true, .core = (uint16_t)cpu, .cache = (uint16_t)cpu};
    topology->end = cpu + 1;
  }
  SYSTEM_LOGICAL_PROCESSOR_INFORMATION *list = describe(&count);
  for (DWORD i = 0; list && i < count; i++)
    for (int cpu = 0; cpu < topology->end; cpu++)
      if (has(list[i].ProcessorMask, cpu)) {
        enter(&list[i], cpu, topology);
        break;
      }
  attend_free(list);
}

void attend_os_mark_efficiency(attend_topology *topology) { (void)topology; }

void attend_os_fill_in_caches(attend_topology *topology) { (void)topology; }

/* ----------------------------------------------------------------------------------------------------------- files */

/** No place that only an administrator can write has a name that is known without asking. */
const char *const attend_os_profiles = NULL;

/** What attend_os_read_file() does with an open file. */
static int read_open_file(int file, size_t most, char **text, size_t *length) {
  struct _stat64 info;
  if (_fstat64(file, &info) != 0) return errno;
  if ((info.st_mode & _S_IFMT) != _S_IFREG) return EINVAL;
  if (info.st_size < 0 || (uint64_t)info.st_size > most || info.st_size > INT_MAX) return EFBIG;
  char *memory = attend_alloc((size_t)info.st_size);
  if (!memory) return ENOMEM;
  *length = 0;
  while (*length < (size_t)info.st_size) {
    const int got = _read(file, memory + *length, (unsigned)((size_t)info.st_size - *length));
    if (got < 0) {
      const int error = errno;
      attend_free(memory);
      return error;
    }
    if (got == 0) break; /* it has become shorter meanwhile */
    *length += (size_t)got;
  }
  *text = memory;
  return 0;
}

int attend_os_read_file(const char *path, size_t most, char **text, size_t *length) {
  const int saved_errno = errno, file = _open(path, _O_RDONLY | _O_BINARY | _O_NOINHERIT);
  int error = file < 0 ? errno : read_open_file(file, most, text, length);
  if (file >= 0) _close(file);
  errno = saved_errno;
  return error;
}

/* ------------------------------------------------------------------------------------------------------- processor */

#ifdef __x86_64__
const char *attend_os_request_amx(void) { return "attend has no AMX kernels for Windows"; }
#endif
