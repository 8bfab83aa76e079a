/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the fuzz targets share. A target is a LLVMFuzzerTestOneInput() that takes any bytes; it calls
 * attend_fuzz_check() on what must hold, and the sanitizers watch the rest.
 */
#ifndef ATTEND_TESTS_FUZZ_H
#define ATTEND_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/** Ends the process, with a text, if `ok` is false. */
void attend_fuzz_check(bool ok, const char *what, const char *why);

/** The path of a regular file, which lies in memory, with these bytes. The same file every time. */
const char *attend_fuzz_file(const uint8_t *bytes, size_t size);

/** From now on stderr shows nothing that is printed by the code under test: the fuzzer and sanitizers do not use it. */
void attend_fuzz_silence(void);

#endif
