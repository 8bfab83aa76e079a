/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "verify/formats.h"
#include "verify/reference.h"
#include "verify/tensors.h"

const char *const attend_verify_buffer_names[ATTEND_VERIFY_BUFFER_COUNT] = {"q",
                                                                            "k",
                                                                            "v",
                                                                            "kv_lengths",
                                                                            "positions",
                                                                            "q_starts",
                                                                            "kv_starts",
                                                                            "kv_begins",
                                                                            "key_ranges",
                                                                            "block_table",
                                                                            "mask",
                                                                            "bias",
                                                                            "bias_head_scale",
                                                                            "alibi_slopes",
                                                                            "sinks",
                                                                            "score_weights",
                                                                            "k_scales",
                                                                            "v_scales",
                                                                            "k_zero_points",
                                                                            "v_zero_points",
                                                                            "out",
                                                                            "lse",
                                                                            "weights",
                                                                            "scores",
                                                                            "workspace"};

enum { POISON = 0xff };

typedef attend_verify_view view;

static view view_of(int64_t batch, int64_t heads, int64_t rows, int64_t dim, attend_strides s) {
  return (view){{batch, heads, rows, dim}, {s.batch, s.head, s.row, 1}};
}

static view view_of_queries(const attend_problem *p, int64_t dim, attend_strides s) {
  return p->q_starts ? view_of(1, p->q_heads, p->q_total, dim, s) : view_of(p->batch, p->q_heads, p->q_len, dim, s);
}

static view view_of_keys(const attend_problem *p, int64_t dim, attend_strides s) {
  if (p->page_rows) return view_of(p->pages, p->kv_heads, p->page_rows, dim, s);
  return p->kv_starts ? view_of(1, p->kv_heads, p->kv_total, dim, s)
                      : view_of(p->batch, p->kv_heads, p->kv_len, dim, s);
}

static view view_of4(const attend_problem *p, attend_strides4 s) {
  return (view){{p->batch, p->q_heads, p->q_starts ? p->q_total : p->q_len, p->kv_len},
                {s.batch, s.head, s.query, s.key}};
}

/* ------------------------------------------------------------------------------------------------------ placement */

/* Places a buffer of `count` elements against one of its guard pages, or some elements away from one. */
static bool place_elements(attend_verify_data *data, int which, int64_t count, size_t size, uint64_t key) {
  const unsigned char fill = which >= ATTEND_VERIFY_OUT ? ATTEND_VERIFY_FILL : POISON;
  const uint64_t choice = hash(key, 1000 + which);
  const size_t gap = choice % 4 < 2 ? 0 : (size_t)(choice / 8 % 17) * size;
  return attend_guarded_place(&data->buffer[which], (size_t)count * size, gap, choice / 4 % 2, fill);
}

bool attend_verify_place(attend_verify_data *data, int which, view v, size_t size, uint64_t key, void **first) {
  int64_t low = 0, high = 0;
  bool empty = false;
  for (int i = 0; i < 4; i++) {
    if (v.size[i] == 0) empty = true;
    const int64_t reach = v.stride[i] * (v.size[i] - 1);
    *(reach < 0 ? &low : &high) += reach;
  }
  if (!place_elements(data, which, empty ? 0 : high - low + 1, size, key)) return false;
  unsigned char *start = data->buffer[which].data;
  *first = empty ? (hash(key, which) % 2 ? start : NULL) : start - low * (int64_t)size;
  return true;
}

bool attend_verify_place_list(attend_verify_data *data, int which, int64_t count, size_t size, uint64_t key,
                              void **first) {
  return attend_verify_place(data, which, (view){{1, 1, 1, count}, {0, 0, 0, 1}}, size, key, first);
}

/* ------------------------------------------------------------------------------------------------- random numbers */

/* Near enough to a normal distribution of variance 1: the sum of four even ones. */
static float normal(uint64_t key, int64_t index) {
  const uint64_t x = hash(key, index);
  const uint64_t sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
  return ((float)sum / 65536.0f - 2.0f) * 1.7320508f;
}

/* --------------------------------------------------------------------------------------- what is attended, and bias */

