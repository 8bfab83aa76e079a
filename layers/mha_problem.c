/* SPDX-License-Identifier: Apache-2.0 */
/** Checks multi-head attention problems and fills in their defaults. */
#include <inttypes.h>
#include <math.h>

#include "layers/mha.h"

/* Fields that 0.2 has. */
#define FIRST_SIZE (offsetof(attend_mha_problem, batch_invariant) + sizeof(int))

/**
 * New rows of a sequence from which on each is projected straight into the cache, in a product of its own. With fewer,
 * reading the weights once for each sequence costs more than to copy what one product gave for all: of 8 sequences,
 * 2048 inputs and 512 outputs, products of their own took some 20 times as long at 1 row, 1.6 times at 64 and 128 rows,
 * and 1.0 to 1.2 times at 256, where the product of all is cut into blocks of as many rows anyway.
 */
enum { DIRECT_ROWS = 256 };

static attend_status check_ranges(const attend_mha_problem *p) {
  const int64_t most = ATTEND_MAX_EXTENT;
  const attend_range ranges[] = {
      {"batch", p->batch, 0, most},
      {"q_len", p->q_len, 0, most},
      {"kv_len", p->kv_len, 0, most},
      {"embed_dim", p->embed_dim, 1, most},
      {"k_dim", p->k_dim, 0, most},
      {"v_dim", p->v_dim, 0, most},
      {"q_heads", p->q_heads, 1, most},
      {"kv_heads", p->kv_heads, 0, most},
      {"head_dim", p->head_dim, 0, most},
      {"v_head_dim", p->v_head_dim, 0, most},
      {"out_dim", p->out_dim, 0, most},
      {"q_total", p->q_total, 0, most},
      {"kv_total", p->kv_total, 0, most},
      {"cache_len", p->cache_len, 0, most},
      {"causal_offset", p->causal_offset, -most, most},
      {"window_left", p->window_left, -1, most},
      {"window_right", p->window_right, -1, most},
      {"rotary_dim", p->rotary_dim, 0, most},
      {"out_proj", p->out_proj, 0, 1},
      {"weight_layout", p->weight_layout, ATTEND_WEIGHT_OUT_IN, ATTEND_WEIGHT_IN_OUT},
      {"cache_dtype", p->cache_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"as_given", p->as_given, 0, ATTEND_AS_GIVEN_SCALE},
      {"rope", p->rope, ATTEND_ROPE_NONE, ATTEND_ROPE_HALF},
      {"causal", p->causal, ATTEND_CAUSAL_NONE, ATTEND_CAUSAL_OFFSET},
      {"window", p->window, 0, 1},
      {"q_starts", p->q_starts, 0, 1},
      {"kv_starts", p->kv_starts, 0, 1},
      {"kv_lengths", p->kv_lengths, 0, 1},
      {"kv_begins", p->kv_begins, 0, 1},
      {"key_padding_mask", p->key_padding_mask, ATTEND_LAYER_MASK_NONE, ATTEND_LAYER_MASK_ADD},
      {"attn_mask", p->attn_mask, ATTEND_LAYER_MASK_NONE, ATTEND_LAYER_MASK_ADD},
      {"attn_mask_per_head", p->attn_mask_per_head, 0, 1},
      {"bias_kv", p->bias_kv, 0, 1},
      {"add_zero_attn", p->add_zero_attn, 0, 1},
      {"sinks", p->sinks, 0, 1},
      {"weights", p->weights, ATTEND_LAYER_WEIGHTS_NONE, ATTEND_LAYER_WEIGHTS_AVERAGED},
      {"batch_invariant", p->batch_invariant, 0, 1},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

/** What cannot be had together with a cache, or with appended keys. */
static attend_status check_together(const attend_mha_problem *p) {
  const char *appended = p->bias_kv ? "bias_kv" : p->add_zero_attn ? "add_zero_attn" : NULL;
  if (appended && p->kv_starts)
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "%s is 1, expected 0 with kv_starts", appended);
  if (!p->cache_len) return ATTEND_OK;
  if (p->kv_len > p->cache_len)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "cache_len is %" PRId64 ", expected at least kv_len %" PRId64,
                       p->cache_len, p->kv_len);
  if (p->causal != ATTEND_CAUSAL_NONE && p->causal != ATTEND_CAUSAL_BOTTOM_RIGHT)
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "causal is %d, expected none or bottom-right with a cache", p->causal);
  if (appended) return attend_fail(ATTEND_ERROR_UNSUPPORTED, "%s is 1, expected 0 with a cache", appended);
  if (p->kv_lengths)
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "kv_lengths is 1, expected 0 with a cache: past says how long it is");
  return ATTEND_OK;
}

