/* SPDX-License-Identifier: Apache-2.0 */
/** Tunes: checks the kernels, measures shape after shape while there is time, and makes the profile. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tune/internal.h"

enum {
  VERIFIED_CASES = 48, /* of each kernel, a quarter in each plain type and in all formats */
  MOST_SHAPES = 320,   /* every one makes each choice slower, and more of them made no choice better */
  PROBED_SHAPES = 8,   /* after so many, kernels that were hopeless on all of them are left out */
  LEAST_OF_KIND = 8,   /* shapes with formats of a kind: fewer say nothing of others */
  TEAM_SHAPES = 16     /* after so many, each time, what teams cost is measured again */
};

/* A kernel that nowhere came closer to the best is hopeless. */
#define HOPELESS_KERNEL 3.0

/* Seconds for a shape: no more than it takes to see which candidates lead. */
#define MOST_SECONDS 1.0
#define LEAST_SECONDS 0.01

/**
 * What teams cost, measured again and again: in a virtual machine it is 0.65 us for a while and 2 to 4 us for the next
 * one, half a minute each, depending on where its processors are placed. Their mean decides, so that runs take least on
 * average.
 */
typedef struct team_costs {
  int threads[ATTEND_PROFILE_MOST_TEAMS], teams;
  double sum[ATTEND_PROFILE_MOST_TEAMS];
  int count;
} team_costs;

static bool measure_teams(attend_tune_bench *bench, team_costs *costs) {
  double us[ATTEND_PROFILE_MOST_TEAMS];
  if (!attend_tune_team_costs(bench, costs->threads, costs->teams, us)) return false;
  for (int i = 0; i < costs->teams; i++) costs->sum[i] += us[i];
  costs->count++;
  return true;
}

/** Points with the arrays that belong to them, and one more, to measure a shape again. */
typedef struct points {
  attend_tune_point *point;
  size_t *shape; /* its number: those of the caller, then those of the grid */
  double *times;
  bool *dropped;
  int count;
} points;

static void free_points(points *p) {
  free(p->point);
  free(p->shape);
  free(p->times);
  free(p->dropped);
}

static bool allocate_points(points *p, int candidates) {
  const size_t each = (size_t)candidates, most = MOST_SHAPES + 1;
  *p = (points){.point = calloc(most, sizeof *p->point),
                .shape = calloc(most, sizeof *p->shape),
                .times = calloc(most * each, sizeof *p->times),
                .dropped = calloc(most * each, sizeof *p->dropped)};
  if (!p->point || !p->shape || !p->times || !p->dropped) return false;
  for (size_t i = 0; i < most; i++) {
    p->point[i].time = p->times + i * each;
    p->point[i].dropped = p->dropped + i * each;
  }
  return true;
}

/** Takes the kernels out of `proved` that were hopeless so far, unless the rules choose them. */
static void leave_hopeless(const attend_tune_bench *bench, const points *p, bool *proved) {
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    bool hope = false;
    for (int c = 0; c < bench->candidates && !hope; c++) {
      if (bench->candidate[c].kernel != attend_kernel_at(k)) continue;
      bool seen = false;
      for (int i = 0; i < p->count && !hope; i++) {
        const attend_tune_point *point = &p->point[i];
        seen |= point->time[c] > 0;
        hope = point->rules == c || (point->time[c] > 0 && point->time[c] < HOPELESS_KERNEL * point->time[point->best]);
      }
      hope |= !seen && bench->candidate[c].variant.whole; /* it does no shape of these: who knows */
    }
    proved[k] &= hope;
  }
}

/** Keeps the candidates of kernels that are still in, and their times in every point. */
static void keep_candidates(attend_tune_bench *bench, attend_tune_candidate *candidates, points *p,
                            const bool *proved) {
  int kept = 0;
  int place[ATTEND_TUNE_CANDIDATES];
  for (int c = 0; c < bench->candidates; c++) {
    place[c] = -1;
    for (size_t k = 0; k < attend_kernel_count(); k++)
      if (attend_kernel_at(k) == candidates[c].kernel && proved[k]) place[c] = kept++;
  }
  for (int i = 0; i < p->count; i++)
    for (int c = 0; c < bench->candidates; c++)
      if (place[c] >= 0) {
        p->point[i].time[place[c]] = p->point[i].time[c];
        p->point[i].dropped[place[c]] = p->point[i].dropped[c];
      }
  for (int i = 0; i < p->count; i++) {
    p->point[i].best = place[p->point[i].best];
    if (p->point[i].rules >= 0) p->point[i].rules = place[p->point[i].rules];
  }
  for (int c = 0; c < bench->candidates; c++)
    if (place[c] >= 0) candidates[place[c]] = candidates[c];
  bench->candidates = kept;
}

static void report(const attend_tune_options *o, double begin, size_t shapes, const char *doing) {
  const attend_tune_progress progress = {attend_tune_now() - begin, o->budget, shapes, doing};
  if (o->progress) o->progress(&progress);
}

/** Measures a shape, of the caller's or of the grid, for `left` seconds at most. false: it cannot be, or interrupted.
 */
