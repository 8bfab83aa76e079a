/* SPDX-License-Identifier: Apache-2.0 */
/**
 * main() of every Criterion program. Criterion does not say which tests were skipped, and calls a program that tested
 * nothing a success. Here a line says what was skipped and why, and the exit status is 77 where it was everything,
 * which ctest reports as skipped.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdio.h>

enum { SKIPPED = 77 };

static bool everything_was_skipped;

/* scripts/lib/common.sh reads these lines. Not by stdout, whose buffer may end in the midst of one. */
ReportHook(POST_TEST)(struct criterion_test_stats *stats) {
  if (stats->test_status == CR_STATUS_SKIPPED)
    fprintf(stderr, "SKIPPED: %s::%s: %s\n", stats->test->category, stats->test->name, stats->message);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats) {
  everything_was_skipped = stats->nb_tests > 0 && stats->tests_skipped == stats->nb_tests;
}

/* Not hidden like everything else: Criterion looks it up, to start each test in a process of its own. */
__attribute__((visibility("default"))) int main(int argc, char **argv) {
  int status = 0;
  struct criterion_test_set *tests = criterion_initialize();
  if (criterion_handle_args(argc, argv, true)) {
    status = !criterion_run_all_tests(tests);
    if (status == 0 && everything_was_skipped) status = SKIPPED;
  }
  criterion_finalize(tests);
  return status;
}
