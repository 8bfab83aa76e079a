/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "verify/internal.h"
#include "verify/reference.h"

const char *const attend_verify_buffer_names[ATTEND_VERIFY_BUFFER_COUNT] = {
    "q",   "k",   "v",       "kv_lengths", "mask", "bias", "alibi_slopes", "sinks", "score_weights",
    "out", "lse", "weights", "workspace"};

/* Filled with this, an element of every floating type is NaN, one of the mask says "attend", and a length is -1. */
enum { POISON = 0xff };

/* Tensors by their four strides. The numbers of an element follow from its place, so that aliases agree. */
typedef struct view {
  int64_t size[4], stride[4];
} view;

static view view_of(int64_t batch, int64_t heads, int64_t rows, int64_t dim, attend_strides s) {
  return (view){{batch, heads, rows, dim}, {s.batch, s.head, s.row, 1}};
}

static view view_of4(const attend_problem *p, attend_strides4 s) {
  return (view){{p->batch, p->q_heads, p->q_len, p->kv_len}, {s.batch, s.head, s.query, s.key}};
}

/* ------------------------------------------------------------------------------------------------------ placement */

/* Places a buffer of `count` elements against one of its guard pages, or some elements away from one. */
static bool place_elements(attend_verify_data *data, int which, int64_t count, size_t size, uint64_t key) {
  const unsigned char fill = which >= ATTEND_VERIFY_OUT ? ATTEND_VERIFY_FILL : POISON;
  const uint64_t choice = hash(key, 1000 + which);
  const size_t gap = choice % 4 < 2 ? 0 : (size_t)(choice / 8 % 17) * size;
  return attend_guarded_place(&data->buffer[which], (size_t)count * size, gap, choice / 4 % 2, fill);
}

