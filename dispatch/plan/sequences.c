/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch/plan/sequences.h"

#include <inttypes.h>

#include "kernels/integers.h"

/* --------------------------------------------------------------------------------------------------------- lengths */

attend_sequence attend_sequence_of(const attend_resolved *problem, const attend_tensors *t, int64_t b) {
  const attend_problem *p = &problem->p;
  attend_sequence s = {.queries = p->q_len, .keys = p->kv_len};
  if (p->q_starts) s.q_start = t->q_starts[b], s.queries = t->q_starts[b + 1] - s.q_start;
  if (p->kv_starts) s.k_start = t->kv_starts[b], s.keys = t->kv_starts[b + 1] - s.k_start;
  if (p->kv_lengths == ATTEND_LENGTHS_PER_BATCH) s.keys = t->kv_lengths[b];
  if (p->kv_begins) s.first_key = t->kv_begins[b];
  return s;
}

/** The position of the first query where no tensor says it. */
static int64_t offset_of(const attend_problem *p, int64_t queries, int64_t keys) {
  if (p->causal == ATTEND_CAUSAL_TOP_LEFT) return 0;
  if (p->causal == ATTEND_CAUSAL_OFFSET) return p->causal_offset;
  return keys - queries;
}

/** What does not depend on a tensor. */
static void set_plain_limits(key_limits *l, const attend_problem *p, int64_t queries, int64_t keys) {
  l->begin = 0;
  l->count = keys;
  l->offset = offset_of(p, queries, keys);
  l->left = p->window && p->window_left >= 0 ? p->window_left : KEYS_OPEN;
  l->right = p->window && p->window_right >= 0 ? p->window_right : KEYS_OPEN;
  if (p->causal != ATTEND_CAUSAL_NONE) l->right = 0;
  l->lengths = l->ranges = NULL;
}

static void set_limits(key_limits *l, const attend_resolved *problem, const attend_tensors *t, int64_t b,
                       const attend_sequence *s) {
  const attend_problem *p = &problem->p;
  const int64_t first_query = p->q_starts ? s->q_start : b * p->q_len;
  set_plain_limits(l, p, s->queries, s->keys);
  l->begin = s->first_key;
  if (p->positions) l->offset = t->positions[b];
  if (p->kv_lengths == ATTEND_LENGTHS_PER_QUERY) l->lengths = t->kv_lengths + first_query;
  if (p->key_ranges) l->ranges = t->key_ranges + 2 * first_query;
}

key_limits attend_capacity_limits(const attend_resolved *problem) {
  key_limits l;
  set_plain_limits(&l, &problem->p, problem->p.q_len, problem->p.kv_len);
  return l;
}

key_limits attend_limits_of(const attend_resolved *problem, const attend_tensors *t, int64_t b,
                            const attend_sequence *s) {
  key_limits l;
  set_limits(&l, problem, t, b, s);
  return l;
}

/* ----------------------------------------------------------------------------------------------------------- views */

static int64_t bytes_of(attend_dtype dtype, int64_t elements) { return elements * (int64_t)attend_dtype_size(dtype); }

attend_row_scales attend_scales_from(const attend_scaling *s, const void *base, const void *zeros, int64_t at,
                                     bool paged) {
  attend_row_scales scales = {.group = s->group, .dtype = s->dtype, .is_unsigned = s->is_unsigned};
  if (!s->dtype || !base) return scales;
  scales.at = (const char *)base + bytes_of(s->dtype, at);
  if (zeros) scales.zeros = (const char *)zeros + bytes_of(s->dtype, at);
  scales.stride = bytes_of(s->dtype, s->row);
  scales.page_stride = paged ? bytes_of(s->dtype, s->batch) : 0;
  scales.step = bytes_of(s->dtype, s->step);
  return scales;
}

/** Where the keys of one head of a sequence begin, in what strides count; of pages, those of page 0. */
static int64_t keys_begin(const attend_problem *p, const attend_strides *s, int64_t b, int64_t kv_head, int64_t start) {
  if (p->kv_starts) return kv_head * s->head + start * s->row;
  return kv_head * s->head + (p->page_rows ? 0 : b * s->batch);
}

/** The scales of one head of a sequence. */
static attend_row_scales scales_of(const attend_problem *p, const void *base, const void *zeros,
                                   const attend_scaling *s, int64_t b, int64_t kv_head, int64_t start) {
  const attend_strides strides = {s->batch, s->head, s->row};
  return attend_scales_from(s, base, zeros, keys_begin(p, &strides, b, kv_head, start), p->page_rows > 0);
}