/* Whether a pattern excludes an element, which `at` gives with 0 where the tensor is broadcast. */
static bool excluded(attend_verify_pattern pattern, uint64_t key, unsigned over, const int64_t at[4],
                     const attend_problem *p) {
  const int64_t b = over & ATTEND_VERIFY_OVER_BATCH ? 0 : at[0], h = over & ATTEND_VERIFY_OVER_HEADS ? 0 : at[1];
  const int64_t i = over & ATTEND_VERIFY_OVER_QUERIES ? 0 : at[2], j = over & ATTEND_VERIFY_OVER_KEYS ? 0 : at[3];
  const uint64_t any = hash(key, ((b * p->q_heads + h) * p->q_len + i) * p->kv_len + j);
  static const int64_t runs[] = {8, 64, 150, 300}, windows[] = {8, 100, 400, 1 << 20};
  const int64_t at_key = i + p->kv_len - p->q_len - 40 * b - 24 * h; /* each sequence and head has a band of its own */
  switch (pattern) {
  case ATTEND_VERIFY_NOTHING: return false;
  case ATTEND_VERIFY_ALL: return true;
  case ATTEND_VERIFY_MOST: return any % 20 != 0;
  case ATTEND_VERIFY_ROWS: return i % 3 == 1 || any % 4 == 0;
  case ATTEND_VERIFY_BAND:
    return j > at_key || j + windows[key % 4] < at_key ||
           (b % 2 && j / 64 % 4 == 1); /* in every other sequence with gaps */
  case ATTEND_VERIFY_BLOCKS: return j / runs[key % 4] % 2 == (int64_t)(key / 4 % 2) || any % 8 == 0;
  default: return any % 3 == 0;
  }
}

/* The place of query i of a sequence among the rows that masks and biases have. */
static int64_t row_of_query(const attend_verify_data *data, int64_t b, int64_t i) {
  return data->problem.q_starts ? data->tensors.q_starts[b] + i : i;
}

static int64_t index4(const attend_verify_data *data, attend_strides4 s, const int64_t at[4]) {
  return at[0] * s.batch + at[1] * s.head + row_of_query(data, at[0], at[2]) * s.query + at[3] * s.key;
}

/* Calls for every query (b, h, i) of a problem; at[3] is 0. */
#define FOR_EACH_QUERY(data, at)                                                                                       \
  for (int64_t at[4] = {0}; at[0] < (data)->problem.batch; at[0]++)                                                    \
    for (at[1] = 0; at[1] < (data)->problem.q_heads; at[1]++)                                                          \
      for (at[2] = 0; at[2] < attend_reference_queries(&(data)->problem, &(data)->tensors, at[0]); at[2]++)

/* Calls for every (b, h, i, j). */
#define FOR_EACH_PAIR(data, at) FOR_EACH_QUERY(data, at) for (at[3] = 0; at[3] < (data)->problem.kv_len; at[3]++)

static bool fill_mask(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  void *first;
  if (!attend_verify_place(data, ATTEND_VERIFY_MASK, view_of4(p, p->mask_strides), 1, key, &first)) return false;
  uint8_t *mask = first;
  FOR_EACH_PAIR(data, at) {
    const int64_t index = index4(data, p->mask_strides, at);
    /* Any byte but 0 means "attend". */
    mask[index] = excluded(c->mask_pattern, key, c->mask_over, at, p) ? 0 : (uint8_t)(1 + below(key, ~index, 255));
  }
  data->tensors.mask = mask;
  return true;
}

/* Where no pair that reads it is attended by all masks, a bias stays NaN. */
static bool fill_bias(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  attend_problem *p = &data->problem;
  const attend_dtype dtype = p->bias_dtype;
  void *bias;
  if (!attend_verify_place(data, ATTEND_VERIFY_BIAS, view_of4(p, p->bias_strides), attend_verify_dtype_size(dtype), key,
                           &bias))
    return false;
  p->bias_dtype = ATTEND_DTYPE_DEFAULT;
  FOR_EACH_PAIR(data, at) {
    if (!attend_reference_attends(p, &data->tensors, at[0], at[1], at[2], at[3])) continue;
    const int64_t index = index4(data, p->bias_strides, at);
    const float added = c->bias_pattern == ATTEND_VERIFY_BAND ? 0.0f : normal(key, ~index);
    attend_verify_store(bias, dtype, index, excluded(c->bias_pattern, key, c->bias_over, at, p) ? -INFINITY : added);
  }
  p->bias_dtype = dtype;
  data->tensors.bias = bias;
  return true;
}

