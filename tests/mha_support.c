/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mha_support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "layers/linear.h"

enum { PATTERN = 0xa5 };

/* ------------------------------------------------------------------------------------------------------- numbers */

/** As hashed() of record.py. */
static uint32_t hashed(attend_mha_name name, int64_t index) {
  static const uint32_t steps[][2] = {{16, 0x7FEB352D}, {15, 0x846CA68B}, {16, 1}};
  uint32_t x = (uint32_t)index * 0x9E3779B1u + ((uint32_t)name + 1) * 0x85EBCA6Bu;
  for (int i = 0; i < 3; i++) x = (x ^ (x >> steps[i][0])) * steps[i][1];
  return x;
}

/** As number(). */
static float number(attend_mha_name name, int64_t index) {
  const float scale = name <= VALUE ? 0x1p-23f : 0x1p-24f;
  return (float)(hashed(name, index) >> 8) * scale - 0x1p23f * scale;
}

/* -------------------------------------------------------------------------------------------------------- tensors */

static void *allocate(attend_mha_test *x, attend_mha_name name, int64_t count, size_t element) {
  x->bytes[name] = (size_t)count * element;
  x->memory[name] = malloc(x->bytes[name]);
  cr_assert(x->memory[name] || count == 0);
  return x->memory[name];
}

/** Elements from the first of a sequence to one after its last. */
static int64_t reach(int64_t batch, int64_t len, int64_t dim, attend_sequence_strides s) {
  return batch && len ? (batch - 1) * s.batch + (len - 1) * s.row + dim : 0;
}

static attend_sequence_strides lay_out(int64_t batch, int64_t len, int64_t dim, attend_mha_order order) {
  if (order == SEQUENCE_FIRST) return (attend_sequence_strides){dim, batch * dim};
  if (order == WITH_GAPS) return (attend_sequence_strides){len * (dim + 3) + 5, dim + 3};
  return (attend_sequence_strides){0, 0};
}

static attend_sequence_strides actual(attend_sequence_strides s, int64_t len, int64_t dim) {
  return s.batch == 0 && s.row == 0 ? (attend_sequence_strides){len * dim, dim} : s;
}

static const float *make_sequence(attend_mha_test *x, attend_mha_name name, int64_t len, int64_t dim,
                                  attend_sequence_strides strides) {
  const attend_sequence_strides s = actual(strides, len, dim);
  const int64_t count = reach(x->p.batch, len, dim, s);
  float *to = allocate(x, name, count, sizeof *to);
  for (int64_t i = 0; i < count; i++) to[i] = NAN;
  for (int64_t b = 0; b < x->p.batch; b++)
    for (int64_t i = 0; i < len; i++)
      for (int64_t d = 0; d < dim; d++) to[b * s.batch + i * s.row + d] = number(name, (b * len + i) * dim + d);
  return to;
}

static const float *make_numbers(attend_mha_test *x, attend_mha_name name, int64_t count) {
  float *to = allocate(x, name, count, sizeof *to);
  for (int64_t i = 0; i < count; i++) to[i] = number(name, i);
  return to;
}

/** record.py's numbers are those of (out, in). */
static const float *make_weight(attend_mha_test *x, attend_mha_name name, int64_t out, int64_t in) {
  float *to = allocate(x, name, out * in, sizeof *to);
  const bool out_in = x->p.weight_layout == ATTEND_WEIGHT_OUT_IN;
  for (int64_t o = 0; o < out; o++)
    for (int64_t i = 0; i < in; i++) to[out_in ? o * in + i : i * out + o] = number(name, o * in + i);
  return to;
}

static const void *make_mask(attend_mha_test *x, attend_mha_name name, attend_layer_mask kind, int64_t rows,
                             int64_t keys) {
  if (kind == ATTEND_LAYER_MASK_NONE) return NULL;
  const bool bytes = kind == ATTEND_LAYER_MASK_IGNORE;
  void *to = allocate(x, name, rows * keys, bytes ? 1 : sizeof(float));
  for (int64_t i = 0; i < rows * keys; i++) {
    const uint32_t bits = hashed(name, i);
    const bool first = i % keys == 0;
    if (bytes)
      ((uint8_t *)to)[i] = bits % 4 == 0 && !first;
    else
      ((float *)to)[i] = bits % 8 == 0 && !first ? -INFINITY : number(name, i);
  }
  return to;
}

