/* SPDX-License-Identifier: Apache-2.0 */
/** The phases of a multi-head attention run, and how threads share the work of each. */
#include "layers/mha.h"

#include <math.h>
#include <string.h>

#include "kernels/integers.h"
#include "layers/rope.h"

/** New rows that a part turns and stores at a time: some microseconds of work. */
enum { STORE_ROWS = 16 };
/** So many elements to turn, store or add up are worth waking a thread for. */
static const double elements_per_thread = 1e5;

static void *in_workspace(const attend_mha_run *run, size_t at) { return (char *)(uintptr_t)run + at; }

/** The number of the next piece of a phase's work. It goes on rising when none is left. */
static int64_t take(attend_mha_queue *queue) {
  return atomic_fetch_add_explicit(&queue->next, 1, memory_order_relaxed);
}

/* ----------------------------------------------------------------------------------------------------- preparation */

/** How many keys each sequence has: what is in the cache, and what is new. */
static const int32_t *make_lengths(const attend_mha_plan *plan, const attend_mha_tensors *t, int32_t *lengths) {
  for (int64_t b = 0; b < plan->p.batch; b++) lengths[b] = (int32_t)(t->past[b] + attend_mha_new_keys(&plan->p, t, b));
  return lengths;
}

static void make_core_tensors(attend_mha_run *run, char *workspace) {
  const attend_mha_plan *plan = run->plan;
  const attend_mha_problem *p = &plan->p;
  const attend_mha_tensors *t = &run->t;
  attend_tensors core = ATTEND_TENSORS_INIT;
  core.q = workspace + plan->q_at;
  core.k = p->cache_len ? t->k_cache : workspace + plan->k_at;
  core.v = p->cache_len ? t->v_cache : workspace + plan->v_at;
  core.out = p->out_proj ? (void *)(workspace + plan->attended_at) : t->out;
  core.weights = t->weights;
  if (p->weights == ATTEND_LAYER_WEIGHTS_AVERAGED) core.weights = in_workspace(run, plan->weights_at);
  core.q_starts = t->q_starts, core.kv_starts = t->kv_starts, core.kv_begins = t->kv_begins;
  core.kv_lengths = p->cache_len ? make_lengths(plan, t, in_workspace(run, plan->lengths_at)) : t->kv_lengths;
  core.sinks = t->sinks;
  core.dropout_seed = t->dropout_seed, core.dropout_offset = t->dropout_offset;
  attend_mha_make_masks(plan, t, workspace, &core);
  run->core = core;
}

static void make_calls(attend_mha_run *run) {
  const attend_mha_plan *plan = run->plan;
  const attend_mha_problem *p = &plan->p;
  const attend_mha_tensors *t = &run->t;
  const int32_t *q_starts = NULL, *k_starts = NULL;
  run->q_rows[0] = run->k_rows[0] = 0;
  run->q_rows[1] = t->q_starts && p->batch ? t->q_starts[p->batch] : 0;
  run->k_rows[1] = t->kv_starts && p->batch ? t->kv_starts[p->batch] : 0;
  if (p->q_starts) q_starts = p->batch_invariant ? t->q_starts : run->q_rows;
  if (p->kv_starts) k_starts = p->batch_invariant ? t->kv_starts : run->k_rows;
  float *k = plan->k_direct ? t->k_cache : in_workspace(run, plan->k_at);
  float *v = plan->v_direct ? t->v_cache : in_workspace(run, plan->v_at);
  const int32_t *k_first = plan->k_direct ? t->past : NULL, *v_first = plan->v_direct ? t->past : NULL;
  run->in[0] =
      (attend_linear_call){&plan->q, t->query, t->q_weight, t->q_bias, in_workspace(run, plan->q_at), q_starts, NULL};
  run->in[1] = (attend_linear_call){&plan->k, t->key, t->k_weight, t->k_bias, k, k_starts, k_first};
  run->in[2] = (attend_linear_call){&plan->v, t->value, t->v_weight, t->v_bias, v, k_starts, v_first};
  run->out = (attend_linear_call){&plan->out, run->core.out, t->out_weight, t->out_bias, t->out, q_starts, NULL};
}

/** The most rows of a sequence that ATTEND_MHA_STORE looks at, in chunks; 1 where there is only something to append. */
static int64_t count_chunks(const attend_mha_run *run) {
  const attend_mha_problem *p = &run->plan->p;
  int64_t most = 1;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t queries = p->q_starts ? run->t.q_starts[b + 1] - run->t.q_starts[b] : p->q_len;
    most = max_i64(most, max_i64(attend_mha_new_keys(p, &run->t, b), p->rope ? queries : 0));
  }
  return divide_up(most, STORE_ROWS);
}

