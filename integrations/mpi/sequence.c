/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Queries, keys and values spread over ranks. Each rank adds up the results of its own queries, key block by key block,
 * always in the same order: its own keys first, then those of the rank before it, and so on around the ring.
 */
#include <math.h>
#include <string.h>

#include "internal.h"

/** Queries that are worked on at a time, and where their sums are. */
typedef struct chunk {
  int64_t b, first, count; /**< queries of a sequence, counted among those that lie here */
  key_limits limits;       /**< of the first of them and on, in keys of the whole sequence */
  key_range reach;
  int64_t row; /**< of the first, among all rows that lie here */
  float *sum, *lse;
} chunk;

typedef struct chunk_walk {
  const attend_mpi_run *run;
  int64_t b, next, number;
  int n;
} chunk_walk;

/** The next chunk of this rank's queries; false after the last. Runs of rows are not continued into one another. */
static bool next_chunk(chunk_walk *w, chunk *c) {
  const attend_mpi_plan *plan = w->run->plan;
  const attend_problem *p = &plan->p;
  for (; w->b < p->batch; w->b++, w->n = 0)
    for (; w->n < attend_mpi_held(plan); w->n++, w->next = 0) {
      attend_mpi_block q = attend_mpi_query_block(plan, plan->rank, w->b, w->n);
      if (w->next >= q.count) continue;
      q.begin += w->next, q.local += w->next, q.count -= w->next;
      *c = (chunk){.b = w->b, .first = q.local, .count = q.count < plan->chunk ? q.count : plan->chunk};
      c->limits = attend_mpi_limits(w->run, w->b, &q);
      c->reach = attend_mpi_reach(&c->limits, c->count);
      c->row = attend_mpi_first_query(w->run, w->b) + c->first;
      c->sum = plan->sum + c->row * p->q_heads * p->v_head_dim;
      c->lse = plan->sum_lse + w->number++ * p->q_heads * plan->chunk;
      w->next += c->count;
      return true;
    }
  return false;
}

static void keep_error(attend_mpi_plan *plan, attend_status status) {
  if (status != ATTEND_OK && plan->late == ATTEND_OK) plan->late = attend_mpi_fail_as(status);
}

static const char *at(const void *tensor, int64_t element, attend_dtype dtype) {
  return (const char *)tensor + element * (int64_t)attend_dtype_size(dtype);
}

/* ----------------------------------------------------------------------------------------------------------- results
 */

/** How sums and results of a chunk are merged: rows one after the other, the heads of a row side by side. */
static attend_merge_problem merging(const attend_mpi_plan *plan, int64_t rows, int64_t parts) {
  const attend_problem *p = &plan->p;
  attend_merge_problem m = ATTEND_MERGE_PROBLEM_INIT;
  m.parts = parts, m.batch = 1, m.heads = p->q_heads, m.rows = rows, m.dim = p->v_head_dim;
  m.part_strides = (attend_strides){0, p->v_head_dim, p->q_heads * p->v_head_dim};
  m.lse_stride = plan->chunk, m.num_threads = plan->local.num_threads;
  return m;
}

/** A sum begins with the sink alone, which so counts once, or with nothing. */
static void clear_sums(const attend_mpi_run *run) {
  const attend_problem *p = &run->plan->p;
  chunk_walk w = {.run = run};
  chunk c;
  while (next_chunk(&w, &c)) {
    memset(c.sum, 0, (size_t)(c.count * p->q_heads * p->v_head_dim) * sizeof(float));
    for (int64_t h = 0; h < p->q_heads; h++)
      for (int64_t i = 0; i < c.count; i++)
        c.lse[h * run->plan->chunk + i] = run->t.sinks ? run->t.sinks[h] : -INFINITY;
  }
}

static void add_part(attend_mpi_plan *plan, const chunk *c) {
  attend_merge_problem m = merging(plan, c->count, 2);
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  const void *outs[2] = {c->sum, plan->part_out};
  const float *lses[2] = {c->lse, plan->part_lse};
  m.out_strides = m.part_strides, m.lse = 1;
  t.outs = outs, t.lses = lses, t.out = c->sum, t.lse = c->lse;
  keep_error(plan, attend_merge(&m, &t));
}

