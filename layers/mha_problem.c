/* SPDX-License-Identifier: Apache-2.0 */
/** Checks multi-head attention problems and fills in their defaults. */
#include <inttypes.h>

#include "layers/mha.h"

/* Fields that the first release has. */
#define FIRST_SIZE (offsetof(attend_mha_problem, cache_len) + sizeof(int64_t))

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
      {"out_proj", p->out_proj, 0, 1},
      {"weight_layout", p->weight_layout, ATTEND_WEIGHT_OUT_IN, ATTEND_WEIGHT_IN_OUT},
      {"causal", p->causal, ATTEND_CAUSAL_NONE, ATTEND_CAUSAL_OFFSET},
      {"key_padding_mask", p->key_padding_mask, ATTEND_LAYER_MASK_NONE, ATTEND_LAYER_MASK_ADD},
      {"attn_mask", p->attn_mask, ATTEND_LAYER_MASK_NONE, ATTEND_LAYER_MASK_ADD},
      {"attn_mask_per_head", p->attn_mask_per_head, 0, 1},
      {"bias_kv", p->bias_kv, 0, 1},
      {"add_zero_attn", p->add_zero_attn, 0, 1},
      {"weights", p->weights, ATTEND_LAYER_WEIGHTS_NONE, ATTEND_LAYER_WEIGHTS_AVERAGED},
      {"cache_len", p->cache_len, 0, most},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

/** What cannot be had together with a cache. */
static attend_status check_cache(const attend_mha_problem *p) {
  if (!p->cache_len) return ATTEND_OK;
  if (p->kv_len > p->cache_len)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "cache_len is %" PRId64 ", expected at least kv_len %" PRId64,
                       p->cache_len, p->kv_len);
  if (p->causal != ATTEND_CAUSAL_NONE && p->causal != ATTEND_CAUSAL_BOTTOM_RIGHT)
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "causal is %d, expected none or bottom-right with a cache", p->causal);
  const char *appended = p->bias_kv ? "bias_kv" : p->add_zero_attn ? "add_zero_attn" : NULL;
  if (appended) return attend_fail(ATTEND_ERROR_UNSUPPORTED, "%s is 1, expected 0 with a cache", appended);
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

/** A (B, L, dim) tensor of the caller's. */
typedef struct sequence {
  const char *name;
  int64_t len, dim;
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
static attend_status resolve_sequence(int64_t batch, const sequence *s) {
  attend_sequence_strides *st = s->strides;
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
static attend_sequence_strides like(const sequence *model, int64_t batch, int64_t len, int64_t dim) {
  const attend_sequence_strides s = *model->strides;
  if (batch_major(batch, model->len, s) || !sequence_major(batch, model->len, model->dim, s))
    return (attend_sequence_strides){len * dim, dim};
  return (attend_sequence_strides){dim, batch * dim};
}

/** A projection from a sequence to another: as one matrix if both lie that way, else one for each batch entry. */
static attend_linear project(const attend_mha_problem *p, int64_t len, int64_t in_dim, int64_t out_dim,
                             attend_sequence_strides in, attend_sequence_strides out, int64_t weight_row) {
  attend_linear l = {.matrices = p->batch,
                     .rows = len,
                     .in_dim = in_dim,
                     .out_dim = out_dim,
                     .in_matrix = in.batch,
                     .in_row = in.row,
                     .out_matrix = out.batch,
                     .out_row = out.row,
                     .weight_row = weight_row,
                     .layout = p->weight_layout};
  const bool by_batch = batch_major(p->batch, len, in) && batch_major(p->batch, len, out);
  const bool by_position = sequence_major(p->batch, len, in_dim, in) && sequence_major(p->batch, len, out_dim, out);
  if (!by_batch && !by_position) return l;
  l.rows *= l.matrices;
  l.matrices = 1;
  if (!by_batch) l.in_row = in.batch, l.out_row = out.batch;
  return l;
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

attend_status attend_mha_resolve(const attend_mha_problem *problem, attend_mha_plan *plan) {
  attend_mha_problem *p = &plan->p;
  attend_status s = attend_read_versioned(p, sizeof *p, FIRST_SIZE, problem, "attend_mha_problem");
  if (s != ATTEND_OK || (s = check_ranges(p)) != ATTEND_OK || (s = check_cache(p)) != ATTEND_OK ||
      (s = fill_in_dims(p)) != ATTEND_OK)
    return s;
  const int64_t q_size = p->q_heads * p->head_dim, k_size = p->kv_heads * p->head_dim;
  const int64_t v_size = p->kv_heads * p->v_head_dim, o_size = p->q_heads * p->v_head_dim;
  if ((s = resolve_weight(p, "q_weight_stride", p->embed_dim, q_size, &p->q_weight_stride)) != ATTEND_OK ||
      (s = resolve_weight(p, "k_weight_stride", p->k_dim, k_size, &p->k_weight_stride)) != ATTEND_OK ||
      (s = resolve_weight(p, "v_weight_stride", p->v_dim, v_size, &p->v_weight_stride)) != ATTEND_OK ||
      (p->out_proj &&
       (s = resolve_weight(p, "out_weight_stride", o_size, p->out_dim, &p->out_weight_stride)) != ATTEND_OK))
    return s;
  const sequence sequences[] = {{"query", p->q_len, p->embed_dim, &p->query_strides, false},
                                {"key", p->kv_len, p->k_dim, &p->key_strides, false},
                                {"value", p->kv_len, p->v_dim, &p->value_strides, false},
                                {"out", p->q_len, p->out_dim, &p->out_strides, true}};
  for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++)
    if ((s = resolve_sequence(p->batch, &sequences[i])) != ATTEND_OK) return s;

  plan->appended = p->bias_kv + p->add_zero_attn;
  plan->mask_keys = p->cache_len ? p->cache_len : p->kv_len;
  plan->keys = plan->mask_keys + plan->appended;
  const int64_t room = p->kv_len + plan->appended;
  plan->new_q = like(&sequences[0], p->batch, p->q_len, q_size);
  plan->new_k = like(&sequences[1], p->batch, room, k_size);
  plan->new_v = like(&sequences[2], p->batch, room, v_size);
  plan->attended = p->out_proj ? like(&sequences[3], p->batch, p->q_len, o_size) : p->out_strides;
  plan->q = project(p, p->q_len, p->embed_dim, q_size, p->query_strides, plan->new_q, p->q_weight_stride);
  plan->k = project(p, p->kv_len, p->k_dim, k_size, p->key_strides, plan->new_k, p->k_weight_stride);
  plan->v = project(p, p->kv_len, p->v_dim, v_size, p->value_strides, plan->new_v, p->v_weight_stride);
  plan->out = project(p, p->q_len, o_size, p->out_dim, plan->attended, p->out_strides, p->out_weight_stride);
  return ATTEND_OK;
}