attend_status attend_mha_begin(const attend_mha_plan *plan, const attend_mha_tensors *tensors, void *workspace) {
  attend_mha_run *run = workspace;
  attend_status status = attend_mha_check_tensors(plan, tensors, &run->t);
  if (status != ATTEND_OK) return status;
  run->plan = plan;
  make_core_tensors(run, workspace);
  status = attend_plan_begin(plan->core, &run->core, in_workspace(run, plan->core_at), plan->core_size);
  if (status != ATTEND_OK) return status;
  make_calls(run);
  if (plan->p.rope)
    attend_rope_frequencies(run->t.rope_frequencies, (double)plan->p.rope_theta, plan->p.rotary_dim / 2,
                            in_workspace(run, plan->frequencies_at));
  run->chunks = count_chunks(run);
  atomic_init(&run->projected.next, 0);
  atomic_init(&run->stored.next, 0);
  atomic_init(&run->averaged.next, 0);
  atomic_init(&run->finished.next, 0);
  return ATTEND_OK;
}

/* ----------------------------------------------------------------------------------------------------- projections */

static void project(attend_mha_queue *queue, const attend_linear_call *calls, int count, int part) {
  if (part >= ATTEND_LINEAR_MOST_THREADS) return;
  const int64_t blocks = attend_linear_blocks(calls, count);
  for (int64_t block = take(queue); block < blocks; block = take(queue)) attend_linear_run_block(calls, count, block);
}

/* ----------------------------------------------------------------------------------------------- positions, storing */

/** A sequence in ATTEND_MHA_STORE, and what a part remembers of the last position. */
typedef struct store_state {
  const attend_mha_run *run;
  int64_t b, news, queries;
  int64_t k_start, q_start;       /**< rows of packed sequences before its own */
  int64_t k_position, q_position; /**< of its first new key, and of its first query */
  const double *frequencies;
  float *cos_sin;
  int64_t position; /**< that cos_sin is of */
} store_state;

static float *row_of(float *rows, attend_sequence_strides s, int packed, int64_t start, int64_t b, int64_t i) {
  return rows + (packed ? 0 : b * s.batch) + (start + i) * s.row;
}

static void turn(store_state *s, int64_t position, int64_t heads, float *row) {
  const attend_mha_problem *p = &s->run->plan->p;
  const int64_t pairs = p->rotary_dim / 2;
  if (position != s->position) attend_rope_angles(s->frequencies, pairs, position, p->rope_factor, s->cos_sin);
  s->position = position;
  for (int64_t h = 0; h < heads; h++) attend_rope_turn(p->rope, pairs, s->cos_sin, row + h * p->head_dim);
}

/** Puts a row of heads into a cache, in the cache's type. */
static void put_row(const attend_mha_plan *plan, const float *row, int64_t dim, const attend_strides *s, int64_t b,
                    int64_t at, void *cache) {
  const int64_t size = (int64_t)attend_dtype_size(plan->p.cache_dtype);
  const attend_row_copy copy = {.from = (const char *)row,
                                .to = (char *)cache + (b * s->batch + at * s->row) * size,
                                .from_head = dim * (int64_t)sizeof *row,
                                .to_head = s->head * size,
                                .from_dtype = ATTEND_F32,
                                .to_dtype = plan->p.cache_dtype,
                                .heads = plan->p.kv_heads,
                                .rows = 1,
                                .dim = dim};
  plan->append->append(&copy);
}

/** New key and value i of a sequence: turned, and into the cache. */
static void store_key(store_state *s, int64_t i) {
  const attend_mha_plan *plan = s->run->plan;
  const attend_mha_problem *p = &plan->p;
  const attend_mha_tensors *t = &s->run->t;
  float *k = row_of(in_workspace(s->run, plan->k_at), plan->new_k, p->kv_starts, s->k_start, s->b, i);
  const float *v = row_of(in_workspace(s->run, plan->v_at), plan->new_v, p->kv_starts, s->k_start, s->b, i);
  if (p->rope) turn(s, s->k_position + i, p->kv_heads, k);
  if (!p->cache_len) return;
  const int64_t at = t->past[s->b] + i;
  if (!plan->k_direct) put_row(plan, k, p->head_dim, &p->k_cache_strides, s->b, at, t->k_cache);
  if (!plan->v_direct) put_row(plan, v, p->v_head_dim, &p->v_cache_strides, s->b, at, t->v_cache);
}

static void turn_query(store_state *s, int64_t i) {
  const attend_mha_plan *plan = s->run->plan;
  float *q = row_of(in_workspace(s->run, plan->q_at), plan->new_q, plan->p.q_starts, s->q_start, s->b, i);
  turn(s, s->q_position + i, plan->p.q_heads, q);
}

/** Puts bias_kv and zeros after the projected rows of a sequence. */
static void append(const attend_mha_plan *plan, const float *bias, int64_t dim, float *row, int64_t stride) {
  if (plan->p.bias_kv) memcpy(row, bias, (size_t)dim * sizeof *row), row += stride;
  if (plan->p.add_zero_attn) memset(row, 0, (size_t)dim * sizeof *row);
}