/** Rows that packed tensors have room for; without packed ones 0. */
static attend_status resolve_total(int64_t batch, int packed, const char *field, int64_t *total, const char *len_field,
                                   int64_t len) {
  if (!packed) *total = 0;
  if (*total <= batch * len) return ATTEND_OK; /* extents are below 2^31 */
  return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                     "%s is %" PRId64 ", expected at most batch times %s, which is %" PRId64, field, *total, len_field,
                     batch * len);
}

static attend_status resolve_rope(attend_mha_problem *p) {
  if (p->rope == ATTEND_ROPE_NONE) return ATTEND_OK;
  if (p->rotary_dim == 0) p->rotary_dim = p->head_dim;
  if (p->rotary_dim % 2 != 0 || p->rotary_dim > p->head_dim)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "rotary_dim is %" PRId64 ", expected an even number of at most head_dim %" PRId64, p->rotary_dim,
                       p->head_dim);
  if (p->rope_theta == 0) p->rope_theta = 10000;
  if (p->rope_factor == 0) p->rope_factor = 1;
  if (!isfinite(p->rope_theta) || p->rope_theta < 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "rope_theta is %g, expected a finite number > 0, or 0 for 10000",
                       (double)p->rope_theta);
  if (!isfinite(p->rope_factor) || p->rope_factor < 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "rope_factor is %g, expected a finite number > 0, or 0 for 1",
                       (double)p->rope_factor);
  return ATTEND_OK;
}

/** Sizes of rows: heads times their dims, and what the caller left at 0. */
static attend_status fill_in_dims(attend_mha_problem *p) {
  if (p->kv_heads == 0) p->kv_heads = p->q_heads;
  if (p->q_heads % p->kv_heads != 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "kv_heads is %" PRId64 ", expected a divisor of q_heads %" PRId64,
                       p->kv_heads, p->q_heads);
  if (p->head_dim == 0 && p->embed_dim % p->q_heads != 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "head_dim is 0, expected a size: embed_dim %" PRId64 " is no multiple of q_heads %" PRId64,
                       p->embed_dim, p->q_heads);
  if (p->head_dim == 0) p->head_dim = p->embed_dim / p->q_heads;
  if (p->v_head_dim == 0) p->v_head_dim = p->head_dim;
  if (p->k_dim == 0) p->k_dim = p->embed_dim;
  if (p->v_dim == 0) p->v_dim = p->embed_dim;
  const int64_t dim = p->head_dim > p->v_head_dim ? p->head_dim : p->v_head_dim;
  if (dim > ATTEND_MAX_EXTENT / p->q_heads)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "%" PRId64 " heads of %" PRId64 " elements are more than %d", p->q_heads,
                       dim, ATTEND_MAX_EXTENT);
  const int64_t attended = p->q_heads * p->v_head_dim;
  if (!p->out_proj && p->out_dim != 0 && p->out_dim != attended)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "out_dim is %" PRId64 ", expected %" PRId64 " or 0 without an output projection", p->out_dim,
                       attended);
  if (p->out_dim == 0) p->out_dim = p->out_proj ? p->embed_dim : attended;
  return ATTEND_OK;
}

/* ------------------------------------------------------------------------------------------------------- sequences */

/** A (B, L, dim) tensor of the caller's; packed sequences are one long one. */
typedef struct sequence {
  const char *name;
  int64_t batch, len, dim;
  attend_sequence_strides *strides;
  bool disjoint;
} sequence;

/** Whether a (B, L, dim) tensor lies in memory as a matrix of B L rows, with the rows of a batch entry side by side. */
static bool batch_major(int64_t batch, int64_t len, attend_sequence_strides s) {
  return batch <= 1 || s.batch == len * s.row;
}

/** Likewise, with the rows of a position side by side. */
static bool sequence_major(int64_t batch, int64_t len, int64_t dim, attend_sequence_strides s) {
  return s.batch >= dim && s.batch <= ATTEND_MAX_EXTENT && (len <= 1 || s.row == batch * s.batch);
}

static attend_status fail_strides(const sequence *s, const char *expected) {
  return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s_strides are %" PRId64 ", %" PRId64 ", expected %s", s->name,
                     s->strides->batch, s->strides->row, expected);
}