static bool place_floats(attend_verify_data *data, int which, bool wanted, int64_t count, uint64_t key,
                         float **floats) {
  void *first = NULL;
  if (wanted && !attend_verify_place_list(data, which, count, sizeof(float), key, &first)) return false;
  *floats = first;
  return true;
}

static bool fill_heads(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  float *slopes, *sinks, *weights, *scales;
  const bool additive = p->score == ATTEND_SCORE_ADDITIVE;
  if (!place_floats(data, ATTEND_VERIFY_ALIBI, p->alibi, p->q_heads, key, &slopes) ||
      !place_floats(data, ATTEND_VERIFY_SINKS, p->sinks, p->q_heads, key, &sinks) ||
      !place_floats(data, ATTEND_VERIFY_SCORE_WEIGHTS, additive, p->q_heads * p->head_dim, key, &weights) ||
      !place_floats(data, ATTEND_VERIFY_BIAS_HEAD_SCALE, p->bias_head_scale, p->q_heads, key, &scales))
    return false;
  for (int64_t i = 0; additive && i < p->q_heads * p->head_dim; i++) weights[i] = normal(key + 1, i);
  for (int64_t h = 0; p->alibi && h < p->q_heads; h++) slopes[h] = exp2f(-1.0f - (float)(h % 8));
  const float size = c->values == ATTEND_VERIFY_LARGE ? 5e3f : 2.0f;
  for (int64_t h = 0; p->sinks && h < p->q_heads; h++) sinks[h] = size * normal(key, h);
  /* A bias_head_scale of 0 makes a bias 0, except -inf. */
  for (int64_t h = 0; p->bias_head_scale && h < p->q_heads; h++)
    scales[h] = below(key + 2, h, 4) == 0 ? 0.0f : normal(key + 3, h);
  data->tensors.alibi_slopes = slopes;
  data->tensors.sinks = sinks;
  data->tensors.score_weights = weights;
  data->tensors.bias_head_scale = scales;
  return true;
}

/* ---------------------------------------------------------------------------------------------------- q, k and v */

static float greatest(attend_dtype dtype) {
  /* Scales and minima in f16 have to hold it; and where rows share elements and not scales, a quarter becomes most. */
  if (attend_verify_is_format(dtype)) return 16384.0f;
  return dtype == ATTEND_F16 ? 65504.0f : dtype == ATTEND_BF16 ? 0x1.fep127f : FLT_MAX;
}

/* From about 7/8 of the greatest number on, but not beyond it when it is rounded; of one sign in every other column, so
 * that nothing cancels. What dropout makes of it has to fit, too. */
static float huge_value(const attend_problem *p, float x, int64_t d) {
  const float most = 0.99f * fminf(greatest(p->v_dtype), greatest(p->out_dtype)) * (1 - p->dropout);
  const float size = most * (1 - fminf(fabsf(x), 1.0f) / 8);
  return d % 2 ? size : copysignf(size, x);
}

/* The number at dimension d of row `row` of q, k or v, which lies at `index`. */
static float number(const attend_verify_case *c, const attend_problem *p, int which, uint64_t key, int64_t row,
                    int64_t d, int64_t index) {
  const attend_dtype dtype = which == ATTEND_VERIFY_Q ? p->q_dtype : which == ATTEND_VERIFY_K ? p->k_dtype : p->v_dtype;
  const float denormal = dtype == ATTEND_F16 ? 0x1p-18f : 0x1p-132f;
  const float x = normal(key + (uint64_t)which, index);
  const bool query = which == ATTEND_VERIFY_Q, score = which != ATTEND_VERIFY_V;
  switch (c->values) {
  case ATTEND_VERIFY_LARGE: return query ? 4000.0f * x : x;
  case ATTEND_VERIFY_DOMINANT:
    if (!score || d > 0) return x;
    return query ? sqrtf((float)p->head_dim) : row == below(key, 1, p->kv_len) ? 60.0f : x;
  case ATTEND_VERIFY_RISING:
  case ATTEND_VERIFY_FALLING:
    if (!score || d > 0) return x;
    return query ? sqrtf((float)p->head_dim) : (c->values == ATTEND_VERIFY_RISING ? 0.5f : -0.5f) * (float)row;
  case ATTEND_VERIFY_EQUAL: return which == ATTEND_VERIFY_K ? normal(key + 3, d) : x;
  case ATTEND_VERIFY_DENORMAL: return below(key + 7, index, 2) ? denormal * x : x;
  case ATTEND_VERIFY_DENORMAL_V: return which == ATTEND_VERIFY_V ? denormal * x : x;
  case ATTEND_VERIFY_ZERO_Q: return query ? 0.0f : x;
  case ATTEND_VERIFY_HUGE_V: return score ? x : huge_value(p, x, d);
  case ATTEND_VERIFY_HUGE_SCORES:
    if (!score) return x;
    if (d > 0) return query ? 0.0f : x;
    return 0x1p14f * (query ? copysignf(1.0f, x) : 1 - (float)below(key + 9, row, 4) / 8);
  default: return x;
  }
}

