/* SPDX-License-Identifier: Apache-2.0 */
/** Who holds which rows of a sequence, and which keys its queries attend. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "internal.h"

/* --------------------------------------------------------------------------------------- what this rank has to say */

/** Where nothing may be read of what says how long sequences are. */
static bool is_empty(const attend_problem *p) { return p->batch == 0 || p->q_heads == 0; }

static int64_t own_queries(const attend_problem *p, const attend_tensors *t, int64_t b) {
  if (p->q_len == 0 || is_empty(p)) return 0;
  return p->q_starts ? t->q_starts[b + 1] - t->q_starts[b] : p->q_len;
}

static int64_t own_keys(const attend_problem *p, const attend_tensors *t, int64_t b) {
  if (is_empty(p)) return 0;
  if (p->kv_lengths == ATTEND_LENGTHS_PER_BATCH) return t->kv_lengths[b];
  return p->kv_starts ? t->kv_starts[b + 1] - t->kv_starts[b] : p->kv_len;
}

/** The full struct; what the problem does not have is NULL. */
static void read_tensors(const attend_problem *p, const attend_tensors *tensors, attend_tensors *t) {
  *t = (attend_tensors)ATTEND_TENSORS_INIT;
  memcpy(t, tensors, tensors->struct_size < sizeof *t ? tensors->struct_size : sizeof *t);
  t->struct_size = sizeof *t;
  if (!p->kv_lengths) t->kv_lengths = NULL;
  if (!p->positions) t->positions = NULL;
  if (!p->q_starts || p->q_len == 0) t->q_starts = NULL;
  if (!p->kv_starts) t->kv_starts = NULL;
  if (!p->kv_begins) t->kv_begins = NULL;
  if (!p->key_ranges) t->key_ranges = NULL;
  if (!p->mask) t->mask = NULL;
  if (!p->bias_dtype) t->bias = NULL;
  if (!p->bias_head_scale) t->bias_head_scale = NULL;
  if (!p->alibi) t->alibi_slopes = NULL;
  if (!p->sinks) t->sinks = NULL;
  if (!p->lse) t->lse = NULL;
}

/** What plan->whole does not check: tensors that count whole sequences. */
static attend_status check_whole_tensors(const attend_mpi_plan *plan, const attend_tensors *t) {
  const attend_problem *p = &plan->p;
  const bool queries = !is_empty(p) && (t->q_starts ? t->q_starts[p->batch] > 0 : p->q_len > 0);
  if (!queries || attend_mpi_is_alone(plan)) return ATTEND_OK;
  const struct {
    const char *name;
    const void *address;
    bool needed;
    size_t element;
  } tensors[] = {{"mask", t->mask, p->mask, 1},
                 {"bias", t->bias, p->bias_dtype, p->bias_dtype ? attend_dtype_size(p->bias_dtype) : 1},
                 {"bias_head_scale", t->bias_head_scale, p->bias_head_scale, sizeof(float)},
                 {"kv_lengths", t->kv_lengths, p->kv_lengths == ATTEND_LENGTHS_PER_QUERY, sizeof(int32_t)}};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
    if (!tensors[i].needed) continue;
    if (!tensors[i].address)
      return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is NULL, expected a tensor: the problem has one",
                             tensors[i].name);
    if ((uintptr_t)tensors[i].address % tensors[i].element)
      return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is at %p, expected a multiple of its element size %zu",
                             tensors[i].name, tensors[i].address, tensors[i].element);
  }
  const int64_t rows = t->q_starts ? t->q_starts[p->batch] : p->batch * p->q_len;
  for (int64_t i = 0; p->kv_lengths == ATTEND_LENGTHS_PER_QUERY && i < rows; i++)
    if (t->kv_lengths[i] < 0)
      return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                             "kv_lengths[%" PRId64 "] is %" PRId32 ", expected 0 or more", i, t->kv_lengths[i]);
  return ATTEND_OK;
}

/** Merging reads the environment at each call: what is wrong there is found before anything moves. */
static attend_status check_merge(void) {
  attend_merge_problem p = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  p.parts = 1;
  return attend_merge(&p, &t);
}

static attend_status check(attend_mpi_plan *plan, const attend_tensors *tensors, attend_tensors *t) {
  if (!tensors) return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors is NULL");
  attend_tensors without = ATTEND_TENSORS_INIT;
  const bool known = tensors->struct_size <= sizeof without;
  if (plan->p.q_len == 0 && known && !attend_mpi_is_alone(plan)) {
    memcpy(&without, tensors, tensors->struct_size);
    without.q_starts = plan->no_queries;
  }
  attend_status s =
      attend_plan_begin(plan->whole, without.q_starts ? &without : tensors, plan->workspace, plan->workspace_size);
  if (s == ATTEND_OK) s = check_merge();
  if (s != ATTEND_OK) return attend_mpi_fail_as(s);
  read_tensors(&plan->p, tensors, t);
  return check_whole_tensors(plan, t);
}

