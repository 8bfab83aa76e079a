/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATTERN = 0xa5 };

const char *const attend_test_names[TENSORS] = {
    "q", "k", "v", "out", "kv_lengths", "mask", "bias", "alibi_slopes", "sinks", "lse", "weights", "score_weights"};

static const bool is_output[TENSORS] = {[OUT] = true, [LSE] = true, [WEIGHTS] = true};

/* ------------------------------------------------------------------------------------------------------- problems */

attend_problem attend_test_problem(int64_t batch, int64_t q_heads, int64_t kv_heads, int64_t q_len, int64_t kv_len,
                                   int64_t head_dim) {
  attend_problem problem = ATTEND_PROBLEM_INIT;
  problem.batch = batch, problem.q_heads = q_heads, problem.kv_heads = kv_heads;
  problem.q_len = q_len, problem.kv_len = kv_len, problem.head_dim = head_dim;
  return problem;
}

attend_problem attend_test_full_problem(void) {
  attend_problem problem = attend_test_problem(2, 4, 2, 5, 9, 8);
  problem.v_head_dim = 6;
  problem.scale = 0.5f, problem.softcap = 20;
  problem.causal = ATTEND_CAUSAL_OFFSET, problem.causal_offset = 3;
  problem.window = 1, problem.window_left = 6, problem.window_right = 2;
  problem.kv_lengths = ATTEND_LENGTHS_PER_BATCH;
  problem.mask = 1, problem.mask_strides = (attend_strides4){5 * 9, 0, 9, 1};
  problem.bias_dtype = ATTEND_F32, problem.bias_strides = (attend_strides4){0, 5 * 9, 9, 1};
  problem.alibi = 1, problem.sinks = 1, problem.lse = 1, problem.weights = 1;
  return problem;
}

/* -------------------------------------------------------------------------------------------------------- tensors */

/* The next number of a splitmix64 sequence. */
static uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

/* Numbers of either sign with a magnitude from 2^-3 to 2, put together from random bits: no conversion needed. */
static void fill_numbers(void *memory, size_t count, attend_dtype dtype, uint64_t seed) {
  for (size_t i = 0; i < count; i++) {
    uint32_t random = (uint32_t)next_random(&seed);
    uint32_t sign = random >> 31, exponent = random >> 24 & 3, mantissa = random & 0x7fffff;
    uint32_t f32 = sign << 31 | (124 + exponent) << 23 | mantissa;
    uint16_t f16 = (uint16_t)(sign << 15 | (12 + exponent) << 10 | mantissa >> 13), bf16 = (uint16_t)(f32 >> 16);
    switch (dtype) {
    case ATTEND_F16: memcpy((char *)memory + i * 2, &f16, 2); break;
    case ATTEND_BF16: memcpy((char *)memory + i * 2, &bf16, 2); break;
    default: memcpy((char *)memory + i * 4, &f32, 4); break;
    }
  }
}

static size_t spanned(const attend_problem *p, attend_strides4 s) {
  if (p->batch == 0 || p->q_heads == 0 || p->q_len == 0 || p->kv_len == 0) return 0;
  return (size_t)((p->batch - 1) * s.batch + (p->q_heads - 1) * s.head + (p->q_len - 1) * s.query +
                  (p->kv_len - 1) * s.key + 1);
}

void attend_test_point(attend_tensors *tensors, attend_test_name name, void *address) {
  switch (name) {
  case Q: tensors->q = address; break;
  case K: tensors->k = address; break;
  case V: tensors->v = address; break;
  case OUT: tensors->out = address; break;
  case KV_LENGTHS: tensors->kv_lengths = address; break;
  case MASK: tensors->mask = address; break;
  case BIAS: tensors->bias = address; break;
  case ALIBI_SLOPES: tensors->alibi_slopes = address; break;
  case SINKS: tensors->sinks = address; break;
  case LSE: tensors->lse = address; break;
  case WEIGHTS: tensors->weights = address; break;
  case SCORE_WEIGHTS: tensors->score_weights = address; break;
  case TENSORS: break;
  }
}

