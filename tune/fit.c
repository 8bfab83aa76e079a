/* SPDX-License-Identifier: Apache-2.0 */
/**
 * From measurements to a profile: simple kriging (Matheron 1963, "Principles of geostatistics") of the logarithms of
 * times. With K the likeness of all pairs of points, and a nugget on its diagonal for what is noise, the weights of a
 * column are (K + nugget)^-1 (values - mean).
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tune/internal.h"

enum { LEAST_POINTS = 12 };

/* Share of a value's variance that is its point's own, and of one that was looked at only once. */
#define NUGGET 0.015
#define ROUGH_NUGGET 0.1

/* A choice is of use if it lowers the mean of what is lost against the best, limited to MOST_LOSS, by this. */
#define LEAST_HELP 1e-3
#define MOST_LOSS 1.0

/* Logarithms beyond these are as good as these: an outlier would bend the surface around it. */
#define LOW (-2.0)
#define HIGH 1.2

typedef struct fit {
  const attend_tune_bench *bench;
  const attend_tune_point *points;
  int count;
  const attend_profile_team *team;
  int teams;
  double *likeness;       /**< [count][count] */
  double *lower;          /**< room for a Cholesky factor */
  double *value, *nugget; /**< [count] */
  int *index;
} fit;

/** Columns of the profile as they come to be. */
typedef struct table {
  attend_profile_column *column;
  double *weights; /**< [columns][count] */
  int columns;
} table;

/** Solves (likeness + nugget) x = value - mean over the points in index[0..n), in place. */
static void solve(const fit *f, int n, double mean) {
  for (int i = 0; i < n; i++) {
    double *row = f->lower + (size_t)i * (size_t)n;
    for (int j = 0; j <= i; j++) {
      const double *other = f->lower + (size_t)j * (size_t)n;
      double sum = f->likeness[(size_t)f->index[i] * (size_t)f->count + (size_t)f->index[j]];
      if (i == j) sum += f->nugget[i];
      for (int k = 0; k < j; k++) sum -= row[k] * other[k];
      row[j] = i == j ? sqrt(sum) : sum / other[j];
    }
  }
  for (int i = 0; i < n; i++) {
    const double *row = f->lower + (size_t)i * (size_t)n;
    double sum = f->value[i] - mean;
    for (int k = 0; k < i; k++) sum -= row[k] * f->value[k];
    f->value[i] = sum / row[i];
  }
  for (int i = n - 1; i >= 0; i--) {
    for (int k = i + 1; k < n; k++) f->value[i] -= f->lower[(size_t)k * (size_t)n + (size_t)i] * f->value[k];
    f->value[i] /= f->lower[(size_t)i * (size_t)n + (size_t)i];
  }
}

/** Adds a column whose values at points index[0..n) have been put into f->value. */
static void add_column(const fit *f, table *t, attend_profile_column column, int n) {
  double *weights = t->weights + (size_t)t->columns * (size_t)f->count;
  double mean = 0;
  if (n == 0) return;
  for (int i = 0; i < n; i++) mean += f->value[i] / n;
  solve(f, n, mean);
  for (int i = 0; i < n; i++) weights[f->index[i]] = f->value[i];
  column.mean = (float)mean;
  t->column[t->columns++] = column;
}

/**
 * What times at a point are measured by: the best of the kernels that take every element type. That of all kernels
 * would move with the types that the faster ones take, and every other column with it.
 */
static double reference_time(const fit *f, const attend_tune_point *point) {
  double best = INFINITY;
  for (int c = 0; c < f->bench->candidates; c++)
    if (point->time[c] > 0 && point->time[c] < best &&
        (f->bench->candidate[c].kernel->dtypes & ATTEND_DTYPES_ALL) == ATTEND_DTYPES_ALL)
      best = point->time[c];
  return isfinite(best) ? best : point->time[point->best];
}

static double limited(double x) { return fmax(LOW, fmin(HIGH, x)); }