/* Places a tensor and finds its first element. One without elements is NULL, or has an address that none may touch. */
static bool place_view(attend_verify_data *data, int which, view v, size_t size, uint64_t key, void **first) {
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

static bool place_contiguous(attend_verify_data *data, int which, int64_t count, size_t size, uint64_t key,
                             void **first) {
  return place_view(data, which, (view){{1, 1, 1, count}, {0, 0, 0, 1}}, size, key, first);
}

/* ------------------------------------------------------------------------------------------------- random numbers */

/* Near enough to a normal distribution of variance 1: the sum of four even ones. */
static float normal(uint64_t key, int64_t index) {
  const uint64_t x = hash(key, index);
  const uint64_t sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
  return ((float)sum / 65536.0f - 2.0f) * 1.7320508f;
}

static int64_t below(uint64_t key, int64_t index, int64_t bound) {
  return bound > 0 ? (int64_t)(hash(key, index) % (uint64_t)bound) : 0;
}

/* --------------------------------------------------------------------------------------- what is attended, and bias */

/* Whether a pattern excludes an element, which `at` gives with 0 where the tensor is broadcast. */
static bool excluded(attend_verify_pattern pattern, uint64_t key, unsigned over, const int64_t at[4],
                     const attend_problem *p) {
  const int64_t b = over & ATTEND_VERIFY_OVER_BATCH ? 0 : at[0], h = over & ATTEND_VERIFY_OVER_HEADS ? 0 : at[1];
  const int64_t i = over & ATTEND_VERIFY_OVER_QUERIES ? 0 : at[2], j = over & ATTEND_VERIFY_OVER_KEYS ? 0 : at[3];
  const uint64_t any = hash(key, ((b * p->q_heads + h) * p->q_len + i) * p->kv_len + j);
  static const int64_t runs[] = {8, 64, 150, 300};
  switch (pattern) {
  case ATTEND_VERIFY_NOTHING: return false;
  case ATTEND_VERIFY_ALL: return true;
  case ATTEND_VERIFY_MOST: return any % 20 != 0;
  case ATTEND_VERIFY_ROWS: return i % 3 == 1 || any % 4 == 0;
  case ATTEND_VERIFY_BLOCKS: return j / runs[key % 4] % 2 == (int64_t)(key / 4 % 2) || any % 8 == 0;
  default: return any % 3 == 0;
  }
}

static int64_t index4(attend_strides4 s, const int64_t at[4]) {
  return at[0] * s.batch + at[1] * s.head + at[2] * s.query + at[3] * s.key;
}

/* Calls for every (b, h, i, j) of a problem. */
#define FOR_EACH_PAIR(p, at)                                                                                           \
  for (int64_t at[4] = {0}; at[0] < (p)->batch; at[0]++)                                                               \
    for (at[1] = 0; at[1] < (p)->q_heads; at[1]++)                                                                     \
      for (at[2] = 0; at[2] < (p)->q_len; at[2]++)                                                                     \
        for (at[3] = 0; at[3] < (p)->kv_len; at[3]++)

static bool fill_lengths(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  const int64_t count = p->kv_lengths == ATTEND_LENGTHS_PER_QUERY ? p->batch * p->q_len : p->batch;
  void *first;
  if (!place_contiguous(data, ATTEND_VERIFY_LENGTHS, count, sizeof(int32_t), key, &first)) return false;
  int32_t *lengths = first;
  for (int64_t i = 0; i < count; i++) {
    const int64_t choice = below(key, 2 * i, 8);
    lengths[i] = (int32_t)(choice == 0 ? 0 : choice == 1 ? p->kv_len : below(key, 2 * i + 1, p->kv_len + 1));
  }
  data->tensors.kv_lengths = lengths;
  return true;
}

static bool fill_mask(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  void *first;
  if (!place_view(data, ATTEND_VERIFY_MASK, view_of4(p, p->mask_strides), 1, key, &first)) return false;
  uint8_t *mask = first;
  FOR_EACH_PAIR(p, at) {
    const int64_t index = index4(p->mask_strides, at);
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
  if (!place_view(data, ATTEND_VERIFY_BIAS, view_of4(p, p->bias_strides), attend_verify_dtype_size(dtype), key, &bias))
    return false;
  p->bias_dtype = ATTEND_DTYPE_DEFAULT;
  FOR_EACH_PAIR(p, at) {
    if (!attend_reference_attends(p, &data->tensors, at[0], at[1], at[2], at[3])) continue;
    const int64_t index = index4(p->bias_strides, at);
    attend_verify_store(bias, dtype, index,
                        excluded(c->bias_pattern, key, c->bias_over, at, p) ? -INFINITY : normal(key, ~index));
  }
  p->bias_dtype = dtype;
  data->tensors.bias = bias;
  return true;
}

static bool fill_heads(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  void *slopes = NULL, *sinks = NULL, *weights = NULL;
  const int64_t score_weights = p->score == ATTEND_SCORE_ADDITIVE ? p->q_heads * p->head_dim : 0;
  if (p->alibi && !place_contiguous(data, ATTEND_VERIFY_ALIBI, p->q_heads, sizeof(float), key, &slopes)) return false;
  if (p->sinks && !place_contiguous(data, ATTEND_VERIFY_SINKS, p->q_heads, sizeof(float), key, &sinks)) return false;
  if (score_weights &&
      !place_contiguous(data, ATTEND_VERIFY_SCORE_WEIGHTS, score_weights, sizeof(float), key, &weights))
    return false;
  for (int64_t i = 0; i < score_weights; i++) ((float *)weights)[i] = normal(key + 1, i);
  for (int64_t h = 0; p->alibi && h < p->q_heads; h++) ((float *)slopes)[h] = exp2f(-1.0f - (float)(h % 8));
  const float size = c->values == ATTEND_VERIFY_LARGE ? 5e3f : 2.0f;
  for (int64_t h = 0; p->sinks && h < p->q_heads; h++) ((float *)sinks)[h] = size * normal(key, h);
  data->tensors.alibi_slopes = slopes;
  data->tensors.sinks = sinks;
  data->tensors.score_weights = weights;
  return true;
}

/* ---------------------------------------------------------------------------------------------------- q, k and v */

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
  default: return x;
  }
}

static bool attended(const attend_verify_data *data, int64_t b, int64_t h, int64_t i, int64_t j) {
  const attend_problem *p = &data->problem;
  return data->attended[((b * p->q_heads + h) * p->q_len + i) * p->kv_len + j];
}

/* How many of the queries of a head group attend a key. */
static int64_t attending(const attend_verify_data *data, int64_t b, int64_t kv_head, int64_t j) {
  const attend_problem *p = &data->problem;
  const int64_t group = p->q_heads / p->kv_heads;
  int64_t count = 0;
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++)
    for (int64_t i = 0; i < p->q_len; i++) count += attended(data, b, h, i, j);
  return count;
}

static bool attends_any(const attend_verify_data *data, int64_t b, int64_t h, int64_t i) {
  for (int64_t j = 0; j < data->problem.kv_len; j++)
    if (attended(data, b, h, i, j)) return true;
  return false;
}

static void fill_row(const attend_verify_case *c, const attend_problem *p, int which, void *tensor, attend_dtype dtype,
                     const view *v, const int64_t at[3], uint64_t key) {
  const int64_t first = at[0] * v->stride[0] + at[1] * v->stride[1] + at[2] * v->stride[2];
  for (int64_t d = 0; d < v->size[3]; d++)
    attend_verify_store(tensor, dtype, first + d, number(c, p, which, key, at[2], d, first + d));
}

