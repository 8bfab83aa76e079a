/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What a profile says about a shape. Every quantity (docs/tuning.md) is estimated from all tuned shapes by kriging with
 * a correlation that falls slowly with the distance: exact at the tuned shapes, up to their noise, and in between a
 * mean in which the nearest count most.
 *
 * On Zen 5, on one thread, on 576 random shapes, 60 % of them to learn from, this lost 0.0 % at the median and 10 % at
 * the 90th percentile against the best of what was measured. On 359 of them, half to learn from, it lost 0.0 and 12 %,
 * the nearest shape alone 1.1 and 25 %; a sum of fitted costs (per slice, packed key, product, score) lost 0.1 and 28
 * %.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/profile.h"

/* ------------------------------------------------------------------------------------------------------------ shapes
 */

attend_profile_shape attend_profile_shape_of(const attend_resolved *r) {
  const attend_problem *p = &r->p;
  attend_profile_shape shape = {.q_dtype = p->q_dtype,
                                .kv_dtype = p->kv_dtype,
                                .batch = p->batch,
                                .q_heads = p->q_heads,
                                .kv_heads = p->kv_heads,
                                .q_len = p->q_len,
                                .kv_len = p->kv_len,
                                .head_dim = p->head_dim,
                                .v_head_dim = p->v_head_dim,
                                .reach = attend_reach(r),
                                .causal = r->causal || p->window,
                                .work = attend_scores_need_work(p)};
  return shape;
}

/** log2 of a number that may be 0. */
static float log_of(double x) { return log2f((float)(x > 1 ? x : 1)); }

/*
 * The weights are those under which random shapes lost least. Up to 32 rows and 64 keys, every row and key counts:
 * kernels differ by what they do with a half-empty register tile, so those ranges are stretched by an axis of their
 * own.
 */
void attend_profile_axes(const attend_profile_shape *s, float axes[ATTEND_PROFILE_AXES]) {
  const float rows = log_of((double)s->q_len * (double)s->q_heads / (double)s->kv_heads);
  const float keys = log_of((double)s->reach), type = s->kv_dtype == ATTEND_F32   ? 0
                                                      : s->kv_dtype == ATTEND_F16 ? 1
                                                                                  : 1.5f;
  int i = 0;
  axes[i++] = rows;
  axes[i++] = fminf(rows, 5);
  axes[i++] = 0.7f * keys;
  axes[i++] = 0.7f * fminf(keys, 6);
  axes[i++] = log_of(((double)s->head_dim + (double)s->v_head_dim) / 2);
  axes[i++] = s->causal ? 1 : 0;
  axes[i++] = s->work ? 1.5f : 0;
  axes[i++] = s->reach < s->kv_len ? 0.8f : 0;
  axes[i++] = 0.3f * log_of((double)s->batch * (double)s->kv_heads);
  axes[i++] = 0.25f * log_of((double)s->q_heads / (double)s->kv_heads);
  axes[i++] = type + (s->q_dtype == s->kv_dtype ? 0 : 0.5f);
}

double attend_profile_products(const attend_profile_shape *s) {
  const double run = 2e4; /* what a run costs before it computes anything */
  return run + (double)s->batch * (double)s->q_heads * (double)s->q_len * (double)(s->reach > 0 ? s->reach : 1) *
                   ((double)s->head_dim + (double)s->v_head_dim);
}

/* -------------------------------------------------------------------------------------------------------- estimation
 */

/*
 * A number of each point of a block. Compilers of the portable code make whole registers of it; of loops over plain
 * floats gcc 12 made shuffles, four times as slow.
 */
typedef float block __attribute__((vector_size(sizeof(float) * ATTEND_PROFILE_BLOCK), aligned(4), may_alias));

/** How alike a shape is to each point. Returns the point that is nearest to it. */
static int compare(const attend_profile *profile, const attend_profile_shape *shape,
                   float likeness[ATTEND_PROFILE_MOST_POINTS]) {
  float axes[ATTEND_PROFILE_AXES];
  attend_profile_axes(shape, axes);
  const float *at = profile->axes;
  for (int first = 0; first < profile->stride; first += ATTEND_PROFILE_BLOCK) {
    block sum = {0};
    for (int a = 0; a < ATTEND_PROFILE_AXES; a++, at += ATTEND_PROFILE_BLOCK) {
      const block distance = *(const block *)at - axes[a];
      sum += distance * distance;
    }
    memcpy(likeness + first, &sum, sizeof sum);
  }
  int nearest = 0;
  float least = likeness[0];
  for (int i = 1; i < profile->points; i++)
    if (likeness[i] < least) least = likeness[i], nearest = i;
  for (int i = 0; i < profile->stride; i++) likeness[i] = attend_profile_likeness(sqrtf(likeness[i]));
  return nearest;
}

/** A column at a shape. */
static double estimate(const attend_profile *profile, int column, const float *likeness) {
  const float *weights = profile->weights + (size_t)column * (size_t)profile->stride;
  block sum = {0};
  float all = profile->column[column].mean;
  for (int first = 0; first < profile->stride; first += ATTEND_PROFILE_BLOCK)
    sum += *(const block *)(likeness + first) * *(const block *)(weights + first);
  for (int i = 0; i < ATTEND_PROFILE_BLOCK; i++) all += sum[i];
  return (double)all;
}

