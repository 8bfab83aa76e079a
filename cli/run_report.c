/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/run.h"
#include "cli/text.h"
#include "dispatch/plan/sequences.h"
#include "verify/reference.h"

/* What all sequences have, and the least and the most of one. */
typedef struct totals {
  int64_t all, least, most;
} totals;

static void add(totals *t, int64_t b, int64_t count) {
  t->all += count;
  if (b == 0 || count < t->least) t->least = count;
  if (count > t->most) t->most = count;
}

static void count_rows(const attend_resolved *problem, const attend_tensors *t, totals *queries, totals *keys) {
  *queries = *keys = (totals){0};
  for (int64_t b = 0; b < problem->p.batch; b++) {
    const attend_sequence sequence = attend_sequence_of(problem, t, b);
    add(queries, b, sequence.queries);
    add(keys, b, sequence.keys);
  }
}

static void print_range(FILE *text, const totals *t, const char *one, const char *many) {
  if (t->least != t->most) fprintf(text, "%" PRId64 " to ", t->least);
  fprintf(text, "%" PRId64 " %s (%" PRId64 " in all)", t->most, t->most == 1 ? one : many, t->all);
}

void attend_run_explain(FILE *text, const attend_plan *plan, const attend_resolved *problem,
                        const attend_tensors *tensors) {
  const attend_problem *p = &problem->p;
  char line[4096];
  attend_plan_explain(plan, line, sizeof line);
  fprintf(text, "plan: %s\n", attend_cli_clean(line));
  if (!attend_is_ragged(p)) return;
  totals queries, keys;
  count_rows(problem, tensors, &queries, &keys);
  fprintf(text, "sequences: %" PRId64 ", each of ", p->batch);
  print_range(text, &queries, "query", "queries");
  fputs(" and ", text);
  print_range(text, &keys, "key", "keys");
  if (p->page_rows) fprintf(text, ", in pages of %" PRId64 " rows", p->page_rows);
  const int useful = attend_plan_useful_parts(plan, tensors);
  fprintf(text, "; worth %d thread%s\n", useful, useful == 1 ? "" : "s");
}

/* A length: the same for all sequences, or the most that one may have and what all have. */
static void print_length(FILE *text, const char *name, int64_t length, bool own, const totals *t) {
  if (own)
    fprintf(text, "%s up to %" PRId64 " (%" PRId64 " in all)", name, length, t->all);
  else
    fprintf(text, "%s %" PRId64, name, length);
}

void attend_run_print_problem(FILE *text, const attend_resolved *problem, const attend_tensors *tensors) {
  const attend_problem *p = &problem->p;
  totals queries, keys;
  count_rows(problem, tensors, &queries, &keys);
  fprintf(text, "attention: B %" PRId64 ", Hq %" PRId64 ", Hkv %" PRId64 ", ", p->batch, p->q_heads, p->kv_heads);
  print_length(text, "Lq", p->q_len, p->q_starts, &queries);
  print_length(text, ", Lk", p->kv_len, p->kv_starts || p->kv_lengths == ATTEND_LENGTHS_PER_BATCH, &keys);
  if (p->page_rows) fprintf(text, " in %" PRId64 " pages of %" PRId64 " rows", p->pages, p->page_rows);
  fprintf(text, ", D %" PRId64 ", Dv %" PRId64 ", %s", p->head_dim, p->v_head_dim, attend_dtype_name(p->q_dtype));
  if (p->k_dtype != p->q_dtype || p->v_dtype != p->q_dtype)
    fprintf(text, ", keys %s, values %s", attend_dtype_name(p->k_dtype), attend_dtype_name(p->v_dtype));
}

/* ---------------------------------------------------------------------------------------------------------- timing */

/*
 * (query, key) pairs that are attended. Causal masks, windows, lengths, first keys and key ranges leave a range of
 * keys; in it, what the boolean mask and a bias of -inf leave is counted one by one, for one head if it is the same for
 * all.
 */
static double attended_pairs(const attend_resolved *problem, const attend_tensors *t) {
  const attend_problem *p = &problem->p;
  const bool one_by_one = p->mask || p->bias_dtype != ATTEND_DTYPE_DEFAULT;
  const bool by_head =
      (p->mask && p->mask_strides.head) || (p->bias_dtype != ATTEND_DTYPE_DEFAULT && p->bias_strides.head);
  const int64_t heads = by_head ? p->q_heads : 1;
  double pairs = 0;
  for (int64_t b = 0; b < p->batch; b++) {
    const attend_sequence sequence = attend_sequence_of(problem, t, b);
    const key_limits limits = attend_limits_of(problem, t, b, &sequence);
    for (int64_t h = 0; h < heads; h++)
      for (int64_t i = 0; i < sequence.queries; i++) {
        const key_range keys = range_of(&limits, i, 0, p->kv_len);
        if (!one_by_one) pairs += (double)(keys.end - keys.begin);
        for (int64_t j = keys.begin; one_by_one && j < keys.end; j++)
          pairs += attend_reference_attends(p, t, b, h, i, j);
      }
  }
  return by_head ? pairs : pairs * (double)p->q_heads;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

void attend_run_print_times(FILE *text, const attend_resolved *problem, const attend_tensors *tensors, double *times,
                            size_t count) {
  qsort(times, count, sizeof *times, compare);
  const double median = (times[(count - 1) / 2] + times[count / 2]) / 2;
  const double pairs = attended_pairs(problem, tensors);
  const double operations = pairs * 2 * (double)(problem->p.head_dim + problem->p.v_head_dim);
  fprintf(
      text,
      "time of %zu runs: min %.3f ms, median %.3f ms, max %.3f ms; %.2f GFLOP/s at the median, %.0f attended pairs\n",
      count, 1e3 * times[0], 1e3 * median, 1e3 * times[count - 1], median > 0 ? 1e-9 * operations / median : 0.0,
      pairs);
}