/* Gives one element of a key that is attended, by some queries only if there is such a key, a value that is none. */
static void spoil(attend_verify_data *data, const attend_verify_case *c, void *k, void *v, uint64_t key) {
  const attend_problem *p = &data->problem;
  const int64_t all = p->kv_heads ? p->q_heads / p->kv_heads * p->q_len : 0;
  int64_t seen = 0, chosen[3] = {0};
  bool partly = false;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < p->kv_len; j++) {
        const int64_t count = attending(data, b, h, j);
        if (count == 0 || (partly && count == all)) continue;
        if (!partly && count < all) partly = true, seen = 0;
        seen++;
        if (below(key, 5000 + seen, seen) == 0) chosen[0] = b, chosen[1] = h, chosen[2] = j;
      }
  if (seen == 0) return;
  const bool in_k = c->nonfinite == ATTEND_VERIFY_NAN_IN_K || c->nonfinite == ATTEND_VERIFY_INF_IN_K;
  const bool nan = c->nonfinite == ATTEND_VERIFY_NAN_IN_K || c->nonfinite == ATTEND_VERIFY_NAN_IN_V;
  const attend_strides s = in_k ? p->k_strides : p->v_strides;
  const int64_t d = below(key, 4000, in_k ? p->head_dim : p->v_head_dim);
  /* A payload of all ones is the NaN that is the easiest to lose when it is rounded to bf16. */
  attend_verify_store(in_k ? k : v, in_k ? p->k_dtype : p->v_dtype,
                      chosen[0] * s.batch + chosen[1] * s.head + chosen[2] * s.row + d,
                      nan                   ? nanf("0x3fffff")
                      : below(key, 4001, 2) ? INFINITY
                                            : -INFINITY);
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
  const view qv = view_of(p->batch, p->q_heads, p->q_len, p->head_dim, p->q_strides);
  const view kv = view_of(p->batch, p->kv_heads, p->kv_len, p->head_dim, p->k_strides);
  const view vv = view_of(p->batch, p->kv_heads, p->kv_len, p->v_head_dim, p->v_strides);
  const size_t q_size = attend_verify_dtype_size(p->q_dtype), k_size = attend_verify_dtype_size(p->k_dtype),
               v_size = attend_verify_dtype_size(p->v_dtype);
  void *q, *k, *v;
  if (c->packed) {
    const int64_t heads = p->q_heads + 2 * p->kv_heads;
    const view all = {{p->batch, p->q_len, heads, p->head_dim}, {p->q_strides.batch, p->q_strides.row, p->head_dim, 1}};
    if (!place_view(data, ATTEND_VERIFY_Q, all, q_size, key, &q)) return false;
    k = q ? (unsigned char *)q + (size_t)(p->q_heads * p->head_dim) * q_size : NULL;
    v = k ? (unsigned char *)k + (size_t)(p->kv_heads * p->head_dim) * q_size : NULL;
  } else if (!place_view(data, ATTEND_VERIFY_Q, qv, q_size, key, &q) ||
             !place_view(data, ATTEND_VERIFY_K, kv, k_size, key, &k) ||
             !place_view(data, ATTEND_VERIFY_V, vv, v_size, key, &v)) {
    return false;
  }
  for (int64_t b = 0; b < p->batch; b++) {
    for (int64_t h = 0; h < p->q_heads; h++)
      for (int64_t i = 0; i < p->q_len; i++)
        if (attends_any(data, b, h, i)) fill_row(c, p, ATTEND_VERIFY_Q, q, p->q_dtype, &qv, (int64_t[]){b, h, i}, key);
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < p->kv_len; j++) {
        if (attending(data, b, h, j) == 0) continue;
        fill_row(c, p, ATTEND_VERIFY_K, k, p->k_dtype, &kv, (int64_t[]){b, h, j}, key);
        fill_row(c, p, ATTEND_VERIFY_V, v, p->v_dtype, &vv, (int64_t[]){b, h, j}, key);
      }
  }
  if (c->nonfinite != ATTEND_VERIFY_FINITE) spoil(data, c, k, v, key);

  double unused;
  data->score_size = fabs((double)p->scale) / sqrt((double)p->head_dim);
  data->score_size *= largest_norm(q, p->q_dtype, &qv, &unused) * largest_norm(k, p->k_dtype, &kv, &unused);
  if (p->score == ATTEND_SCORE_ADDITIVE) {
    const view wv = {{1, 1, p->q_heads, p->head_dim}, {0, 0, p->head_dim, 1}};
    data->score_size = fabs((double)p->scale) * largest_norm(data->tensors.score_weights, ATTEND_F32, &wv, &unused);
  }
  largest_norm(v, p->v_dtype, &vv, &data->v_max);
  data->tensors.q = q;
  data->tensors.k = k;
  data->tensors.v = v;
  return true;
}