attend_test_tensors attend_test_tensors_create(const attend_problem *p) {
  attend_test_tensors tensors = {.t = ATTEND_TENSORS_INIT};
  const attend_dtype q = p->q_dtype ? p->q_dtype : ATTEND_F32, kv = p->k_dtype ? p->k_dtype : q;
  const attend_dtype out = p->out_dtype ? p->out_dtype : q;
  const size_t batch = (size_t)p->batch, q_heads = (size_t)p->q_heads, q_len = (size_t)p->q_len;
  const size_t kv_heads = p->kv_heads ? (size_t)p->kv_heads : q_heads, kv_len = (size_t)p->kv_len;
  const size_t dim = (size_t)p->head_dim, v_dim = p->v_head_dim ? (size_t)p->v_head_dim : dim;
  const size_t lengths = p->kv_lengths == ATTEND_LENGTHS_PER_BATCH   ? batch
                         : p->kv_lengths == ATTEND_LENGTHS_PER_QUERY ? batch * q_len
                                                                     : 0;
  const size_t counts[TENSORS] = {
      [Q] = batch * q_heads * q_len * dim,
      [K] = batch * kv_heads * kv_len * dim,
      [V] = batch * kv_heads * kv_len * v_dim,
      [OUT] = batch * q_heads * q_len * v_dim,
      [KV_LENGTHS] = lengths,
      [MASK] = p->mask ? spanned(p, p->mask_strides) : 0,
      [BIAS] = p->bias_dtype ? spanned(p, p->bias_strides) : 0,
      [ALIBI_SLOPES] = p->alibi ? q_heads : 0,
      [SINKS] = p->sinks ? q_heads : 0,
      [LSE] = p->lse ? batch * q_heads * q_len : 0,
      [WEIGHTS] = p->weights ? batch * q_heads * q_len * kv_len : 0,
      [SCORE_WEIGHTS] = p->score == ATTEND_SCORE_ADDITIVE ? q_heads * dim : 0,
  };
  const attend_dtype dtypes[TENSORS] = {[Q] = q, [K] = kv, [V] = kv, [OUT] = out, [BIAS] = p->bias_dtype};
  for (attend_test_name name = Q; name < TENSORS; name++) {
    tensors.element[name] = name == MASK ? 1 : dtypes[name] ? attend_dtype_size(dtypes[name]) : 4;
    tensors.bytes[name] = counts[name] * tensors.element[name];
    if (counts[name] == 0) continue;
    void *memory = tensors.memory[name] = malloc(tensors.bytes[name]);
    cr_assert_not_null(memory);
    attend_test_point(&tensors.t, name, memory);
    if (name == KV_LENGTHS) {
      for (size_t i = 0; i < lengths; i++) ((int32_t *)memory)[i] = (int32_t)(kv_len - i * 3 % (kv_len + 1));
    } else if (name == MASK) {
      uint64_t state = MASK;
      for (size_t i = 0; i < counts[MASK]; i++) ((uint8_t *)memory)[i] = next_random(&state) % 8 != 0;
    } else {
      fill_numbers(memory, counts[name], dtypes[name], name);
    }
  }
  attend_test_reset(&tensors);
  return tensors;
}

void attend_test_tensors_destroy(attend_test_tensors *tensors) {
  for (attend_test_name name = Q; name < TENSORS; name++) free(tensors->memory[name]);
  *tensors = (attend_test_tensors){.t = ATTEND_TENSORS_INIT};
}

void attend_test_reset(attend_test_tensors *tensors) {
  for (attend_test_name name = Q; name < TENSORS; name++) {
    if (is_output[name] && tensors->memory[name]) memset(tensors->memory[name], PATTERN, tensors->bytes[name]);
  }
}

bool attend_test_untouched(const attend_test_tensors *tensors) {
  for (attend_test_name name = Q; name < TENSORS; name++) {
    for (size_t i = 0; is_output[name] && i < tensors->bytes[name]; i++) {
      if (((const uint8_t *)tensors->memory[name])[i] != PATTERN) return false;
    }
  }
  return true;
}

bool attend_test_written(const attend_test_tensors *tensors) {
  uint8_t pattern[4];
  memset(pattern, PATTERN, sizeof pattern);
  for (attend_test_name name = Q; name < TENSORS; name++) {
    for (size_t i = 0; is_output[name] && i < tensors->bytes[name]; i += tensors->element[name]) {
      if (memcmp((const char *)tensors->memory[name] + i, pattern, tensors->element[name]) == 0) return false;
    }
  }
  return true;
}

bool attend_test_same(const attend_test_tensors *a, const attend_test_tensors *b) {
  for (attend_test_name name = Q; name < TENSORS; name++) {
    if (!is_output[name]) continue;
    if (a->bytes[name] != b->bytes[name]) return false;
    if (a->bytes[name] && memcmp(a->memory[name], b->memory[name], a->bytes[name]) != 0) return false;
  }
  return true;
}

/* ---------------------------------------------------------------------------------------------------------- plans */

