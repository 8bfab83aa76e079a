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

/**
 * The extents of an array that is made of those of the two masks that are of `kind`, and perhaps of the ranges that
 * queries attend.
 */
static attend_mha_scores cover(const attend_mha_problem *p, attend_layer_mask kind, bool ranges) {
  const bool padding = p->key_padding_mask == kind, attn = p->attn_mask == kind;
  const bool per_head = attn && p->attn_mask_per_head, rows = attn || ranges, packed = rows && p->q_starts;
  const bool differ = padding || per_head || (ranges && (p->kv_lengths || p->kv_begins));
  return (attend_mha_scores){.used = padding || attn || ranges,
                             .packed = packed,
                             .batch = differ && !packed ? p->batch : 1,
                             .heads = per_head ? p->q_heads : 1,
                             .queries = packed ? p->q_total
                                        : rows ? p->q_len
                                               : 1};
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
  const bool ranges = p->causal != ATTEND_CAUSAL_NONE || p->window || p->kv_lengths || p->kv_begins;
  plan->ranges_in_mask = plan->appended > 0 && ranges;
  plan->mask = cover(p, ATTEND_LAYER_MASK_IGNORE, plan->ranges_in_mask);
  plan->bias = cover(p, ATTEND_LAYER_MASK_ADD, false);
  if (plan->mask.used) plan->mask.at = take(plan, &plan->mask, sizeof(uint8_t), &plan->workspace_size);
  const bool both = p->key_padding_mask == ATTEND_LAYER_MASK_ADD && p->attn_mask == ATTEND_LAYER_MASK_ADD;
  plan->bias_in_place = plan->bias.used && !both && plan->appended == 0;
  size_t callers = 0;
  if (plan->bias.used)
    plan->bias.at = take(plan, &plan->bias, sizeof(float), plan->bias_in_place ? &callers : &plan->workspace_size);
  /* Before strides are made of extents: these sizes cover the products in them. */
  if (plan->workspace_size > PTRDIFF_MAX || callers > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "the masks need more than %td bytes", PTRDIFF_MAX);

  core->mask = plan->mask.used;
  if (plan->mask.used) core->mask_strides = strides_of(&plan->mask, plan->keys);
  if (plan->bias.used) core->bias_dtype = ATTEND_F32, core->bias_strides = strides_of(&plan->bias, plan->keys);
  if (plan->ranges_in_mask) {
    core->causal = ATTEND_CAUSAL_NONE, core->causal_offset = 0, core->window = 0;
    core->kv_lengths = ATTEND_LENGTHS_NONE, core->kv_begins = 0;
  }
  return ATTEND_OK;
}

/* ------------------------------------------------------------------------------------------------------------- run */

/** A row of the array: query i of a head of a sequence, and its place among all rows of the same head. */
typedef struct place {
  int64_t b, h, i, row;
} place;

/** Where the row of a caller's mask begins that belongs to it. */
static int64_t padding_row(const attend_mha_plan *plan, const place *at) { return at->b * plan->mask_keys; }

static int64_t attn_row(const attend_mha_plan *plan, const place *at) {
  const attend_mha_problem *p = &plan->p;
  const int64_t head = !p->attn_mask_per_head ? 0 : p->q_starts ? at->h : at->b * p->q_heads + at->h;
  return (head * (p->q_starts ? p->q_total : p->q_len) + at->row) * plan->mask_keys;
}

static void mask_row(const attend_mha_plan *plan, const attend_mha_tensors *t, const key_limits *limits,
                     const place *at, uint8_t *row) {
  const attend_mha_problem *p = &plan->p;
  key_range keys = {0, (int32_t)plan->mask_keys};
  if (plan->ranges_in_mask) keys = range_of(limits, at->i, 0, plan->mask_keys);
  memset(row, 0, (size_t)plan->mask_keys);
  memset(row + keys.begin, 1, (size_t)(keys.end - keys.begin));
  memset(row + plan->mask_keys, 1, (size_t)plan->appended);
  if (p->key_padding_mask == ATTEND_LAYER_MASK_IGNORE) {
    const uint8_t *ignore = (const uint8_t *)t->key_padding_mask + padding_row(plan, at);
    for (int64_t j = keys.begin; j < keys.end; j++) row[j] = (uint8_t)(row[j] & (ignore[j] == 0));
  }
  if (p->attn_mask == ATTEND_LAYER_MASK_IGNORE) {
    const uint8_t *ignore = (const uint8_t *)t->attn_mask + attn_row(plan, at);
    for (int64_t j = keys.begin; j < keys.end; j++) row[j] = (uint8_t)(row[j] & (ignore[j] == 0));
  }
}

static void bias_row(const attend_mha_plan *plan, const attend_mha_tensors *t, const place *at, float *row) {
  const attend_mha_problem *p = &plan->p;
  for (int64_t j = 0; j < plan->keys; j++) row[j] = 0;
  if (p->key_padding_mask == ATTEND_LAYER_MASK_ADD)
    memcpy(row, (const float *)t->key_padding_mask + padding_row(plan, at), (size_t)plan->mask_keys * sizeof *row);
  if (p->attn_mask == ATTEND_LAYER_MASK_ADD) {
    const float *add = (const float *)t->attn_mask + attn_row(plan, at);
    for (int64_t j = 0; j < plan->mask_keys; j++) row[j] += add[j];
  }
}

/** Makes all rows of the mask, or of the bias. */
static void make(const attend_mha_plan *plan, const attend_mha_tensors *t, const attend_tensors *core,
                 const attend_mha_scores *s, char *memory) {
  const bool mask = s == &plan->mask;
  const size_t row_size = (size_t)plan->keys * (mask ? sizeof(uint8_t) : sizeof(float));
  if (plan->p.batch == 0) return; /* a mask that broadcasts has one entry all the same */
  for (int64_t b = 0; b < (s->packed ? plan->p.batch : s->batch); b++) {
    const attend_sequence sequence = attend_sequence_of(&plan->said, core, b);
    const key_limits limits = attend_limits_of(&plan->said, core, b, &sequence);
    const int64_t queries = s->packed ? sequence.queries : s->queries;
    for (int64_t h = 0; h < s->heads; h++)
      for (int64_t i = 0; i < queries; i++) {
        const place at = {.b = b, .h = h, .i = i, .row = sequence.q_start + i};
        const int64_t index = ((s->packed ? 0 : b) * s->heads + h) * s->queries + (s->packed ? at.row : i);
        char *row = memory + (size_t)index * row_size;
        if (mask)
          mask_row(plan, t, &limits, &at, (uint8_t *)row);
        else
          bias_row(plan, t, &at, (float *)(void *)row);
      }
  }
}

void attend_mha_make_masks(const attend_mha_plan *plan, const attend_mha_tensors *t, char *workspace,
                           attend_tensors *core) {
  if (plan->mask.used) {
    core->mask = (const uint8_t *)workspace + plan->mask.at;
    make(plan, t, core, &plan->mask, workspace + plan->mask.at);
  }
  if (plan->bias_in_place) {
    core->bias = plan->p.attn_mask == ATTEND_LAYER_MASK_ADD ? t->attn_mask : t->key_padding_mask;
  } else if (plan->bias.used) {
    core->bias = workspace + plan->bias.at;
    make(plan, t, core, &plan->bias, workspace + plan->bias.at);
  }
}
