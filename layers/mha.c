/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention: projections, attention, projection. */
#include "layers/mha.h"

#include <inttypes.h>
#include <string.h>

#include "kernels/size.h"

/* Fields that the first release has. */
#define TENSORS_FIRST_SIZE (offsetof(attend_mha_tensors, weights) + sizeof(float *))

/* -------------------------------------------------------------------------------------------------------- creation */

static attend_strides split_heads(attend_sequence_strides s, int64_t dim) {
  return (attend_strides){.batch = s.batch, .head = dim, .row = s.row};
}

static attend_problem core_problem(const attend_mha_plan *plan) {
  const attend_mha_problem *p = &plan->p;
  const int64_t k_size = p->kv_heads * p->head_dim, v_size = p->kv_heads * p->v_head_dim;
  const attend_sequence_strides k_cache = {p->cache_len * k_size, k_size}, v_cache = {p->cache_len * v_size, v_size};
  attend_problem core = ATTEND_PROBLEM_INIT;
  core.batch = p->batch, core.q_len = p->q_len, core.kv_len = plan->keys;
  core.q_heads = p->q_heads, core.kv_heads = p->kv_heads;
  core.head_dim = p->head_dim, core.v_head_dim = p->v_head_dim;
  core.q_strides = split_heads(plan->new_q, p->head_dim);
  core.k_strides = split_heads(p->cache_len ? k_cache : plan->new_k, p->head_dim);
  core.v_strides = split_heads(p->cache_len ? v_cache : plan->new_v, p->v_head_dim);
  core.out_strides = split_heads(plan->attended, p->v_head_dim);
  core.scale = p->scale;
  core.weights = p->weights != ATTEND_LAYER_WEIGHTS_NONE;
  return core;
}

/** Takes room for the rows of a sequence. */
static size_t take_rows(attend_mha_plan *plan, int64_t len, int64_t dim) {
  return size_take(&plan->workspace_size, size_mul((size_t)plan->p.batch, (size_t)len),
                   size_mul((size_t)dim, sizeof(float)));
}

static attend_status lay_out(attend_mha_plan *plan) {
  const attend_mha_problem *p = &plan->p;
  const int64_t room = p->kv_len + plan->appended;
  plan->q_at = take_rows(plan, p->q_len, plan->q.out_dim);
  plan->k_at = take_rows(plan, room, plan->k.out_dim);
  plan->v_at = take_rows(plan, room, plan->v.out_dim);
  if (p->out_proj) plan->attended_at = take_rows(plan, p->q_len, plan->out.in_dim);
  if (p->weights == ATTEND_LAYER_WEIGHTS_AVERAGED)
    plan->weights_at =
        size_take(&plan->workspace_size, size_mul(size_mul((size_t)p->batch, (size_t)p->q_heads), (size_t)p->q_len),
                  size_mul((size_t)plan->keys, sizeof(float)));
  plan->core_size = attend_plan_workspace_size(plan->core);
  plan->core_at = size_take(&plan->workspace_size, 1, plan->core_size);
  if (plan->workspace_size > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "the layer would need a workspace of more than %td bytes", PTRDIFF_MAX);
  return ATTEND_OK;
}

static attend_status make(const attend_mha_problem *problem, const attend_options *options, attend_mha_plan *plan) {
  attend_status status = attend_mha_resolve(problem, plan);
  if (status != ATTEND_OK) return status;
  attend_problem core = core_problem(plan);
  if ((status = attend_mha_plan_masks(plan, &core)) != ATTEND_OK) return status;
  if ((status = attend_plan_create(&core, options, &plan->core)) != ATTEND_OK) return status;
  plan->host = *attend_plan_host(plan->core);
  plan->threads = attend_plan_max_parts(plan->core);
  return lay_out(plan);
}

attend_status attend_mha_plan_create(const attend_mha_problem *problem, const attend_options *options,
                                     attend_mha_plan **plan) {
  attend_mha_plan made = {0};
  void *kept;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL, expected where to put the plan");
  attend_status status = attend_linear_require(&made.run_linear);
  if (status == ATTEND_OK) status = make(problem, options, &made);
  if (status == ATTEND_OK) status = attend_keep_plan(&made.host, &made, sizeof made, &kept);
  if (status == ATTEND_OK)
    *plan = kept;
  else
    attend_plan_destroy(made.core);
  return status;
}