/* ------------------------------------------------------------------------------------------------------------ choice
 */

bool attend_profile_covers(const attend_resolved *r) {
  return !r->p.batch_invariant && !r->p.weights && r->p.score == ATTEND_SCORE_DOT && r->p.dropout == 0 &&
         r->p.kv_len > 0;
}

/** What it costs to wake so many threads. */
static double team_us(const attend_profile *profile, int threads) {
  int i = 0;
  while (i < profile->teams - 1 && profile->team[i].threads < threads) i++;
  return (double)profile->team[i].us;
}

/** The time on a team of what takes `us` on one thread: items of equal size, handed out one by one. */
static double time_on(const attend_profile *profile, double us, double items, int threads) {
  if (threads == 1 || items <= 1) return us;
  return us * ceil(items / threads) / items + team_us(profile, threads);
}

/* A larger team must save this share: a call of 0.84 us, taken for one of 1.02, was better off on one thread. */
#define TEAM_GAIN 0.07

/** The fastest of the measured teams of at most `threads`, and of `threads` itself. */
static int best_team(const attend_profile *profile, double us, double items, int threads) {
  int best = 1;
  for (int i = 0; i <= profile->teams; i++) {
    const int team = i < profile->teams && profile->team[i].threads < threads ? profile->team[i].threads : threads;
    if (time_on(profile, us, items, team) < (1 - TEAM_GAIN) * time_on(profile, us, items, best)) best = team;
  }
  return best;
}

/** Slices that a variant cuts the work into, as for the number of threads of the profile. */
static double items_of(const attend_profile *profile, const attend_resolved *r, const attend_profile_column *column) {
  const attend_tiling tiling = attend_tiling_of(r, column->kernel, column->variant, profile->threads);
  return (double)r->p.batch * (double)r->p.kv_heads * ceil((double)r->rows / (double)tiling.slice_rows) *
         ceil((double)r->p.kv_len / (double)tiling.split_keys);
}

/** A column as an answer, and in microseconds what is expected of it: on one thread, and on the best team. */
typedef struct answer {
  const attend_profile_column *column;
  double items, alone, us;
} answer;

void attend_profile_choose(const attend_profile *profile, const attend_resolved *r, const attend_env *env, int threads,
                           attend_choice *choice) {
  const attend_profile_shape shape = attend_profile_shape_of(r);
  float likeness[ATTEND_PROFILE_MOST_POINTS] = {0};
  const int nearest = compare(profile, &shape, likeness);
  const double unit = exp(estimate(profile, 0, likeness)) * attend_profile_products(&shape) * 1e-3;
  const attend_kernel *kernel = NULL;
  const bool rules_whole = !attend_rules_split(r, choice->kernel);
  bool usable = false;
  answer best = {.us = INFINITY}, rules = {0};
  for (int c = 1; c < profile->columns; c++) {
    const attend_profile_column *column = &profile->column[c];
    if (column->kernel != kernel) {
      kernel = column->kernel;
      usable = attend_kernel_runnable(kernel, env->isa, NULL, 0) && attend_kernel_can(kernel, r, NULL, 0);
    }
    const bool is_rules =
        kernel == choice->kernel && column->variant.whole == rules_whole && column->variant.strip_times == 1;
    /* A variant that is the same as another was not measured here, and its estimate would mean nothing. */
    if (!usable || !attend_variant_applies(r, kernel, column->variant, profile->threads)) continue;
    answer this = {.column = column, .alone = exp(estimate(profile, c, likeness)) * unit};
    /* More threads make nothing faster than this. */
    if (this.alone / profile->threads > best.us && !is_rules) continue;
    this.items = items_of(profile, r, column);
    this.us = time_on(profile, this.alone, this.items, best_team(profile, this.alone, this.items, profile->threads));
    if (this.us < best.us) best = this;
    if (is_rules) rules = this;
  }
  /* What the rules chose and the tuner did not measure, nobody knows to be slower. */
  if (!rules.column) return;
  const double gain = rules.us / best.us - 1;
  const bool beaten = gain > (double)profile->noise;
  if (!beaten) best = rules;
  choice->team = best_team(profile, best.alone, best.items, threads);
  if (!beaten)
    snprintf(choice->reason, sizeof choice->reason, "profile: as by the rules, %.3g us expected; nearest entry: %s",
             best.us, profile->name[nearest]);
  else if (best.column->kernel == choice->kernel)
    snprintf(choice->reason, sizeof choice->reason,
             "profile: %.3g us expected, %.0f %% faster than cut up by the rules; nearest entry: %s", best.us,
             100 * gain, profile->name[nearest]);
  else
    snprintf(choice->reason, sizeof choice->reason,
             "profile: %.3g us expected, %.0f %% faster than the rules' %s; nearest entry: %s", best.us, 100 * gain,
             choice->kernel->name, profile->name[nearest]);
  choice->variant = best.column->variant;
  choice->kernel = best.column->kernel;
}
