/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "dispatch/dispatch.h"
#include "dispatch/text.h"
#include "verify/formats.h"

uint64_t attend_verify_key(const attend_verify_case *c) {
  uint64_t key = mix(c->seed);
  for (const char *n = c->name; *n; n++) key = mix(key + (unsigned char)*n);
  return key;
}

/* --------------------------------------------------------------------------------------------------------- layouts */

static attend_strides lay_out(attend_verify_layout layout, int64_t heads, int64_t rows, int64_t dim, uint64_t key) {
  if (layout == ATTEND_VERIFY_BHSD || layout == ATTEND_VERIFY_EXPANDED) return (attend_strides){0, 0, 0};
  if (layout == ATTEND_VERIFY_BSHD) return (attend_strides){rows * heads * dim, dim, heads * dim};
  attend_strides s = attend_verify_contiguous(heads, rows, dim);
  if (layout == ATTEND_VERIFY_PADDED || layout == ATTEND_VERIFY_REVERSED) {
    s.row = dim + 1 + (int64_t)(hash(key, 1) % 4) * 2;
    s.head = s.row * rows + 1 + (int64_t)(hash(key, 2) % 3) * 2;
    s.batch = s.head * heads + 1 + (int64_t)(hash(key, 3) % 3) * 2;
  }
  if (layout == ATTEND_VERIFY_REVERSED) s.row = -s.row, s.head = -s.head;
  if (layout == ATTEND_VERIFY_ONE_BATCH) s.batch = 0;
  if (layout == ATTEND_VERIFY_ONE_HEAD) s.head = 0;
  if (layout == ATTEND_VERIFY_ONE_ROW) s.row = 0;
  return s;
}

static attend_strides4 lay_out4(attend_verify_layout4 layout, unsigned over, const attend_problem *p) {
  const int64_t heads = over & ATTEND_VERIFY_OVER_HEADS ? 1 : p->q_heads;
  const int64_t queries = over & ATTEND_VERIFY_OVER_QUERIES ? 1 : p->q_starts ? p->q_total : p->q_len;
  const int64_t keys = over & ATTEND_VERIFY_OVER_KEYS ? 1 : p->kv_len;
  attend_strides4 s = {heads * queries * keys, queries * keys, keys, 1};
  if (layout == ATTEND_VERIFY_SPREAD)
    s = (attend_strides4){heads * (queries * (2 * keys + 3) + 1), queries * (2 * keys + 3) + 1, 2 * keys + 3, 2};
  if (layout == ATTEND_VERIFY_BACKWARD) s.key = -1;
  if (layout == ATTEND_VERIFY_QUERIES_FIRST) s = (attend_strides4){heads * queries * keys, queries * keys, 1, queries};
  if (over & ATTEND_VERIFY_OVER_BATCH) s.batch = 0;
  if (over & ATTEND_VERIFY_OVER_HEADS) s.head = 0;
  if (over & ATTEND_VERIFY_OVER_QUERIES) s.query = 0;
  if (over & ATTEND_VERIFY_OVER_KEYS) s.key = 0;
  return s;
}

/* Strides of 0 that the layout does not mean, written out, where zeros are taken as they stand. */
static void write_out(attend_verify_layout layout, int64_t heads, int64_t rows, int64_t dim, attend_strides *s) {
  if (layout == ATTEND_VERIFY_BHSD) *s = attend_verify_contiguous(heads, rows, dim);
}

