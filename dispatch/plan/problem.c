/* SPDX-License-Identifier: Apache-2.0 */
/** Checks problems and fills in their defaults: after attend_resolve() no size and no offset can overflow. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/sequences.h"
#include "kernels/integers.h"

/* Fields that 0.2 has. */
#define FIRST_SIZE (offsetof(attend_problem, int8_products) + sizeof(int64_t))

enum { RANK = 4 };

/** How a tensor lies in memory. */
typedef struct layout {
  const char *name;
  int64_t extent[RANK], stride[RANK];
  size_t element;
} layout;

attend_status attend_check_ranges(const attend_range *ranges, size_t count) {
  for (const attend_range *r = ranges; r < ranges + count; r++)
    if (r->value < r->low || r->value > r->high)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is %" PRId64 ", expected %" PRId64 " to %" PRId64, r->field,
                         r->value, r->low, r->high);
  return ATTEND_OK;
}

static attend_status check_ranges(const attend_problem *p) {
  const attend_range ranges[] = {
      {"batch", p->batch, 0, ATTEND_MAX_EXTENT},
      {"q_heads", p->q_heads, 0, ATTEND_MAX_EXTENT},
      {"kv_heads", p->kv_heads, 0, ATTEND_MAX_EXTENT},
      {"q_len", p->q_len, 0, ATTEND_MAX_EXTENT},
      {"kv_len", p->kv_len, 0, ATTEND_MAX_EXTENT},
      {"head_dim", p->head_dim, 0, ATTEND_MAX_EXTENT},
      {"v_head_dim", p->v_head_dim, 0, ATTEND_MAX_EXTENT},
      {"q_total", p->q_total, 0, ATTEND_MAX_EXTENT},
      {"kv_total", p->kv_total, 0, ATTEND_MAX_EXTENT},
      {"page_rows", p->page_rows, 0, ATTEND_MAX_EXTENT},
      {"pages", p->pages, 0, ATTEND_MAX_EXTENT},
      {"block_table_stride", p->block_table_stride, 0, ATTEND_MAX_EXTENT},
      {"q_dtype", p->q_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"k_dtype", p->k_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_DTYPE_COUNT - 1},
      {"v_dtype", p->v_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_DTYPE_COUNT - 1},
      {"out_dtype", p->out_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"causal", p->causal, ATTEND_CAUSAL_NONE, ATTEND_CAUSAL_OFFSET},
      {"causal_offset", p->causal_offset, -ATTEND_MAX_EXTENT, ATTEND_MAX_EXTENT},
      {"window", p->window, 0, 1},
      {"window_left", p->window_left, -1, ATTEND_MAX_EXTENT},
      {"window_right", p->window_right, -1, ATTEND_MAX_EXTENT},
      {"kv_lengths", p->kv_lengths, ATTEND_LENGTHS_NONE, ATTEND_LENGTHS_PER_QUERY},
      {"positions", p->positions, 0, 1},
      {"q_starts", p->q_starts, 0, 1},
      {"kv_starts", p->kv_starts, 0, 1},
      {"kv_begins", p->kv_begins, 0, 1},
      {"key_ranges", p->key_ranges, 0, 1},
      {"mask", p->mask, 0, 1},
      {"bias_dtype", p->bias_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"bias_head_scale", p->bias_head_scale, 0, 1},
      {"alibi", p->alibi, 0, 1},
      {"sinks", p->sinks, 0, 1},
      {"lse", p->lse, 0, 1},
      {"weights", p->weights, 0, 1},
      {"scores", p->scores, ATTEND_SCORES_NONE, ATTEND_SCORES_ATTENDED},
      {"batch_invariant", p->batch_invariant, 0, 1},
      {"int8_products", p->int8_products, 0, 1},
      {"score", p->score, ATTEND_SCORE_DOT, ATTEND_SCORE_ADDITIVE},
      {"as_given", p->as_given, 0, ATTEND_AS_GIVEN_ALL},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

static attend_status check_floats(const attend_problem *p) {
  if (!isfinite(p->scale))
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "scale is %g, expected a finite number", (double)p->scale);
  if (!isfinite(p->softcap) || p->softcap < 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "softcap is %g, expected a finite number >= 0",
                       (double)p->softcap);
  if (!(p->dropout >= 0 && p->dropout <= 1))
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "dropout is %g, expected a probability from 0 to 1",
                       (double)p->dropout);
  return ATTEND_OK;
}