static void show_rows(attend_rows *rows, const attend_problem *p, const attend_tensors *t, const void *base,
                      attend_dtype dtype, const attend_strides *s, int64_t b, int64_t kv_head, int64_t start) {
  rows->at = (const char *)base + bytes_of(dtype, keys_begin(p, s, b, kv_head, start));
  rows->stride = bytes_of(dtype, s->row);
  rows->dtype = dtype;
  rows->page_rows = (int32_t)p->page_rows;
  rows->page_stride = p->page_rows ? bytes_of(dtype, s->batch) : 0;
  rows->pages = t->block_table ? t->block_table + b * p->block_table_stride : NULL;
  rows->scales = (attend_row_scales){0};
}

/** Whether masks or biases differ from query to query. */
static bool masks_have_queries(const attend_problem *p) {
  return (p->mask && p->mask_strides.query) || (p->bias_dtype != ATTEND_DTYPE_DEFAULT && p->bias_strides.query);
}

int64_t attend_mask_blocks(const attend_problem *p) { return divide_up(p->kv_len, ATTEND_MASK_BLOCK); }

int64_t attend_mask_rows(const attend_problem *p) {
  const bool bias = p->bias_dtype != ATTEND_DTYPE_DEFAULT;
  if ((!p->mask && !bias) || (p->mask && p->mask_strides.head) || (bias && p->bias_strides.head)) return 0;
  if (!masks_have_queries(p)) return p->batch;
  return p->q_starts ? p->q_total : p->batch * p->q_len;
}

int64_t attend_mask_rows_used(const attend_problem *p, const attend_tensors *t) {
  return p->q_starts && masks_have_queries(p) ? t->q_starts[p->batch] : attend_mask_rows(p);
}

void attend_view_of(const attend_resolved *problem, const attend_tensors *t, int64_t b, int64_t kv_head,
                    unsigned char *masks_seen, attend_view *view) {
  const attend_problem *p = &problem->p;
  const attend_sequence s = attend_sequence_of(problem, t, b);
  const int64_t head = kv_head * problem->group;
  /* Packed queries have no batch dimension: a sequence begins some rows further on. */
  const int64_t batch = p->q_starts ? 0 : b, rows = p->q_starts ? p->q_total : p->q_len, first = s.q_start;
  const attend_strides *q = &p->q_strides, *out = &p->out_strides;
  const attend_strides4 *mask = &p->mask_strides, *bias = &p->bias_strides;
  const int64_t result = (batch * p->q_heads + head) * rows + first;
  /* Field by field: zeros first, or a structure made elsewhere and copied, cost 10 to 20 ns a call. */
  view->p = p;
  view->group = problem->group;
  view->queries = s.queries;
  set_limits(&view->keys, problem, t, b, &s);
  view->q = (const char *)t->q + bytes_of(p->q_dtype, batch * q->batch + head * q->head + first * q->row);
  view->out = (char *)t->out + bytes_of(p->out_dtype, batch * out->batch + head * out->head + first * out->row);
  view->q_head = bytes_of(p->q_dtype, q->head);
  view->q_row = bytes_of(p->q_dtype, q->row);
  view->out_head = bytes_of(p->out_dtype, out->head);
  view->out_row = bytes_of(p->out_dtype, out->row);
  show_rows(&view->k, p, t, t->k, p->k_dtype, &p->k_strides, b, kv_head, s.k_start);
  show_rows(&view->v, p, t, t->v, p->v_dtype, &p->v_strides, b, kv_head, s.k_start);
  view->mask_head = mask->head;
  view->mask_query = mask->query;
  view->bias_head = bias->head;
  view->bias_query = bias->query;
  view->result_head = rows;
  view->dropout_seed = t->dropout_seed;
  view->dropout_offset = (uint32_t)t->dropout_offset;
  view->dropout_head = (uint32_t)(b * p->q_heads + head);
  if (attend_is_format(p->k_dtype))
    view->k.scales = scales_of(p, t->k_scales, t->k_zero_points, &p->k_scaling, b, kv_head, s.k_start);
  if (attend_is_format(p->v_dtype))
    view->v.scales = scales_of(p, t->v_scales, t->v_zero_points, &p->v_scaling, b, kv_head, s.k_start);
  view->mask = t->mask ? t->mask + b * mask->batch + head * mask->head + first * mask->query : NULL;
  const int64_t bias_at = b * bias->batch + head * bias->head + first * bias->query;
  view->bias = t->bias ? (const char *)t->bias + bytes_of(p->bias_dtype, bias_at) : NULL;
  const bool by_query = masks_seen && masks_have_queries(p);
  const int64_t blocks = attend_mask_blocks(p), mask_row = !by_query ? b : p->q_starts ? s.q_start : b * p->q_len;
  view->masks_seen_query = by_query ? blocks : 0;
  view->masks_seen = masks_seen ? masks_seen + mask_row * blocks : NULL;
  view->bias_head_scale = t->bias_head_scale ? t->bias_head_scale + head : NULL;
  view->alibi_slopes = t->alibi_slopes ? t->alibi_slopes + head : NULL;
  view->sinks = t->sinks ? t->sinks + head : NULL;
  view->score_weights = t->score_weights ? t->score_weights + head * p->head_dim : NULL;
  view->lse = t->lse ? t->lse + result : NULL;
  view->weights = t->weights ? t->weights + result * p->kv_len : NULL;
  view->scores = t->scores ? t->scores + result * p->kv_len : NULL;
}

