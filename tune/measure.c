/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Measures candidates on a shape. They take turns, round by round, so that a disturbance hits all of them, and their
 * medians are compared; candidates that are far slower drop out, so that time is spent on those that may be chosen.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "tune/internal.h"

enum { LOOKS = 3, LEAST_ROUNDS = 5, TEAM_SAMPLES = 501 };

/* A sample: long enough for the clock, short enough for many rounds. */
#define SAMPLE_SECONDS 3e-4

/* Beyond this many times the best one's first time, a candidate is hopeless. */
#define HOPELESS 1.5

/* ------------------------------------------------------------------------------------------------------- candidates */

int attend_tune_candidates(const bool *proved, attend_tune_candidate candidates[ATTEND_TUNE_CANDIDATES]) {
  static const attend_variant variants[ATTEND_TUNE_VARIANTS] = {{false, 1}, {true, 1}, {true, 2}};
  int count = 0;
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    const attend_kernel *kernel = attend_kernel_at(k);
    if (kernel->can & ATTEND_CAN_INT8) continue; /* profiles have no say in what it does */
    for (int i = 0; proved[k] && i < ATTEND_TUNE_VARIANTS; i++)
      if (count < ATTEND_TUNE_CANDIDATES && (variants[i].strip_times == 1 || kernel->body == ATTEND_BODY_TILED))
        candidates[count++] = (attend_tune_candidate){kernel, variants[i]};
  }
  return count;
}

int attend_tune_teams(int threads, int *team) {
  int count = 0;
  for (int t = 1; t < threads && count < ATTEND_PROFILE_MOST_TEAMS - 1; t *= threads > 128 ? 4 : 2) team[count++] = t;
  team[count++] = threads;
  return count;
}