static bool attended(const attend_verify_data *data, int64_t b, int64_t h, int64_t i, int64_t j) {
  const attend_problem *p = &data->problem;
  return data->attended[attend_reference_row(p, &data->tensors, b, h, i) * p->kv_len + j];
}

/* How many of the queries of a head group attend a key. */
static int64_t attending(const attend_verify_data *data, int64_t b, int64_t kv_head, int64_t j) {
  const attend_problem *p = &data->problem;
  const int64_t group = p->q_heads / p->kv_heads, queries = attend_reference_queries(p, &data->tensors, b);
  int64_t count = 0;
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++)
    for (int64_t i = 0; i < queries; i++) count += attended(data, b, h, i, j);
  return count;
}

static bool attends_any(const attend_verify_data *data, int64_t b, int64_t h, int64_t i) {
  for (int64_t j = 0; j < data->problem.kv_len; j++)
    if (attended(data, b, h, i, j)) return true;
  return false;
}

/* Whether scores are to be written of keys that are not attended, too. */
static bool scores_of_all(const attend_problem *p) {
  return p->scores == ATTEND_SCORES_RAW || p->scores == ATTEND_SCORES_SOFTCAP;
}

/* The key or the value of key j, in a format, with its scales. Numbers follow from the place of the row. */
static void fill_format(const attend_verify_case *c, const attend_verify_data *data, int which, int64_t b, int64_t h,
                        int64_t j, uint64_t key) {
  enum { MOST = 1024 };
  const attend_problem *p = &data->problem;
  const bool of_values = which == ATTEND_VERIFY_V;
  const attend_verify_row row = attend_verify_row_of(p, &data->tensors, of_values, b, h, j);
  const int64_t dim = of_values ? p->v_head_dim : p->head_dim;
  float numbers[MOST];
  for (int64_t d = 0; d < dim && d < MOST; d++) numbers[d] = number(c, p, which, key, j, d, row.at * 64 + d);
  const float most = c->values == ATTEND_VERIFY_HUGE_V && of_values       ? greatest(row.dtype) * (1 - p->dropout)
                     : c->values == ATTEND_VERIFY_DENORMAL_V && of_values ? 0x1p-18f
                                                                          : 4.0f;
  attend_verify_choose_scales(&row, dim, most, key + (uint64_t)which);
  attend_verify_quantise(&row, dim, numbers);
}

/* Fills one row in, which begins at element `first`; `row` is its number in the sequence. */
static void fill_row(const attend_verify_case *c, const attend_problem *p, int which, void *tensor, int64_t first,
                     int64_t row, uint64_t key) {
  const attend_dtype dtype = which == ATTEND_VERIFY_Q ? p->q_dtype : which == ATTEND_VERIFY_K ? p->k_dtype : p->v_dtype;
  const int64_t dim = which == ATTEND_VERIFY_V ? p->v_head_dim : p->head_dim;
  for (int64_t d = 0; d < dim; d++)
    attend_verify_store(tensor, dtype, first + d, number(c, p, which, key, row, d, first + d));
}