/** FNV-1a (Fowler, Noll, Vo), 32 bits. */
static int32_t digest(const void *data, int64_t count) {
  const unsigned char *bytes = data;
  uint32_t hash = 2166136261u;
  for (size_t i = 0; data && i < (size_t)count * 4; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return (int32_t)hash;
}

static void say(attend_mpi_plan *plan, const attend_tensors *t) {
  const attend_problem *p = &plan->p;
  plan->said[SAID_POSITIONS] = digest(t->positions, p->batch);
  plan->said[SAID_BEGINS] = digest(t->kv_begins, p->batch);
  plan->said[SAID_STARTS] = digest(plan->o.layout == ATTEND_MPI_KEYS ? t->q_starts : NULL, p->batch + 1);
  plan->said[SAID_SINKS] = digest(t->sinks, p->q_heads);
  plan->said[SAID_SLOPES] = digest(t->alibi_slopes, p->q_heads);
  for (int64_t b = 0; b < p->batch; b++) {
    plan->said[SAID_COUNT + 2 * b] = (int32_t)own_queries(p, t, b);
    plan->said[SAID_COUNT + 2 * b + 1] = (int32_t)own_keys(p, t, b);
  }
}

/* -------------------------------------------------------------------------------------------- what all have to say */

static const int32_t *heard_of(const attend_mpi_plan *plan, int rank) {
  return plan->heard + (SAID_COUNT + 2 * plan->p.batch) * rank;
}

int64_t attend_mpi_queries(const attend_mpi_plan *plan, int rank, int64_t b) {
  return heard_of(plan, rank)[SAID_COUNT + 2 * b];
}

int64_t attend_mpi_keys(const attend_mpi_plan *plan, int rank, int64_t b) {
  return heard_of(plan, rank)[SAID_COUNT + 2 * b + 1];
}

int attend_mpi_held(const attend_mpi_plan *plan) { return plan->o.order == ATTEND_MPI_ZIGZAG ? 2 : 1; }

/** The rank of a run of a sequence, and which of its runs it is. */
static int holder_of(const attend_mpi_plan *plan, int64_t block, int *n) {
  *n = block >= plan->ranks;
  return (int)(*n ? 2 * plan->ranks - 1 - block : block);
}

/** How many of the rows of a sequence that a rank holds belong to its n-th run. */
static int64_t share_of(const attend_mpi_plan *plan, int64_t rows, int n) {
  if (attend_mpi_held(plan) == 1) return rows;
  return n == 0 ? (rows + 1) / 2 : rows / 2;
}

/** Where the runs of a sequence begin. With keys alone spread, every rank has all queries: a single run of them. */
static attend_status place_blocks(attend_mpi_plan *plan, int64_t b) {
  int32_t *q = plan->q_begin + b * (plan->blocks + 1), *k = plan->k_begin + b * (plan->blocks + 1);
  int64_t queries = 0, keys = 0;
  for (int64_t block = 0; block < plan->blocks; block++) {
    int n;
    const int rank = holder_of(plan, block, &n);
    q[block] = (int32_t)queries, k[block] = (int32_t)keys;
    queries += share_of(plan, attend_mpi_queries(plan, rank, b), n);
    keys += share_of(plan, attend_mpi_keys(plan, rank, b), n);
    if (queries > ATTEND_MAX_EXTENT || keys > ATTEND_MAX_EXTENT)
      return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                             "sequence %" PRId64 " has more than %" PRId32 " %s on all ranks together", b,
                             ATTEND_MAX_EXTENT, keys > ATTEND_MAX_EXTENT ? "keys" : "queries");
  }
  if (plan->o.layout == ATTEND_MPI_KEYS) queries = attend_mpi_queries(plan, 0, b);
  q[plan->blocks] = (int32_t)queries, k[plan->blocks] = (int32_t)keys;
  return ATTEND_OK;
}

static attend_status compare_said(const attend_mpi_plan *plan) {
  static const char *const names[SAID_COUNT] = {NULL, "positions", "kv_begins", "q_starts", "sinks", "alibi_slopes"};
  for (int field = SAID_POSITIONS; field < SAID_COUNT; field++)
    for (int r = 1; r < plan->ranks; r++)
      if (heard_of(plan, r)[field] != heard_of(plan, 0)[field])
        return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                               "%s of rank %d differ from those of rank 0, expected the same on all ranks",
                               names[field], r);
  return ATTEND_OK;
}

