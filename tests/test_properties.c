/* SPDX-License-Identifier: Apache-2.0 */
/** What is true of attention whatever the numbers are, of every kernel that runs here. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"
#include "verify/internal.h"

enum { B = 2, HQ = 4, HKV = 2, LQ = 21, LK = 333, D = 24, DV = 20, ROWS = B * HQ * LQ };

static float q[B * HQ * LQ * D], k[B * HKV * LK * D], v[B * HKV * LK * DV];

typedef struct outputs {
  float out[ROWS * DV], lse[ROWS];
} outputs;

static outputs first, second, third;
static float weights[ROWS * LK];

static void fill(float *numbers, size_t count, uint64_t key) {
  for (size_t i = 0; i < count; i++) numbers[i] = (float)(int32_t)hash(key, (int64_t)i) * 0x1p-30f;
}

static void fill_inputs(void) {
  fill(q, COUNT(q), 1);
  fill(k, COUNT(k), 2);
  fill(v, COUNT(v), 3);
}

TestSuite(property, .init = fill_inputs);

static attend_problem problem_of(void) {
  attend_problem problem = attend_test_problem(B, HQ, HKV, LQ, LK, D);
  problem.v_head_dim = DV, problem.lse = 1;
  return problem;
}

static attend_tensors tensors_of(outputs *o) {
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = o->out, t.lse = o->lse;
  return t;
}

static void run(const attend_kernel *kernel, const attend_problem *problem, const attend_tensors *t) {
  attend_plan *plan = attend_test_plan(problem, kernel->name, 1);
  cr_assert_eq(attend_plan_run(plan, t, NULL, 0), ATTEND_OK, "%s: %s", kernel->name, attend_error_detail());
  attend_plan_destroy(plan);
}

static void expect_near(const float *a, const float *b, size_t count, float error, const attend_kernel *kernel) {
  for (size_t i = 0; i < count; i++)
    cr_assert(a[i] == b[i] || fabsf(a[i] - b[i]) <= error, "%s: element %zu is %.9g and %.9g", kernel->name, i,
              (double)a[i], (double)b[i]);
}

/* Values and scores are at most about 2 and 5; a kernel that computes in 16 bits rounds the weights. */
static float tolerance(const attend_kernel *kernel) { return kernel->compute == ATTEND_F32 ? 4e-6f : 0.03f; }

static void expect_same_outputs(const outputs *a, const outputs *b, const attend_kernel *kernel) {
  expect_near(a->out, b->out, COUNT(a->out), tolerance(kernel), kernel);
  expect_near(a->lse, b->lse, COUNT(a->lse), tolerance(kernel), kernel);
}

/* Calls for every kernel that runs here and can do a problem. */
#define FOR_EACH_KERNEL(kernel, problem)                                                                               \
  for (size_t index_ = 0; index_ < attend_kernel_count(); index_++)                                                    \
    for (const attend_kernel *kernel = attend_kernel_at(index_); kernel && attend_test_can(kernel, problem);           \
         kernel = NULL)

/* Where key j goes: 100 has no factor in common with the number of keys. */
static int64_t permuted(int64_t j) { return (j * 100 + 7) % LK; }

Test(property, keys_and_values_permuted_together) {
  static float k2[COUNT(k)], v2[COUNT(v)];
  const attend_problem problem = problem_of();
  for (int64_t head = 0; head < B * HKV; head++)
    for (int64_t j = 0; j < LK; j++) {
      memcpy(k2 + (head * LK + permuted(j)) * D, k + (head * LK + j) * D, D * sizeof *k);
      memcpy(v2 + (head * LK + permuted(j)) * DV, v + (head * LK + j) * DV, DV * sizeof *v);
    }
  const attend_tensors t = tensors_of(&first);
  attend_tensors t2 = tensors_of(&second);
  t2.k = k2, t2.v = v2;
  FOR_EACH_KERNEL(kernel, &problem) {
    run(kernel, &problem, &t);
    run(kernel, &problem, &t2);
    expect_same_outputs(&first, &second, kernel);
  }
}

/* Weights sum to 1, or with a sink to what it leaves; each is exp(score - LSE); the output is their product with V. */
static void check_weights(const attend_problem *problem, const attend_kernel *kernel, const float *sinks) {
  const double error = (double)tolerance(kernel);
  for (int64_t row = 0; row < ROWS; row++) {
    const int64_t b = row / LQ / HQ, h = row / LQ % HQ, i = row % LQ, kv = b * HKV + h / (HQ / HKV);
    const double lse = (double)first.lse[row];
    double sum = 0, out[DV] = {0};
    for (int64_t j = 0; j < LK; j++) {
      const double weight = (double)weights[row * LK + j];
      double score = 0;
      for (int64_t d = 0; d < D; d++) score += (double)q[row * D + d] * (double)k[(kv * LK + j) * D + d];
      score /= sqrt(D);
      if (j <= i + problem->causal_offset)
        cr_assert_float_eq(weight, exp(score - lse), error, "%s: row %d, key %d", kernel->name, (int)row, (int)j);
      else
        cr_assert_eq(weight, 0, "%s: row %d, key %d", kernel->name, (int)row, (int)j);
      sum += weight;
      for (int64_t d = 0; d < DV; d++) out[d] += weight * (double)v[(kv * LK + j) * DV + d];
    }
    cr_assert_float_eq(sum, sinks ? 1 - exp((double)sinks[h] - lse) : 1, 4 * error, "%s: row %d", kernel->name,
                       (int)row);
    for (int64_t d = 0; d < DV; d++) cr_assert_float_eq((double)first.out[row * DV + d], out[d], 4 * error);
  }
}

