/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* memfd_create() */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void attend_fuzz_check(bool ok, const char *what, const char *why) {
  if (ok) return;
  dprintf(STDERR_FILENO, "WRONG: %s: %s\n", what, why);
  abort();
}

const char *attend_fuzz_file(const uint8_t *bytes, size_t size) {
  static char path[40];
  static int file = -1;
  if (file < 0) {
    file = memfd_create("fuzz", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  }
  const bool ok = file >= 0 && ftruncate(file, 0) == 0 && pwrite(file, bytes, size, 0) == (ssize_t)size;
  attend_fuzz_check(ok, "a file in memory", "it cannot be written");
  return path;
}

void attend_fuzz_silence(void) {
  static FILE *nowhere;
  if (!nowhere) nowhere = fopen("/dev/null", "w");
  attend_fuzz_check(nowhere, "/dev/null", "it cannot be opened");
  stderr = nowhere; /* the fuzzer has taken a copy of the pointer, and sanitizers write to the descriptor */
}