/** Checks strides, and fills them in; those that are never stepped along become those of a contiguous sequence. */
static attend_status resolve_sequence(const sequence *s) {
  attend_sequence_strides *st = s->strides;
  const int64_t batch = s->batch;
  int64_t span;
  if (batch == 0 || s->len == 0) {
    *st = (attend_sequence_strides){s->dim, s->dim};
    return ATTEND_OK;
  }
  const bool contiguous = st->batch == 0 && st->row == 0;
  if (contiguous || s->len == 1) st->row = s->dim;
  if (contiguous || batch == 1) {
    if (__builtin_mul_overflow(s->len, st->row, &st->batch)) st->batch = INT64_MAX;
  }
  if (st->row < s->dim || st->row > ATTEND_MAX_EXTENT) {
    if (st->row >= s->dim) return fail_strides(s, "a row stride of at most 2147483647");
    return fail_strides(s, "a row stride that steps over a row");
  }
  if (st->batch < 0) return fail_strides(s, "a batch stride of at least 0");
  int64_t rows = (s->len - 1) * st->row + s->dim; /* below 2^62 */
  if (s->disjoint && batch > 1) {
    const bool apart = st->batch >= rows;
    const bool side_by_side = st->batch >= s->dim && st->batch <= ATTEND_MAX_EXTENT &&
                              (s->len == 1 || st->row >= (batch - 1) * st->batch + s->dim);
    if (!apart && !side_by_side) return fail_strides(s, "rows that neither overlap nor interleave");
  }
  if (batch > 1 && (__builtin_mul_overflow(batch - 1, st->batch, &span) || __builtin_add_overflow(span, rows, &rows)))
    rows = INT64_MAX;
  if (rows > PTRDIFF_MAX / (int64_t)sizeof(float))
    return attend_fail(ATTEND_ERROR_OVERFLOW, "%s of %" PRId64 " x %" PRId64 " rows reaches over more than %td bytes",
                       s->name, batch, s->len, PTRDIFF_MAX);
  return ATTEND_OK;
}

/** Strides of a sequence in the workspace, of rows of `dim`, that has room for `len` and lies in the order of another.
 */
static attend_sequence_strides like(const sequence *model, int64_t len, int64_t dim) {
  const attend_sequence_strides s = *model->strides;
  if (batch_major(model->batch, model->len, s) || !sequence_major(model->batch, model->len, model->dim, s))
    return (attend_sequence_strides){len * dim, dim};
  return (attend_sequence_strides){dim, model->batch * dim};
}

/**
 * A projection from a sequence to another: as one matrix if both lie that way, else one for each batch entry. `apart`
 * = in any case one for each.
 */
static attend_linear project(const attend_mha_problem *p, const sequence *from, int64_t out_dim,
                             attend_sequence_strides out, int64_t weight_row, bool apart) {
  const attend_sequence_strides in = *from->strides;
  const int64_t batch = from->batch, len = from->len;
  attend_linear l = {.matrices = batch,
                     .rows = len,
                     .in_dim = from->dim,
                     .out_dim = out_dim,
                     .in_matrix = in.batch,
                     .in_row = in.row,
                     .out_matrix = out.batch,
                     .out_row = out.row,
                     .weight_row = weight_row,
                     .layout = p->weight_layout};
  const bool by_batch = batch_major(batch, len, in) && batch_major(batch, len, out);
  const bool by_position = sequence_major(batch, len, from->dim, in) && sequence_major(batch, len, out_dim, out);
  if (apart || (!by_batch && !by_position)) return l;
  l.rows *= l.matrices;
  l.matrices = 1;
  if (!by_batch) l.in_row = in.batch, l.out_row = out.batch;
  return l;
}

/**
 * Of packed sequences: one matrix with the rows of all, or one for each. The result is packed likewise, unless each has
 * a place of its own, `matrix` elements from one to the next.
 */
static attend_linear project_packed(const attend_mha_problem *p, const sequence *from, int64_t most, int64_t out_dim,
                                    int64_t matrix, int64_t row, int64_t weight_row) {
  return (attend_linear){.matrices = p->batch_invariant ? p->batch : 1,
                         .rows = p->batch_invariant ? most : from->len,
                         .in_dim = from->dim,
                         .out_dim = out_dim,
                         .in_row = from->strides->row,
                         .out_matrix = matrix,
                         .out_row = row,
                         .weight_row = weight_row,
                         .layout = p->weight_layout};
}

/* ----------------------------------------------------------------------------------------------------------- cache */