/* ---------------------------------------------------------------------------------------------------------- checks */

attend_status attend_resolve_table_stride(const char *rows_field, int64_t rows, int64_t page_rows, int64_t *stride) {
  const int64_t entries = divide_up(rows, page_rows);
  if (*stride == 0) *stride = entries;
  if (*stride < entries)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "block_table_stride is %" PRId64 ", expected at least %" PRId64 ": pages of %" PRId64
                       " rows that %s %" PRId64 " needs",
                       *stride, entries, page_rows, rows_field, rows);
  return ATTEND_OK;
}

attend_status attend_check_starts(const char *name, const int32_t *starts, int64_t batch, const char *most_field,
                                  int64_t most, const char *total_field, int64_t total) {
  if (starts[0] != 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s[0] is %" PRId32 ", expected 0", name, starts[0]);
  int bad = 0;
  for (int64_t b = 0; b < batch; b++) {
    const int64_t step = (int64_t)starts[b + 1] - starts[b];
    bad |= (step < 0) | (step > most);
  }
  for (int64_t b = 0; bad && b < batch; b++) {
    const int64_t step = (int64_t)starts[b + 1] - starts[b];
    if (step < 0 || step > most)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                         "%s[%" PRId64 "] is %" PRId32 ", expected %" PRId32 " to %" PRId64
                         ": no less than the one before, and at most %s %" PRId64 " more",
                         name, b + 1, starts[b + 1], starts[b], starts[b] + most, most_field, most);
  }
  if (starts[batch] > total)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s[%" PRId64 "] is %" PRId32 ", expected at most %s %" PRId64,
                       name, batch, starts[batch], total_field, total);
  return ATTEND_OK;
}

/** Every page that is read must be one of those that there are. */
static attend_status check_pages(const attend_resolved *problem, const attend_tensors *t) {
  const attend_problem *p = &problem->p;
  for (int64_t b = 0; t->block_table && b < p->batch; b++) {
    const int32_t *table = t->block_table + b * p->block_table_stride;
    const int64_t keys = attend_sequence_of(problem, t, b).keys, used = divide_up(keys, p->page_rows);
    uint32_t greatest = 0; /* a negative number is the greatest of all */
    for (int64_t n = 0; n < used; n++) greatest = (uint32_t)table[n] > greatest ? (uint32_t)table[n] : greatest;
    if (used == 0 || greatest < p->pages) continue;
    for (int64_t n = 0; n < used; n++)
      if (table[n] < 0 || table[n] >= p->pages)
        return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                           "block_table[%" PRId64 ", %" PRId64 "] is %" PRId32 ", expected 0 to pages - 1, which is "
                           "%" PRId64 ": sequence %" PRId64 " has %" PRId64 " keys",
                           b, n, table[n], p->pages - 1, b, keys);
  }
  return ATTEND_OK;
}

attend_status attend_check_sequences(const attend_resolved *problem, const attend_tensors *t) {
  const attend_problem *p = &problem->p;
  attend_status s = ATTEND_OK;
  if (p->q_starts) s = attend_check_starts("q_starts", t->q_starts, p->batch, "q_len", p->q_len, "q_total", p->q_total);
  if (s == ATTEND_OK && p->kv_starts)
    s = attend_check_starts("kv_starts", t->kv_starts, p->batch, "kv_len", p->kv_len, "kv_total", p->kv_total);
  if (s == ATTEND_OK && t->kv_lengths) {
    const int64_t queries = p->q_starts ? t->q_starts[p->batch] : p->batch * p->q_len;
    s = attend_check_lengths("kv_lengths", t->kv_lengths,
                             p->kv_lengths == ATTEND_LENGTHS_PER_BATCH ? p->batch : queries, "kv_len", p->kv_len);
  }
  for (int64_t b = 0; s == ATTEND_OK && p->kv_starts && p->kv_lengths == ATTEND_LENGTHS_PER_BATCH && b < p->batch;
       b++) {
    const int64_t room = t->kv_starts[b + 1] - t->kv_starts[b];
    if (t->kv_lengths[b] > room)
      s = attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                      "kv_lengths[%" PRId64 "] is %" PRId32 ", expected 0 to %" PRId64
                      ": that many rows kv_starts gives",
                      b, t->kv_lengths[b], room);
  }
  for (int64_t b = 0; s == ATTEND_OK && p->kv_begins && b < p->batch; b++)
    if (t->kv_begins[b] < 0)
      s = attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "kv_begins[%" PRId64 "] is %" PRId32 ", expected 0 or more", b,
                      t->kv_begins[b]);
  return s == ATTEND_OK && p->page_rows ? check_pages(problem, t) : s;
}