static bool has_no_element(const layout *l) {
  for (int d = 0; d < RANK; d++)
    if (l->extent[d] == 0) return true;
  return false;
}

static attend_status overflow(const layout *l, const char *what) {
  return attend_fail(ATTEND_ERROR_OVERFLOW,
                     "%s of %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 " elements %s more than %td bytes",
                     l->name, l->extent[0], l->extent[1], l->extent[2], l->extent[3], what, PTRDIFF_MAX);
}

/** Row-major strides, the last dimension fastest. */
static attend_status make_contiguous(layout *l) {
  l->stride[RANK - 1] = 1;
  for (int d = RANK - 1; d > 0; d--)
    if (__builtin_mul_overflow(l->stride[d], l->extent[d], &l->stride[d - 1])) return overflow(l, "needs");
  return ATTEND_OK;
}

/** From the lowest to the highest element it must be no further than a pointer difference reaches. */
static attend_status check_reach(const layout *l) {
  int64_t low = 0, high = 0, reach, span;
  for (int d = 0; d < RANK; d++) {
    if (__builtin_mul_overflow(l->extent[d] - 1, l->stride[d], &reach)) return overflow(l, "reaches over");
    int64_t *end = reach < 0 ? &low : &high;
    if (__builtin_add_overflow(*end, reach, end)) return overflow(l, "reaches over");
  }
  if (__builtin_sub_overflow(high, low, &span) || span > PTRDIFF_MAX / (int64_t)l->element - 1)
    return overflow(l, "reaches over");
  return ATTEND_OK;
}

/**
 * Rows of an output must not share an element. A dimension nests in the next greater stride if that steps over the
 * whole span of the smaller ones. Layouts that interleave without overlapping are refused like those that overlap.
 */
static attend_status check_disjoint(const layout *l) {
  int64_t span = 1;
  bool done[RANK] = {false};
  for (int n = 0; n < RANK; n++) {
    int least = -1;
    for (int d = 0; d < RANK; d++)
      if (!done[d] && (least < 0 || llabs(l->stride[d]) < llabs(l->stride[least]))) least = d;
    done[least] = true;
    if (l->extent[least] == 1) continue;
    if (llabs(l->stride[least]) < span)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                         "%s_strides are %" PRId64 ", %" PRId64 ", %" PRId64 ": rows of %" PRId64 " elements, %" PRId64
                         " apart, overlap, expected each stride to step over what the smaller "
                         "ones span",
                         l->name, l->stride[0], l->stride[1], l->stride[2], l->extent[3], l->stride[3]);
    span += (l->extent[least] - 1) * llabs(l->stride[least]);
  }
  return ATTEND_OK;
}

/** Checks strides; those of dimensions with a single element become 0: they are never stepped along. */
static attend_status finish_layout(layout *l, bool disjoint) {
  if (has_no_element(l)) {
    for (int d = 0; d < RANK; d++) l->stride[d] = 0;
    return ATTEND_OK;
  }
  for (int d = 0; d < RANK; d++)
    if (l->extent[d] == 1) l->stride[d] = 0;
  attend_status status = check_reach(l);
  return status == ATTEND_OK && disjoint ? check_disjoint(l) : status;
}

attend_status attend_resolve_strides(const char *name, const int64_t extent[4], size_t element, bool as_given,
                                     bool disjoint, attend_strides *s) {
  layout l = {.name = name, .stride = {s->batch, s->head, s->row, 1}, .element = element};
  attend_status status = ATTEND_OK;
  memcpy(l.extent, extent, sizeof l.extent);
  if (!as_given && s->batch == 0 && s->head == 0 && s->row == 0 && !has_no_element(&l)) status = make_contiguous(&l);
  if (status == ATTEND_OK) status = finish_layout(&l, disjoint);
  *s = (attend_strides){l.stride[0], l.stride[1], l.stride[2]};
  return status;
}