static void append_keys(const attend_mha_run *run, int64_t b) {
  const attend_mha_plan *plan = run->plan;
  const int64_t len = plan->p.kv_len;
  float *k = row_of(in_workspace(run, plan->k_at), plan->new_k, 0, 0, b, len);
  float *v = row_of(in_workspace(run, plan->v_at), plan->new_v, 0, 0, b, len);
  append(plan, run->t.bias_k, plan->k.out_dim, k, plan->new_k.row);
  append(plan, run->t.bias_v, plan->v.out_dim, v, plan->new_v.row);
}

/** Shows a sequence: how many rows it has and at which positions they stand. */
static void enter_sequence(store_state *s, int64_t b) {
  const attend_mha_run *run = s->run;
  const attend_mha_plan *plan = run->plan;
  const attend_mha_tensors *t = &run->t;
  const attend_sequence sequence = attend_sequence_of(&plan->said, &run->core, b);
  const int64_t past = t->past ? t->past[b] : 0;
  s->b = b, s->news = attend_mha_new_keys(&plan->p, t, b), s->queries = sequence.queries;
  s->k_start = t->kv_starts ? t->kv_starts[b] : 0, s->q_start = sequence.q_start;
  s->k_position = t->rope_positions ? t->rope_positions[b] : past;
  s->q_position = attend_limits_of(&plan->said, &run->core, b, &sequence).offset + s->k_position - past;
}

static void store(attend_mha_run *run, int part) {
  const attend_mha_plan *plan = run->plan;
  store_state s = {.run = run,
                   .b = -1,
                   .frequencies = in_workspace(run, plan->frequencies_at),
                   .cos_sin = in_workspace(run, plan->angles_at + (size_t)part * plan->angles_size),
                   .position = INT64_MIN};
  const int64_t pieces = plan->p.batch * run->chunks;
  for (int64_t piece = take(&run->stored); piece < pieces; piece = take(&run->stored)) {
    const int64_t b = piece / run->chunks, first = piece % run->chunks * STORE_ROWS;
    if (s.b != b) enter_sequence(&s, b);
    for (int64_t i = first; i < first + STORE_ROWS; i++) {
      if (i < s.news) store_key(&s, i);
      if (i < s.queries && plan->p.rope) turn_query(&s, i);
    }
    if (first == 0 && plan->appended) append_keys(run, b);
  }
}

/* ------------------------------------------------------------------------------------------------------------- ends */

/** The mean over the heads, of (B, Hq, Lq, T), or packed (Hq, q_total, T). */
static void average(attend_mha_run *run) {
  const attend_mha_plan *plan = run->plan;
  const attend_mha_problem *p = &plan->p;
  const int64_t room = p->q_starts ? p->q_total : p->q_len, head = room * plan->keys;
  const int64_t rows = p->q_starts ? run->q_rows[1] : p->q_len, batch = p->q_starts ? 1 : p->batch;
  const float *per_head = in_workspace(run, plan->weights_at);
  for (int64_t row = take(&run->averaged); row < batch * rows; row = take(&run->averaged)) {
    const int64_t b = row / rows, i = row % rows;
    const float *from = per_head + b * p->q_heads * head + i * plan->keys;
    float *to = run->t.weights + b * head + i * plan->keys;
    memcpy(to, from, (size_t)plan->keys * sizeof *to);
    for (int64_t h = 1; h < p->q_heads; h++)
      for (int64_t j = 0; j < plan->keys; j++) to[j] += from[h * head + j];
    for (int64_t j = 0; j < plan->keys; j++) to[j] /= (float)p->q_heads;
  }
}

attend_status attend_mha_run_phase(attend_mha_run *run, attend_mha_phase phase, int part, int parts) {
  const attend_mha_plan *plan = run->plan;
  switch (phase) {
  case ATTEND_MHA_PROJECT: project(&run->projected, run->in, ATTEND_LINEAR_CALLS, part); break;
  case ATTEND_MHA_STORE: store(run, part); break;
  case ATTEND_MHA_ATTEND:
    return attend_plan_run_part(plan->core, &run->core, in_workspace(run, plan->core_at), plan->core_size, part, parts);
  case ATTEND_MHA_AVERAGE: average(run); break;
  case ATTEND_MHA_OUTPUT: project(&run->finished, &run->out, 1, part); break;
  case ATTEND_MHA_PHASES: break;
  }
  return ATTEND_OK;
}

int attend_mha_useful(const attend_mha_run *run, attend_mha_phase phase) {
  const attend_mha_plan *plan = run->plan;
  const attend_mha_problem *p = &plan->p;
  const double queries = (double)(p->q_starts ? run->q_rows[1] : p->batch * p->q_len);
  const double news = (double)(p->kv_starts ? run->k_rows[1] : p->batch * p->kv_len);
  const double elements = phase == ATTEND_MHA_AVERAGE ? queries * (double)p->q_heads * (double)plan->keys
                                                      : queries * (double)(p->rope ? plan->q.out_dim : 0) +
                                                            news * (double)(plan->k.out_dim + plan->v.out_dim);
  return (int)fmin(1 + elements / elements_per_thread, plan->threads);
}
