/* SPDX-License-Identifier: Apache-2.0 */
/**
 * From the masks of nn.MultiheadAttention to those of the attention. The attention takes one boolean mask and one bias:
 * masks of bytes are reversed and joined into the one, masks of f32 added up into the other, and each covers no more of
 * (B, Hq, Lq, T) than what it is made of. A single f32 mask is used where it lies.
 */
#include <math.h>
#include <string.h>

#include "kernels/size.h"
#include "layers/mha.h"

/* ------------------------------------------------------------------------------------------------------------ plan */

/** What an array made of the two masks has to cover, as far as they are of `kind`. */
static attend_mha_scores cover(const attend_mha_problem *p, attend_layer_mask kind) {
  const bool padding = p->key_padding_mask == kind, attn = p->attn_mask == kind;
  const bool per_head = attn && p->attn_mask_per_head;
  return (attend_mha_scores){.used = padding || attn,
                             .batch = padding || per_head ? p->batch : 1,
                             .heads = per_head ? p->q_heads : 1,
                             .queries = attn ? p->q_len : 1};
}

/** Contiguous, with strides of 0 along extents of 1. */
static attend_strides4 strides_of(const attend_mha_scores *s, int64_t keys) {
  return (attend_strides4){.batch = s->batch == 1 ? 0 : s->heads * s->queries * keys,
                           .head = s->heads == 1 ? 0 : s->queries * keys,
                           .query = s->queries == 1 ? 0 : keys,
                           .key = 1};
}

static size_t take(const attend_mha_plan *plan, attend_mha_scores *s, size_t element, size_t *total) {
  size_t rows = size_mul(size_mul((size_t)s->batch, (size_t)s->heads), (size_t)s->queries);
  return size_take(total, size_mul(rows, (size_t)plan->keys), element);
}

attend_status attend_mha_plan_masks(attend_mha_plan *plan, attend_problem *core) {
  const attend_mha_problem *p = &plan->p;
  plan->mask = cover(p, ATTEND_LAYER_MASK_IGNORE);
  plan->bias = cover(p, ATTEND_LAYER_MASK_ADD);
  plan->causal_in_mask = plan->appended > 0 && p->causal != ATTEND_CAUSAL_NONE;
  if (plan->causal_in_mask) plan->mask.used = true, plan->mask.queries = p->q_len;
  if (plan->mask.used) plan->mask.at = take(plan, &plan->mask, sizeof(uint8_t), &plan->workspace_size);
  const bool both = p->key_padding_mask == ATTEND_LAYER_MASK_ADD && p->attn_mask == ATTEND_LAYER_MASK_ADD;
  plan->bias_in_place = plan->bias.used && !both && plan->appended == 0;
  size_t callers = 0;
  if (plan->bias.used)
    plan->bias.at = take(plan, &plan->bias, sizeof(float), plan->bias_in_place ? &callers : &plan->workspace_size);
  if (p->cache_len)
    plan->lengths_at = size_take(&plan->workspace_size, size_mul((size_t)p->batch, (size_t)p->q_len), sizeof(int32_t));
  /* Before strides are made of extents: these sizes cover the products in them. */
  if (plan->workspace_size > PTRDIFF_MAX || callers > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "the masks need more than %td bytes", PTRDIFF_MAX);

  core->mask = plan->mask.used;
  if (plan->mask.used) core->mask_strides = strides_of(&plan->mask, plan->keys);
  if (plan->bias.used) core->bias_dtype = ATTEND_F32, core->bias_strides = strides_of(&plan->bias, plan->keys);
  if (p->cache_len) {
    core->kv_lengths = ATTEND_LENGTHS_PER_QUERY;
  } else if (!plan->causal_in_mask) {
    core->causal = p->causal;
    core->causal_offset = p->causal_offset;
  }
  return ATTEND_OK;
}

/* ------------------------------------------------------------------------------------------------------------- run */

/** Where the row of a caller's mask begins that belongs to a row of (B, Hq, Lq). */
static int64_t padding_row(const attend_mha_plan *plan, int64_t b) { return b * plan->mask_keys; }

static int64_t attn_row(const attend_mha_plan *plan, int64_t b, int64_t h, int64_t i) {
  const attend_mha_problem *p = &plan->p;
  return ((p->attn_mask_per_head ? b * p->q_heads + h : 0) * p->q_len + i) * plan->mask_keys;
}