/* -------------------------------------------------------------------------------------------------------- one shape */

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double attend_tune_median(double *values, int n) {
  qsort(values, (size_t)n, sizeof *values, compare);
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/** A candidate under way. */
typedef struct entrant {
  attend_plan *plan;
  int candidate, team;
  double first, sample[ATTEND_TUNE_ROUNDS];
  int samples;
  bool out;
} entrant;

static double median_of(const entrant *e) {
  double sorted[ATTEND_TUNE_ROUNDS];
  if (e->samples == 0) return e->first;
  memcpy(sorted, e->sample, (size_t)e->samples * sizeof *sorted);
  return attend_tune_median(sorted, e->samples);
}

/** The standard error of the median, relative, from the median distance to it: 1.25 * 1.48 sigmas. */
static double noise_of(const entrant *e) {
  double distance[ATTEND_TUNE_ROUNDS];
  const double median = median_of(e);
  for (int i = 0; i < e->samples; i++) distance[i] = fabs(e->sample[i] - median);
  return e->samples ? 1.85 * attend_tune_median(distance, e->samples) / sqrt(e->samples) / median : 1;
}

static attend_plan *make_plan(const attend_tune_subject *subject, const attend_kernel *kernel,
                              const attend_tiling *tiling, int threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  attend_plan *plan = NULL;
  options.kernel = kernel ? kernel->name : NULL;
  options.num_threads = threads;
  const attend_problem *p = &subject->resolved.p;
  const attend_status status =
      tiling ? attend_plan_create_tiled(p, &options, tiling, &plan) : attend_plan_create(p, &options, &plan);
  return status == ATTEND_OK ? plan : NULL;
}

/** Makes plans of all candidates that apply, for each team. Returns how many, -1 without memory. */
static int enter(attend_tune_bench *bench, const attend_tune_subject *subject, entrant *entrants) {
  int count = 0;
  for (int i = 0; i < bench->candidates * bench->teams; i++) {
    const int c = i / bench->teams, team = bench->team[i % bench->teams];
    const attend_tune_candidate *candidate = &bench->candidate[c];
    if (!attend_kernel_can(candidate->kernel, &subject->resolved, NULL, 0) ||
        !attend_variant_applies(&subject->resolved, candidate->kernel, candidate->variant, bench->threads))
      continue;
    const attend_tiling tiling =
        attend_tiling_of(&subject->resolved, candidate->kernel, candidate->variant, bench->threads);
    entrant *e = &entrants[count++];
    *e = (entrant){.plan = make_plan(subject, candidate->kernel, &tiling, team), .candidate = c, .team = team};
    if (!e->plan || !attend_tune_workspace_fit(&bench->workspace, e->plan)) return -1;
  }
  return count;
}

/**
 * The first look, once warm: hopeless candidates drop out. Where one tiling of a kernel does, so do its others, without
 * a look: tilings make less of a difference.
 */
static void look(const attend_tune_bench *bench, const attend_tune_subject *subject, entrant *entrants, int count) {
  double best = INFINITY;
  const attend_kernel *hopeless = NULL;
  for (int i = 0; i < count; i++) {
    entrant *e = &entrants[i];
    e->out = e->plan->choice.kernel == hopeless;
    if (e->out) continue;
    e->first = attend_tune_time(e->plan, subject, &bench->workspace, 0);
    /* The least of several: an interruption in the only look would cost a good candidate its place. */
    for (int again = 0; again < LOOKS && (e->first < 3 * best || e->first < SAMPLE_SECONDS); again++)
      e->first = fmin(e->first, attend_tune_time(e->plan, subject, &bench->workspace, SAMPLE_SECONDS / 10));
    if (e->first > HOPELESS * best) hopeless = e->plan->choice.kernel;
    if (e->first < best) best = e->first;
  }
  for (int i = 0; i < count; i++) entrants[i].out |= entrants[i].first > HOPELESS * best;
}

/** The entrant with the least median of those that are not out. */
static int leader(const entrant *entrants, int count) {
  int best = -1;
  for (int i = 0; i < count; i++)
    if (!entrants[i].out && (best < 0 || median_of(&entrants[i]) < median_of(&entrants[best]))) best = i;
  return best;
}

static bool stopped(const attend_tune_bench *bench) { return bench->stop && *bench->stop; }

static void rounds(const attend_tune_bench *bench, const attend_tune_subject *subject, entrant *entrants, int count,
                   double deadline) {
  for (int round = 0; round < ATTEND_TUNE_ROUNDS && !stopped(bench); round++) {
    if (round >= LEAST_ROUNDS && attend_tune_now() > deadline) return;
    for (int i = 0; i < count; i++) {
      entrant *e = &entrants[i];
      if (!e->out) e->sample[e->samples++] = attend_tune_time(e->plan, subject, &bench->workspace, SAMPLE_SECONDS);
    }
    if (round + 1 < LEAST_ROUNDS) continue;
    /* Medians that are further apart than their errors, several times over, will not change places. */
    const entrant *best = &entrants[leader(entrants, count)];
    for (int i = 0; i < count; i++)
      if (median_of(&entrants[i]) > median_of(best) * (1.03 + 4 * (noise_of(best) + noise_of(&entrants[i]))))
        entrants[i].out = true;
  }
}

/** The candidate that the rules choose, -1 if they have no choice or it is none. */
static int rules_choice(const attend_tune_bench *bench, const attend_tune_subject *subject) {
  attend_plan *plan = make_plan(subject, NULL, NULL, bench->threads);
  if (!plan) return -1;
  const attend_kernel *kernel = plan->choice.kernel;
  attend_plan_destroy(plan);
  const bool whole = !attend_rules_split(&subject->resolved, kernel);
  for (int c = 0; c < bench->candidates; c++) {
    const attend_tune_candidate *candidate = &bench->candidate[c];
    if (candidate->kernel == kernel && candidate->variant.whole == whole && candidate->variant.strip_times == 1)
      return c;
  }
  return -1;
}

bool attend_tune_measure(attend_tune_bench *bench, const attend_problem *problem, double seconds,
                         attend_tune_point *point) {
  const double deadline = attend_tune_now() + seconds;
  const int most = bench->candidates * bench->teams;
  attend_tune_subject subject;
  int count = 0;
  if (!attend_tune_subject_open(&subject, problem)) return false;
  entrant *entrants = calloc((size_t)most, sizeof *entrants);
  bool ok = entrants != NULL;
  if (ok) {
    point->shape = attend_profile_shape_of(&subject.resolved);
    point->rules = rules_choice(bench, &subject);
    count = enter(bench, &subject, entrants);
    ok = count > 0;
  }
  if (ok) {
    look(bench, &subject, entrants, count);
    rounds(bench, &subject, entrants, count, deadline);
    const entrant *best = &entrants[leader(entrants, count)];
    for (int i = 0; i < count; i++) {
      const int c = entrants[i].candidate;
      const double time = median_of(&entrants[i]);
      if (time <= 0 || (point->time[c] > 0 && point->time[c] < time)) continue;
      point->time[c] = time;
      point->dropped[c] = entrants[i].samples == 0;
    }
    point->best = best->candidate;
    point->best_team = best->team;
    point->noise = noise_of(best);
    point->times = 1;
    ok = !stopped(bench);
  }
  for (int i = 0; entrants && i < most; i++) attend_plan_destroy(entrants[i].plan);
  free(entrants);
  attend_tune_subject_close(&subject);
  return ok;
}

void attend_tune_average(attend_tune_point *point, const attend_tune_point *again, int candidates) {
  const double before = point->times, times = before + 1;
  for (int c = 0; c < candidates; c++) {
    if (again->time[c] <= 0) continue; /* not even looked at */
    const bool first = point->time[c] <= 0;
    point->time[c] = first ? again->time[c] : exp((before * log(point->time[c]) + log(again->time[c])) / times);
    point->dropped[c] = again->dropped[c] && (first || point->dropped[c]);
  }
  for (int c = 0; c < candidates; c++)
    if (point->time[c] > 0 && !point->dropped[c] && point->time[c] < point->time[point->best]) point->best = c;
  point->noise = hypot(before * point->noise, again->noise) / times;
  point->times++;
}

bool attend_tune_team_costs(attend_tune_bench *bench, const int *team, int teams, double *us) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  attend_tune_subject subject;
  attend_plan *plan[ATTEND_PROFILE_MOST_TEAMS] = {0};
  double *sample = calloc((size_t)teams * TEAM_SAMPLES, sizeof *sample);
  p.batch = team[teams - 1], p.q_heads = 1, p.q_len = 1, p.kv_len = 64, p.head_dim = 64; /* an item a thread */
  if (!attend_tune_subject_open(&subject, &p)) {
    free(sample);
    return false;
  }
  const attend_kernel *kernel = NULL;
  for (int c = 0; c < bench->candidates && !kernel; c++)
    if (attend_kernel_can(bench->candidate[c].kernel, &subject.resolved, NULL, 0)) kernel = bench->candidate[c].kernel;
  bool ok = sample && kernel;
  for (int t = 0; ok && t < teams; t++) {
    const attend_tiling tiling = attend_tiling_of(&subject.resolved, kernel, (attend_variant){.whole = true}, 1);
    plan[t] = make_plan(&subject, kernel, &tiling, team[t]);
    ok = plan[t] && attend_tune_workspace_fit(&bench->workspace, plan[t]);
  }
  for (int i = 0; ok && i < TEAM_SAMPLES; i++)
    for (int t = 0; t < teams; t++)
      sample[t * TEAM_SAMPLES + i] = attend_tune_time(plan[t], &subject, &bench->workspace, 0);
  double alone = 0;
  for (int t = 0; t < teams; t++) {
    const double taken = ok ? attend_tune_median(sample + t * TEAM_SAMPLES, TEAM_SAMPLES) * 1e6 : 0;
    if (t == 0) alone = taken;
    const double share = ceil((double)p.batch / team[t]) / (double)p.batch;
    us[t] = fmax(taken - alone * share, 0);
    attend_plan_destroy(plan[t]);
  }
  us[0] = 0;
  free(sample);
  attend_tune_subject_close(&subject);
  return ok;
}