Test(property, weights_agree_with_everything) {
  static const float sinks[HQ] = {-1, 0, 2, 4};
  attend_problem problem = problem_of();
  problem.weights = 1;
  problem.causal = ATTEND_CAUSAL_OFFSET, problem.causal_offset = 200;
  attend_tensors t = tensors_of(&first);
  t.weights = weights, t.sinks = sinks;
  size_t checked = 0;
  for (problem.sinks = 0; problem.sinks < 2; problem.sinks++) FOR_EACH_KERNEL(kernel, &problem) {
      run(kernel, &problem, &t);
      check_weights(&problem, kernel, problem.sinks ? sinks : NULL);
      checked++;
    }
  cr_expect_gt(checked, 0);
}

/* Two halves of the keys, put together by their LSE as an engine would, are the whole. */
Test(property, halves_of_the_keys_merge_by_lse) {
  enum { HALF = 150 };
  const attend_problem whole = problem_of();
  attend_problem lower = whole, upper = whole;
  lower.k_strides = upper.k_strides = (attend_strides){HKV * LK * D, LK * D, D};
  lower.v_strides = upper.v_strides = (attend_strides){HKV * LK * DV, LK * DV, DV};
  lower.kv_len = HALF, upper.kv_len = LK - HALF;
  const attend_tensors t = tensors_of(&first), t_lower = tensors_of(&second);
  attend_tensors t_upper = tensors_of(&third);
  t_upper.k = k + HALF * D, t_upper.v = v + HALF * DV;
  FOR_EACH_KERNEL(kernel, &whole) {
    run(kernel, &whole, &t);
    run(kernel, &lower, &t_lower);
    run(kernel, &upper, &t_upper);
    for (int64_t row = 0; row < ROWS; row++) {
      const float lse = logf(expf(second.lse[row]) + expf(third.lse[row]));
      const float a = expf(second.lse[row] - lse), b = expf(third.lse[row] - lse);
      for (int64_t d = row * DV; d < (row + 1) * DV; d++) second.out[d] = a * second.out[d] + b * third.out[d];
      second.lse[row] = lse;
    }
    expect_same_outputs(&first, &second, kernel);
  }
}

/* A plan that splits keys and merges them gives what one that does not gives, and the same bits however rows are cut.
 */
Test(property, keys_split_and_merged) {
  attend_problem problem = problem_of();
  problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  const attend_tensors t = tensors_of(&second);
  size_t checked = 0;
  FOR_EACH_KERNEL(kernel, &problem) {
    if (!(kernel->can & ATTEND_CAN_SPLIT)) continue;
    attend_tensors whole = tensors_of(&first);
    run(kernel, &problem, &whole);
    attend_options options = ATTEND_OPTIONS_INIT;
    options.kernel = kernel->name, options.num_threads = 2;
    for (int64_t blocks = 1; blocks <= 3; blocks++) {
      for (int cut = 0; cut < 3; cut++) {
        const int64_t rows = cut < 2 ? (cut + 1) * kernel->q_rows : (int64_t)LQ * HQ * kernel->q_rows;
        const attend_tiling tiling = {rows, kernel->q_rows, blocks * kernel->k_block, false, true, ATTEND_MOST_HEADS};
        attend_plan *plan;
        const attend_status status = attend_plan_create_tiled(&problem, &options, &tiling, &plan);
        cr_assert_eq(status, ATTEND_OK, "%s: %s", kernel->name, attend_error_detail());
        cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK);
        attend_plan_destroy(plan);
        expect_same_outputs(&first, &second, kernel);
        if (cut == 0) memcpy(&third, &second, sizeof third);
        cr_expect_arr_eq(&third, &second, sizeof third, "%s", kernel->name);
        checked++;
      }
    }
  }
  cr_expect_gt(checked, 0);
}