/** What the best of the chosen candidates, and of one more if that is not -1, lose against the best, on average. */
static double mean_loss(const fit *f, const bool *chosen, int more) {
  double loss = 0;
  for (int i = 0; i < f->count; i++) {
    const attend_tune_point *point = &f->points[i];
    double least = INFINITY;
    for (int c = 0; c < f->bench->candidates; c++)
      if ((chosen[c] || c == more) && point->time[c] > 0 && point->time[c] < least) least = point->time[c];
    loss += fmin(least / point->time[point->best] - 1, MOST_LOSS) / f->count;
  }
  return loss;
}

/** Chooses the candidates that a profile knows: those of the rules, and then, one by one, the one that helps most. */
static void choose_candidates(const fit *f, bool *chosen) {
  for (int i = 0; i < f->count; i++)
    if (f->points[i].rules >= 0) chosen[f->points[i].rules] = true;
  for (double loss = mean_loss(f, chosen, -1);;) {
    int best = -1;
    double least = loss - LEAST_HELP;
    for (int c = 0; c < f->bench->candidates; c++) {
      const double with = chosen[c] ? INFINITY : mean_loss(f, chosen, c);
      if (with < least) best = c, least = with;
    }
    if (best < 0) return;
    chosen[best] = true;
    loss = least;
  }
}

static void fill_table(const fit *f, table *t) {
  bool chosen[ATTEND_TUNE_CANDIDATES] = {0};
  int n = 0;
  choose_candidates(f, chosen);
  for (int i = 0; i < f->count; i++, n++) {
    f->index[n] = i, f->nugget[n] = NUGGET;
    f->value[n] = log(reference_time(f, &f->points[i]) * 1e9 / attend_profile_products(&f->points[i].shape));
  }
  add_column(f, t, (attend_profile_column){0}, n);
  for (int c = 0; c < f->bench->candidates; c++) {
    const attend_tune_candidate *candidate = &f->bench->candidate[c];
    if (!chosen[c]) continue;
    for (int i = n = 0; i < f->count; i++) {
      const attend_tune_point *point = &f->points[i];
      if (point->time[c] <= 0) continue;
      f->index[n] = i, f->nugget[n] = point->dropped[c] ? ROUGH_NUGGET : NUGGET;
      f->value[n++] = limited(log(point->time[c] / reference_time(f, point)));
    }
    add_column(f, t, (attend_profile_column){.kernel = candidate->kernel, .variant = candidate->variant}, n);
  }
}

/* ------------------------------------------------------------------------------------------------------------- text */

static void print_column(FILE *out, const attend_profile_column *c) {
  if (c->kernel)
    fprintf(out, "choice %s %s %d", c->kernel->name, c->variant.whole ? "whole" : "split", c->variant.strip_times);
  else
    fprintf(out, "time");
  fprintf(out, " %.6f\n", (double)c->mean);
}

static void print_shape(FILE *out, const attend_profile_shape *s) {
  fprintf(out,
          "point %s/%s %" PRId64 " %" PRId64 "/%" PRId64 " %" PRId64 "x%" PRId64 " %" PRId64 "/%" PRId64 " %" PRId64
          " %s %s",
          attend_dtype_name(s->q_dtype), attend_dtype_name(s->kv_dtype), s->batch, s->q_heads, s->kv_heads, s->q_len,
          s->kv_len, s->head_dim, s->v_head_dim, s->reach, s->causal ? "causal" : "full", s->work ? "work" : "plain");
}