attend_status attend_resolve_strides4(const char *name, const int64_t extent[4], size_t element, bool disjoint,
                                      attend_strides4 *s) {
  layout l = {.name = name, .stride = {s->batch, s->head, s->query, s->key}, .element = element};
  memcpy(l.extent, extent, sizeof l.extent);
  attend_status status = finish_layout(&l, disjoint);
  *s = (attend_strides4){l.stride[0], l.stride[1], l.stride[2], l.stride[3]};
  return status;
}

attend_status attend_check_whole_blocks(const char *field, int64_t dim, attend_dtype dtype) {
  const int elements = attend_formats[dtype].elements;
  if (dim % elements == 0) return ATTEND_OK;
  return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                     "%s is %" PRId64 ", expected a multiple of %d: %s has blocks of so many", field, dim, elements,
                     attend_formats[dtype].name);
}

static attend_status check_scaling(const char *name, attend_dtype dtype, int64_t dim, const attend_scaling *s) {
  const bool integers = dtype == ATTEND_I8 || dtype == ATTEND_I4;
  const struct {
    const char *field;
    int64_t value, low, high;
  } ranges[] = {{"dtype", s->dtype, ATTEND_DTYPE_DEFAULT, ATTEND_F16},
                {"group", s->group, 0, dim > 0 ? dim : ATTEND_MAX_EXTENT},
                {"zero_points", s->zero_points, 0, integers && s->dtype},
                {"is_unsigned", s->is_unsigned, 0, integers}};
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if (ranges[i].value < ranges[i].low || ranges[i].value > ranges[i].high)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                         "%s.%s is %" PRId64 ", expected %" PRId64 " to %" PRId64 " with %s", name, ranges[i].field,
                         ranges[i].value, ranges[i].low, ranges[i].high, attend_formats[dtype].name);
  if (s->group <= 1 || dim == 0 || (s->group % 16 == 0 && dim % s->group == 0) || s->group == dim) return ATTEND_OK;
  return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                     "%s.group is %" PRId64
                     ", expected 0, 1 or a multiple of 16 that divides the head dim, which is %" PRId64,
                     name, s->group, dim);
}

attend_status attend_resolve_scaling(const char *name, attend_dtype dtype, int64_t dim, const int64_t extent[4],
                                     bool written, attend_scaling *s) {
  attend_status status = attend_check_whole_blocks(*name == 'k'   ? "head_dim"
                                                   : *name == 'v' ? "v_head_dim"
                                                                  : "dim",
                                                   dim, dtype);
  if (status != ATTEND_OK || attend_formats[dtype].kind != ATTEND_SCALED) {
    *s = (attend_scaling){0}; /* it is not read */
    return status;
  }
  if ((status = check_scaling(name, dtype, dim, s)) != ATTEND_OK) return status;
  if (s->group == 0 || !s->dtype) s->group = max_i64(dim, 1);
  if (!s->dtype) {
    s->batch = s->head = s->row = s->step = 0;
    return ATTEND_OK;
  }
  attend_strides4 strides = {s->batch, s->head, s->row, s->step};
  const int64_t scales[4] = {extent[0], extent[1], extent[2], divide_up(dim, s->group)};
  status = attend_resolve_strides4(name, scales, attend_dtype_size(s->dtype), written, &strides);
  s->batch = strides.batch, s->head = strides.head, s->row = strides.query, s->step = strides.key;
  return status;
}

/** A tensor that is always contiguous. */
static attend_status check_contiguous(layout l) {
  if (has_no_element(&l)) return ATTEND_OK;
  attend_status status = make_contiguous(&l);
  return status == ATTEND_OK ? check_reach(&l) : status;
}

/**
 * Checks the number of query rows of all heads, whatever tensors there are: with a Dv of 0 the output does not bound
 * it. The bound is that of a tensor with one number for each.
 */
static attend_status check_query_rows(const attend_problem *p) {
  int64_t rows;
  if (!__builtin_mul_overflow(p->batch, p->q_heads, &rows) && !__builtin_mul_overflow(rows, p->q_len, &rows) &&
      rows <= PTRDIFF_MAX / (int64_t)sizeof(float))
    return ATTEND_OK;
  if (p->batch == 0 || p->q_heads == 0 || p->q_len == 0) return ATTEND_OK;
  return attend_fail(ATTEND_ERROR_OVERFLOW,
                     "batch %" PRId64 " times q_heads %" PRId64 " times q_len %" PRId64 " is more than %td query rows",
                     p->batch, p->q_heads, p->q_len, PTRDIFF_MAX / (ptrdiff_t)sizeof(float));
}