void attend_verify_lay_out(attend_verify_case *c) {
  attend_problem *p = &c->problem;
  const uint64_t key = attend_verify_key(c);
  const int64_t kv_heads = p->kv_heads ? p->kv_heads : p->q_heads;
  const int64_t v_dim = p->v_head_dim || (p->as_given & ATTEND_AS_GIVEN_V_HEAD_DIM) ? p->v_head_dim : p->head_dim;
  const int64_t queries = p->q_starts ? p->q_total : p->q_len;
  const int64_t keys = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : p->kv_len;
  p->q_strides = lay_out(c->q, p->q_heads, queries, p->head_dim, hash(key, 1));
  const attend_dtype k_dtype = p->k_dtype ? p->k_dtype : p->q_dtype, v_dtype = p->v_dtype ? p->v_dtype : k_dtype;
  const int64_t k_row = attend_verify_row_extent(k_dtype, p->head_dim);
  const int64_t v_row = attend_verify_row_extent(v_dtype, v_dim);
  p->k_strides = lay_out(c->k, kv_heads, keys, k_row, hash(key, 2));
  p->v_strides = lay_out(c->v, kv_heads, keys, v_row, hash(key, 3));
  p->out_strides = lay_out(c->out, p->q_heads, queries, v_dim, hash(key, 4));
  if (c->packed) {
    const int64_t row = (p->q_heads + 2 * kv_heads) * p->head_dim;
    p->q_strides = p->k_strides = p->v_strides = (attend_strides){queries * row, p->head_dim, row};
  }
  if (c->q == ATTEND_VERIFY_EXPANDED || c->k == ATTEND_VERIFY_EXPANDED || c->v == ATTEND_VERIFY_EXPANDED) {
    p->as_given |= ATTEND_AS_GIVEN_STRIDES;
    write_out(c->q, p->q_heads, queries, p->head_dim, &p->q_strides);
    write_out(c->k, kv_heads, keys, k_row, &p->k_strides);
    write_out(c->v, kv_heads, keys, v_row, &p->v_strides);
    write_out(c->out, p->q_heads, queries, v_dim, &p->out_strides);
  }
  if (p->mask) p->mask_strides = lay_out4(c->mask, c->mask_over, p);
  if (p->bias_dtype) p->bias_strides = lay_out4(c->bias, c->bias_over, p);
}

/* ----------------------------------------------------------------------------------------------------- description */

static const char *const layouts[ATTEND_VERIFY_LAYOUT_COUNT] = {"bhsd",      "bshd",     "padded",  "reversed",
                                                                "one-batch", "one-head", "one-row", "expanded"};
static const char *const layouts4[ATTEND_VERIFY_LAYOUT4_COUNT] = {"dense", "spread", "backward", "queries-first"};
static const char *const patterns[ATTEND_VERIFY_PATTERN_COUNT] = {"some", "nothing", "all", "most",
                                                                  "rows", "blocks",  "band"};
static const char *const values[ATTEND_VERIFY_VALUES_COUNT] = {"normal",  "large",  "dominant",   "rising",
                                                               "falling", "equal",  "denormal",   "denormal-v",
                                                               "zero-q",  "huge-v", "huge-scores"};
static const char *const nonfinite[ATTEND_VERIFY_NONFINITE_COUNT] = {
    "none", "nan-in-k", "inf-in-k", "nan-in-v", "inf-in-v", "nan-in-k-and-v", "scattered-in-v"};
static const char *const causal[] = {"none", "top-left", "bottom-right", "offset"};
static const char *const lengths[] = {"none", "per-batch", "per-query"};
static const char *const scores[] = {"none", "raw", "softcap", "attended"};

static void add_strides(attend_text *t, const char *name, attend_verify_layout layout, const attend_strides *s) {
  attend_text_add(t, " %s=%s{%" PRId64 ",%" PRId64 ",%" PRId64 "}", name, layouts[layout], s->batch, s->head, s->row);
}

static void add_strides4(attend_text *t, const char *name, attend_verify_layout4 layout, attend_verify_pattern pattern,
                         const attend_strides4 *s) {
  attend_text_add(t, " %s=%s{%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "} excluding %s", name, layouts4[layout],
                  s->batch, s->head, s->query, s->key, patterns[pattern]);
}

static void add_scaling(attend_text *t, const char *name, const attend_scaling *s) {
  if (!s->dtype && !s->is_unsigned) return;
  attend_text_add(t, " %s={group %" PRId64 ", %" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 " %s%s%s}", name, s->group,
                  s->batch, s->head, s->row, s->step, attend_dtype_name(s->dtype), s->zero_points ? " zero points" : "",
                  s->is_unsigned ? " unsigned" : "");
}