/* Fills in the key, or the value, of key j. */
static void fill_kv(const attend_verify_data *data, const attend_verify_case *c, int which, void *tensor, int64_t b,
                    int64_t h, int64_t j, uint64_t key) {
  const attend_problem *p = &data->problem;
  const bool of_values = which == ATTEND_VERIFY_V;
  if (attend_verify_is_format(of_values ? p->v_dtype : p->k_dtype)) {
    fill_format(c, data, which, b, h, j, key);
    return;
  }
  fill_row(c, p, which, tensor,
           attend_reference_key_at(p, &data->tensors, of_values ? &p->v_strides : &p->k_strides, b, h, j), j, key);
}

/* Makes an element of the key or the value of key j NaN or infinite. */
static void spoil_element(attend_verify_data *data, void *tensor, bool in_k, int64_t b, int64_t h, int64_t j, bool nan,
                          uint64_t key) {
  const attend_problem *p = &data->problem;
  const int64_t dim = in_k ? p->head_dim : p->v_head_dim;
  if (dim == 0) return;
  const float bad = nan ? nanf("0x3fffff") : below(key, 4001, 2) ? INFINITY : -INFINITY;
  if (attend_verify_is_format(in_k ? p->k_dtype : p->v_dtype)) {
    const attend_verify_row row = attend_verify_row_of(p, &data->tensors, !in_k, b, h, j);
    attend_verify_spoil(&row, below(key, 4000, dim), bad);
    return;
  }
  /* A payload of all ones is the NaN that is the easiest to lose when it is rounded to bf16. */
  attend_verify_store(tensor, in_k ? p->k_dtype : p->v_dtype,
                      attend_reference_key_at(p, &data->tensors, in_k ? &p->k_strides : &p->v_strides, b, h, j) +
                          below(key, 4000, dim),
                      bad);
}

/* Fills in what fill_qkv() leaves out of V and spoils an element of every third key that nobody attends, of every 16th
 * that some queries attend, and of every 64th that all do. */
static void scatter(attend_verify_data *data, const attend_verify_case *c, void *v, uint64_t key) {
  const attend_problem *p = &data->problem;
  const attend_tensors *t = &data->tensors;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < attend_reference_keys(p, t, b); j++) {
        const uint64_t own = hash(key + 6000, (b * p->kv_heads + h) * p->kv_len + j);
        const int64_t all = p->q_heads / p->kv_heads * attend_reference_queries(p, t, b);
        const int64_t count = attending(data, b, h, j);
        if (below(own, 1, count == 0 ? 3 : count < all ? 16 : 64) > 0) continue;
        if (count == 0) fill_kv(data, c, ATTEND_VERIFY_V, v, b, h, j, key);
        spoil_element(data, v, false, b, h, j, below(own, 2, 2), own);
      }
}

/* Makes one element of an attended key NaN or infinite: of a key that only some queries attend, if there is one. */
static void spoil(attend_verify_data *data, const attend_verify_case *c, void *k, void *v, uint64_t key) {
  const attend_problem *p = &data->problem;
  int64_t seen = 0, chosen[3] = {0};
  bool partly = false;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < p->kv_len; j++) {
        const int64_t all = p->q_heads / p->kv_heads * attend_reference_queries(p, &data->tensors, b);
        const int64_t count = attending(data, b, h, j);
        if (count == 0 || (partly && count == all)) continue;
        if (!partly && count < all) partly = true, seen = 0;
        seen++;
        if (below(key, 5000 + seen, seen) == 0) chosen[0] = b, chosen[1] = h, chosen[2] = j;
      }
  if (seen == 0) return;
  const bool in_k = c->nonfinite == ATTEND_VERIFY_NAN_IN_K || c->nonfinite == ATTEND_VERIFY_INF_IN_K;
  const bool both = c->nonfinite == ATTEND_VERIFY_NAN_IN_BOTH;
  const bool nan = c->nonfinite == ATTEND_VERIFY_NAN_IN_K || c->nonfinite == ATTEND_VERIFY_NAN_IN_V || both;
  if (in_k || both) spoil_element(data, k, true, chosen[0], chosen[1], chosen[2], nan, key);
  if (!in_k) spoil_element(data, v, false, chosen[0], chosen[1], chosen[2], nan, key);
}