static void print_profile(FILE *out, const fit *f, const table *t, double noise) {
  fprintf(out,
          "attend-profile %d\nlibrary %s\ncpu %s\ncores %d\nkernels %016" PRIx64
          "\nthreads %d\nnoise %.6f\nteams %d\ncolumns %d\npoints %d\n",
          ATTEND_PROFILE_VERSION, attend_version(), attend_cpu_get()->signature, attend_topology_get()->cores,
          attend_profile_rows_hash(), f->bench->threads, noise, f->teams, t->columns, f->count);
  for (int i = 0; i < f->teams; i++) fprintf(out, "team %d %.3f\n", f->team[i].threads, (double)f->team[i].us);
  for (int c = 0; c < t->columns; c++) print_column(out, &t->column[c]);
  for (int i = 0; i < f->count; i++) {
    print_shape(out, &f->points[i].shape);
    for (int c = 0; c < t->columns; c++) fprintf(out, " %.5f", t->weights[(size_t)c * (size_t)f->count + (size_t)i]);
    fputc('\n', out);
  }
}

/** The whole text, with its hash. false: no memory. */
static bool make_text(const fit *f, const table *t, attend_tune_result *result) {
  FILE *out = open_memstream(&result->text, &result->length);
  if (!out) return false;
  print_profile(out, f, t, result->noise);
  bool ok = fflush(out) == 0 && !ferror(out);
  if (ok) fprintf(out, "end %016" PRIx64 "\n", attend_profile_hash(result->text, result->length));
  ok = fclose(out) == 0 && ok;
  if (ok) return true;
  free(result->text);
  result->text = NULL;
  return false;
}

/* ------------------------------------------------------------------------------------------------------ everything */

static void compare_all(const fit *f) {
  float a[ATTEND_PROFILE_AXES], b[ATTEND_PROFILE_AXES];
  for (int i = 0; i < f->count; i++) {
    attend_profile_axes(&f->points[i].shape, a);
    for (int j = 0; j <= i; j++) {
      float sum = 0;
      attend_profile_axes(&f->points[j].shape, b);
      for (int d = 0; d < ATTEND_PROFILE_AXES; d++) sum += (a[d] - b[d]) * (a[d] - b[d]);
      const double likeness = (double)attend_profile_likeness(sqrtf(sum));
      f->likeness[(size_t)i * (size_t)f->count + (size_t)j] = likeness;
      f->likeness[(size_t)j * (size_t)f->count + (size_t)i] = likeness;
    }
  }
}

static size_t count_kernels(const table *t) {
  size_t kernels = 0;
  const attend_kernel *last = NULL;
  for (int c = 0; c < t->columns; c++) {
    if (t->column[c].kernel && t->column[c].kernel != last) kernels++;
    last = t->column[c].kernel;
  }
  return kernels;
}

bool attend_tune_fit(const attend_tune_bench *bench, const attend_tune_point *points, int count,
                     const attend_profile_team *team, int teams, attend_tune_result *result) {
  const size_t n = (size_t)count, most = (size_t)bench->candidates + 1;
  if (count < LEAST_POINTS) return true;
  fit f = {.bench = bench, .points = points, .count = count, .team = team, .teams = teams};
  table t = {0};
  f.likeness = malloc(n * n * sizeof *f.likeness);
  f.lower = malloc(n * n * sizeof *f.lower);
  f.value = malloc(n * sizeof *f.value);
  f.nugget = malloc(n * sizeof *f.nugget);
  f.index = malloc(n * sizeof *f.index);
  t.column = calloc(most, sizeof *t.column);
  t.weights = calloc(most * n, sizeof *t.weights);
  bool ok = f.likeness && f.lower && f.value && f.nugget && f.index && t.column && t.weights;
  if (ok) {
    for (int i = 0; i < count; i++) f.value[i] = points[i].noise;
    /* Twice the error of a median: what is less than that apart was not told apart. */
    result->noise = fmin(fmax(2 * attend_tune_median(f.value, count), 0.005), 0.2);
    compare_all(&f);
    fill_table(&f, &t);
    result->columns = (size_t)t.columns;
    result->kernels = count_kernels(&t);
    ok = make_text(&f, &t, result);
  }
  free(f.likeness);
  free(f.lower);
  free(f.value);
  free(f.nugget);
  free(f.index);
  free(t.column);
  free(t.weights);
  return ok;
}