static attend_status resolve_cache(attend_mha_problem *p) {
  const int64_t batch = p->batch, heads = p->kv_heads, len = p->cache_len;
  attend_strides *k = &p->k_cache_strides, *v = &p->v_cache_strides;
  if (!len) return ATTEND_OK;
  if (p->cache_dtype == ATTEND_DTYPE_DEFAULT) p->cache_dtype = ATTEND_F32;
  if (!k->batch && !k->head && !k->row)
    *k = (attend_strides){len * heads * p->head_dim, p->head_dim, heads * p->head_dim};
  if (!v->batch && !v->head && !v->row)
    *v = (attend_strides){len * heads * p->v_head_dim, p->v_head_dim, heads * p->v_head_dim};
  const int64_t k_extent[] = {batch, heads, len, p->head_dim}, v_extent[] = {batch, heads, len, p->v_head_dim};
  const size_t element = attend_dtype_size(p->cache_dtype);
  const attend_status s = attend_resolve_strides("k_cache", k_extent, element, true, true, k);
  return s == ATTEND_OK ? attend_resolve_strides("v_cache", v_extent, element, true, true, v) : s;
}

/** Whether a BLAS can write its result to where it stays. */
static bool is_direct(const attend_mha_problem *p, int64_t dim, const attend_strides *s) {
  if (!p->cache_len || p->cache_dtype != ATTEND_F32) return false;
  if ((p->kv_heads > 1 && s->head != dim) || s->row < p->kv_heads * dim || s->row > ATTEND_MAX_EXTENT) return false;
  return p->batch == 1 || p->batch_invariant || (!p->kv_starts && p->kv_len >= DIRECT_ROWS);
}

/* --------------------------------------------------------------------------------------------------------- weights */

static attend_status resolve_weight(const attend_mha_problem *p, const char *field, int64_t in_dim, int64_t out_dim,
                                    int64_t *stride) {
  const int64_t row = p->weight_layout == ATTEND_WEIGHT_OUT_IN ? in_dim : out_dim;
  const int64_t rows = p->weight_layout == ATTEND_WEIGHT_OUT_IN ? out_dim : in_dim;
  if (*stride == 0) *stride = row;
  if (*stride < row || *stride > ATTEND_MAX_EXTENT)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is %" PRId64 ", expected 0 or %" PRId64 " to %d", field,
                       *stride, row, ATTEND_MAX_EXTENT);
  if ((rows - 1) * *stride + row > PTRDIFF_MAX / (int64_t)sizeof(float))
    return attend_fail(ATTEND_ERROR_OVERFLOW, "%s is %" PRId64 ": %" PRId64 " rows reach over more than %td bytes",
                       field, *stride, rows, PTRDIFF_MAX);
  return ATTEND_OK;
}

/* ----------------------------------------------------------------------------------------------------- projections */

/** Where projected keys, or values, go and how: `direct` into a cache, or into the workspace. */
static attend_linear project_keys(const attend_mha_problem *p, const sequence *from, int64_t out_dim,
                                  attend_sequence_strides new_rows, bool direct, const attend_strides *cache,
                                  int64_t weight_row) {
  if (direct) new_rows = (attend_sequence_strides){cache->batch, cache->row};
  if (p->kv_starts)
    return project_packed(p, from, p->kv_len, out_dim, direct ? cache->batch : 0, new_rows.row, weight_row);
  return project(p, from, out_dim, new_rows, weight_row, direct || p->batch_invariant);
}

static void resolve_projections(attend_mha_plan *plan, const sequence *query, const sequence *key,
                                const sequence *value, const sequence *out) {
  attend_mha_problem *p = &plan->p;
  const int64_t q_size = p->q_heads * p->head_dim, k_size = p->kv_heads * p->head_dim;
  const int64_t v_size = p->kv_heads * p->v_head_dim, o_size = p->q_heads * p->v_head_dim;
  plan->k_direct = p->rope == ATTEND_ROPE_NONE && is_direct(p, p->head_dim, &p->k_cache_strides);
  plan->v_direct = is_direct(p, p->v_head_dim, &p->v_cache_strides);
  plan->new_q = like(query, query->len, q_size);
  plan->new_k = like(key, key->len + plan->appended, k_size);
  plan->new_v = like(value, value->len + plan->appended, v_size);
  plan->attended = p->out_proj ? like(out, out->len, o_size) : p->out_strides;
  plan->k = project_keys(p, key, k_size, plan->new_k, plan->k_direct, &p->k_cache_strides, p->k_weight_stride);
  plan->v = project_keys(p, value, v_size, plan->new_v, plan->v_direct, &p->v_cache_strides, p->v_weight_stride);
  const sequence attended = {"attended", out->batch, out->len, o_size, &plan->attended, false};
  if (p->q_starts) {
    plan->q = project_packed(p, query, p->q_len, q_size, 0, plan->new_q.row, p->q_weight_stride);
    plan->out = project_packed(p, &attended, p->q_len, p->out_dim, 0, p->out_strides.row, p->out_weight_stride);
  } else {
    plan->q = project(p, query, q_size, plan->new_q, p->q_weight_stride, p->batch_invariant);
    plan->out = project(p, &attended, p->out_dim, p->out_strides, p->out_weight_stride, p->batch_invariant);
  }
}

