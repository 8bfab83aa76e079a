/* SPDX-License-Identifier: Apache-2.0 */
/**
 * For LD_PRELOAD under qemu: guard pages that may be read, and still not be written. qemu executes a masked load as a
 * load of the whole vector, and so stops a program that a processor would not.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* with 64 the header would make one name of the two below */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
  if (protection == PROT_NONE) protection = PROT_READ;
  return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}

/* What programs call that are compiled for files of more than 2 GB. */
void *mmap64(void *address, size_t length, int protection, int flags, int file, off64_t offset) {
  return mmap(address, length, protection, flags, file, offset);
}