/** With one rank or heads the rank's own numbers are all there are. */
static attend_status keep_own(attend_mpi_plan *plan) {
  memcpy(plan->heard, plan->said, (size_t)(SAID_COUNT + 2 * plan->p.batch) * sizeof(int32_t));
  for (int64_t b = 0; b < plan->p.batch; b++) {
    int32_t *q = plan->q_begin + 2 * b, *k = plan->k_begin + 2 * b;
    q[0] = k[0] = 0;
    q[1] = plan->said[SAID_COUNT + 2 * b], k[1] = plan->said[SAID_COUNT + 2 * b + 1];
  }
  return ATTEND_OK;
}

attend_status attend_mpi_share_alone(attend_mpi_plan *plan, const attend_tensors *tensors, attend_mpi_run *run) {
  run->plan = plan;
  const attend_status own = check(plan, tensors, &run->t);
  if (own == ATTEND_OK) {
    say(plan, &run->t);
    keep_own(plan);
  }
  return attend_mpi_agree(plan->comm, plan->rank, plan->ranks, own);
}

static attend_status hear(attend_mpi_plan *plan) {
  const int count = (int)(SAID_COUNT + 2 * plan->p.batch);
  return attend_mpi_check(MPI_Allgather(plan->said, count, MPI_INT32_T, plan->heard, count, MPI_INT32_T, plan->comm),
                          "MPI_Allgather");
}

static attend_status place_all(attend_mpi_plan *plan) {
  attend_status s = ATTEND_OK;
  for (int64_t b = 0; s == ATTEND_OK && b < plan->p.batch; b++) s = place_blocks(plan, b);
  return s;
}

attend_status attend_mpi_share_capacities(attend_mpi_plan *plan) {
  const attend_problem *p = &plan->p;
  int64_t queries = p->q_starts ? p->q_total : p->batch * p->q_len;
  int64_t keys = p->kv_starts ? p->kv_total : p->batch * p->kv_len;
  memset(plan->said, 0, (size_t)(SAID_COUNT + 2 * p->batch) * sizeof(int32_t));
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t q = p->q_len < queries ? p->q_len : queries, k = p->kv_len < keys ? p->kv_len : keys;
    plan->said[SAID_COUNT + 2 * b] = (int32_t)q, plan->said[SAID_COUNT + 2 * b + 1] = (int32_t)k;
    queries -= q, keys -= k;
  }
  if (attend_mpi_is_alone(plan)) return keep_own(plan);
  const attend_status s = hear(plan);
  return s == ATTEND_OK ? place_all(plan) : s;
}

attend_status attend_mpi_share(attend_mpi_plan *plan, const attend_tensors *tensors, attend_mpi_run *run) {
  run->plan = plan;
  const attend_status own = check(plan, tensors, &run->t);
  if (own == ATTEND_OK) say(plan, &run->t);
  plan->said[SAID_STATUS] = own;
  attend_status s = hear(plan);
  if (s != ATTEND_OK) return own != ATTEND_OK ? own : s;
  int first = 0;
  while (first < plan->ranks && heard_of(plan, first)[SAID_STATUS] == ATTEND_OK) first++;
  s = attend_mpi_spread(plan->comm, plan->rank, plan->ranks, first, own);
  /* From here on all ranks see the same numbers, and so the same errors. */
  if (s == ATTEND_OK) s = compare_said(plan);
  return s == ATTEND_OK ? place_all(plan) : s;
}

/* ----------------------------------------------------------------------------------------------------------- blocks */

static attend_mpi_block block_of(const attend_mpi_plan *plan, const int32_t *begins, int64_t rows, int rank, int n) {
  const int64_t block = n == 0 ? rank : 2 * plan->ranks - 1 - rank;
  return (attend_mpi_block){begins[block], share_of(plan, rows, n), n == 0 ? 0 : share_of(plan, rows, 0)};
}

attend_mpi_block attend_mpi_query_block(const attend_mpi_plan *plan, int rank, int64_t b, int n) {
  return block_of(plan, plan->q_begin + b * (plan->blocks + 1), attend_mpi_queries(plan, rank, b), rank, n);
}

attend_mpi_block attend_mpi_key_block(const attend_mpi_plan *plan, int rank, int64_t b, int n) {
  return block_of(plan, plan->k_begin + b * (plan->blocks + 1), attend_mpi_keys(plan, rank, b), rank, n);
}

int64_t attend_mpi_first_query(const attend_mpi_run *run, int64_t b) {
  return run->t.q_starts ? run->t.q_starts[b] : b * run->plan->p.q_len;
}

/* ----------------------------------------------------------------------------------------------------------- limits */

