/* SPDX-License-Identifier: Apache-2.0 */
/** Checks the tensors of a multi-head attention run, before anything is written. */
#include <inttypes.h>

#include "layers/mha.h"

/* Fields that 0.2 has. */
#define FIRST_SIZE (offsetof(attend_mha_tensors, dropout_offset) + sizeof(uint64_t))

/** What the problem does not have is not looked at. */
static void drop_unused(const attend_mha_problem *p, attend_mha_tensors *t) {
  if (!p->out_proj) t->out_weight = t->out_bias = NULL;
  if (!p->bias_kv) t->bias_k = t->bias_v = NULL;
  if (!p->q_starts) t->q_starts = NULL;
  if (!p->kv_starts) t->kv_starts = NULL;
  if (!p->kv_lengths) t->kv_lengths = NULL;
  if (!p->kv_begins) t->kv_begins = NULL;
  if (!p->cache_len) t->k_cache = t->v_cache = NULL, t->past = NULL;
  if (!p->rope) t->rope_positions = NULL, t->rope_frequencies = NULL;
  if (!p->key_padding_mask) t->key_padding_mask = NULL;
  if (!p->attn_mask) t->attn_mask = NULL;
  if (!p->sinks) t->sinks = NULL;
  if (!p->weights) t->weights = NULL;
}

static attend_status check_addresses(const attend_mha_plan *plan, const attend_mha_tensors *t) {
  const attend_mha_problem *p = &plan->p;
  const bool batch = p->batch > 0, queries = batch && p->q_len > 0 && (!p->q_starts || p->q_total > 0);
  const bool news = batch && p->kv_len > 0 && (!p->kv_starts || p->kv_total > 0);
  const bool masks = queries && plan->mask_keys > 0, cache = batch && p->cache_len;
  const size_t f32 = sizeof(float), i32 = sizeof(int32_t);
  const size_t cached = p->cache_len ? attend_dtype_size(p->cache_dtype) : 1;
  const attend_address addresses[] = {
      {"query", t->query, queries, f32},
      {"key", t->key, news, f32},
      {"value", t->value, news, f32},
      {"out", t->out, queries, f32},
      {"q_weight", t->q_weight, queries, f32},
      {"k_weight", t->k_weight, news, f32},
      {"v_weight", t->v_weight, news, f32},
      {"out_weight", t->out_weight, p->out_proj && queries, f32},
      {"q_bias", t->q_bias, false, f32},
      {"k_bias", t->k_bias, false, f32},
      {"v_bias", t->v_bias, false, f32},
      {"out_bias", t->out_bias, false, f32},
      {"bias_k", t->bias_k, p->bias_kv && batch, f32},
      {"bias_v", t->bias_v, p->bias_kv && batch, f32},
      {"q_starts", t->q_starts, p->q_starts && batch, i32},
      {"kv_starts", t->kv_starts, p->kv_starts && batch, i32},
      {"kv_lengths", t->kv_lengths, p->kv_lengths && batch, i32},
      {"kv_begins", t->kv_begins, p->kv_begins && batch, i32},
      {"k_cache", t->k_cache, cache, cached},
      {"v_cache", t->v_cache, cache, cached},
      {"past", t->past, cache, i32},
      {"rope_positions", t->rope_positions, false, i32},
      {"rope_frequencies", t->rope_frequencies, false, f32},
      {"key_padding_mask", t->key_padding_mask, p->key_padding_mask && masks,
       p->key_padding_mask == ATTEND_LAYER_MASK_ADD ? f32 : 1},
      {"attn_mask", t->attn_mask, p->attn_mask && masks, p->attn_mask == ATTEND_LAYER_MASK_ADD ? f32 : 1},
      {"sinks", t->sinks, p->sinks && queries, f32},
      {"weights", t->weights, p->weights && queries && plan->keys > 0, f32},
  };
  return attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
}

/** Starts, lengths and first keys: as those of an attention over the new keys alone. */
static attend_status check_sequences(const attend_mha_problem *p, const attend_mha_tensors *t) {
  attend_resolved news = {.p = ATTEND_PROBLEM_INIT};
  attend_tensors tensors = ATTEND_TENSORS_INIT;
  news.p.batch = p->batch, news.p.q_len = p->q_len, news.p.kv_len = p->kv_len;
  news.p.q_starts = p->q_starts, news.p.q_total = p->q_total;
  news.p.kv_starts = p->kv_starts, news.p.kv_total = p->kv_total;
  news.p.kv_lengths = p->kv_lengths ? ATTEND_LENGTHS_PER_BATCH : ATTEND_LENGTHS_NONE;
  news.p.kv_begins = p->kv_begins;
  tensors.q_starts = t->q_starts, tensors.kv_starts = t->kv_starts;
  tensors.kv_lengths = t->kv_lengths, tensors.kv_begins = t->kv_begins;
  return attend_check_sequences(&news, &tensors);
}

static attend_status check_past(const attend_mha_problem *p, const attend_mha_tensors *t) {
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t news = attend_mha_new_keys(p, t, b);
    if (t->past[b] < 0 || t->past[b] > p->cache_len - news)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                         "past[%" PRId64 "] is %" PRId32 ", expected 0 to %" PRId64 ": the cache has %" PRId64
                         " positions, and %" PRId64 " are appended",
                         b, t->past[b], p->cache_len - news, p->cache_len, news);
  }
  return ATTEND_OK;
}

attend_status attend_mha_check_tensors(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                       attend_mha_tensors *t) {
  const attend_mha_problem *p = &plan->p;
  attend_status status = attend_read_versioned(t, sizeof *t, FIRST_SIZE, tensors, "attend_mha_tensors");
  if (status != ATTEND_OK) return status;
  drop_unused(p, t);
  if ((status = check_addresses(plan, t)) != ATTEND_OK || p->batch == 0) return status;
  if ((status = check_sequences(p, t)) != ATTEND_OK) return status;
  return p->cache_len ? check_past(p, t) : ATTEND_OK;
}