/** Keys that the causal mask leaves query i, appended ones not counted. */
static int64_t causal_keys(const attend_mha_plan *plan, int64_t i) {
  const attend_mha_problem *p = &plan->p;
  const int64_t offset = p->causal == ATTEND_CAUSAL_OFFSET         ? p->causal_offset
                         : p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT ? p->kv_len - p->q_len
                                                                   : 0;
  const int64_t keys = i + offset + 1;
  return keys < 0 ? 0 : keys < plan->mask_keys ? keys : plan->mask_keys;
}

static void mask_row(const attend_mha_plan *plan, const attend_mha_tensors *t, int64_t b, int64_t h, int64_t i,
                     uint8_t *row) {
  const attend_mha_problem *p = &plan->p;
  const int64_t allowed = plan->causal_in_mask ? causal_keys(plan, i) : plan->mask_keys;
  memset(row, 1, (size_t)allowed);
  memset(row + allowed, 0, (size_t)(plan->mask_keys - allowed));
  memset(row + plan->mask_keys, 1, (size_t)plan->appended);
  if (p->key_padding_mask == ATTEND_LAYER_MASK_IGNORE) {
    const uint8_t *ignore = (const uint8_t *)t->key_padding_mask + padding_row(plan, b);
    for (int64_t j = 0; j < allowed; j++) row[j] = (uint8_t)(row[j] & (ignore[j] == 0));
  }
  if (p->attn_mask == ATTEND_LAYER_MASK_IGNORE) {
    const uint8_t *ignore = (const uint8_t *)t->attn_mask + attn_row(plan, b, h, i);
    for (int64_t j = 0; j < allowed; j++) row[j] = (uint8_t)(row[j] & (ignore[j] == 0));
  }
}

static void bias_row(const attend_mha_plan *plan, const attend_mha_tensors *t, int64_t b, int64_t h, int64_t i,
                     float *row) {
  const attend_mha_problem *p = &plan->p;
  for (int64_t j = 0; j < plan->keys; j++) row[j] = 0;
  if (p->key_padding_mask == ATTEND_LAYER_MASK_ADD)
    memcpy(row, (const float *)t->key_padding_mask + padding_row(plan, b), (size_t)plan->mask_keys * sizeof *row);
  if (p->attn_mask == ATTEND_LAYER_MASK_ADD) {
    const float *add = (const float *)t->attn_mask + attn_row(plan, b, h, i);
    for (int64_t j = 0; j < plan->mask_keys; j++) row[j] += add[j];
  }
}

/** Query i of batch entry b attends what is in the cache, and of this run what causal leaves. */
static void make_lengths(const attend_mha_plan *plan, const attend_mha_tensors *t, int32_t *lengths) {
  const attend_mha_problem *p = &plan->p;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t i = 0; i < p->q_len; i++) {
      const int64_t newest = p->causal == ATTEND_CAUSAL_NONE ? p->kv_len : p->kv_len - p->q_len + i + 1;
      const int64_t keys = t->past[b] + newest;
      lengths[b * p->q_len + i] = (int32_t)(keys < 0 ? 0 : keys);
    }
}

void attend_mha_make_masks(const attend_mha_plan *plan, const attend_mha_tensors *t, char *workspace,
                           attend_tensors *core) {
  const attend_mha_scores *m = &plan->mask, *a = &plan->bias;
  if (m->used) {
    uint8_t *row = (uint8_t *)workspace + m->at;
    core->mask = row;
    for (int64_t b = 0; b < m->batch; b++)
      for (int64_t h = 0; h < m->heads; h++)
        for (int64_t i = 0; i < m->queries; i++, row += plan->keys) mask_row(plan, t, b, h, i, row);
  }
  if (plan->bias_in_place) {
    core->bias = plan->p.attn_mask == ATTEND_LAYER_MASK_ADD ? t->attn_mask : t->key_padding_mask;
  } else if (a->used) {
    float *row = (float *)(void *)(workspace + a->at);
    core->bias = row;
    for (int64_t b = 0; b < a->batch; b++)
      for (int64_t h = 0; h < a->heads; h++)
        for (int64_t i = 0; i < a->queries; i++, row += plan->keys) bias_row(plan, t, b, h, i, row);
  }
  if (plan->p.cache_len) {
    int32_t *lengths = (int32_t *)(void *)(workspace + plan->lengths_at);
    make_lengths(plan, t, lengths);
    core->kv_lengths = lengths;
  }
}