/* Causal, said in five ways. */
Test(property, masks_of_all_kinds_agree) {
  static uint8_t mask[LQ * LK];
  static float bias[LQ * LK];
  static int32_t lengths[B * LQ];
  enum { OFFSET = LK - LQ };
  for (int i = 0; i < LQ; i++) {
    for (int j = 0; j < LK; j++) mask[i * LK + j] = j <= i + OFFSET, bias[i * LK + j] = j <= i + OFFSET ? 0 : -INFINITY;
    for (int b = 0; b < B; b++) lengths[b * LQ + i] = i + OFFSET + 1;
  }
  attend_problem causal = problem_of(), others[5];
  for (size_t i = 0; i < COUNT(others); i++) others[i] = causal;
  causal.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  others[0].causal = ATTEND_CAUSAL_OFFSET, others[0].causal_offset = OFFSET;
  others[1].window = 1, others[1].window_left = -1, others[1].window_right = 0;
  others[2].kv_lengths = ATTEND_LENGTHS_PER_QUERY;
  others[3].mask = 1, others[3].mask_strides = (attend_strides4){0, 0, LK, 1};
  others[4].bias_dtype = ATTEND_F32, others[4].bias_strides = (attend_strides4){0, 0, LK, 1};
  const attend_tensors t = tensors_of(&first);
  attend_tensors t2 = tensors_of(&second);
  t2.kv_lengths = lengths, t2.mask = mask, t2.bias = bias;
  FOR_EACH_KERNEL(kernel, &causal) {
    run(kernel, &causal, &t);
    for (size_t i = 0; i < COUNT(others); i++) {
      run(kernel, &others[i], &t2);
      expect_same_outputs(&first, &second, kernel);
    }
  }
}

/* A workspace keeps what a run has found out about its masks: it must not be what the next run goes by. */
Test(property, masks_may_change_from_run_to_run) {
  static float bias[2][LQ * LK];
  for (int i = 0; i < LQ; i++)
    for (int j = 0; j < LK; j++) {
      bias[0][i * LK + j] = j < 10 * i + 1 ? 0.0f : -INFINITY;
      bias[1][i * LK + j] = j < 10 * i + 1 ? -INFINITY : 0.0f;
    }
  for (size_t n = 0; n < attend_kernel_count(); n++) {
    const attend_kernel *kernel = attend_kernel_at(n);
    attend_problem problem = attend_test_typed_for(kernel, problem_of());
    problem.bias_dtype = ATTEND_F32, problem.bias_strides = (attend_strides4){0, 0, LK, 1};
    if (!attend_test_can(kernel, &problem)) continue;
    attend_plan *plan = attend_test_plan(&problem, kernel->name, 1);
    attend_test_tensors again = attend_test_tensors_create(&problem), fresh = attend_test_tensors_create(&problem);
    size_t size;
    void *workspace = attend_test_workspace(plan, &size);
    memset(workspace, 0, size);
    again.t.bias = bias[0];
    cr_assert_eq(attend_plan_run(plan, &again.t, workspace, size), ATTEND_OK);
    again.t.bias = fresh.t.bias = bias[1];
    cr_assert_eq(attend_plan_run(plan, &again.t, workspace, size), ATTEND_OK);
    cr_assert_eq(attend_plan_run(plan, &fresh.t, NULL, 0), ATTEND_OK);
    cr_expect(attend_test_same(&again, &fresh), "%s", kernel->name);
    attend_test_tensors_destroy(&again);
    attend_test_tensors_destroy(&fresh);
    free(workspace);
    attend_plan_destroy(plan);
  }
}

/* Query heads that share keys and values give what they give with copies of their own. */
Test(property, grouped_heads_equal_copied_ones) {
  static float k2[B * HQ * LK * D], v2[B * HQ * LK * DV];
  const attend_problem grouped = problem_of();
  attend_problem copied = grouped;
  copied.kv_heads = HQ;
  for (int64_t bh = 0; bh < B * HQ; bh++) {
    const int64_t kv = bh / HQ * HKV + bh % HQ / (HQ / HKV);
    memcpy(k2 + bh * LK * D, k + kv * LK * D, LK * D * sizeof *k);
    memcpy(v2 + bh * LK * DV, v + kv * LK * DV, LK * DV * sizeof *v);
  }
  const attend_tensors t = tensors_of(&first);
  attend_tensors t2 = tensors_of(&second);
  t2.k = k2, t2.v = v2;
  FOR_EACH_KERNEL(kernel, &grouped) {
    run(kernel, &grouped, &t);
    run(kernel, &copied, &t2);
    expect_same_outputs(&first, &second, kernel);
  }
}

/* The output is linear in V; times a power of two it is so to the bit. */
Test(property, output_is_linear_in_values) {
  const attend_problem problem = problem_of();
  const attend_tensors t = tensors_of(&first), t2 = tensors_of(&second);
  FOR_EACH_KERNEL(kernel, &problem) {
    run(kernel, &problem, &t);
    for (size_t i = 0; i < COUNT(v); i++) v[i] *= 8;
    run(kernel, &problem, &t2);
    for (size_t i = 0; i < COUNT(v); i++) v[i] /= 8;
    for (size_t i = 0; i < COUNT(first.out); i++)
      cr_assert_eq(second.out[i], 8 * first.out[i], "%s: element %zu", kernel->name, i);
    cr_expect_arr_eq(first.lse, second.lse, sizeof first.lse, "%s", kernel->name);
  }
}