static void write_results(const attend_mpi_run *run) {
  attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  chunk_walk w = {.run = run};
  chunk c;
  while (next_chunk(&w, &c)) {
    attend_merge_problem m = merging(plan, c.count, 1);
    attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
    const void *outs[1] = {c.sum};
    const float *lses[1] = {c.lse};
    const int64_t first =
        p->q_starts ? c.row * p->out_strides.row : c.b * p->out_strides.batch + c.first * p->out_strides.row;
    m.out_strides = p->out_strides, m.out_dtype = p->out_dtype;
    t.outs = outs, t.lses = lses, t.out = (char *)at(run->t.out, first, p->out_dtype);
    keep_error(plan, attend_merge(&m, &t));
    const int64_t room = p->q_starts ? p->q_total : p->q_len;
    float *const lse = run->t.lse ? run->t.lse + (p->q_starts ? c.row : c.b * p->q_heads * room + c.first) : NULL;
    for (int64_t h = 0; lse && h < p->q_heads; h++)
      memcpy(lse + h * room, c.lse + h * plan->chunk, (size_t)c.count * sizeof(float));
  }
}

/* ------------------------------------------------------------------------------------------------------------- work */

/** A chunk of queries over keys that lie in a row: some of the sequence, from `keys->begin` on. */
static void attend_chunk(const attend_mpi_run *run, const chunk *c, const attend_mpi_block *keys,
                         const attend_mpi_rows *rows) {
  attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  const int64_t query = p->q_starts ? c->row : c->first; /* of masks and biases */
  const int32_t q_starts[2] = {0, (int32_t)c->count}, kv_starts[2] = {0, (int32_t)keys->count};
  const int32_t position = attend_mpi_position_from(&c->limits, keys->begin);
  const int32_t begin = attend_mpi_begin_from(&c->limits, keys->begin);
  attend_tensors t = run->t;
  t.q = at(run->t.q, (p->q_starts ? 0 : c->b * p->q_strides.batch) + query * p->q_strides.row, p->q_dtype);
  t.k = rows->k + keys->local * plan->k_row, t.v = rows->v + keys->local * plan->v_row;
  t.q_starts = q_starts, t.kv_starts = kv_starts, t.positions = &position, t.kv_begins = &begin;
  t.kv_lengths = t.block_table = NULL;
  t.key_ranges = plan->ranges;
  if (c->limits.lengths || c->limits.ranges) attend_mpi_ranges_from(&c->limits, c->count, keys->begin, plan->ranges);
  const attend_strides4 *mask = &p->mask_strides, *bias = &p->bias_strides;
  if (t.mask) t.mask += c->b * mask->batch + query * mask->query + keys->begin * mask->key;
  if (t.bias) t.bias = at(t.bias, c->b * bias->batch + query * bias->query + keys->begin * bias->key, p->bias_dtype);
  t.out = plan->part_out, t.lse = plan->part_lse;
  const attend_status s = attend_plan_run(plan->part, &t, plan->workspace, plan->workspace_size);
  keep_error(plan, s);
  if (s == ATTEND_OK) add_part(plan, c);
}

/** What is under way while this rank works. */
typedef struct traffic {
  attend_mpi_plan *plan;
  int count;
  attend_status status;
} traffic;

