/* SPDX-License-Identifier: Apache-2.0 */
/** Keys spread over ranks: each attends over its own, and all merge. */
#include <string.h>

#include "internal.h"

/** Copies the columns of this rank's keys out of a mask or bias that has those of all. */
static void copy_columns(const attend_mpi_run *run, const char *from, const attend_strides4 *s, char *to,
                         const attend_strides4 *d, int64_t element) {
  const attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t keys = attend_mpi_keys(plan, plan->rank, b), queries = attend_mpi_queries(plan, plan->rank, b);
    const int64_t first = attend_mpi_key_block(plan, plan->rank, b, 0).begin,
                  row = p->q_starts ? run->t.q_starts[b] : 0;
    for (int64_t h = 0; h < (s->head ? p->q_heads : 1); h++)
      for (int64_t i = 0; i < (s->query ? queries : queries > 0); i++) {
        const int64_t line = s->query ? row + i : 0;
        const char *source = from + (b * s->batch + h * s->head + line * s->query + first * s->key) * element;
        char *copy = to + (b * d->batch + h * d->head + line * d->query) * element;
        if (s->key == 1)
          memcpy(copy, source, (size_t)(keys * element));
        else
          for (int64_t j = 0; j < keys; j++) memcpy(copy + j * element, source + j * s->key * element, (size_t)element);
      }
  }
}

/** Masks and biases for this rank's keys; those that are the same for all keys are good as they are. */
static void prepare_masks(const attend_mpi_run *run, attend_tensors *t) {
  attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  if (t->mask && p->mask_strides.key) {
    copy_columns(run, (const char *)t->mask, &p->mask_strides, plan->mask, &plan->mask_strides, 1);
    t->mask = (const uint8_t *)plan->mask;
  }
  if (t->bias && p->bias_strides.key) {
    copy_columns(run, t->bias, &p->bias_strides, plan->bias, &plan->bias_strides,
                 (int64_t)attend_dtype_size(p->bias_dtype));
    t->bias = plan->bias;
  }
}

/** Positions, first keys and ranges that count from this rank's keys. */
static void prepare_limits(const attend_mpi_run *run, attend_tensors *t) {
  attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  for (int64_t b = 0; b < p->batch; b++) {
    const attend_mpi_block queries = {0, attend_mpi_queries(plan, plan->rank, b), 0};
    const attend_mpi_block keys = attend_mpi_key_block(plan, plan->rank, b, 0);
    const key_limits limits = attend_mpi_limits(run, b, &queries);
    plan->positions[b] = attend_mpi_position_from(&limits, keys.begin);
    plan->begins[b] = attend_mpi_begin_from(&limits, keys.begin);
    if (limits.lengths || limits.ranges)
      attend_mpi_ranges_from(&limits, queries.count, keys.begin, plan->ranges + 2 * attend_mpi_first_query(run, b));
  }
  t->positions = plan->positions, t->kv_begins = plan->begins, t->key_ranges = plan->ranges;
}

/** Rows that belong to no sequence are merged like the others, and written nowhere. */
static void clear_other_rows(attend_mpi_run *run, float *out, float *lse) {
  const attend_problem *p = &run->plan->p;
  if (!p->q_starts) return;
  const int64_t used = run->t.q_starts[p->batch], unused = p->q_total - used;
  for (int64_t h = 0; h < p->q_heads; h++) {
    memset(out + (h * p->q_total + used) * p->v_head_dim, 0, (size_t)(unused * p->v_head_dim) * sizeof(float));
    memset(lse + h * p->q_total + used, 0, (size_t)unused * sizeof(float));
  }
}

/** Writes what the caller asked for: in its type and strides. */
static attend_status write_results(const attend_mpi_run *run, const float *out, const float *lse) {
  const attend_problem *p = &run->plan->p;
  const int64_t room = p->q_starts ? p->q_total : p->q_len, rows = p->q_starts ? run->t.q_starts[p->batch] : p->q_len;
  attend_merge_problem m = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  const void *outs[1] = {out};
  m.parts = 1, m.batch = p->q_starts ? 1 : p->batch, m.heads = p->q_heads, m.rows = rows, m.dim = p->v_head_dim;
  m.part_strides = (attend_strides){p->q_heads * room * p->v_head_dim, room * p->v_head_dim, p->v_head_dim};
  m.out_strides = p->out_strides, m.out_dtype = p->out_dtype;
  m.lse_stride = room, m.num_threads = run->plan->local.num_threads;
  t.outs = outs, t.lses = &lse, t.out = run->t.out;
  for (int64_t h = 0; run->t.lse && h < m.batch * p->q_heads; h++)
    memcpy(run->t.lse + h * room, lse + h * room, (size_t)rows * sizeof(float));
  const attend_status s = attend_merge(&m, &t);
  return s == ATTEND_OK ? s : attend_mpi_fail_as(s);
}

attend_status attend_mpi_run_keys(attend_mpi_run *run) {
  attend_mpi_plan *plan = run->plan;
  const int64_t rows = attend_mpi_result_rows(&plan->p);
  float *const lse = plan->result + rows * plan->p.v_head_dim;
  attend_tensors t = run->t;
  if (rows == 0) return ATTEND_OK;
  prepare_limits(run, &t);
  prepare_masks(run, &t);
  clear_other_rows(run, plan->result, lse);
  if (plan->rank > 0) t.sinks = plan->no_sinks; /* a sink counts once */
  t.out = plan->result, t.lse = lse;
  attend_status s = attend_plan_run(plan->part, &t, plan->workspace, plan->workspace_size);
  if (s != ATTEND_OK) plan->late = attend_mpi_fail_as(s);
  s = attend_mpi_combine_rows(plan, rows);
  return s == ATTEND_OK ? write_results(run, plan->result, lse) : s;
}