/** Which keys are attended, in the words of the attention: its problem before anything else is added. */
static attend_resolved say(const attend_mha_problem *p, int64_t mask_keys) {
  attend_problem said = ATTEND_PROBLEM_INIT;
  said.batch = p->batch, said.q_heads = p->q_heads, said.kv_heads = p->kv_heads;
  said.q_len = p->q_len, said.kv_len = mask_keys;
  said.q_starts = p->q_starts, said.q_total = p->q_total;
  if (!p->cache_len) said.kv_starts = p->kv_starts, said.kv_total = p->kv_total;
  said.kv_lengths = p->cache_len || p->kv_lengths ? ATTEND_LENGTHS_PER_BATCH : ATTEND_LENGTHS_NONE;
  said.kv_begins = p->kv_begins;
  said.causal = p->causal, said.causal_offset = p->causal_offset;
  said.window = p->window, said.window_left = p->window_left, said.window_right = p->window_right;
  return (attend_resolved){.p = said, .group = p->q_heads / p->kv_heads, .rows = p->q_heads / p->kv_heads * p->q_len};
}

attend_status attend_mha_resolve(const attend_mha_problem *problem, attend_mha_plan *plan) {
  attend_mha_problem *p = &plan->p;
  attend_status s = attend_read_versioned(p, sizeof *p, FIRST_SIZE, problem, "attend_mha_problem");
  if (s != ATTEND_OK || (s = check_ranges(p)) != ATTEND_OK || (s = check_together(p)) != ATTEND_OK ||
      (s = fill_in_dims(p)) != ATTEND_OK || (s = resolve_rope(p)) != ATTEND_OK ||
      (s = resolve_total(p->batch, p->q_starts, "q_total", &p->q_total, "q_len", p->q_len)) != ATTEND_OK ||
      (s = resolve_total(p->batch, p->kv_starts, "kv_total", &p->kv_total, "kv_len", p->kv_len)) != ATTEND_OK)
    return s;
  const int64_t q_size = p->q_heads * p->head_dim, k_size = p->kv_heads * p->head_dim;
  const int64_t v_size = p->kv_heads * p->v_head_dim, o_size = p->q_heads * p->v_head_dim;
  if ((s = resolve_weight(p, "q_weight_stride", p->embed_dim, q_size, &p->q_weight_stride)) != ATTEND_OK ||
      (s = resolve_weight(p, "k_weight_stride", p->k_dim, k_size, &p->k_weight_stride)) != ATTEND_OK ||
      (s = resolve_weight(p, "v_weight_stride", p->v_dim, v_size, &p->v_weight_stride)) != ATTEND_OK ||
      (p->out_proj &&
       (s = resolve_weight(p, "out_weight_stride", o_size, p->out_dim, &p->out_weight_stride)) != ATTEND_OK))
    return s;
  const int64_t q_batch = p->q_starts ? 1 : p->batch, q_rows = p->q_starts ? p->q_total : p->q_len;
  const int64_t k_batch = p->kv_starts ? 1 : p->batch, k_rows = p->kv_starts ? p->kv_total : p->kv_len;
  if (p->q_starts) p->query_strides.batch = p->out_strides.batch = 0;
  if (p->kv_starts) p->key_strides.batch = p->value_strides.batch = 0;
  const sequence sequences[] = {{"query", q_batch, q_rows, p->embed_dim, &p->query_strides, false},
                                {"key", k_batch, k_rows, p->k_dim, &p->key_strides, false},
                                {"value", k_batch, k_rows, p->v_dim, &p->value_strides, false},
                                {"out", q_batch, q_rows, p->out_dim, &p->out_strides, true}};
  for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++)
    if ((s = resolve_sequence(&sequences[i])) != ATTEND_OK) return s;
  if ((s = resolve_cache(p)) != ATTEND_OK) return s;

  plan->appended = p->bias_kv + p->add_zero_attn;
  plan->mask_keys = p->cache_len ? p->cache_len : p->kv_len;
  plan->keys = plan->mask_keys + plan->appended;
  plan->said = say(p, plan->mask_keys);
  resolve_projections(plan, &sequences[0], &sequences[1], &sequences[2], &sequences[3]);
  return ATTEND_OK;
}