/* The same as largest_norm() below, of keys or values, which may be in a format. */
static double largest_norm_of(const attend_verify_data *data, bool of_values, const view *v, double *largest) {
  const int64_t dim = of_values ? data->problem.v_head_dim : data->problem.head_dim;
  double norm = 0;
  *largest = 0;
  for (int64_t at[3] = {0}; at[0] < v->size[0]; at[0]++)
    for (at[1] = 0; at[1] < v->size[1]; at[1]++)
      for (at[2] = 0; at[2] < v->size[2]; at[2]++) {
        const attend_verify_row row = attend_verify_row_at(&data->problem, &data->tensors, of_values, at);
        double sum = 0;
        for (int64_t d = 0; d < dim; d++) {
          const double x = fabs(attend_verify_row_element(&row, d));
          if (!isfinite(x)) continue;
          sum += x * x;
          if (x > *largest) *largest = x;
        }
        if (sum > norm) norm = sum;
      }
  return sqrt(norm);
}

static bool place_scales(attend_verify_data *data, int which, bool wanted, const attend_scaling *s, const view *rows,
                         int64_t dim, uint64_t key, const void **tensor) {
  *tensor = NULL;
  if (!wanted || dim == 0) return true;
  const view v = {{rows->size[0], rows->size[1], rows->size[2], s->group ? dim / s->group : 1},
                  {s->batch, s->head, s->row, s->step}};
  void *first;
  if (!attend_verify_place(data, which, v, attend_verify_dtype_size(s->dtype), key, &first)) return false;
  *tensor = first;
  return true;
}

/* The largest norm of the rows of q, k or v, of the numbers in them that are finite, and the largest of these. */
static double largest_norm(const void *tensor, attend_dtype dtype, const view *v, double *largest) {
  double norm = 0;
  *largest = 0;
  for (int64_t b = 0; b < v->size[0]; b++)
    for (int64_t h = 0; h < v->size[1]; h++)
      for (int64_t l = 0; l < v->size[2]; l++) {
        double sum = 0;
        for (int64_t d = 0; d < v->size[3]; d++) {
          const int64_t index = b * v->stride[0] + h * v->stride[1] + l * v->stride[2] + d;
          const double x = fabs((double)attend_reference_element(tensor, dtype, index));
          if (!isfinite(x)) continue;
          sum += x * x;
          if (x > *largest) *largest = x;
        }
        if (sum > norm) norm = sum;
      }
  return sqrt(norm);
}

