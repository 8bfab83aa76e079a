/* SPDX-License-Identifier: Apache-2.0 */
/** Merging the results that ranks have over their own keys. The order follows from ranks, not from arrival. */
#include <string.h>

#include "internal.h"

/** Rows as they lie: outputs of all, then their LSE. */
static float *lse_of(const attend_mpi_plan *plan, float *rows, int64_t count) {
  return rows + count * plan->p.v_head_dim;
}

/**
 * An error of attend's own, which check() in shares.c should have found, is kept until the other ranks have what they
 * wait for.
 */
static void keep_error(attend_mpi_plan *plan, attend_status status) {
  if (status != ATTEND_OK && plan->late == ATTEND_OK) plan->late = attend_mpi_fail_as(status);
}

/** Merges results over some keys with results over later ones, into one of the two. */
static void merge_two(attend_mpi_plan *plan, float *earlier, float *later, float *into, int64_t rows) {
  attend_merge_problem m = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  const void *outs[2] = {earlier, later};
  const float *lses[2] = {lse_of(plan, earlier, rows), lse_of(plan, later, rows)};
  m.parts = 2, m.batch = 1, m.heads = 1, m.rows = rows, m.dim = plan->p.v_head_dim;
  m.lse = 1, m.num_threads = plan->local.num_threads;
  t.outs = outs, t.lses = lses, t.out = into, t.lse = lse_of(plan, into, rows);
  keep_error(plan, attend_merge(&m, &t));
}

static attend_status move(attend_mpi_plan *plan, const void *sent, int to, void *received, int from, int64_t floats) {
  const double start = MPI_Wtime();
  const int count = (int)floats;
  const attend_status s = attend_mpi_check(MPI_Sendrecv(sent, to == MPI_PROC_NULL ? 0 : count, MPI_FLOAT, to, 0,
                                                        received, from == MPI_PROC_NULL ? 0 : count, MPI_FLOAT, from, 0,
                                                        plan->comm, MPI_STATUS_IGNORE),
                                           "MPI_Sendrecv");
  if (to != MPI_PROC_NULL) plan->report.sent += (uint64_t)floats * sizeof(float);
  if (from != MPI_PROC_NULL) plan->report.received += (uint64_t)floats * sizeof(float);
  plan->report.exchange_seconds += MPI_Wtime() - start;
  return s;
}

/**
 * By pairs at distances 1, 2, 4, ...: both of a pair get the other's result and merge the two in the same order, so
 * that all end with the same bits. Where the number of ranks is no power of 2, the first ones join in twos before.
 */
static attend_status combine_by_tree(attend_mpi_plan *plan, int64_t rows) {
  const int64_t floats = rows * (plan->p.v_head_dim + 1);
  int members = 1;
  while (2 * members <= plan->ranks) members *= 2;
  const int joined = plan->ranks - members, rank = plan->rank;
  const bool joins = rank < 2 * joined, leaves = joins && rank % 2 == 1;
  attend_status s = ATTEND_OK;
  if (leaves) s = move(plan, plan->result, rank - 1, NULL, MPI_PROC_NULL, floats);
  if (joins && !leaves) {
    s = move(plan, NULL, MPI_PROC_NULL, plan->other, rank + 1, floats);
    if (s == ATTEND_OK) merge_two(plan, plan->result, plan->other, plan->result, rows);
  }
  const int member = joins ? rank / 2 : rank - joined;
  for (int distance = 1; s == ATTEND_OK && !leaves && distance < members; distance *= 2) {
    const int partner = member ^ distance, other = partner < joined ? 2 * partner : partner + joined;
    s = move(plan, plan->result, other, plan->other, other, floats);
    if (s != ATTEND_OK) break;
    if (partner > member)
      merge_two(plan, plan->result, plan->other, plan->result, rows);
    else
      merge_two(plan, plan->other, plan->result, plan->result, rows);
  }
  if (s == ATTEND_OK && leaves) s = move(plan, NULL, MPI_PROC_NULL, plan->result, rank - 1, floats);
  if (s == ATTEND_OK && joins && !leaves) s = move(plan, plan->result, rank + 1, NULL, MPI_PROC_NULL, floats);
  return s;
}

/* ---------------------------------------------------------------------------------------------------------- slices */

