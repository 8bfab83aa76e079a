/* SPDX-License-Identifier: Apache-2.0 */
/** Linux: files, the affinity mask, AMX permission, the auxiliary vector. */
#define _GNU_SOURCE /* sched_getaffinity, sched_getcpu */

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
