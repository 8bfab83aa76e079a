/* SPDX-License-Identifier: Apache-2.0 */
/** What `attend verify` has found, and the ways to print it. */
#ifndef ATTEND_CLI_VERIFY_OUTPUT_H
#define ATTEND_CLI_VERIFY_OUTPUT_H

#include "kernels/kernel.h"

/* What came of the cases of a kernel. */
enum { REASONS = 8 };
typedef struct tally {
  const char *name;
  const attend_kernel *kernel; /* NULL: the library's choice of a kernel of attention */
  int64_t passed, failed, skipped;
  int64_t ragged, paged, ranged; /* of those not skipped: with packed sequences, with pages, with key ranges */
  double error[2], plain[2];     /* where out is f32, and where it has 16 bits; negative: no such case */
  double share;
  struct {
    char text[256];
    int64_t count;
  } reasons[REASONS]; /* for skipping; the last one counts all that have no place of their own */
} tally;

typedef struct verify_output {
  void (*begin)(int64_t seed);
  void (*failure)(const tally *t, const char *message);
  void (*end)(const tally *tallies, size_t count, const tally *all);
} verify_output;

extern const verify_output attend_verify_json;

#endif
