/* SPDX-License-Identifier: Apache-2.0 */
/** Additive attention with its projections: what tutorials show, sums in double, and errors. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attend/layers.h"
#include "layers/linear.h"
#include "tests/support.h"
#include "verify/reference.h"

enum { B = 2, LQ = 3, LK = 10, QD = 20, KD = 2, VD = 4, H = 8 };

static float query[B * LQ * QD], key[B * LK * KD], value[B * LK * VD], out[B * LQ * VD], weights[B * LQ * LK];
static float q_weight[H * QD], k_weight[H * KD], q_bias[H], score_weight[H];

static void fill(float *to, int count, int seed) {
  for (int i = 0; i < count; i++) to[i] = (float)((i + 1) * (seed * 37 + 11) % 101 - 50) / 60.0f;
}

static attend_additive_problem problem_of(void) {
  attend_additive_problem p = ATTEND_ADDITIVE_PROBLEM_INIT;
  p.batch = B, p.q_len = LQ, p.kv_len = LK, p.q_dim = QD, p.k_dim = KD, p.v_dim = VD, p.hidden = H, p.weights = 1;
  return p;
}

static attend_additive_tensors tensors_of(void) {
  attend_additive_tensors t = ATTEND_ADDITIVE_TENSORS_INIT;
  fill(query, B * LQ * QD, 1), fill(key, B * LK * KD, 2), fill(value, B * LK * VD, 3), fill(q_weight, H * QD, 4);
  fill(k_weight, H * KD, 5), fill(score_weight, H, 6), fill(q_bias, H, 7);
  t.query = query, t.key = key, t.value = value, t.out = out, t.weights = weights;
  t.q_weight = q_weight, t.k_weight = k_weight, t.score_weight = score_weight;
  return t;
}

static attend_additive_plan *plan_of(const attend_additive_problem *p) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2;
  attend_additive_plan *plan;
  cr_assert_eq(attend_additive_plan_create(p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  return plan;
}

static void run(const attend_additive_problem *p, const attend_additive_tensors *t) {
  attend_additive_plan *plan = plan_of(p);
  const size_t size = attend_additive_plan_workspace_size(plan);
  void *workspace = NULL;
  cr_assert_eq(posix_memalign(&workspace, ATTEND_WORKSPACE_ALIGNMENT, size), 0);
  memset(workspace, 0xff, size);
  attend_fail_allocation(0);
  cr_assert_eq(attend_additive_plan_run(plan, t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(attend_fail_allocation(0), 0, "a run with a workspace allocates");
  char text[200];
  cr_expect_gt(attend_additive_plan_explain(plan, text, sizeof text), 0);
  free(workspace);
  attend_additive_plan_destroy(plan);
}

/* Tests that compute are skipped, and say so, where there is no BLAS to project with. */
static void need_blas(void) {
  if (!attend_linear_blas()) cr_skip_test("this library was built without a BLAS");
}

/* Equal keys, and values 0, 1, 2, ...: the mean of the values that the lengths leave, whatever the weights are. */
Test(additive, of_equal_keys_is_the_mean) {
  need_blas();
  attend_additive_problem p = problem_of();
  attend_additive_tensors t = tensors_of();
  p.q_len = 1, p.weights = 0, p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, t.kv_lengths = (const int32_t[]){2, 6};
  for (int i = 0; i < B * LK * KD; i++) key[i] = 1;
  for (int i = 0; i < B * LK * VD; i++) value[i] = (float)(i % (LK * VD));
  run(&p, &t);
  const float expected[] = {2, 3, 4, 5, 10, 11, 12, 13};
  for (int i = 0; i < B * VD; i++) cr_expect_float_eq(out[i], expected[i], 1e-5f, "out[%d] is %g", i, (double)out[i]);
}