static bool fill_qkv(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  const attend_tensors *t = &data->tensors;
  const view qv = view_of_queries(p, p->head_dim, p->q_strides);
  const view kv = view_of_keys(p, attend_verify_row_extent(p->k_dtype, p->head_dim), p->k_strides);
  const view vv = view_of_keys(p, attend_verify_row_extent(p->v_dtype, p->v_head_dim), p->v_strides);
  const attend_scaling *ks = &p->k_scaling, *vs = &p->v_scaling;
  attend_tensors *scales = &data->tensors;
  const size_t q_size = attend_verify_dtype_size(p->q_dtype), k_size = attend_verify_dtype_size(p->k_dtype),
               v_size = attend_verify_dtype_size(p->v_dtype);
  void *q, *k, *v;
  if (c->packed) {
    const int64_t heads = p->q_heads + 2 * p->kv_heads;
    const view all = {{qv.size[0], qv.size[2], heads, p->head_dim},
                      {p->q_strides.batch, p->q_strides.row, p->head_dim, 1}};
    if (!attend_verify_place(data, ATTEND_VERIFY_Q, all, q_size, key, &q)) return false;
    k = q ? (unsigned char *)q + (size_t)(p->q_heads * p->head_dim) * q_size : NULL;
    v = k ? (unsigned char *)k + (size_t)(p->kv_heads * p->head_dim) * q_size : NULL;
  } else if (!attend_verify_place(data, ATTEND_VERIFY_Q, qv, q_size, key, &q) ||
             !attend_verify_place(data, ATTEND_VERIFY_K, kv, k_size, key, &k) ||
             !attend_verify_place(data, ATTEND_VERIFY_V, vv, v_size, key, &v)) {
    return false;
  }
  if (!place_scales(data, ATTEND_VERIFY_K_SCALES, ks->dtype, ks, &kv, p->head_dim, key, &scales->k_scales) ||
      !place_scales(data, ATTEND_VERIFY_V_SCALES, vs->dtype, vs, &vv, p->v_head_dim, key, &scales->v_scales) ||
      !place_scales(data, ATTEND_VERIFY_K_ZERO_POINTS, ks->zero_points, ks, &kv, p->head_dim, key,
                    &scales->k_zero_points) ||
      !place_scales(data, ATTEND_VERIFY_V_ZERO_POINTS, vs->zero_points, vs, &vv, p->v_head_dim, key,
                    &scales->v_zero_points))
    return false;
  data->tensors.k = k, data->tensors.v = v;
  const bool all = scores_of_all(p);
  FOR_EACH_QUERY(data, at)
  if (all || attends_any(data, at[0], at[1], at[2]))
    fill_row(c, p, ATTEND_VERIFY_Q, q, attend_reference_query_at(p, t, &p->q_strides, at[0], at[1], at[2]), at[2], key);
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < attend_reference_keys(p, t, b); j++) {
        const bool some = attending(data, b, h, j) > 0;
        if (all || some) fill_kv(data, c, ATTEND_VERIFY_K, k, b, h, j, key);
        if (some) fill_kv(data, c, ATTEND_VERIFY_V, v, b, h, j, key);
      }
  if (c->nonfinite == ATTEND_VERIFY_SCATTERED_IN_V)
    scatter(data, c, v, key);
  else if (c->nonfinite != ATTEND_VERIFY_FINITE)
    spoil(data, c, k, v, key);

  double unused;
  data->score_size = p->head_dim ? fabs((double)p->scale) / sqrt((double)p->head_dim) : 0;
  data->score_size *= largest_norm(q, p->q_dtype, &qv, &unused) * largest_norm_of(data, false, &kv, &unused);
  if (p->score == ATTEND_SCORE_ADDITIVE) {
    const view wv = {{1, 1, p->q_heads, p->head_dim}, {0, 0, p->head_dim, 1}};
    data->score_size = fabs((double)p->scale) * largest_norm(data->tensors.score_weights, ATTEND_F32, &wv, &unused);
  }
  if (c->values == ATTEND_VERIFY_HUGE_SCORES) data->score_size = 0; /* nothing rounds them */
  largest_norm_of(data, true, &vv, &data->v_max);
  data->tensors.q = q;
  return true;
}

/* -------------------------------------------------------------------------------------------------------- outputs */

static bool place_outputs(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  const view v = view_of_queries(p, p->v_head_dim, p->out_strides);
  const int64_t rows = attend_verify_rows(p);
  const size_t size = attend_verify_dtype_size(p->out_dtype);
  void *out;
  float *lse, *weights, *scores;
  if (!attend_verify_place(data, ATTEND_VERIFY_OUT, v, size, key, &out) ||
      !place_floats(data, ATTEND_VERIFY_LSE, p->lse, rows, key, &lse) ||
      !place_floats(data, ATTEND_VERIFY_WEIGHTS, p->weights, rows * p->kv_len, key, &weights) ||
      !place_floats(data, ATTEND_VERIFY_SCORES, p->scores, rows * p->kv_len, key, &scores))
    return false;
  data->out_owned = calloc(data->buffer[ATTEND_VERIFY_OUT].size / size + 1, 1);
  data->row_owned = calloc((size_t)rows + 1, 1);
  if (!data->out_owned || !data->row_owned) return false;
  /* The buffer begins with the element of the lowest address, which with negative strides is not the first. */
  uint8_t *first =
      data->out_owned + (out ? (size_t)((unsigned char *)out - data->buffer[ATTEND_VERIFY_OUT].data) / size : 0);
  FOR_EACH_QUERY(data, at) {
    data->row_owned[attend_reference_row(p, &data->tensors, at[0], at[1], at[2])] = 1;
    if (p->v_head_dim > 0)
      memset(first + attend_reference_query_at(p, &data->tensors, &p->out_strides, at[0], at[1], at[2]), 1,
             (size_t)p->v_head_dim);
  }
  data->tensors.out = out;
  data->tensors.lse = lse;
  data->tensors.weights = weights;
  data->tensors.scores = scores;
  return true;
}