static int64_t slice_begin(const attend_mpi_plan *plan, int64_t rows, int slice) { return rows * slice / plan->ranks; }

/** How many rows a rank merges. */
static int64_t slice_rows(const attend_mpi_plan *plan, int64_t rows, int slice) {
  return slice_begin(plan, rows, slice + 1) - slice_begin(plan, rows, slice);
}

static void merge_slices(attend_mpi_plan *plan, float *slices, float *into, int64_t rows) {
  const int64_t floats = rows * (plan->p.v_head_dim + 1);
  attend_merge_problem m = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  for (int r = 0; r < plan->ranks; r++) {
    plan->outs[r] = slices + r * floats;
    plan->lses[r] = lse_of(plan, slices + r * floats, rows);
  }
  m.parts = plan->ranks, m.batch = 1, m.heads = 1, m.rows = rows, m.dim = plan->p.v_head_dim;
  m.lse = 1, m.num_threads = plan->local.num_threads;
  t.outs = plan->outs, t.lses = plan->lses, t.out = into, t.lse = lse_of(plan, into, rows);
  keep_error(plan, attend_merge(&m, &t));
}

/** Copies the rows of a slice out of all of them, or back. */
static void copy_slice(const attend_mpi_plan *plan, float *all, int64_t rows, int slice, float *packed, bool back) {
  const int64_t first = slice_begin(plan, rows, slice), count = slice_rows(plan, rows, slice), dim = plan->p.v_head_dim;
  float *const out = all + first * dim, *const lse = lse_of(plan, all, rows) + first;
  const size_t out_size = (size_t)(count * dim) * sizeof(float), lse_size = (size_t)count * sizeof(float);
  memcpy(back ? out : packed, back ? packed : out, out_size);
  memcpy(back ? lse : packed + count * dim, back ? packed + count * dim : lse, lse_size);
}

/** Every rank merges its slice of the rows from all ranks at once, in their order, and all gather what came out. */
static attend_status combine_by_slices(attend_mpi_plan *plan, int64_t rows) {
  const int64_t width = plan->p.v_head_dim + 1, own = slice_rows(plan, rows, plan->rank) * width;
  int *const sent = plan->counts, *const sent_at = plan->displacements;
  int *const received = sent + plan->ranks, *const received_at = sent_at + plan->ranks;
  float *const packed = plan->other, *const slices = plan->other + rows * width;
  for (int r = 0; r < plan->ranks; r++) {
    sent[r] = (int)(slice_rows(plan, rows, r) * width), sent_at[r] = (int)(slice_begin(plan, rows, r) * width);
    received[r] = (int)own, received_at[r] = (int)(r * own);
    copy_slice(plan, plan->result, rows, r, packed + sent_at[r], false);
  }
  double start = MPI_Wtime();
  attend_status s = attend_mpi_check(
      MPI_Alltoallv(packed, sent, sent_at, MPI_FLOAT, slices, received, received_at, MPI_FLOAT, plan->comm),
      "MPI_Alltoallv");
  plan->report.exchange_seconds += MPI_Wtime() - start;
  if (s != ATTEND_OK) return s;
  merge_slices(plan, slices, packed, slice_rows(plan, rows, plan->rank));
  start = MPI_Wtime();
  s = attend_mpi_check(MPI_Allgatherv(packed, (int)own, MPI_FLOAT, slices, sent, sent_at, MPI_FLOAT, plan->comm),
                       "MPI_Allgatherv");
  plan->report.exchange_seconds += MPI_Wtime() - start;
  for (int r = 0; r < plan->ranks; r++) copy_slice(plan, plan->result, rows, r, slices + sent_at[r], true);
  plan->report.sent += (uint64_t)(rows * width - own + (plan->ranks - 1) * own) * sizeof(float);
  plan->report.received += (uint64_t)((plan->ranks - 1) * own + rows * width - own) * sizeof(float);
  return s;
}

attend_status attend_mpi_combine_rows(attend_mpi_plan *plan, int64_t rows) {
  if (rows == 0) return ATTEND_OK;
  const attend_status s =
      plan->o.combine == ATTEND_MPI_SLICES ? combine_by_slices(plan, rows) : combine_by_tree(plan, rows);
  return s != ATTEND_OK ? s : plan->late;
}