void attend_mha_plan_destroy(attend_mha_plan *plan) {
  if (!plan) return;
  const attend_host host = plan->host;
  attend_plan_destroy(plan->core);
  attend_host_release(&host, plan, sizeof *plan);
}

size_t attend_mha_plan_workspace_size(const attend_mha_plan *plan) { return plan ? plan->workspace_size : 0; }

size_t attend_mha_plan_explain(const attend_mha_plan *plan, char *buffer, size_t size) {
  return attend_plan_explain(plan ? plan->core : NULL, buffer, size);
}

/* ------------------------------------------------------------------------------------------------------------- run */

static attend_status check_past(const attend_mha_problem *p, const int32_t *past) {
  for (int64_t b = 0; b < p->batch; b++)
    if (past[b] < 0 || past[b] > p->cache_len - p->kv_len)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                         "past[%" PRId64 "] is %" PRId32 ", expected 0 to %" PRId64 ": the cache has %" PRId64
                         " positions, and %" PRId64 " are appended",
                         b, past[b], p->cache_len - p->kv_len, p->cache_len, p->kv_len);
  return ATTEND_OK;
}

static attend_status check_tensors(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                   attend_mha_tensors *t) {
  const attend_mha_problem *p = &plan->p;
  attend_status status = attend_read_versioned(t, sizeof *t, TENSORS_FIRST_SIZE, tensors, "attend_mha_tensors");
  if (status != ATTEND_OK) return status;
  const bool queries = p->batch > 0 && p->q_len > 0, news = p->batch > 0 && p->kv_len > 0;
  const bool masks = queries && plan->mask_keys > 0, cache = p->cache_len && p->batch > 0;
  const bool padding = p->key_padding_mask, attn = p->attn_mask, appended = p->batch > 0 && p->bias_kv;
  const size_t f32 = sizeof(float);
  const attend_address addresses[] = {
      {"query", t->query, queries, f32},
      {"key", t->key, news, f32},
      {"value", t->value, news, f32},
      {"out", t->out, queries, f32},
      {"q_weight", t->q_weight, queries, f32},
      {"k_weight", t->k_weight, news, f32},
      {"v_weight", t->v_weight, news, f32},
      {"out_weight", p->out_proj ? t->out_weight : NULL, queries && p->out_proj, f32},
      {"q_bias", t->q_bias, false, f32},
      {"k_bias", t->k_bias, false, f32},
      {"v_bias", t->v_bias, false, f32},
      {"out_bias", p->out_proj ? t->out_bias : NULL, false, f32},
      {"bias_k", p->bias_kv ? t->bias_k : NULL, appended, f32},
      {"bias_v", p->bias_kv ? t->bias_v : NULL, appended, f32},
      {"key_padding_mask", padding ? t->key_padding_mask : NULL, padding && masks,
       p->key_padding_mask == ATTEND_LAYER_MASK_ADD ? f32 : 1},
      {"attn_mask", attn ? t->attn_mask : NULL, attn && masks, p->attn_mask == ATTEND_LAYER_MASK_ADD ? f32 : 1},
      {"k_cache", p->cache_len ? t->k_cache : NULL, cache, f32},
      {"v_cache", p->cache_len ? t->v_cache : NULL, cache, f32},
      {"past", p->cache_len ? t->past : NULL, cache, sizeof(int32_t)},
      {"weights", p->weights ? t->weights : NULL, p->weights && queries && plan->keys > 0, f32},
  };
  status = attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
  return status == ATTEND_OK && cache ? check_past(p, t->past) : status;
}

/** Puts bias_kv and zeros behind the projected rows of a sequence. */
static void append(const attend_mha_plan *plan, const float *bias, int64_t dim, attend_sequence_strides s,
                   float *rows) {
  const attend_mha_problem *p = &plan->p;
  for (int64_t b = 0; b < p->batch; b++) {
    float *row = rows + b * s.batch + p->kv_len * s.row;
    if (p->bias_kv) memcpy(row, bias, (size_t)dim * sizeof *row), row += s.row;
    if (p->add_zero_attn) memset(row, 0, (size_t)dim * sizeof *row);
  }
}