key_limits attend_mpi_limits(const attend_mpi_run *run, int64_t b, const attend_mpi_block *queries) {
  const attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  const int64_t row = attend_mpi_first_query(run, b) + queries->local, end = (b + 1) * (plan->blocks + 1) - 1;
  key_limits l = {.count = plan->k_begin[end], .left = KEYS_OPEN, .right = KEYS_OPEN};
  l.offset = l.count - plan->q_begin[end];
  if (p->causal == ATTEND_CAUSAL_TOP_LEFT) l.offset = 0;
  if (p->causal == ATTEND_CAUSAL_OFFSET) l.offset = p->causal_offset;
  if (run->t.positions) l.offset = run->t.positions[b];
  l.offset += queries->begin;
  if (p->window && p->window_left >= 0) l.left = p->window_left;
  if (p->window && p->window_right >= 0) l.right = p->window_right;
  if (p->causal != ATTEND_CAUSAL_NONE) l.right = 0;
  if (run->t.kv_begins) l.begin = run->t.kv_begins[b];
  if (p->kv_lengths == ATTEND_LENGTHS_PER_QUERY && run->t.kv_lengths) l.lengths = run->t.kv_lengths + row;
  if (run->t.key_ranges) l.ranges = run->t.key_ranges + 2 * row;
  return l;
}

key_range attend_mpi_reach(const key_limits *l, int64_t queries) {
  if (queries == 0) return (key_range){0, 0};
  if (!l->lengths && !l->ranges) {
    /* Limits move on with the query: from the first key of the first to the last key of the last. */
    int64_t begin = l->offset - l->left, end = queries - 1 + l->offset + l->right + 1;
    if (begin < l->begin) begin = l->begin;
    if (begin < 0) begin = 0;
    if (end > l->count) end = l->count;
    return begin < end ? (key_range){(int32_t)begin, (int32_t)end} : (key_range){0, 0};
  }
  key_range reach = {INT32_MAX, 0};
  for (int64_t i = 0; i < queries; i++) {
    const key_range r = range_of(l, i, 0, l->count);
    if (r.begin == r.end) continue;
    if (r.begin < reach.begin) reach.begin = r.begin;
    if (r.end > reach.end) reach.end = r.end;
  }
  return reach.begin < reach.end ? reach : (key_range){0, 0};
}

double attend_mpi_pairs(const key_limits *l, int64_t queries, int64_t begin, int64_t end) {
  double pairs = 0;
  for (int64_t i = 0; i < queries; i++) {
    const key_range r = range_of(l, i, begin, end);
    pairs += r.end - r.begin;
  }
  return pairs;
}

/** Within 32 bits: no key is that far away, so that what is beyond means the same. */
static int32_t as_int32(int64_t x) { return (int32_t)(x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x); }

int32_t attend_mpi_position_from(const key_limits *l, int64_t first) { return as_int32(l->offset - first); }

int32_t attend_mpi_begin_from(const key_limits *l, int64_t first) {
  return as_int32(l->begin > first ? l->begin - first : 0);
}

void attend_mpi_ranges_from(const key_limits *l, int64_t queries, int64_t first, int32_t *ranges) {
  for (int64_t i = 0; i < queries; i++) {
    int64_t begin = l->ranges ? l->ranges[2 * i] : 0, end = l->ranges ? l->ranges[2 * i + 1] : INT32_MAX;
    if (l->lengths && end > l->lengths[i]) end = l->lengths[i];
    ranges[2 * i] = as_int32(begin - first);
    ranges[2 * i + 1] = as_int32(end - first);
  }
}

double attend_mpi_flops(const attend_mpi_run *run) {
  const attend_mpi_plan *plan = run->plan;
  const attend_problem *p = &plan->p;
  const bool keys = plan->o.layout == ATTEND_MPI_KEYS, alone = attend_mpi_is_alone(plan);
  double pairs = 0;
  for (int64_t b = 0; b < p->batch; b++) {
    const attend_mpi_block all = {0, plan->q_begin[(b + 1) * (plan->blocks + 1) - 1], 0};
    for (int n = 0; n < (alone ? 1 : attend_mpi_held(plan)); n++) {
      const attend_mpi_block queries = alone || keys ? all : attend_mpi_query_block(plan, plan->rank, b, n);
      const key_limits limits = attend_mpi_limits(run, b, &queries);
      const int64_t first = keys && !alone ? attend_mpi_key_block(plan, plan->rank, b, 0).begin : 0;
      const int64_t end = keys && !alone ? first + attend_mpi_keys(plan, plan->rank, b) : limits.count;
      pairs += attend_mpi_pairs(&limits, queries.count, first, end);
    }
  }
  return pairs * (double)p->q_heads * 2.0 * (double)(p->head_dim + p->v_head_dim);
}