void attend_verify_clear_outputs(attend_verify_data *data) {
  for (int i = ATTEND_VERIFY_OUT; i < ATTEND_VERIFY_OUT + ATTEND_VERIFY_OUTPUTS; i++)
    if (data->buffer[i].size) memset(data->buffer[i].data, ATTEND_VERIFY_FILL, data->buffer[i].size);
}

/* ------------------------------------------------------------------------------------------------------ everything */

/* Defaults as attend.h states them, filled in independently of dispatch/plan/problem.c. */
static void fill_defaults(attend_problem *p) {
  if (!p->kv_heads) p->kv_heads = p->q_heads;
  if (!p->v_head_dim && !(p->as_given & ATTEND_AS_GIVEN_V_HEAD_DIM)) p->v_head_dim = p->head_dim;
  if (!p->q_dtype) p->q_dtype = ATTEND_F32;
  if (!p->k_dtype) p->k_dtype = p->q_dtype;
  if (!p->v_dtype) p->v_dtype = p->k_dtype;
  if (!p->out_dtype) p->out_dtype = p->q_dtype;
  if (p->scale == 0 && !(p->as_given & ATTEND_AS_GIVEN_SCALE))
    p->scale = p->score == ATTEND_SCORE_ADDITIVE || p->head_dim == 0 ? 1.0f : (float)(1 / sqrt((double)p->head_dim));
  if (p->page_rows && !p->block_table_stride) p->block_table_stride = (p->kv_len + p->page_rows - 1) / p->page_rows;
  if (p->as_given & ATTEND_AS_GIVEN_STRIDES) return;
  const int64_t queries = p->q_starts ? p->q_total : p->q_len;
  const int64_t keys = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : p->kv_len;
  const struct {
    attend_strides *strides;
    int64_t heads, rows, dim;
  } tensors[] = {{&p->q_strides, p->q_heads, queries, p->head_dim},
                 {&p->k_strides, p->kv_heads, keys, attend_verify_row_extent(p->k_dtype, p->head_dim)},
                 {&p->v_strides, p->kv_heads, keys, attend_verify_row_extent(p->v_dtype, p->v_head_dim)},
                 {&p->out_strides, p->q_heads, queries, p->v_head_dim}};
  for (int i = 0; i < 4; i++) {
    attend_strides *s = tensors[i].strides;
    if (!s->batch && !s->head && !s->row)
      *s = attend_verify_contiguous(tensors[i].heads, tensors[i].rows, tensors[i].dim);
  }
}

static void forget(attend_verify_data *data) {
  free(data->attended);
  free(data->row_owned);
  free(data->out_owned);
  data->attended = data->row_owned = data->out_owned = NULL;
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) data->buffer[i].data = NULL, data->buffer[i].size = 0;
}

bool attend_verify_fill(attend_verify_data *data, const attend_verify_case *c) {
  const uint64_t key = attend_verify_key(c);
  forget(data);
  data->problem = c->problem;
  data->tensors = (attend_tensors)ATTEND_TENSORS_INIT;
  data->tensors.dropout_seed = hash(key, 7), data->tensors.dropout_offset = (uint32_t)hash(key, 8);
  attend_problem *p = &data->problem;
  fill_defaults(p);
  data->attended = calloc((size_t)(attend_verify_rows(p) * p->kv_len) + 1, 1);
  if (!data->attended) return false;

  if (!attend_verify_fill_sequences(data, c, hash(key, 1))) return false;
  if (p->mask && !fill_mask(data, c, hash(key, 2))) return false;
  if (p->bias_dtype && !fill_bias(data, c, hash(key, 3))) return false;
  if (!fill_heads(data, c, hash(key, 4))) return false;
  FOR_EACH_PAIR(data, at)
  data->attended[attend_reference_row(p, &data->tensors, at[0], at[1], at[2]) * p->kv_len + at[3]] =
      attend_reference_attends(p, &data->tensors, at[0], at[1], at[2], at[3]);

  if (!fill_qkv(data, c, hash(key, 5)) || !place_outputs(data, hash(key, 6))) return false;
  for (int i = 0; i < ATTEND_VERIFY_OUT; i++)
    if (!attend_guarded_freeze(&data->buffer[i])) return false;
  return true;
}

void attend_verify_data_free(attend_verify_data *data) {
  forget(data);
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) attend_guarded_free(&data->buffer[i]);
}
