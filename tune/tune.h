/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The tuner: measures kernels and tilings on shapes, concludes from them for other shapes, and writes the profile that
 * dispatch/choose/profile.h reads. Part of the program, not of the library. docs/tuning.md explains the method.
 */
#ifndef ATTEND_TUNE_TUNE_H
#define ATTEND_TUNE_TUNE_H

#include <signal.h>

#include "dispatch/dispatch.h"

/* --------------------------------------------------------------------------------------------------------- shapes.c */

/**
 * A shape of the default grid: the standard shapes first, with fewer heads and shorter where they would take too long,
 * then points that fill the space of element types, head dims, lengths, groups and masks ever more densely.
 */
attend_problem attend_tune_grid(size_t index);

/** A random shape to check a profile on, as models have them or odd; the same for the same seed. */
attend_problem attend_tune_random(uint64_t seed, size_t index, bool odd);

/** Shapes from a file. */
typedef struct attend_tune_shapes {
  attend_problem *problem;
  size_t count;
} attend_tune_shapes;

/** Reads a file of shapes, docs/tuning.md has the format. false: `why` says what is wrong, and in which line. */
bool attend_tune_shapes_read(const char *path, attend_tune_shapes *shapes, char *why, size_t why_size);
void attend_tune_shapes_free(attend_tune_shapes *shapes);

/** One word a field: types, batch, heads, lengths, head dims, masks. */
void attend_tune_describe(const attend_problem *problem, char *text, size_t size);

/* ----------------------------------------------------------------------------------------------------------- tune.c */

/** How far the tuner is. */
typedef struct attend_tune_progress {
  double elapsed, budget; /**< seconds */
  size_t shapes;          /**< measured so far */
  const char *doing;
} attend_tune_progress;

typedef struct attend_tune_options {
  double budget; /**< seconds */
  int threads;   /**< the most threads that a run may have */
  attend_isa highest;
  attend_tune_shapes shapes;   /**< measured before those of the grid */
  volatile sig_atomic_t *stop; /**< nonzero: finish with what there is */
  void (*progress)(const attend_tune_progress *progress);
} attend_tune_options;

typedef struct attend_tune_result {
  char *text; /**< the profile; to be freed with free(). NULL: too few shapes were measured to make one */
  size_t length;
  size_t shapes, kernels, columns;
  double noise;
  size_t rare;           /**< shapes left out: with keys and values of a kind of format of which there are few */
  size_t skipped;        /**< shapes that could not be measured */
  char why_skipped[512]; /**< the first of them */
  int faulty;            /**< kernels that failed their check and were left out */
  char fault[4096];      /**< what the first of them did */
} attend_tune_result;

/** Tunes. false: no memory, and nothing to free. */
bool attend_tune(const attend_tune_options *options, attend_tune_result *result);

/* ---------------------------------------------------------------------------------------------------------- check.c */

/** What came of a shape. */
typedef struct attend_tune_regret {
  attend_problem problem;
  double best, chosen, rules;  /**< seconds */
  double regret, rules_regret; /**< how much longer than the best: 0.05 = 5 % */
  double team_us;              /**< what it cost to wake all threads just before, in microseconds */
  char chosen_name[96], best_name[96], rules_name[96];
} attend_tune_regret;

/**
 * Measures a shape with all candidates of all kernels, then the best of them beside what the library chooses with a
 * profile (a value of ATTEND_PROFILE, "" for the search path) and what its rules choose. `seconds` is about how long it
 * may take. Leaves ATTEND_PROFILE off. false: attend_error_detail() says why.
 */
bool attend_tune_check(const attend_problem *problem, attend_isa highest, int threads, const char *profile,
                       double seconds, attend_tune_regret *regret);

#endif