static attend_status resolve_layouts(attend_problem *p) {
  const bool given = p->as_given & ATTEND_AS_GIVEN_STRIDES;
  /* Packed queries and keys are one long sequence, and pages stand in the place of a batch. */
  const int64_t hq = p->q_heads, hkv = p->kv_heads, lk = p->kv_len;
  const int64_t qb = p->q_starts ? 1 : p->batch, lq = p->q_starts ? p->q_total : p->q_len;
  const int64_t kb = p->page_rows ? p->pages : p->kv_starts ? 1 : p->batch;
  const int64_t rows = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : lk;
  const int64_t q[] = {qb, hq, lq, p->head_dim}, k[] = {kb, hkv, rows, attend_row_extent(p->k_dtype, p->head_dim)},
                v[] = {kb, hkv, rows, attend_row_extent(p->v_dtype, p->v_head_dim)};
  const int64_t out[] = {qb, hq, lq, p->v_head_dim}, scores[] = {p->batch, hq, lq, lk}, written[] = {qb, hq, lq, lk};
  attend_status s = attend_resolve_strides("q", q, attend_dtype_size(p->q_dtype), given, false, &p->q_strides);
  if (s == ATTEND_OK) s = attend_resolve_strides("k", k, attend_dtype_size(p->k_dtype), given, false, &p->k_strides);
  if (s == ATTEND_OK) s = attend_resolve_strides("v", v, attend_dtype_size(p->v_dtype), given, false, &p->v_strides);
  if (s == ATTEND_OK)
    s = attend_resolve_strides("out", out, attend_dtype_size(p->out_dtype), given, true, &p->out_strides);
  if (s == ATTEND_OK) s = attend_resolve_scaling("k_scaling", p->k_dtype, p->head_dim, k, false, &p->k_scaling);
  if (s == ATTEND_OK) s = attend_resolve_scaling("v_scaling", p->v_dtype, p->v_head_dim, v, false, &p->v_scaling);
  if (s == ATTEND_OK && p->mask) s = attend_resolve_strides4("mask", scores, 1, false, &p->mask_strides);
  if (s == ATTEND_OK && p->bias_dtype)
    s = attend_resolve_strides4("bias", scores, attend_dtype_size(p->bias_dtype), false, &p->bias_strides);
  if (s == ATTEND_OK && p->kv_lengths == ATTEND_LENGTHS_PER_QUERY)
    s = check_contiguous((layout){"kv_lengths", {1, 1, qb, lq}, {0}, sizeof(int32_t)});
  if (s == ATTEND_OK && p->key_ranges)
    s = check_contiguous((layout){"key_ranges", {1, qb, lq, 2}, {0}, sizeof(int32_t)});
  if (s == ATTEND_OK && p->page_rows)
    s = check_contiguous((layout){"block_table", {1, 1, p->batch, p->block_table_stride}, {0}, sizeof(int32_t)});
  if (s == ATTEND_OK && p->score == ATTEND_SCORE_ADDITIVE)
    s = check_contiguous((layout){"score_weights", {1, 1, hq, p->head_dim}, {0}, sizeof(float)});
  if (s == ATTEND_OK && p->lse) s = check_contiguous((layout){"lse", {1, qb, hq, lq}, {0}, sizeof(float)});
  if (s == ATTEND_OK && (p->weights || p->scores)) {
    layout l = {.name = p->weights ? "weights" : "scores", .element = sizeof(float)};
    memcpy(l.extent, written, sizeof l.extent);
    s = check_contiguous(l);
  }
  return s;
}