/** Lets MPI move on: it does nothing by itself. */
static void look_after(traffic *t) {
  int done;
  if (t->count == 0 || t->status != ATTEND_OK) return;
  t->status = attend_mpi_check(MPI_Testall(t->count, t->plan->requests, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
}

/** All queries of this rank over the keys of one. */
static void work_on(const attend_mpi_run *run, int rank, const attend_mpi_rows *rows, traffic *under_way) {
  const attend_mpi_plan *plan = run->plan;
  attend_mpi_rows at_sequence = *rows;
  chunk_walk w = {.run = run};
  chunk c;
  int64_t b = 0;
  while (next_chunk(&w, &c)) {
    for (; b < c.b; b++) {
      at_sequence.k += attend_mpi_keys(plan, rank, b) * plan->k_row;
      at_sequence.v += attend_mpi_keys(plan, rank, b) * plan->v_row;
    }
    for (int n = 0; n < attend_mpi_held(plan); n++) {
      const attend_mpi_block keys = attend_mpi_key_block(plan, rank, b, n);
      if (keys.begin >= c.reach.end || keys.begin + keys.count <= c.reach.begin) continue;
      attend_chunk(run, &c, &keys, &at_sequence);
      look_after(under_way);
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------- packing */

static int64_t rows_of(const attend_mpi_plan *plan, int rank) {
  int64_t rows = 0;
  for (int64_t b = 0; b < plan->p.batch; b++) rows += attend_mpi_keys(plan, rank, b);
  return rows;
}

static attend_mpi_rows rows_in(const attend_mpi_plan *plan, char *packed, int64_t rows) {
  return (attend_mpi_rows){packed, packed + attend_mpi_values_at(plan, rows)};
}

/** Packs a tensor of keys or values; returns where the next sequence goes. */
static char *pack(const attend_mpi_run *run, int64_t b, const void *tensor, const attend_strides *s, int64_t dim,
                  attend_dtype dtype, char *to) {
  const attend_problem *p = &run->plan->p;
  const int64_t keys = attend_mpi_keys(run->plan, run->plan->rank, b), size = (int64_t)attend_dtype_size(dtype);
  const bool together = s->head == dim || p->kv_heads == 1;
  const int64_t pieces = together ? 1 : p->kv_heads, length = (together ? p->kv_heads : 1) * dim * size;
  if (length == 0) return to;
  for (int64_t j = 0; j < keys; j++) {
    int64_t first = (p->kv_starts ? run->t.kv_starts[b] + j : j) * s->row;
    if (p->page_rows)
      first = run->t.block_table[b * p->block_table_stride + j / p->page_rows] * s->batch + j % p->page_rows * s->row;
    else if (!p->kv_starts)
      first += b * s->batch;
    for (int64_t h = 0; h < pieces; h++, to += length)
      memcpy(to, at(tensor, first + h * s->head, dtype), (size_t)length);
  }
  return to;
}

static attend_mpi_rows pack_own(const attend_mpi_run *run) {
  const attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  const attend_mpi_rows rows = rows_in(plan, plan->own, rows_of(plan, plan->rank));
  char *k = rows.k, *v = rows.v;
  for (int64_t b = 0; b < p->batch; b++) {
    k = pack(run, b, run->t.k, &p->k_strides, p->head_dim, p->k_dtype, k);
    v = pack(run, b, run->t.v, &p->v_strides, p->v_head_dim, p->v_dtype, v);
  }
  if (rows.v > k) memset(k, 0, (size_t)(rows.v - k)); /* up to 63 bytes, that are sent too */
  return rows;
}

/* ------------------------------------------------------------------------------------------------------------- ring */

bool attend_mpi_needs(const attend_mpi_run *run, int rank, int from) {
  const attend_mpi_plan *plan = run->plan;
  for (int64_t b = 0; b < plan->p.batch; b++)
    for (int n = 0; n < attend_mpi_held(plan); n++) {
      const attend_mpi_block queries = attend_mpi_query_block(plan, rank, b, n);
      if (queries.count == 0) continue;
      const key_limits limits = attend_mpi_limits(run, b, &queries);
      const key_range reach = attend_mpi_reach(&limits, queries.count);
      for (int k = 0; k < attend_mpi_held(plan); k++) {
        const attend_mpi_block keys = attend_mpi_key_block(plan, from, b, k);
        if (keys.count > 0 && keys.begin < reach.end && keys.begin + keys.count > reach.begin) return true;
      }
    }
  return false;
}

/** Every rank says whose keys it needs, and learns who needs its own. */
static attend_status tell_needs(const attend_mpi_run *run) {
  attend_mpi_plan *plan = run->plan;
  for (int r = 0; r < plan->ranks; r++) plan->needs[r] = attend_mpi_needs(run, plan->rank, r);
  return attend_mpi_check(MPI_Alltoall(plan->needs, 1, MPI_INT32_T, plan->gives, 1, MPI_INT32_T, plan->comm),
                          "MPI_Alltoall");
}

/** Sends, or receives, a block in pieces that MPI can count. */
static void move_block(traffic *t, char *block, size_t size, int rank, bool sends) {
  for (size_t begin = 0; begin < size && t->status == ATTEND_OK; begin += ATTEND_MPI_PIECE) {
    const int length = (int)(size - begin < ATTEND_MPI_PIECE ? size - begin : ATTEND_MPI_PIECE);
    MPI_Request *const request = &t->plan->requests[t->count];
    t->status = sends ? attend_mpi_check(MPI_Isend(block + begin, length, MPI_BYTE, rank, 0, t->plan->comm, request),
                                         "MPI_Isend")
                      : attend_mpi_check(MPI_Irecv(block + begin, length, MPI_BYTE, rank, 0, t->plan->comm, request),
                                         "MPI_Irecv");
    if (t->status == ATTEND_OK) t->count++;
  }
  *(sends ? &t->plan->report.sent : &t->plan->report.received) += size;
}

/** What moves before step `step`: keys of the rank that is so many ranks before this one. */
static void begin_step(traffic *t, int step) {
  attend_mpi_plan *plan = t->plan;
  const int from = (plan->rank - step + plan->ranks) % plan->ranks, to = (plan->rank + step) % plan->ranks;
  t->count = 0;
  if (step == plan->ranks) return;
  if (plan->needs[from])
    move_block(t, plan->coming[step % 2], attend_mpi_packed_size(plan, rows_of(plan, from)), from, false);
  if (plan->gives[to]) move_block(t, plan->own, attend_mpi_packed_size(plan, rows_of(plan, plan->rank)), to, true);
}

/** Also after an error: requests that are under way must not outlive their buffers. */
static void end_step(traffic *t) {
  const double start = MPI_Wtime();
  const attend_status s =
      attend_mpi_check(MPI_Waitall(t->count, t->plan->requests, MPI_STATUSES_IGNORE), "MPI_Waitall");
  if (t->status == ATTEND_OK) t->status = s;
  t->plan->report.exchange_seconds += MPI_Wtime() - start;
}

static attend_status run_ring(const attend_mpi_run *run) {
  attend_mpi_plan *plan = run->plan;
  traffic t = {.plan = plan};
  const double start = MPI_Wtime();
  attend_status s = tell_needs(run);
  plan->report.exchange_seconds += MPI_Wtime() - start;
  if (s != ATTEND_OK) return s;
  const attend_mpi_rows own = pack_own(run);
  for (int step = 0; step < plan->ranks && t.status == ATTEND_OK; step++) {
    const int from = (plan->rank - step + plan->ranks) % plan->ranks;
    const attend_mpi_rows came = rows_in(plan, plan->coming[step % 2], rows_of(plan, from));
    begin_step(&t, step + 1);
    if (plan->needs[from]) work_on(run, from, step == 0 ? &own : &came, &t);
    end_step(&t);
  }
  return t.status;
}

/* ----------------------------------------------------------------------------------------------------------- gather */

/** Puts the keys of each sequence in their order. */
static attend_mpi_rows put_in_order(const attend_mpi_plan *plan, int64_t all) {
  const attend_mpi_rows ordered = rows_in(plan, plan->ordered, all);
  attend_mpi_rows to = ordered;
  for (int64_t b = 0; b < plan->p.batch; b++)
    for (int64_t block = 0; block < plan->blocks; block++) {
      const int n = block >= plan->ranks, rank = (int)(n ? plan->blocks - 1 - block : block);
      const attend_mpi_block keys = attend_mpi_key_block(plan, rank, b, n);
      const attend_mpi_rows from = rows_in(plan, plan->gathered + plan->displacements[rank], rows_of(plan, rank));
      int64_t row = keys.local;
      for (int64_t before = 0; before < b; before++) row += attend_mpi_keys(plan, rank, before);
      memcpy(to.k, from.k + row * plan->k_row, (size_t)(keys.count * plan->k_row));
      memcpy(to.v, from.v + row * plan->v_row, (size_t)(keys.count * plan->v_row));
      to.k += keys.count * plan->k_row, to.v += keys.count * plan->v_row;
    }
  return ordered;
}

static attend_status run_gather(const attend_mpi_run *run) {
  attend_mpi_plan *plan = run->plan;
  int64_t all = 0, at_byte = 0;
  for (int r = 0; r < plan->ranks; r++) {
    plan->counts[r] = (int)attend_mpi_packed_size(plan, rows_of(plan, r));
    plan->displacements[r] = (int)at_byte;
    at_byte += (plan->counts[r] + 63) / 64 * 64;
    all += rows_of(plan, r);
  }
  pack_own(run);
  const double start = MPI_Wtime();
  const attend_status s = attend_mpi_check(MPI_Allgatherv(plan->own, plan->counts[plan->rank], MPI_BYTE, plan->gathered,
                                                          plan->counts, plan->displacements, MPI_BYTE, plan->comm),
                                           "MPI_Allgatherv");
  plan->report.exchange_seconds += MPI_Wtime() - start;
  if (s != ATTEND_OK) return s;
  plan->report.sent += (uint64_t)plan->counts[plan->rank] * (uint64_t)(plan->ranks - 1);
  for (int r = 0; r < plan->ranks; r++) plan->report.received += r == plan->rank ? 0 : (uint64_t)plan->counts[r];
  attend_mpi_rows rows = put_in_order(plan, all);
  chunk_walk w = {.run = run};
  chunk c;
  int64_t b = 0;
  while (next_chunk(&w, &c)) {
    for (; b < c.b; b++) {
      const int64_t keys = plan->k_begin[(b + 1) * (plan->blocks + 1) - 1];
      rows.k += keys * plan->k_row, rows.v += keys * plan->v_row;
    }
    const attend_mpi_block keys = {0, c.limits.count, 0};
    if (keys.count > 0 && c.reach.begin < c.reach.end) attend_chunk(run, &c, &keys, &rows);
  }
  return ATTEND_OK;
}

attend_status attend_mpi_run_sequence(attend_mpi_run *run) {
  attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  if (p->batch == 0 || p->q_heads == 0) return ATTEND_OK;
  clear_sums(run);
  const attend_status s = plan->o.transport == ATTEND_MPI_GATHER ? run_gather(run) : run_ring(run);
  if (s != ATTEND_OK) return s;
  write_results(run);
  return plan->late;
}