/* -------------------------------------------------------------------------------------------------------- outputs */

static bool place_outputs(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  const view v = view_of(p->batch, p->q_heads, p->q_len, p->v_head_dim, p->out_strides);
  const int64_t rows = p->batch * p->q_heads * p->q_len;
  const size_t size = attend_verify_dtype_size(p->out_dtype);
  void *out, *lse = NULL, *weights = NULL;
  if (!place_view(data, ATTEND_VERIFY_OUT, v, size, key, &out)) return false;
  if (p->lse && !place_contiguous(data, ATTEND_VERIFY_LSE, rows, sizeof(float), key, &lse)) return false;
  if (p->weights && !place_contiguous(data, ATTEND_VERIFY_WEIGHTS, rows * p->kv_len, sizeof(float), key, &weights))
    return false;
  data->out_owned = calloc(data->buffer[ATTEND_VERIFY_OUT].size / size + 1, 1);
  if (!data->out_owned) return false;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->q_heads; h++)
      for (int64_t i = 0; i < p->q_len; i++)
        memset(data->out_owned + b * v.stride[0] + h * v.stride[1] + i * v.stride[2], 1, (size_t)p->v_head_dim);
  data->tensors.out = out;
  data->tensors.lse = lse;
  data->tensors.weights = weights;
  return true;
}

void attend_verify_clear_outputs(attend_verify_data *data) {
  for (int i = ATTEND_VERIFY_OUT; i <= ATTEND_VERIFY_WEIGHTS; i++)
    if (data->buffer[i].size) memset(data->buffer[i].data, ATTEND_VERIFY_FILL, data->buffer[i].size);
}

/* ------------------------------------------------------------------------------------------------------ everything */

/* Defaults as attend.h states them, filled in independently of dispatch/plan/problem.c. */
static void fill_defaults(attend_problem *p) {
  if (!p->kv_heads) p->kv_heads = p->q_heads;
  if (!p->v_head_dim) p->v_head_dim = p->head_dim;
  if (!p->q_dtype) p->q_dtype = ATTEND_F32;
  if (!p->k_dtype) p->k_dtype = p->q_dtype;
  if (!p->v_dtype) p->v_dtype = p->k_dtype;
  if (!p->out_dtype) p->out_dtype = p->q_dtype;
  if (p->scale == 0) p->scale = p->score == ATTEND_SCORE_ADDITIVE ? 1.0f : (float)(1 / sqrt((double)p->head_dim));
  const struct {
    attend_strides *strides;
    int64_t heads, rows, dim;
  } tensors[] = {{&p->q_strides, p->q_heads, p->q_len, p->head_dim},
                 {&p->k_strides, p->kv_heads, p->kv_len, p->head_dim},
                 {&p->v_strides, p->kv_heads, p->kv_len, p->v_head_dim},
                 {&p->out_strides, p->q_heads, p->q_len, p->v_head_dim}};
  for (int i = 0; i < 4; i++) {
    attend_strides *s = tensors[i].strides;
    if (!s->batch && !s->head && !s->row)
      *s = attend_verify_contiguous(tensors[i].heads, tensors[i].rows, tensors[i].dim);
  }
}

static void forget(attend_verify_data *data) {
  free(data->attended);
  free(data->out_owned);
  data->attended = data->out_owned = NULL;
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
  const int64_t pairs = p->batch * p->q_heads * p->q_len * p->kv_len;
  data->attended = calloc((size_t)pairs + 1, 1);
  if (!data->attended) return false;

  if (p->kv_lengths && !fill_lengths(data, hash(key, 1))) return false;
  if (p->mask && !fill_mask(data, c, hash(key, 2))) return false;
  if (p->bias_dtype && !fill_bias(data, c, hash(key, 3))) return false;
  if (!fill_heads(data, c, hash(key, 4))) return false;
  uint8_t *attended = data->attended;
  FOR_EACH_PAIR(p, at)
  *attended++ = attend_reference_attends(p, &data->tensors, at[0], at[1], at[2], at[3]);

  if (!fill_qkv(data, c, hash(key, 5)) || !place_outputs(data, hash(key, 6))) return false;
  for (int i = 0; i < ATTEND_VERIFY_OUT; i++)
    if (!attend_guarded_freeze(&data->buffer[i])) return false;
  return true;
}

void attend_verify_data_free(attend_verify_data *data) {
  forget(data);
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) attend_guarded_free(&data->buffer[i]);
}