static bool measure(const attend_tune_options *o, attend_tune_bench *bench, const points *p, size_t shape, double left,
                    double begin, attend_tune_point *point) {
  const bool own = shape < o->shapes.count;
  const attend_problem problem = own ? o->shapes.problem[shape] : attend_tune_grid(shape - o->shapes.count);
  char doing[128];
  attend_tune_describe(&problem, doing, sizeof doing);
  report(o, begin, (size_t)p->count, doing);
  /* What was there is of another shape, or of this one before: it did not fit into memory, or was interrupted. */
  memset(point->time, 0, (size_t)bench->candidates * sizeof *point->time);
  memset(point->dropped, 0, (size_t)bench->candidates * sizeof *point->dropped);
  return attend_tune_measure(bench, &problem, fmin(fmax(left, LEAST_SECONDS), MOST_SECONDS), point);
}

/** Measures shapes until there are enough or time is up. The first one is measured whatever it takes. */
static void measure_all(const attend_tune_options *o, attend_tune_bench *bench, attend_tune_candidate *candidates,
                        bool *proved, points *p, team_costs *costs, double begin, double end,
                        attend_tune_result *result) {
  for (size_t next = 0; p->count < MOST_SHAPES && !*o->stop; next++) {
    const double left = end - attend_tune_now();
    if (left <= 0 && next > 0 && next >= o->shapes.count) return; /* all shapes of the caller are measured */
    if (!measure(o, bench, p, next, left / (MOST_SHAPES - p->count), begin, &p->point[p->count])) {
      if (*o->stop) return;
      if (!result->skipped++) snprintf(result->why_skipped, sizeof result->why_skipped, "%s", attend_error_detail());
      if (result->skipped > MOST_SHAPES) return;
      continue;
    }
    p->shape[p->count++] = next;
    if (p->count % TEAM_SHAPES == 0) measure_teams(bench, costs); /* without memory for it, what there is will do */
    if (p->count == PROBED_SHAPES) {
      leave_hopeless(bench, p, proved);
      keep_candidates(bench, candidates, p, proved);
    }
  }
}

/** Measures the same shapes again and again while there is time left: what disturbs one minute is gone in another. */
static void measure_again(const attend_tune_options *o, attend_tune_bench *bench, points *p, team_costs *costs,
                          double begin, double end) {
  attend_tune_point *again = &p->point[MOST_SHAPES];
  for (int i = 0; p->count == MOST_SHAPES && !*o->stop; i = (i + 1) % p->count) {
    const double left = end - attend_tune_now();
    if (left <= 0 || !measure(o, bench, p, p->shape[i], left, begin, again)) return;
    attend_tune_average(&p->point[i], again, bench->candidates);
    if (i % TEAM_SHAPES == 0) measure_teams(bench, costs);
  }
}

/** Drops the shapes of kinds of formats of which there are few, so that the rules go on choosing for these. How many.
 */
static size_t drop_rare_kinds(points *p) {
  int of_kind[ATTEND_BLOCKS + 1] = {0}, kept = 0;
  for (int i = 0; i < p->count; i++) of_kind[attend_formats[p->point[i].shape.kv_dtype].kind]++;
  for (int i = 0; i < p->count; i++)
    if (of_kind[attend_formats[p->point[i].shape.kv_dtype].kind] >= LEAST_OF_KIND) p->point[kept++] = p->point[i];
  const int dropped = p->count - kept;
  p->count = kept;
  return (size_t)dropped;
}

bool attend_tune(const attend_tune_options *o, attend_tune_result *result) {
  const double begin = attend_tune_now();
  const size_t kernels = attend_kernel_count();
  bool *proved = calloc(kernels, sizeof *proved);
  attend_tune_candidate *candidates = calloc(ATTEND_TUNE_CANDIDATES, sizeof *candidates);
  attend_tune_bench bench = {.candidate = candidates, .threads = o->threads, .team = {1}, .teams = 1, .stop = o->stop};
  attend_profile_team team[ATTEND_PROFILE_MOST_TEAMS];
  team_costs costs = {0};
  costs.teams = attend_tune_teams(o->threads, costs.threads);
  points p = {0};
  *result = (attend_tune_result){0};
  bool ok = proved && candidates;
  if (ok) {
    report(o, begin, 0, "verifying the kernels");
    ok = attend_tune_prove(o->highest, VERIFIED_CASES, proved, result->fault, sizeof result->fault);
  }
  if (ok) {
    for (size_t k = 0; k < kernels; k++)
      if (!proved[k] && attend_kernel_runnable(attend_kernel_at(k), o->highest, NULL, 0)) result->faulty++;
    bench.candidates = attend_tune_candidates(proved, candidates);
    ok = bench.candidates > 0 && allocate_points(&p, bench.candidates);
  }
  if (ok) ok = measure_teams(&bench, &costs);
  if (ok) {
    const double end = begin + o->budget * 0.97; /* the rest is for making the profile */
    measure_all(o, &bench, candidates, proved, &p, &costs, begin, end, result);
    measure_again(o, &bench, &p, &costs, begin, end);
    for (int i = 0; i < costs.teams; i++)
      team[i] = (attend_profile_team){costs.threads[i], (float)(costs.sum[i] / costs.count)};
    result->rare = drop_rare_kinds(&p);
    report(o, begin, (size_t)p.count, "making the profile");
    result->shapes = (size_t)p.count;
    ok = attend_tune_fit(&bench, p.point, p.count, team, costs.teams, result);
  }
  attend_tune_workspace_free(&bench.workspace);
  free_points(&p);
  free(candidates);
  free(proved);
  return ok;
}
