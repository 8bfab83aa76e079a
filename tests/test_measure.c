/* SPDX-License-Identifier: Apache-2.0 */
/** What the tuner makes of measurements; how well it measures, docs/tuning.md has figures of. */
#include <criterion/criterion.h>
#include <math.h>

#include "tests/support.h"
#include "tune/internal.h"

enum { CANDIDATES = 5 };

Test(measure, a_shape_measured_again_counts_by_geometric_means) {
  double time[] = {1.0, 0.99, 3.0, 0.0, 4.0}, again_time[] = {1.1, 1.4, 2.0, 2.5, 0.0};
  bool dropped[] = {false, false, true, false, true}, again_dropped[] = {false, false, false, true, false};
  attend_tune_point point = {.best = 1, .noise = 0.02, .times = 1, .time = time, .dropped = dropped};
  attend_tune_point again = {.best = 0, .noise = 0.02, .times = 1, .time = again_time, .dropped = again_dropped};
  attend_tune_average(&point, &again, CANDIDATES);
  const double expected[] = {sqrt(1.1), sqrt(0.99 * 1.4), sqrt(6), 2.5, 4.0};
  const bool rough[] = {false, false, false, true, true};
  for (int c = 0; c < CANDIDATES; c++) {
    cr_expect_float_eq(time[c], expected[c], 1e-12, "candidate %d: %g", c, time[c]);
    cr_expect_eq(dropped[c], rough[c], "candidate %d", c);
  }
  cr_expect_eq(point.best, 0); /* the best before is not the best of the means */
  cr_expect_eq(point.times, 2);
  cr_expect_float_eq(point.noise, 0.02 / sqrt(2), 1e-12);

  again_time[0] = 1.2;
  attend_tune_average(&point, &again, CANDIDATES);
  cr_expect_float_eq(time[0], cbrt(1.0 * 1.1 * 1.2), 1e-12);
  cr_expect_eq(point.times, 3);
}

Test(measure, median) {
  double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2}, one[] = {7};
  cr_expect_eq(attend_tune_median(odd, 3), 3);
  cr_expect_eq(attend_tune_median(even, 4), 2.5);
  cr_expect_eq(attend_tune_median(one, 1), 7);
}