int64_t attend_mha_test_keys(const attend_mha_problem *p) {
  return p->cache_len ? p->cache_len : p->kv_len + p->bias_kv + p->add_zero_attn;
}

static void make_outputs(attend_mha_test *x) {
  const attend_mha_problem *p = &x->p;
  const int64_t dim = p->out_proj ? p->embed_dim : p->q_heads * p->v_head_dim;
  x->t.out = allocate(x, MHA_OUT, reach(p->batch, p->q_len, dim, actual(p->out_strides, p->q_len, dim)), sizeof(float));
  const int64_t heads = p->weights == ATTEND_LAYER_WEIGHTS_PER_HEAD ? p->q_heads : 1;
  if (p->weights)
    x->t.weights =
        allocate(x, MHA_WEIGHTS, p->batch * heads * p->q_len * attend_mha_test_keys(p), sizeof *x->t.weights);
  if (p->cache_len) {
    const int64_t rows = p->batch * p->cache_len * p->kv_heads;
    x->t.k_cache = allocate(x, K_CACHE, rows * p->head_dim, sizeof(float));
    x->t.v_cache = allocate(x, V_CACHE, rows * p->v_head_dim, sizeof(float));
    int32_t *past = allocate(x, PAST, p->batch, sizeof *past);
    memset(past, 0, x->bytes[PAST]);
    x->t.past = past;
  }
}

attend_mha_test attend_mha_test_create(const attend_mha_problem *problem, bool self_attention, bool bias,
                                       attend_mha_order order) {
  attend_mha_test x = {.p = *problem, .t = ATTEND_MHA_TENSORS_INIT};
  attend_mha_problem *p = &x.p;
  const int64_t q_size = p->q_heads * p->head_dim, k_size = p->kv_heads * p->head_dim;
  const int64_t v_size = p->kv_heads * p->v_head_dim, o_size = p->q_heads * p->v_head_dim;
  p->query_strides = lay_out(p->batch, p->q_len, p->embed_dim, order);
  p->key_strides = lay_out(p->batch, p->kv_len, p->k_dim, order);
  p->value_strides = lay_out(p->batch, p->kv_len, p->v_dim, order);
  p->out_strides = lay_out(p->batch, p->q_len, p->out_proj ? p->embed_dim : o_size, order);
  x.t.query = x.t.key = x.t.value = make_sequence(&x, QUERY, p->q_len, p->embed_dim, p->query_strides);
  if (!self_attention) {
    x.t.key = make_sequence(&x, KEY, p->kv_len, p->k_dim, p->key_strides);
    x.t.value = make_sequence(&x, VALUE, p->kv_len, p->v_dim, p->value_strides);
  }
  x.t.q_weight = make_weight(&x, Q_WEIGHT, q_size, p->embed_dim);
  x.t.k_weight = make_weight(&x, K_WEIGHT, k_size, p->k_dim);
  x.t.v_weight = make_weight(&x, V_WEIGHT, v_size, p->v_dim);
  if (p->out_proj) x.t.out_weight = make_weight(&x, OUT_WEIGHT, p->embed_dim, o_size);
  if (bias) {
    x.t.q_bias = make_numbers(&x, Q_BIAS, q_size);
    x.t.k_bias = make_numbers(&x, K_BIAS, k_size);
    x.t.v_bias = make_numbers(&x, V_BIAS, v_size);
    if (p->out_proj) x.t.out_bias = make_numbers(&x, OUT_BIAS, p->embed_dim);
  }
  if (p->bias_kv) {
    x.t.bias_k = make_numbers(&x, BIAS_K, k_size);
    x.t.bias_v = make_numbers(&x, BIAS_V, v_size);
  }
  const int64_t keys = p->cache_len ? p->cache_len : p->kv_len;
  x.t.key_padding_mask = make_mask(&x, KEY_PADDING_MASK, p->key_padding_mask, p->batch, keys);
  x.t.attn_mask =
      make_mask(&x, ATTN_MASK, p->attn_mask, (p->attn_mask_per_head ? p->batch * p->q_heads : 1) * p->q_len, keys);
  make_outputs(&x);
  attend_mha_test_reset(&x);
  return x;
}

