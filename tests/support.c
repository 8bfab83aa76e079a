/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATTERN = 0xa5 };

const char *const attend_test_names[TENSORS] = {
    [Q] = "q",
    [K] = "k",
    [V] = "v",
    [OUT] = "out",
    [KV_LENGTHS] = "kv_lengths",
    [POSITIONS] = "positions",
    [Q_STARTS] = "q_starts",
    [KV_STARTS] = "kv_starts",
    [KV_BEGINS] = "kv_begins",
    [KEY_RANGES] = "key_ranges",
    [BLOCK_TABLE] = "block_table",
    [MASK] = "mask",
    [BIAS] = "bias",
    [BIAS_HEAD_SCALE] = "bias_head_scale",
    [ALIBI_SLOPES] = "alibi_slopes",
    [SINKS] = "sinks",
    [SCORE_WEIGHTS] = "score_weights",
    [LSE] = "lse",
    [WEIGHTS] = "weights",
    [SCORES] = "scores",
};

static const bool is_output[TENSORS] = {[OUT] = true, [LSE] = true, [WEIGHTS] = true, [SCORES] = true};

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
  problem.positions = 1, problem.kv_begins = 1, problem.key_ranges = 1, problem.bias_head_scale = 1;
  problem.alibi = 1, problem.sinks = 1, problem.lse = 1, problem.weights = 1;
  return problem;
}

attend_problem attend_test_packed_problem(void) {
  attend_problem problem = attend_test_full_problem();
  problem.q_starts = 1, problem.q_total = 8, problem.kv_starts = 1, problem.kv_total = 15;
  problem.mask_strides.batch = 0;
  return problem;
}