/** What packed and paged tensors need to know beyond their flags, and fields that are not read, which become 0. */
static attend_status resolve_sequences(attend_problem *p) {
  if (p->page_rows && p->kv_starts)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "page_rows is %" PRId64 ", expected 0 with kv_starts: keys are paged or packed", p->page_rows);
  const int64_t q_most = p->batch * p->q_len, kv_most = p->batch * p->kv_len; /* extents are below 2^31 */
  if (!p->q_starts)
    p->q_total = 0;
  else if (p->q_total > q_most)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "q_total is %" PRId64 ", expected at most batch times q_len, which is %" PRId64, p->q_total,
                       q_most);
  if (!p->kv_starts)
    p->kv_total = 0;
  else if (p->kv_total > kv_most)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "kv_total is %" PRId64 ", expected at most batch times kv_len, which is %" PRId64, p->kv_total,
                       kv_most);
  if (!p->page_rows) {
    p->pages = p->block_table_stride = 0;
    return ATTEND_OK;
  }
  return attend_resolve_table_stride("kv_len", p->kv_len, p->page_rows, &p->block_table_stride);
}

/** 1 / sqrt(D); or 1 where queries and keys have no element, or are not multiplied with one another. */
static float default_scale(const attend_problem *p) {
  return p->score == ATTEND_SCORE_ADDITIVE || p->head_dim == 0 ? 1.0f : (float)(1 / sqrt((double)p->head_dim));
}

static bool is_plain(const attend_problem *p) {
  return !p->kv_lengths && !p->positions && !p->q_starts && !p->kv_starts && !p->kv_begins && !p->key_ranges &&
         !p->page_rows && !p->mask && !p->bias_dtype && !p->alibi && !p->sinks && !p->lse && !p->weights &&
         !p->scores && p->score == ATTEND_SCORE_DOT && p->dropout == 0 && !p->k_scaling.dtype && !p->v_scaling.dtype;
}

attend_status attend_resolve(const attend_problem *problem, attend_resolved *resolved) {
  attend_problem p;
  attend_status status = attend_read_versioned(&p, sizeof p, FIRST_SIZE, problem, "attend_problem");
  if (status != ATTEND_OK) return status;
  /* Fields that are not read may hold anything. */
  if (p.causal != ATTEND_CAUSAL_OFFSET) p.causal_offset = 0;
  if (!p.window) p.window_left = p.window_right = 0;
  if (!p.mask) p.mask_strides = (attend_strides4){0};
  if (!p.bias_dtype) p.bias_strides = (attend_strides4){0}, p.bias_head_scale = 0;

  if ((status = check_ranges(&p)) != ATTEND_OK || (status = check_floats(&p)) != ATTEND_OK) return status;
  if (p.kv_heads == 0) p.kv_heads = p.q_heads;
  if (p.kv_heads != 0 && p.q_heads % p.kv_heads != 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "kv_heads is %" PRId64 ", expected a divisor of q_heads %" PRId64,
                       p.kv_heads, p.q_heads);
  if (p.v_head_dim == 0 && !(p.as_given & ATTEND_AS_GIVEN_V_HEAD_DIM)) p.v_head_dim = p.head_dim;
  if (p.q_dtype == ATTEND_DTYPE_DEFAULT) p.q_dtype = ATTEND_F32;
  if (p.k_dtype == ATTEND_DTYPE_DEFAULT) p.k_dtype = p.q_dtype;
  if (p.v_dtype == ATTEND_DTYPE_DEFAULT) p.v_dtype = p.k_dtype;
  if (p.out_dtype == ATTEND_DTYPE_DEFAULT) p.out_dtype = p.q_dtype;
  if (p.scale == 0 && !(p.as_given & ATTEND_AS_GIVEN_SCALE)) p.scale = default_scale(&p);
  if ((status = check_query_rows(&p)) != ATTEND_OK || (status = resolve_sequences(&p)) != ATTEND_OK ||
      (status = resolve_layouts(&p)) != ATTEND_OK)
    return status;
  p.as_given = ATTEND_AS_GIVEN_ALL;                              /* nothing is at its default any more */
  if (p.dropout > 0 && p.batch * p.q_heads > (INT64_C(1) << 32)) /* extents are below 2^31 */
    return attend_fail(ATTEND_ERROR_UNSUPPORTED,
                       "dropout tells at most 2^32 heads apart, and batch %" PRId64 " times q_heads %" PRId64
                       " is more",
                       p.batch, p.q_heads);

  const int64_t group = p.kv_heads ? p.q_heads / p.kv_heads : 0;
  *resolved = (attend_resolved){.p = p, .group = group, .rows = group * p.q_len, .plain = is_plain(&p)};
  return ATTEND_OK;
}