void attend_mha_test_destroy(attend_mha_test *x) {
  for (int i = 0; i < MHA_TENSORS; i++) free(x->memory[i]);
}

static bool is_written(int name) { return name >= MHA_OUT && name <= V_CACHE; }

void attend_mha_test_reset(attend_mha_test *x) {
  for (int i = 0; i < MHA_TENSORS; i++)
    if (is_written(i) && x->memory[i]) memset(x->memory[i], PATTERN, x->bytes[i]);
}

static bool has_pattern(const void *memory, size_t bytes) {
  for (size_t j = 0; j < bytes; j++)
    if (((const unsigned char *)memory)[j] != PATTERN) return false;
  return true;
}

bool attend_mha_test_untouched(const attend_mha_test *x) {
  for (int i = 0; i < MHA_TENSORS; i++)
    if (is_written(i) && x->memory[i] && !has_pattern(x->memory[i], x->bytes[i])) return false;
  return true;
}

static int64_t out_dim(const attend_mha_problem *p) { return p->out_proj ? p->embed_dim : p->q_heads * p->v_head_dim; }

const float *attend_mha_test_row(const attend_mha_test *x, int64_t b, int64_t i) {
  const attend_sequence_strides s = actual(x->p.out_strides, x->p.q_len, out_dim(&x->p));
  return x->t.out + b * s.batch + i * s.row;
}

bool attend_mha_test_gaps_untouched(const attend_mha_test *x) {
  const attend_mha_problem *p = &x->p;
  const int64_t dim = out_dim(p), gap = p->out_strides.row - dim;
  if (p->out_strides.row == 0 || p->out_strides.batch < p->out_strides.row) return true;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t i = 0; i + 1 < p->q_len; i++)
      if (!has_pattern(attend_mha_test_row(x, b, i) + dim, (size_t)gap * sizeof(float))) return false;
  return true;
}

bool attend_mha_test_blas(void) {
  if (attend_linear_blas()) return true;
  attend_mha_plan *plan = NULL;
  attend_mha_problem problem = ATTEND_MHA_PROBLEM_INIT;
  problem.batch = problem.q_len = problem.kv_len = problem.embed_dim = problem.q_heads = 1;
  cr_assert_eq(attend_mha_plan_create(&problem, NULL, &plan), ATTEND_ERROR_UNSUPPORTED);
  cr_assert(strstr(attend_error_detail(), "built without a BLAS"), "%s", attend_error_detail());
  cr_assert(strstr(attend_error_detail(), "install OpenBLAS (Debian's libopenblas-dev)"), "%s", attend_error_detail());
  cr_assert_null(plan);
  printf("built without a BLAS: only that it says so is tested\n");
  return false;
}

void attend_mha_test_run(const attend_mha_problem *p, const attend_mha_tensors *t, int threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = threads;
  attend_mha_plan *plan;
  cr_assert_eq(attend_mha_plan_create(p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  const size_t size = attend_mha_plan_workspace_size(plan);
  void *workspace = NULL;
  cr_assert_eq(posix_memalign(&workspace, ATTEND_WORKSPACE_ALIGNMENT, size), 0);
  memset(workspace, 0xff, size);
  attend_fail_allocation(0);
  cr_assert_eq(attend_mha_plan_run(plan, t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  cr_assert_eq(attend_fail_allocation(0), 0, "a run with a workspace allocates");
  free(workspace);
  attend_mha_plan_destroy(plan);
}