bool attend_test_runnable(const attend_kernel *kernel) {
  attend_env env;
  cr_assert_eq(attend_env_read(&env), ATTEND_OK, "%s", attend_error_detail());
  return attend_kernel_runnable(kernel, env.isa, NULL, 0);
}

bool attend_test_can(const attend_kernel *kernel, const attend_problem *problem) {
  attend_resolved resolved;
  cr_assert_eq(attend_resolve(problem, &resolved), ATTEND_OK, "%s", attend_error_detail());
  return attend_test_runnable(kernel) && attend_kernel_can(kernel, &resolved, NULL, 0);
}

attend_problem attend_test_typed_for(const attend_kernel *kernel, attend_problem problem) {
  problem.q_dtype = problem.k_dtype = problem.out_dtype = kernel->compute;
  return problem;
}

attend_plan *attend_test_plan(const attend_problem *problem, const char *kernel, int num_threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.kernel = kernel, options.num_threads = num_threads;
  attend_plan *plan = NULL;
  attend_status status = attend_plan_create(problem, &options, &plan);
  cr_assert_eq(status, ATTEND_OK, "%s: %s", attend_status_string(status), attend_error_detail());
  cr_assert_not_null(plan);
  return plan;
}

void *attend_test_workspace(const attend_plan *plan, size_t *size) {
  *size = attend_plan_workspace_size(plan);
  if (*size == 0) return NULL;
  const size_t unit = ATTEND_WORKSPACE_ALIGNMENT;
  void *workspace = aligned_alloc(unit, (*size + unit - 1) / unit * unit);
  cr_assert_not_null(workspace);
  memset(workspace, 0xff, *size);
  return workspace;
}

attend_test_tensors attend_test_run(const attend_plan *plan, const attend_problem *problem) {
  attend_test_tensors tensors = attend_test_tensors_create(problem);
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  attend_status status = attend_plan_run(plan, &tensors.t, workspace, size);
  cr_assert_eq(status, ATTEND_OK, "%s: %s", attend_status_string(status), attend_error_detail());
  cr_assert(attend_test_written(&tensors), "%s did not write all of its output", attend_plan_kernel(plan));
  free(workspace);
  return tensors;
}

/* --------------------------------------------------------------------------------------------------------- errors */

static const char stale[] = "left over from an earlier call";

void attend_test_forget_detail(void) { attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s", stale); }

static bool word_character(int c) { return isalnum(c) || c == '_'; }

bool attend_test_has_word(const char *text, const char *word) {
  const size_t length = strlen(word);
  for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
    bool begins = at == text || !word_character((unsigned char)at[-1]);
    if (begins && !word_character((unsigned char)at[length])) return true;
  }
  return false;
}

void attend_test_expect_error(attend_status got, attend_status expected, const char *field, const char *value,
                              const char *what) {
  const char *detail = attend_error_detail();
  cr_expect_eq(got, expected, "%s: \"%s\" instead of \"%s\" (%s)", what, attend_status_string(got),
               attend_status_string(expected), detail);
  cr_expect_str_neq(detail, "", "%s: no detail", what);
  cr_expect_str_neq(detail, stale, "%s: no detail of its own", what);
  cr_expect_null(strpbrk(detail, "\r\n"), "%s: more than one line: %s", what, detail);
  if (field) cr_expect(attend_test_has_word(detail, field), "%s: the detail does not name %s: %s", what, field, detail);
  if (value) cr_expect_not_null(strstr(detail, value), "%s: the detail does not show %s: %s", what, value, detail);
}

void attend_test_refuses(const attend_problem *problem, const attend_options *options, attend_status expected,
                         const char *field, const char *value, const char *what) {
  int anything;
  attend_plan *const before = (attend_plan *)&anything;
  attend_plan *plan = before;
  attend_test_forget_detail();
  attend_status got = attend_plan_create(problem, options, &plan);
  attend_test_expect_error(got, expected, field, value, what);
  cr_expect_eq(plan, before, "%s: *plan was touched", what);
  if (got == ATTEND_OK) attend_plan_destroy(plan);
}

void attend_test_accepts(const attend_problem *problem, const attend_options *options, const char *what) {
  attend_plan *plan = NULL;
  attend_status status = attend_plan_create(problem, options, &plan);
  cr_expect_eq(status, ATTEND_OK, "%s: %s: %s", what, attend_status_string(status), attend_error_detail());
  cr_expect_eq(plan != NULL, status == ATTEND_OK, "%s: status and plan do not agree", what);
  attend_plan_destroy(plan);
}
