/* SPDX-License-Identifier: Apache-2.0 */
/** What the parts of tune/ share. */
#ifndef ATTEND_TUNE_INTERNAL_H
#define ATTEND_TUNE_INTERNAL_H

#include "dispatch/choose/profile.h"
#include "tune/tune.h"

/* --------------------------------------------------------------------------------------------------------- verify.c */

/**
 * Checks every kernel that can run here on random cases, and says by its index which of them passed. `fault` gets what
 * the first one that did not pass did. false: no memory.
 */
bool attend_tune_prove(attend_isa highest, int cases, bool *proved, char *fault, size_t fault_size);

/* -------------------------------------------------------------------------------------------------------- subject.c */

/** A problem with tensors full of numbers. */
typedef struct attend_tune_subject {
  attend_resolved resolved;
  attend_tensors tensors;
  void *memory;
} attend_tune_subject;

/** false: attend_error_detail() says why. */
bool attend_tune_subject_open(attend_tune_subject *subject, const attend_problem *problem);
void attend_tune_subject_close(attend_tune_subject *subject);

/**
 * Workspaces of all the plans of a measurement, one after the other in the same memory: the pages that a plan happens
 * to get must not decide between plans.
 */
typedef struct attend_tune_workspace {
  void *memory;
  size_t size;
} attend_tune_workspace;

/** Grows it if need be. false: no memory, and attend_error_detail() says so. */
bool attend_tune_workspace_fit(attend_tune_workspace *workspace, const attend_plan *plan);
void attend_tune_workspace_free(attend_tune_workspace *workspace);

/** Runs again and again for at least `least` seconds, once at least, and returns the seconds that a run took. */
double attend_tune_time(const attend_plan *plan, const attend_tune_subject *subject,
                        const attend_tune_workspace *workspace, double least);

/** Seconds of a clock that is never set. */
double attend_tune_now(void);

/* -------------------------------------------------------------------------------------------------------- measure.c */

/** A kernel and a tiling that may be the best for some shape. */
typedef struct attend_tune_candidate {
  const attend_kernel *kernel;
  attend_variant variant;
} attend_tune_candidate;

enum {
  ATTEND_TUNE_VARIANTS = 3, /**< of a kernel, at most */
  ATTEND_TUNE_ROUNDS = 31,
  ATTEND_TUNE_CANDIDATES = ATTEND_PROFILE_MOST_COLUMNS - 1 /* so many fit a profile */
};

/**
 * Candidates of all kernels that `proved` (by index) allows. Returns their number, at most ATTEND_TUNE_CANDIDATES.
 */
int attend_tune_candidates(const bool *proved, attend_tune_candidate candidates[ATTEND_TUNE_CANDIDATES]);

/** Numbers of threads from 1 to `threads` worth a trial, at most ATTEND_PROFILE_MOST_TEAMS. Returns how many. */
int attend_tune_teams(int threads, int *team);

/** What a shape's measurement says. Times in seconds; 0 where there is none. */
typedef struct attend_tune_point {
  attend_profile_shape shape;
  int rules;     /**< candidate that the rules choose, -1 if it is none of them */
  int best;      /**< candidate that took the least time */
  int best_team; /**< and the number of threads with which it did */
  double noise;  /**< of the best one's median, relative */
  int times;     /**< it was measured */
  double *time;  /**< [candidates] */
  bool *dropped; /**< [candidates]: hopeless after a first look, so that the time is a rough one */
} attend_tune_point;

/** Where and how to measure. */
typedef struct attend_tune_bench {
  const attend_tune_candidate *candidate;
  int candidates;
  int threads;                                /**< that tilings are made for */
  int team[ATTEND_PROFILE_MOST_TEAMS], teams; /**< numbers of threads that run them */
  attend_tune_workspace workspace;
  volatile sig_atomic_t *stop; /**< NULL: nothing stops it */
} attend_tune_bench;

/**
 * Measures all candidates on a shape, for about `seconds`. `point` has room for its arrays. false: no memory, the shape
 * is none, or stopped.
 */
bool attend_tune_measure(attend_tune_bench *bench, const attend_problem *problem, double seconds,
                         attend_tune_point *point);

/** Takes another measurement of the same shape into a point: the geometric means of all, rough looks included. */
void attend_tune_average(attend_tune_point *point, const attend_tune_point *again, int candidates);

/**
 * What it costs to wake teams of threads, in microseconds: the time of an item each on so many, less their share of the
 * time on one. The items are of the size of a decoded token's head: with almost nothing to do, threads seemed to cost
 * half of what they do, because there was nothing to move between their caches. Many samples in turn, because a
 * neighbour at work makes some of them a hundred times as long. false: no memory.
 */
bool attend_tune_team_costs(attend_tune_bench *bench, const int *team, int teams, double *us);

/** The median of n numbers, which it puts in order. */
double attend_tune_median(double *values, int n);

/* ------------------------------------------------------------------------------------------------------------ fit.c */

/**
 * Makes the text of a profile of what was measured. false: no memory. With too few points *text is NULL.
 */
bool attend_tune_fit(const attend_tune_bench *bench, const attend_tune_point *points, int count,
                     const attend_profile_team *team, int teams, attend_tune_result *result);

#endif
