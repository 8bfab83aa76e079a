/* SPDX-License-Identifier: Apache-2.0 */
/** Regret: what a choice loses against the best of everything there is to choose from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "tune/internal.h"

enum { BEST, CHOSEN, RULES, PLANS, LEAST_ROUNDS = 9 };

/* Long enough for the best of two to be told apart. */
#define SAMPLE_SECONDS 1e-3

static void name_plan(const attend_plan *plan, char *text, size_t size) {
  snprintf(text, size, "%s, %d thread%s, %lld rows%s", plan->choice.kernel->name, plan->cut.useful,
           plan->cut.useful == 1 ? "" : "s", (long long)plan->choice.tiling.slice_rows,
           plan->share.splits > 1 ? ", keys split" : "");
}

static bool same_plan(const attend_plan *a, const attend_plan *b) {
  return a->choice.kernel == b->choice.kernel && a->cut.useful == b->cut.useful && a->share.splits == b->share.splits &&
         a->choice.tiling.slice_rows == b->choice.tiling.slice_rows &&
         a->choice.tiling.strip_rows == b->choice.tiling.strip_rows &&
         (a->share.splits == 1 || a->choice.tiling.split_keys == b->choice.tiling.split_keys);
}

/** The plan of the best candidate, with the best number of threads. */
static attend_plan *best_plan(const attend_tune_bench *bench, const attend_tune_subject *subject,
                              const attend_tune_point *point) {
  const attend_tune_candidate *best = &bench->candidate[point->best];
  const attend_tiling tiling = attend_tiling_of(&subject->resolved, best->kernel, best->variant, bench->threads);
  attend_options options = ATTEND_OPTIONS_INIT;
  attend_plan *plan = NULL;
  options.kernel = best->kernel->name;
  options.num_threads = point->best_team;
  return attend_plan_create_tiled(&subject->resolved.p, &options, &tiling, &plan) == ATTEND_OK ? plan : NULL;
}

/** What the library chooses, with the profile or without. */
static attend_plan *library_plan(const attend_tune_subject *subject, int threads, const char *profile) {
  attend_options options = ATTEND_OPTIONS_INIT;
  attend_plan *plan = NULL;
  options.num_threads = threads;
  setenv("ATTEND_PROFILE", profile, 1);
  const attend_status status = attend_plan_create(&subject->resolved.p, &options, &plan);
  setenv("ATTEND_PROFILE", "off", 1);
  return status == ATTEND_OK ? plan : NULL;
}

/** Times the plans in turn; what `plan` takes longer than the best is the median of the rounds' ratios. */
static void compare(const attend_tune_bench *bench, const attend_tune_subject *subject, attend_plan *const plan[PLANS],
                    double deadline, attend_tune_regret *regret) {
  double sample[PLANS][ATTEND_TUNE_ROUNDS], ratio[PLANS][ATTEND_TUNE_ROUNDS];
  int rounds = 0;
  for (; rounds < ATTEND_TUNE_ROUNDS && (rounds < LEAST_ROUNDS || attend_tune_now() < deadline); rounds++)
    for (int i = 0; i < PLANS; i++) {
      sample[i][rounds] = attend_tune_time(plan[i], subject, &bench->workspace, SAMPLE_SECONDS);
      ratio[i][rounds] = sample[i][rounds] / sample[BEST][rounds];
    }
  regret->best = attend_tune_median(sample[BEST], rounds);
  regret->chosen = attend_tune_median(sample[CHOSEN], rounds);
  regret->rules = attend_tune_median(sample[RULES], rounds);
  const double chosen = same_plan(plan[CHOSEN], plan[BEST]) ? 1 : attend_tune_median(ratio[CHOSEN], rounds);
  const double rules = same_plan(plan[RULES], plan[BEST])     ? 1
                       : same_plan(plan[RULES], plan[CHOSEN]) ? chosen
                                                              : attend_tune_median(ratio[RULES], rounds);
  regret->regret = chosen > 1 ? chosen - 1 : 0;
  regret->rules_regret = rules > 1 ? rules - 1 : 0;
}

bool attend_tune_check(const attend_problem *problem, attend_isa highest, int threads, const char *profile,
                       double seconds, attend_tune_regret *regret) {
  attend_tune_candidate candidates[ATTEND_TUNE_CANDIDATES];
  attend_tune_bench bench = {.candidate = candidates, .threads = threads};
  attend_tune_subject subject = {0};
  attend_plan *plan[PLANS] = {0};
  bool *proved = calloc(attend_kernel_count(), sizeof *proved);
  attend_tune_point point = {.time = calloc(ATTEND_TUNE_CANDIDATES, sizeof(double)),
                             .dropped = calloc(ATTEND_TUNE_CANDIDATES, sizeof(bool))};
  *regret = (attend_tune_regret){.problem = *problem};
  bool ok = proved && point.time && point.dropped;
  if (!ok) attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a measurement");
  for (size_t k = 0; ok && k < attend_kernel_count(); k++)
    proved[k] = attend_kernel_runnable(attend_kernel_at(k), highest, NULL, 0);
  if (ok) {
    bench.candidates = attend_tune_candidates(proved, candidates);
    bench.teams = attend_tune_teams(threads, bench.team);
    double team_us[ATTEND_PROFILE_MOST_TEAMS];
    ok = attend_tune_team_costs(&bench, bench.team, bench.teams, team_us) &&
         attend_tune_measure(&bench, problem, seconds * 0.7, &point) && attend_tune_subject_open(&subject, problem);
    if (ok) regret->team_us = team_us[bench.teams - 1];
  }
  if (ok) {
    plan[BEST] = best_plan(&bench, &subject, &point);
    plan[CHOSEN] = library_plan(&subject, threads, profile);
    plan[RULES] = library_plan(&subject, threads, "off");
    for (int i = 0; ok && i < PLANS; i++) ok = plan[i] && attend_tune_workspace_fit(&bench.workspace, plan[i]);
  }
  if (ok) {
    for (int i = 0; i < PLANS; i++) attend_tune_time(plan[i], &subject, &bench.workspace, 0);
    compare(&bench, &subject, plan, attend_tune_now() + seconds * 0.3, regret);
    name_plan(plan[BEST], regret->best_name, sizeof regret->best_name);
    name_plan(plan[CHOSEN], regret->chosen_name, sizeof regret->chosen_name);
    name_plan(plan[RULES], regret->rules_name, sizeof regret->rules_name);
  }
  for (int i = 0; i < PLANS; i++) attend_plan_destroy(plan[i]);
  attend_tune_subject_close(&subject);
  attend_tune_workspace_free(&bench.workspace);
  free(point.time);
  free(point.dropped);
  free(proved);
  return ok;
}