/* The definition in double, for both layouts of the weights, with and without a bias, dropout, lengths and a mask. */
Test(additive, agrees_with_its_definition) {
  need_blas();
  static const int32_t lengths[] = {10, 3, 0, 7, 1, 10};
  static uint8_t mask[B * LQ * LK];
  static float q_turned[QD * H], k_turned[KD * H];
  for (int option = 0; option < 32; option++) {
    attend_additive_problem p = problem_of();
    attend_additive_tensors t = tensors_of();
    attend_problem core = ATTEND_PROBLEM_INIT; /* which weights are dropped */
    core.q_heads = 1, core.dropout = p.dropout = option & 1 ? 0.4f : 0;
    attend_tensors seeds = ATTEND_TENSORS_INIT;
    seeds.dropout_seed = t.dropout_seed = 77, seeds.dropout_offset = t.dropout_offset = 5;
    if (option & 2) t.q_bias = q_bias;
    if (option & 4) p.kv_lengths = ATTEND_LENGTHS_PER_QUERY, t.kv_lengths = lengths;
    p.mask = option >> 3 & 1, t.mask = mask;
    for (int i = 0; i < B * LQ * LK; i++) mask[i] = i * 7 % 5 != 0;
    if (option & 16) {
      p.weight_layout = ATTEND_WEIGHT_IN_OUT, t.q_weight = q_turned, t.k_weight = k_turned;
      for (int n = 0; n < H; n++) {
        for (int d = 0; d < QD; d++) q_turned[d * H + n] = q_weight[n * QD + d];
        for (int d = 0; d < KD; d++) k_turned[d * H + n] = k_weight[n * KD + d];
      }
    }
    run(&p, &t);
    for (int row = 0; row < B * LQ; row++) {
      double w[LK], sum = 0;
      for (int j = 0; j < LK; j++) {
        double s = 0;
        for (int n = 0; n < H; n++) {
          double x = t.q_bias ? (double)q_bias[n] : 0;
          for (int d = 0; d < QD; d++) x += (double)query[row * QD + d] * (double)q_weight[n * QD + d];
          for (int d = 0; d < KD; d++) x += (double)key[(row / LQ * LK + j) * KD + d] * (double)k_weight[n * KD + d];
          s += (double)score_weight[n] * tanh(x);
        }
        const bool attended = !(p.mask && !mask[row * LK + j]) && !(p.kv_lengths && j >= t.kv_lengths[row]);
        sum += w[j] = attended ? exp(s) : 0;
      }
      double expected[VD] = {0};
      for (int j = 0; j < LK; j++) {
        const bool dropped = attend_reference_drops(&core, &seeds, row / LQ, 0, row % LQ, j);
        w[j] = sum == 0 || dropped ? 0 : w[j] / sum / (1 - (double)p.dropout);
        cr_expect_float_eq((double)weights[row * LK + j], w[j], 2e-6, "option %d, weight %d, %d", option, row, j);
        for (int d = 0; d < VD; d++) expected[d] += w[j] * (double)value[(row / LQ * LK + j) * VD + d];
      }
      for (int d = 0; d < VD; d++)
        cr_expect_float_eq((double)out[row * VD + d], expected[d], 4e-6, "option %d", option);
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------- errors */

static void refuses(const attend_additive_problem *p, attend_status expected, const char *field) {
  attend_additive_plan *const before = (attend_additive_plan *)(void *)out, *plan = before;
  EXPECT_ERROR(attend_additive_plan_create(p, NULL, &plan), expected, field, "%s", field);
  cr_expect_eq(plan, before, "%s: *plan was touched", field);
}

Test(errors, without_a_blas) {
  const attend_additive_problem p = problem_of();
  if (!attend_linear_blas()) refuses(&p, ATTEND_ERROR_UNSUPPORTED, "ATTEND_BLAS");
}

Test(errors, problems) {
  need_blas();
  const struct {
    const char *field;
    size_t offset;
    int64_t least;
  } wide[] = {
      {"batch", offsetof(attend_additive_problem, batch), 0},   {"q_len", offsetof(attend_additive_problem, q_len), 0},
      {"kv_len", offsetof(attend_additive_problem, kv_len), 0}, {"q_dim", offsetof(attend_additive_problem, q_dim), 1},
      {"k_dim", offsetof(attend_additive_problem, k_dim), 1},   {"v_dim", offsetof(attend_additive_problem, v_dim), 1},
      {"hidden", offsetof(attend_additive_problem, hidden), 1}};
  for (size_t i = 0; i < COUNT(wide); i++) {
    const int64_t values[] = {wide[i].least - 1, INT64_C(1) << 31, INT64_MAX, INT64_MIN};
    for (size_t n = 0; n < COUNT(values); n++) {
      attend_additive_problem p = problem_of();
      memcpy((char *)&p + wide[i].offset, &values[n], sizeof values[n]);
      refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, wide[i].field);
    }
  }
  attend_additive_problem p = problem_of();
  p.weight_layout = (attend_weight_layout)2, refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, "weight_layout"),
  p = problem_of();
  p.kv_lengths = (attend_lengths)3, refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, "kv_lengths"), p = problem_of();
  p.mask = 2, refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, "mask"), p = problem_of();
  p.weights = -1, refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, "weights"), p = problem_of();
  p.dropout = NAN, refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, "dropout"), p = problem_of();
  p.struct_size--, refuses(&p, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size"), p = problem_of();
  p.batch = p.q_len = p.q_dim = ATTEND_MAX_EXTENT, refuses(&p, ATTEND_ERROR_OVERFLOW, "query"), p = problem_of();
  p.batch = p.kv_len = p.k_dim = ATTEND_MAX_EXTENT, refuses(&p, ATTEND_ERROR_OVERFLOW, "key"), p = problem_of();
  p.batch = p.q_len = p.hidden = ATTEND_MAX_EXTENT, refuses(&p, ATTEND_ERROR_OVERFLOW, NULL);
  refuses(NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_additive_problem");
  EXPECT_ERROR(attend_additive_plan_create(&p, NULL, NULL), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "no plan");
  attend_test_expect_no_leak();
}

Test(errors, tensors) {
  need_blas();
  static const struct {
    const char *field;
    size_t offset;
  } needed[] = {{"query", offsetof(attend_additive_tensors, query)},
                {"key", offsetof(attend_additive_tensors, key)},
                {"value", offsetof(attend_additive_tensors, value)},
                {"out", offsetof(attend_additive_tensors, out)},
                {"q_weight", offsetof(attend_additive_tensors, q_weight)},
                {"k_weight", offsetof(attend_additive_tensors, k_weight)},
                {"score_weight", offsetof(attend_additive_tensors, score_weight)},
                {"kv_lengths", offsetof(attend_additive_tensors, kv_lengths)},
                {"mask", offsetof(attend_additive_tensors, mask)},
                {"weights", offsetof(attend_additive_tensors, weights)}};
  static const uint8_t mask[B * LQ * LK];
  attend_additive_problem p = problem_of();
  p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, p.mask = 1;
  attend_additive_tensors full = tensors_of();
  full.kv_lengths = (const int32_t[]){2, 6}, full.mask = mask;
  attend_additive_plan *plan = plan_of(&p);
  memset(out, 0x5a, sizeof out);
  for (size_t i = 0; i < COUNT(needed); i++) {
    attend_additive_tensors t = full;
    memset((char *)&t + needed[i].offset, 0, sizeof(void *));
    EXPECT_ERROR(attend_additive_plan_run(plan, &t, NULL, 0), ATTEND_ERROR_INVALID_ARGUMENT, needed[i].field, "NULL");
  }
  attend_additive_tensors t = full;
  t.kv_lengths = (const int32_t[]){2, 11};
  EXPECT_ERROR(attend_additive_plan_run(plan, &t, NULL, 0), ATTEND_ERROR_INVALID_ARGUMENT, "11", "length");
  t = full, t.dropout_offset = UINT64_C(1) << 32;
  EXPECT_ERROR(attend_additive_plan_run(plan, &t, NULL, 0), ATTEND_ERROR_INVALID_ARGUMENT, "dropout_offset", "offset");
  t = full, t.struct_size--;
  EXPECT_ERROR(attend_additive_plan_run(plan, &t, NULL, 0), ATTEND_ERROR_INVALID_ARGUMENT, "struct_size", "size");
  EXPECT_ERROR(attend_additive_plan_run(plan, NULL, NULL, 0), ATTEND_ERROR_INVALID_ARGUMENT, "attend_additive_tensors",
               "NULL");
  EXPECT_ERROR(attend_additive_plan_run(NULL, &full, NULL, 0), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "NULL");
  EXPECT_ERROR(attend_additive_plan_run(plan, &full, out, 64), ATTEND_ERROR_WORKSPACE, "workspace_size", "too small");
  for (size_t i = 0; i < sizeof out; i++) cr_assert_eq(((unsigned char *)out)[i], 0x5a, "out was touched");
  attend_fail_allocation(1);
  EXPECT_ERROR(attend_additive_plan_run(plan, &full, NULL, 0), ATTEND_ERROR_OUT_OF_MEMORY, NULL, "no workspace");
  attend_fail_allocation(0);
  cr_expect_eq(attend_additive_plan_run(plan, &full, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
  attend_additive_plan_destroy(plan);
  attend_additive_plan_destroy(NULL);
  cr_expect_eq(attend_additive_plan_workspace_size(NULL), 0);
  for (long nth = 1; nth <= 2; nth++) {
    attend_fail_allocation(nth);
    refuses(&p, ATTEND_ERROR_OUT_OF_MEMORY, NULL);
    attend_fail_allocation(0);
  }
  attend_test_expect_no_leak();
}

Test(errors, nothing_to_compute) {
  need_blas();
  const attend_additive_tensors none = ATTEND_ADDITIVE_TENSORS_INIT;
  for (int i = 0; i < 2; i++) {
    attend_additive_problem p = problem_of();
    *(i ? &p.batch : &p.q_len) = 0;
    attend_additive_plan *plan = plan_of(&p);
    cr_expect_eq(attend_additive_plan_run(plan, &none, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    attend_additive_plan_destroy(plan);
  }
  attend_additive_problem p = problem_of();
  attend_additive_tensors t = tensors_of();
  p.kv_len = 0, t.key = t.value = NULL, t.k_weight = NULL;
  run(&p, &t);
  for (int i = 0; i < B * LQ * VD; i++) cr_expect_eq(out[i], 0.0f);
}