attend_problem attend_test_paged_problem(void) {
  attend_problem problem = attend_test_full_problem();
  problem.page_rows = 2, problem.pages = 12, problem.block_table_stride = 7;
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

/* Rows of queries of all sequences, or of one where they are not packed. */
static int64_t query_rows(const attend_problem *p) { return p->q_starts ? p->q_total : p->q_len; }

static size_t spanned(const attend_problem *p, attend_strides4 s) {
  if (p->batch == 0 || p->q_heads == 0 || query_rows(p) == 0 || p->kv_len == 0) return 0;
  return (size_t)((p->batch - 1) * s.batch + (p->q_heads - 1) * s.head + (query_rows(p) - 1) * s.query +
                  (p->kv_len - 1) * s.key + 1);
}

void attend_test_point(attend_tensors *tensors, attend_test_name name, void *address) {
  switch (name) {
  case Q: tensors->q = address; break;
  case K: tensors->k = address; break;
  case V: tensors->v = address; break;
  case OUT: tensors->out = address; break;
  case KV_LENGTHS: tensors->kv_lengths = address; break;
  case POSITIONS: tensors->positions = address; break;
  case Q_STARTS: tensors->q_starts = address; break;
  case KV_STARTS: tensors->kv_starts = address; break;
  case KV_BEGINS: tensors->kv_begins = address; break;
  case KEY_RANGES: tensors->key_ranges = address; break;
  case BLOCK_TABLE: tensors->block_table = address; break;
  case MASK: tensors->mask = address; break;
  case BIAS: tensors->bias = address; break;
  case BIAS_HEAD_SCALE: tensors->bias_head_scale = address; break;
  case ALIBI_SLOPES: tensors->alibi_slopes = address; break;
  case SINKS: tensors->sinks = address; break;
  case SCORE_WEIGHTS: tensors->score_weights = address; break;
  case LSE: tensors->lse = address; break;
  case WEIGHTS: tensors->weights = address; break;
  case SCORES: tensors->scores = address; break;
  case TENSORS: break;
  }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The first row of sequence b of packed ones: each is as long as may be while there are rows. */
static int64_t start_of(int64_t b, int64_t most, int64_t total) { return least(b * most, total); }

/* Keys that sequence b has room for. */
static int64_t key_room(const attend_problem *p, int64_t b) {
  if (!p->kv_starts) return p->kv_len;
  return start_of(b + 1, p->kv_len, p->kv_total) - start_of(b, p->kv_len, p->kv_total);
}

static int64_t key_length(const attend_problem *p, int64_t i) {
  const int64_t length = p->kv_len - i * 3 % (p->kv_len + 1);
  return p->kv_lengths == ATTEND_LENGTHS_PER_BATCH ? least(length, key_room(p, i)) : length;
}

static int64_t block_table_entries(const attend_problem *p) { return (p->kv_len + p->page_rows - 1) / p->page_rows; }

static int64_t block_table_stride(const attend_problem *p) {
  return p->block_table_stride ? p->block_table_stride : block_table_entries(p);
}

/* Entry i of a block table: pages from the last to the first, and garbage beyond the keys of a sequence. */
static int32_t block_table_entry(const attend_problem *p, int64_t i) {
  const int64_t b = i / block_table_stride(p), n = i % block_table_stride(p);
  const int64_t keys = p->kv_lengths == ATTEND_LENGTHS_PER_BATCH ? key_length(p, b) : p->kv_len;
  if (n * p->page_rows >= keys) return i % 2 ? INT32_MIN : INT32_MAX;
  return (int32_t)(p->pages - 1 - (b * block_table_entries(p) + n) % p->pages);
}

/* Element i of a tensor of integers. */
static int32_t integer_at(const attend_problem *p, attend_test_name name, int64_t i) {
  switch (name) {
  case KV_LENGTHS: return (int32_t)key_length(p, i);
  case POSITIONS: return (int32_t)(3 + i * 2);
  case Q_STARTS: return (int32_t)start_of(i, p->q_len, p->q_total);
  case KV_STARTS: return (int32_t)start_of(i, p->kv_len, p->kv_total);
  case KV_BEGINS: return (int32_t)(i % 2);
  case KEY_RANGES: return (int32_t)(i % 2 ? p->kv_len + 1 - i / 2 % 3 : i / 2 % 3 - 1);
  default: return block_table_entry(p, i);
  }
}

static bool is_integers(attend_test_name name) { return name >= KV_LENGTHS && name <= BLOCK_TABLE; }

/* Elements of every tensor that a problem has. */
static void count_elements(const attend_problem *p, size_t counts[TENSORS]) {
  const size_t batch = (size_t)p->batch, q_heads = (size_t)p->q_heads, kv_len = (size_t)p->kv_len;
  const size_t kv_heads = p->kv_heads ? (size_t)p->kv_heads : q_heads, dim = (size_t)p->head_dim;
  const size_t v_dim = p->v_head_dim || (p->as_given & ATTEND_AS_GIVEN_V_HEAD_DIM) ? (size_t)p->v_head_dim : dim;
  const size_t queries = p->q_starts ? (size_t)p->q_total : batch * (size_t)p->q_len;
  const size_t keys = p->kv_starts   ? (size_t)p->kv_total
                      : p->page_rows ? (size_t)(p->pages * p->page_rows)
                                     : batch * kv_len;
  const size_t all[TENSORS] = {
      [Q] = q_heads * queries * dim,
      [K] = kv_heads * keys * dim,
      [V] = kv_heads * keys * v_dim,
      [OUT] = q_heads * queries * v_dim,
      [KV_LENGTHS] = p->kv_lengths == ATTEND_LENGTHS_PER_BATCH   ? batch
                     : p->kv_lengths == ATTEND_LENGTHS_PER_QUERY ? queries
                                                                 : 0,
      [POSITIONS] = p->positions ? batch : 0,
      [Q_STARTS] = p->q_starts ? batch + 1 : 0,
      [KV_STARTS] = p->kv_starts ? batch + 1 : 0,
      [KV_BEGINS] = p->kv_begins ? batch : 0,
      [KEY_RANGES] = p->key_ranges ? 2 * queries : 0,
      [BLOCK_TABLE] = p->page_rows && batch && kv_len
                          ? (size_t)((p->batch - 1) * block_table_stride(p) + block_table_entries(p))
                          : 0,
      [MASK] = p->mask ? spanned(p, p->mask_strides) : 0,
      [BIAS] = p->bias_dtype ? spanned(p, p->bias_strides) : 0,
      [BIAS_HEAD_SCALE] = p->bias_dtype && p->bias_head_scale ? q_heads : 0,
      [ALIBI_SLOPES] = p->alibi ? q_heads : 0,
      [SINKS] = p->sinks ? q_heads : 0,
      [SCORE_WEIGHTS] = p->score == ATTEND_SCORE_ADDITIVE ? q_heads * dim : 0,
      [LSE] = p->lse ? q_heads * queries : 0,
      [WEIGHTS] = p->weights ? q_heads * queries * kv_len : 0,
      [SCORES] = p->scores ? q_heads * queries * kv_len : 0,
  };
  memcpy(counts, all, sizeof all);
}

attend_test_tensors attend_test_tensors_create(const attend_problem *p) {
  attend_test_tensors tensors = {.t = ATTEND_TENSORS_INIT};
  const attend_dtype q = p->q_dtype ? p->q_dtype : ATTEND_F32, k = p->k_dtype ? p->k_dtype : q;
  const attend_dtype v = p->v_dtype ? p->v_dtype : k, out = p->out_dtype ? p->out_dtype : q;
  const attend_dtype dtypes[TENSORS] = {[Q] = q, [K] = k, [V] = v, [OUT] = out, [BIAS] = p->bias_dtype};
  size_t counts[TENSORS];
  count_elements(p, counts);
  for (attend_test_name name = Q; name < TENSORS; name++) {
    tensors.element[name] = name == MASK ? 1 : dtypes[name] ? attend_dtype_size(dtypes[name]) : 4;
    tensors.bytes[name] = counts[name] * tensors.element[name];
    if (counts[name] == 0) continue;
    void *memory = tensors.memory[name] = malloc(tensors.bytes[name]);
    cr_assert_not_null(memory);
    attend_test_point(&tensors.t, name, memory);
    if (is_integers(name)) {
      for (size_t i = 0; i < counts[name]; i++) ((int32_t *)memory)[i] = integer_at(p, name, (int64_t)i);
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

bool attend_test_possible(const attend_problem *problem) {
  bool possible = false;
  for (size_t i = 0; i < attend_kernel_count(); i++) possible |= attend_test_can(attend_kernel_at(i), problem);
  return possible;
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

void attend_test_refuses_both(const attend_problem *base, const attend_problem *problem, attend_status expected,
                              const char *field, const char *value, const char *what) {
  attend_test_refuses(problem, NULL, expected, field, value, what);
  attend_test_tensors tensors = attend_test_tensors_create(base);
  attend_test_forget_detail();
  attend_test_expect_error(attend_forward(problem, &tensors.t), expected, field, value, what);
  cr_expect(attend_test_untouched(&tensors), "%s: outputs were touched", what);
  attend_test_tensors_destroy(&tensors);
}

void attend_test_accepts(const attend_problem *problem, const attend_options *options, const char *what) {
  attend_plan *plan = NULL;
  attend_status status = attend_plan_create(problem, options, &plan);
  cr_expect_eq(status, ATTEND_OK, "%s: %s: %s", what, attend_status_string(status), attend_error_detail());
  cr_expect_eq(plan != NULL, status == ATTEND_OK, "%s: status and plan do not agree", what);
  attend_plan_destroy(plan);
}
