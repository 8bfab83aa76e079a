/* SPDX-License-Identifier: Apache-2.0 */
/** Linux: files, the affinity mask, AMX permission, the auxiliary vector. */
#define _GNU_SOURCE /* sched_getaffinity, sched_getcpu */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dispatch/machine/os.h"
#include "dispatch/machine/os_linux.h"

const char *const attend_os_profiles = "/etc/attend";

void *attend_os_allocate(size_t alignment, size_t size) {
  void *memory;
  return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

void attend_os_release(void *memory) { free(memory); }

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

bool attend_os_get_affinity(attend_cpu_set *set) {
  memset(set, 0, sizeof *set);
  if (sched_getaffinity(0, sizeof *set, (cpu_set_t *)set->words) == 0) return true;
  memset(set, 0xff, sizeof *set);
  return false;
}

bool attend_os_set_affinity(const attend_cpu_set *set) {
  return sched_setaffinity(0, sizeof *set, (const cpu_set_t *)set->words) == 0;
}

int attend_os_current_processor(void) { return sched_getcpu(); }

void attend_os_yield(void) { sched_yield(); }

/** What attend_os_read_file() does with an open file. */
static int read_open_file(int file, size_t most, char **text, size_t *length) {
  struct stat info;
  if (fstat(file, &info) != 0) return errno;
  if (!S_ISREG(info.st_mode)) return EINVAL;
  if (info.st_size < 0 || (uintmax_t)info.st_size > most) return EFBIG;
  char *memory = attend_alloc((size_t)info.st_size);
  if (!memory) return ENOMEM;
  *length = 0;
  while (*length < (size_t)info.st_size) {
    const ssize_t got = read(file, memory + *length, (size_t)info.st_size - *length);
    if (got < 0 && errno == EINTR) continue;
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
  const int saved_errno = errno, file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never waits for a pipe */
  int error = file < 0 ? errno : read_open_file(file, most, text, length);
  if (file >= 0) close(file);
  errno = saved_errno;
  return error;
}

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
