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

#include "dispatch/choose/profile.h"

/* ----------------------------------------------------------------------------------------------------------- shapes */

attend_profile_shape attend_profile_shape_of(const attend_resolved *r) {
  const attend_problem *p = &r->p;
  attend_profile_shape shape = {.q_dtype = p->q_dtype,
                                .kv_dtype = p->k_dtype,
                                .batch = p->batch,
                                .q_heads = p->q_heads,
                                .kv_heads = p->kv_heads,
                                .q_len = p->q_len,
                                .kv_len = p->kv_len,
                                .head_dim = p->head_dim,
                                .v_head_dim = p->v_head_dim,
                                .reach = attend_reach(r),
                                .causal = p->causal || p->window,
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
  const float keys = log_of((double)s->reach);
  const attend_format_kind kind = attend_formats[s->kv_dtype].kind;
  /* With formats, kernels of bf16 products are there for queries in bf16 only, and f16 is as good as f32. */
  const attend_dtype plain = kind == ATTEND_PLAIN ? s->kv_dtype : s->q_dtype == ATTEND_BF16 ? ATTEND_BF16 : ATTEND_F32;
  const float type = plain == ATTEND_F32 ? 0 : plain == ATTEND_F16 ? 1 : 1.5f;
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
  axes[i++] = type + (s->q_dtype == s->kv_dtype || kind != ATTEND_PLAIN ? 0 : 0.5f);
  /* Far apart: at 2 instead of 8, decode in bf16 was chosen for formats because it is the best for bf16. */
  axes[i++] = kind == ATTEND_BLOCKS ? 8 : 0;
  axes[i++] = kind == ATTEND_SCALED ? 8 : 0;
}

/*
 * Without the heads and rows, times of less than 8 us on 400 random shapes were estimated with an error of 32 % (root
 * mean square of the logarithm), with them of 11 %: many short rows got half the time they take, and one thread.
 */
double attend_profile_products(const attend_profile_shape *s) {
  const double run = 500, head = 700, row = 2000;
  const double heads = (double)s->batch * (double)s->kv_heads,
               rows = (double)s->batch * (double)s->q_heads * (double)s->q_len;
  const double row_products = fmax((double)s->reach, 1) * ((double)s->head_dim + (double)s->v_head_dim);
  return run + head * heads + (row + row_products) * rows;
}

/* ------------------------------------------------------------------------------------------------------- estimation */

/*
 * Numbers of four points: a register of every processor. From loops over plain floats gcc 12 made shuffles, four times
 * as slow; wider vectors it kept in memory.
 */
typedef float quad __attribute__((vector_size(4 * sizeof(float)), aligned(sizeof(float)), may_alias));
enum { QUADS = ATTEND_PROFILE_BLOCK / 4 };

/** How alike a shape is to each point. */
static void compare(const attend_profile *profile, const attend_profile_shape *shape,
                    float likeness[ATTEND_PROFILE_MOST_POINTS]) {
  float axes[ATTEND_PROFILE_AXES];
  attend_profile_axes(shape, axes);
  const quad *at = (const quad *)profile->axes;
  for (int first = 0; first < profile->stride; first += ATTEND_PROFILE_BLOCK) {
    quad square[QUADS] = {{0}};
    for (int a = 0; a < ATTEND_PROFILE_AXES; a++)
      for (int q = 0; q < QUADS; q++, at++) {
        const quad distance = *at - axes[a];
        square[q] += distance * distance;
      }
    memcpy(likeness + first, square, sizeof square);
  }
  for (int i = 0; i < profile->stride; i++) likeness[i] = attend_profile_likeness(sqrtf(likeness[i]));
}

/** A column at a shape. */
static float estimate(const attend_profile *profile, int column, const float *likeness) {
  const quad *alike = (const quad *)likeness;
  const quad *weights = (const quad *)(profile->weights + (size_t)column * (size_t)profile->stride);
  quad sum[QUADS] = {{0}};
  for (int first = 0; first < profile->stride; first += ATTEND_PROFILE_BLOCK)
    for (int q = 0; q < QUADS; q++, alike++, weights++) sum[q] += *alike * *weights;
  const quad all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return profile->column[column].mean + (all[0] + all[1]) + (all[2] + all[3]);
}

/* ----------------------------------------------------------------------------------------------------------- choice */

bool attend_profile_covers(const attend_profile *profile, const attend_resolved *r) {
  const attend_format_kind kind = attend_formats[r->p.k_dtype].kind;
  return attend_formats[r->p.v_dtype].kind == kind && profile->kinds >> kind & 1 && !r->p.batch_invariant &&
         !r->p.weights && !r->p.scores && r->p.score == ATTEND_SCORE_DOT && r->p.dropout == 0 && r->p.kv_len > 0;
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

/** A column as an answer. */
typedef struct answer {
  const attend_profile_column *column;
  float log_time;          /* on one thread, relative to the reference */
  double alone, items, us; /* microseconds on one thread; slices; microseconds on the best team */
} answer;

/** Fills in what follows from the time on one thread. */
static void work_out(answer *a, const attend_profile *profile, const attend_resolved *r, double unit) {
  a->alone = exp((double)a->log_time) * unit;
  a->items = profile->threads > 1 ? items_of(profile, r, a->column) : 1;
  a->us = time_on(profile, a->alone, a->items, best_team(profile, a->alone, a->items, profile->threads));
}

/** The log_time from which on no team makes an answer faster than the best. */
static float slowest(const attend_profile *profile, const answer *best, double unit) {
  double wake = INFINITY; /* what the cheapest team of several costs */
  for (int i = 0; i < profile->teams; i++)
    if (profile->team[i].threads > 1) wake = fmin(wake, (double)profile->team[i].us);
  const double shared = (best->us - wake) * profile->threads;
  return logf((float)(fmax(best->us, shared) / unit));
}

/** The columns whose kernels can do a problem here, with their times. Returns their number. */
static int candidates(const attend_profile *profile, const attend_resolved *r, const attend_env *env,
                      const float *likeness, answer answers[ATTEND_PROFILE_MOST_COLUMNS]) {
  const attend_kernel *kernel = NULL;
  bool usable = false;
  int count = 0;
  for (int c = 1; c < profile->columns; c++) {
    const attend_profile_column *column = &profile->column[c];
    if (column->kernel != kernel) {
      kernel = column->kernel;
      usable = attend_kernel_runnable(kernel, env->isa, NULL, 0) && attend_kernel_can(kernel, r, NULL, 0);
    }
    /* A variant that is the same as another was not measured here, and its estimate would mean nothing. */
    if (usable && attend_variant_applies(r, kernel, column->variant, profile->threads))
      answers[count++] = (answer){.column = column, .log_time = estimate(profile, c, likeness)};
  }
  return count;
}

void attend_profile_choose(const attend_profile *profile, const attend_resolved *r, const attend_env *env, int threads,
                           attend_choice *choice) {
  const attend_profile_shape shape = attend_profile_shape_of(r);
  float likeness[ATTEND_PROFILE_MOST_POINTS];
  compare(profile, &shape, likeness);
  const double unit = exp((double)estimate(profile, 0, likeness)) * attend_profile_products(&shape) * 1e-3;

  answer answers[ATTEND_PROFILE_MOST_COLUMNS];
  const int count = candidates(profile, r, env, likeness, answers);
  const bool rules_whole = !attend_rules_split(r, choice->kernel);
  answer *rules = NULL, *best = NULL;
  for (int i = 0; i < count; i++) {
    const attend_profile_column *column = answers[i].column;
    if (column->kernel == choice->kernel && column->variant.whole == rules_whole && column->variant.strip_times == 1)
      rules = &answers[i];
    if (!best || answers[i].log_time < best->log_time) best = &answers[i];
  }
  /* What the rules chose and the tuner did not measure is not known to be slower. */
  if (!rules) return;
  work_out(rules, profile, r, unit);
  if (best != rules) work_out(best, profile, r, unit);
  float limit = slowest(profile, best, unit);
  for (int i = 0; i < count; i++) {
    answer *const other = &answers[i];
    if (other->us > 0 || other->log_time >= limit) continue;
    work_out(other, profile, r, unit);
    if (other->us < best->us) best = other, limit = slowest(profile, best, unit);
  }
  const double gain = rules->us / best->us - 1;
  const bool beaten = gain > (double)profile->noise;
  if (!beaten) best = rules;
  choice->by = ATTEND_BY_PROFILE;
  choice->profile = profile;
  choice->rules = choice->kernel;
  choice->us = best->us;
  choice->gain = beaten ? gain : 0;
  choice->team = best_team(profile, best->alone, best->items, threads);
  choice->variant = best->column->variant;
  choice->kernel = best->column->kernel;
}

void attend_profile_reason(const attend_choice *choice, const attend_resolved *r, char *text, size_t size) {
  const attend_profile_shape shape = attend_profile_shape_of(r);
  float likeness[ATTEND_PROFILE_MOST_POINTS];
  compare(choice->profile, &shape, likeness);
  int nearest = 0;
  for (int i = 1; i < choice->profile->points; i++)
    if (likeness[i] > likeness[nearest]) nearest = i;
  static const char *const units[] = {"us", "ms", "s"};
  double time = choice->us;
  size_t unit = 0;
  while (time >= 999.5 && unit + 1 < sizeof units / sizeof *units) time *= 1e-3, unit++;
  char gain[128] = "";
  if (choice->gain > 0)
    snprintf(gain, sizeof gain, ", %.0f %% faster than %s%s", 100 * choice->gain,
             choice->kernel == choice->rules ? "cut up by the rules" : "the rules' ",
             choice->kernel == choice->rules ? "" : choice->rules->name);
  snprintf(text, size, "profile: %s%.3g %s expected%s; nearest entry: %s", choice->gain > 0 ? "" : "as by the rules, ",
           time, units[unit], gain, choice->profile->name[nearest]);
}