static void add_sequences(attend_text *t, const attend_verify_case *c) {
  const attend_problem *p = &c->problem;
  if (p->q_starts) attend_text_add(t, " q_starts of %" PRId64 " rows", p->q_total);
  if (p->kv_starts) attend_text_add(t, " kv_starts of %" PRId64 " rows", p->kv_total);
  if (p->page_rows)
    attend_text_add(t, " pages=%" PRId64 " of %" PRId64 " rows, table stride %" PRId64, p->pages, p->page_rows,
                    p->block_table_stride);
  attend_text_add(t, " kv_lengths=%s", lengths[p->kv_lengths]);
  for (int64_t b = 0; c->lengths_given && b < p->batch; b++)
    attend_text_add(t, "%s%d", b ? "," : " ", (int)c->lengths[b]);
  attend_text_add(t, " positions=%d kv_begins=%d key_ranges=%d", p->positions, p->kv_begins, p->key_ranges);
}

size_t attend_verify_describe(const attend_verify_case *c, char *buffer, size_t size) {
  const attend_problem *p = &c->problem;
  attend_text t = {buffer, size, 0};
  attend_text_add(&t, "%s, seed %" PRIu64 ":", c->name, c->seed);
  attend_text_add(
      &t, " B=%" PRId64 " Hq=%" PRId64 " Hkv=%" PRId64 " Lq=%" PRId64 " Lk=%" PRId64 " D=%" PRId64 " Dv=%" PRId64,
      p->batch, p->q_heads, p->kv_heads, p->q_len, p->kv_len, p->head_dim, p->v_head_dim);
  const attend_dtype k_dtype = p->k_dtype ? p->k_dtype : p->q_dtype;
  attend_text_add(&t, " types=%s/%s/%s/%s", attend_dtype_name(p->q_dtype), attend_dtype_name(k_dtype),
                  attend_dtype_name(p->v_dtype ? p->v_dtype : k_dtype),
                  attend_dtype_name(p->out_dtype ? p->out_dtype : p->q_dtype));
  add_scaling(&t, "k_scaling", &p->k_scaling);
  add_scaling(&t, "v_scaling", &p->v_scaling);
  add_sequences(&t, c);
  if (p->as_given) attend_text_add(&t, " as_given=%u", p->as_given);
  if (p->score == ATTEND_SCORE_ADDITIVE) attend_text_add(&t, " additive");
  attend_text_add(&t, " scale=%.9g softcap=%.9g causal=%s", (double)p->scale, (double)p->softcap, causal[p->causal]);
  if (p->causal == ATTEND_CAUSAL_OFFSET) attend_text_add(&t, " %" PRId64, p->causal_offset);
  if (p->window)
    attend_text_add(&t, " window=%" PRId64 ",%" PRId64, p->window_left, p->window_right);
  else
    attend_text_add(&t, " window=none");
  if (p->mask)
    add_strides4(&t, "mask", c->mask, c->mask_pattern, &p->mask_strides);
  else
    attend_text_add(&t, " mask=none");
  if (p->bias_dtype) {
    add_strides4(&t, "bias", c->bias, c->bias_pattern, &p->bias_strides);
    attend_text_add(&t, " of %s%s", attend_dtype_name(p->bias_dtype),
                    p->bias_head_scale ? " times bias_head_scale" : "");
  } else {
    attend_text_add(&t, " bias=none");
  }
  attend_text_add(&t, " alibi=%d sinks=%d lse=%d weights=%d batch_invariant=%d", p->alibi, p->sinks, p->lse, p->weights,
                  p->batch_invariant);
  if (p->scores) attend_text_add(&t, " scores=%s", scores[p->scores]);
  if (p->int8_products) attend_text_add(&t, " int8_products");
  if (p->dropout > 0) attend_text_add(&t, " dropout=%.9g", (double)p->dropout);
  if (c->packed) attend_text_add(&t, " packed");
  add_strides(&t, "q", c->q, &p->q_strides);
  add_strides(&t, "k", c->k, &p->k_strides);
  add_strides(&t, "v", c->v, &p->v_strides);
  add_strides(&t, "out", c->out, &p->out_strides);
  attend_text_add(&t, " values=%s nonfinite=%s", values[c->values], nonfinite[c->nonfinite]);
  return t.length;
}