/** Copies the projected rows of a sequence behind what the cache holds. */
static void store(const attend_mha_plan *plan, const int32_t *past, int64_t dim, attend_sequence_strides s,
                  const float *rows, float *cache) {
  const attend_mha_problem *p = &plan->p;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t i = 0; i < p->kv_len; i++)
      memcpy(cache + (b * p->cache_len + past[b] + i) * dim, rows + b * s.batch + i * s.row,
             (size_t)dim * sizeof *cache);
}

/** The weights of all heads, and their mean. */
typedef struct averaging {
  const attend_mha_plan *plan;
  const float *per_head;
  float *mean;
} averaging;

/** The mean over the heads of row `row` of (B, Lq) of (B, Hq, Lq, T). */
static void average_row(void *argument, int64_t row) {
  const averaging *a = argument;
  const attend_mha_problem *p = &a->plan->p;
  const int64_t keys = a->plan->keys, head = p->q_len * keys, b = row / p->q_len;
  const float *from = a->per_head + b * p->q_heads * head + row % p->q_len * keys;
  float *to = a->mean + row * keys;
  memcpy(to, from, (size_t)keys * sizeof *to);
  for (int64_t h = 1; h < p->q_heads; h++)
    for (int64_t j = 0; j < keys; j++) to[j] += from[h * head + j];
  for (int64_t j = 0; j < keys; j++) to[j] /= (float)p->q_heads;
}

static attend_status run(const attend_mha_plan *plan, const attend_mha_tensors *t, char *workspace) {
  const attend_mha_problem *p = &plan->p;
  float *q = (float *)(void *)(workspace + plan->q_at);
  float *k = (float *)(void *)(workspace + plan->k_at), *v = (float *)(void *)(workspace + plan->v_at);
  float *attended = p->out_proj ? (float *)(void *)(workspace + plan->attended_at) : t->out;
  float *per_head = (float *)(void *)(workspace + plan->weights_at);
  const bool averaged = p->weights == ATTEND_LAYER_WEIGHTS_AVERAGED;

  const attend_linear_call in[ATTEND_LINEAR_CALLS] = {{&plan->q, t->query, t->q_weight, t->q_bias, q},
                                                      {&plan->k, t->key, t->k_weight, t->k_bias, k},
                                                      {&plan->v, t->value, t->v_weight, t->v_bias, v}};
  plan->run_linear(&plan->host, in, 3, plan->threads);
  if (plan->appended) {
    append(plan, t->bias_k, plan->k.out_dim, plan->new_k, k);
    append(plan, t->bias_v, plan->v.out_dim, plan->new_v, v);
  }
  if (p->cache_len) {
    store(plan, t->past, plan->k.out_dim, plan->new_k, k, t->k_cache);
    store(plan, t->past, plan->v.out_dim, plan->new_v, v, t->v_cache);
  }

  attend_tensors core = ATTEND_TENSORS_INIT;
  core.q = q, core.k = p->cache_len ? t->k_cache : k, core.v = p->cache_len ? t->v_cache : v;
  core.out = attended;
  core.weights = averaged ? per_head : t->weights;
  attend_mha_make_masks(plan, t, workspace, &core);
  attend_status status = attend_plan_run(plan->core, &core, workspace + plan->core_at, plan->core_size);
  if (status != ATTEND_OK) return status;
  averaging a = {plan, per_head, t->weights};
  if (averaged) attend_share_out(&plan->host, plan->threads, p->batch * p->q_len, average_row, &a);
  const attend_linear_call out = {&plan->out, attended, t->out_weight, t->out_bias, t->out};
  if (p->out_proj) plan->run_linear(&plan->host, &out, 1, plan->threads);
  return ATTEND_OK;
}

attend_status attend_mha_plan_run(const attend_mha_plan *plan, const attend_mha_tensors *tensors, void *workspace,
                                  size_t workspace_size) {
  attend_mha_tensors t;
  void *own = NULL;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  attend_status status = check_tensors(plan, tensors, &t);
  if (status != ATTEND_OK) return status;
  status = attend_take_workspace(&plan->host, &workspace, workspace_size, plan->workspace_size, &own);
  if (status == ATTEND_OK) status = run(plan, &t, workspace);
  attend_host_release(&plan->host, own, plan->workspace_size);
  return status;
}
