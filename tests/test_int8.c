/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Queries that are rounded to int8 (attend_problem.int8_products): what they become, by numbers worked out by hand; how
 * far outputs move at most; and who may round them. attend verify holds kernels against a reference of rounded queries.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "kernels/convert.h"
#include "tests/support.h"
#include "verify/internal.h"

enum { BLOCK = 32, BYTES = 34 };

/* The widest, and then the others: tests with `number` 1 look at the second where there are two. */
static const attend_kernel *rounding_kernel(int number) {
  const attend_kernel *last = NULL;
  for (size_t i = 0; i < attend_kernel_count(); i++)
    if (attend_kernel_at(i)->can & ATTEND_CAN_INT8 && attend_test_runnable(attend_kernel_at(i))) {
      last = attend_kernel_at(i);
      if (number-- == 0) return last;
    }
  cr_skip_test("%s kernel that multiplies bytes runs here", last ? "only one" : "no");
  return NULL;
}

#define EACH_KERNEL(name)                                                                                              \
  static void name(const attend_kernel *kernel);                                                                       \
  Test(int8, name##_by_the_widest) { name(rounding_kernel(0)); }                                                       \
  Test(int8, name##_by_the_next) { name(rounding_kernel(1)); }                                                         \
  static void name(const attend_kernel *kernel)

static void block(unsigned char *to, float scale, const int8_t integers[BLOCK]) {
  const uint16_t bits = f32_to_f16(scale);
  memcpy(to, &bits, sizeof bits);
  memcpy(to + 2, integers, BLOCK);
}

static attend_problem problem_of(int64_t keys, int64_t dim, bool int8) {
  attend_problem p = attend_test_problem(1, 1, 1, 1, keys, dim);
  p.k_dtype = ATTEND_Q8_0, p.v_dtype = ATTEND_F32, p.lse = 1, p.scale = 1.0f, p.int8_products = int8;
  return p;
}

static void run_tensors(const attend_problem *p, const char *kernel, const attend_tensors *t) {
  attend_plan *plan = attend_test_plan(p, kernel, 1);
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  cr_assert_eq(attend_plan_run(plan, t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  free(workspace);
  attend_plan_destroy(plan);
}

static void run(const attend_problem *p, const char *kernel, const float *q, const void *k, const float *v, float *out,
                float *lse) {
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = out, t.lse = lse;
  run_tensors(p, kernel, &t);
}

/* With one key LSE is the score. The greatest magnitude is 127, so that a step is 1, and halves go to even. */
EACH_KERNEL(numbers_worked_out_by_hand) {
  float q[BLOCK] = {-127.0f, 0.4f, 0.6f, 1.5f, 2.5f, -0.5f, -1.5f, 100.25f};
  int8_t ones[BLOCK];
  float v[BLOCK] = {0}, out[BLOCK], lse;
  unsigned char k[BYTES];
  for (int only = 0; only < 8; only++) {
    static const float rounded[8] = {-127.0f, 0.0f, 1.0f, 2.0f, 2.0f, 0.0f, -2.0f, 100.0f};
    memset(ones, 0, sizeof ones);
    ones[only] = 3;
    block(k, 0.25f, ones);
    attend_problem p = problem_of(1, BLOCK, true);
    run(&p, kernel->name, q, k, v, out, &lse);
    cr_expect_eq(lse, rounded[only] * 0.75f, "element %d: %g", only, (double)lse);
    p.scale = -2.0f;
    run(&p, kernel->name, q, k, v, out, &lse);
    cr_expect_eq(lse, rounded[only] * -1.5f, "element %d: %g", only, (double)lse);
    p = problem_of(1, BLOCK, false);
    run(&p, NULL, q, k, v, out, &lse);
    cr_expect_float_eq(lse, q[only] * 0.75f, 1e-4f, "element %d, not to be rounded: %g", only, (double)lse);
  }
}

/* A query that is too small counts as 0; one with NaN or infinity is NaN. */
EACH_KERNEL(queries_at_the_ends) {
  int8_t ones[BLOCK];
  float v[BLOCK] = {0}, out[BLOCK], lse;
  unsigned char k[BYTES];
  memset(ones, 1, sizeof ones);
  block(k, 1.0f, ones);
  const attend_problem p = problem_of(1, BLOCK, true);
  static const struct {
    float element, score;
  } cases[] = {{0.0f, 0.0f},         {0x1p-149f, 0.0f}, {0x1p-101f, 0.0f}, {0x1p-100f, 0x1p-100f},
               {0x1p127f, 0x1p127f}, {INFINITY, NAN},   {-INFINITY, NAN},  {NAN, NAN}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    float q[BLOCK] = {0};
    q[17] = cases[i].element;
    run(&p, kernel->name, q, k, v, out, &lse);
    if (isnan(cases[i].score))
      cr_expect(isnan(lse) && isnan(out[0]), "%g: %g", (double)cases[i].element, (double)lse);
    else
      cr_expect_float_eq(lse, cases[i].score, 0x1p-22f * cases[i].score, "%g: %g", (double)cases[i].element,
                         (double)lse);
  }
}

/* A product moves by at most half a step times the sum of |k|, what the header says, and does move. */
EACH_KERNEL(error_beside_exact_queries) {
  enum { DIM = 160, KEYS = 60 };
  float q[DIM], v[KEYS * DIM] = {0}, out[DIM], exact, rounded, greatest = 0, most = 0, most_in_i8 = 0;
  unsigned char k[DIM / BLOCK * BYTES];
  attend_problem p = problem_of(1, DIM, true), without = problem_of(1, DIM, false);
  attend_problem row = p, row_without = without; /* the same integers, with a scale and a zero point for all of them */
  row.k_dtype = row_without.k_dtype = ATTEND_I8;
  row.k_scaling = row_without.k_scaling = (attend_scaling){.dtype = ATTEND_F32, .zero_points = 1};
  for (int i = 0; i < DIM; i++) {
    q[i] = ldexpf((float)(int32_t)(hash(1, i) >> 32), -31) * (i % 37 ? 1.0f : 8.0f);
    greatest = fmaxf(greatest, fabsf(q[i]));
  }
  for (int64_t key = 0; key < KEYS; key++) {
    float sum = 0, row_sum = 0;
    const float row_scale = 0.01f, row_zero = -20.0f;
    int8_t all[DIM];
    for (int b = 0; b < DIM / BLOCK; b++) {
      int8_t *integers = all + b * BLOCK;
      const float scale = ldexpf((float)(1 + hash(2, key * 10 + b) % 7), -9);
      for (int i = 0; i < BLOCK; i++) {
        integers[i] = (int8_t)hash(3, (key * 10 + b) * BLOCK + i);
        sum += scale * fabsf((float)integers[i]);
        row_sum += row_scale * fabsf((float)integers[i] - row_zero);
      }
      block(k + b * BYTES, scale, integers);
    }
    run(&p, kernel->name, q, k, v, out, &rounded);
    run(&without, NULL, q, k, v, out, &exact);
    const float bound = greatest / 254 * sum;
    cr_expect_leq(fabsf(rounded - exact), bound, "key %d: %g, not %g", (int)key, (double)rounded, (double)exact);
    most = fmaxf(most, fabsf(rounded - exact) / bound);
    attend_tensors t = ATTEND_TENSORS_INIT;
    t.q = q, t.k = all, t.v = v, t.out = out, t.lse = &rounded, t.k_scales = &row_scale, t.k_zero_points = &row_zero;
    run_tensors(&row, kernel->name, &t);
    t.lse = &exact;
    run_tensors(&row_without, NULL, &t);
    cr_expect_leq(fabsf(rounded - exact), greatest / 254 * row_sum, "key %d in i8: %g, not %g", (int)key,
                  (double)rounded, (double)exact);
    most_in_i8 = fmaxf(most_in_i8, fabsf(rounded - exact) / (greatest / 254 * row_sum));
  }
  cr_expect_gt(most, 0.01f, "nothing was rounded");
  cr_expect_gt(most_in_i8, 0.01f, "nothing was rounded");
}

/* With one key LSE is the score: of unsigned integers with a zero point, and with a scale for each half of them. */
EACH_KERNEL(scales_of_i8_worked_out_by_hand) {
  enum { DIM = 64 };
  float q[DIM] = {0}, v[DIM] = {0}, out[DIM], lse;
  unsigned char k[DIM];
  memset(k, 255, sizeof k);
  q[0] = -127.0f, q[3] = 2.4f, q[40] = 10.0f, q[63] = -1.6f;
  k[0] = 7, k[3] = 200, k[40] = 0, k[63] = 130;
  uint16_t scales[2] = {f32_to_f16(0.5f), f32_to_f16(2.0f)}, zero_point = f32_to_f16(9.5f);
  for (int groups = 1; groups <= 2; groups++) {
    attend_problem p = problem_of(1, DIM, true);
    p.k_dtype = ATTEND_I8;
    p.k_scaling = (attend_scaling){
        .group = DIM / groups, .step = 1, .dtype = ATTEND_F16, .zero_points = groups == 1, .is_unsigned = 1};
    attend_tensors t = ATTEND_TENSORS_INIT;
    t.q = q, t.k = k, t.v = v, t.out = out, t.lse = &lse, t.k_scales = scales, t.k_zero_points = &zero_point;
    run_tensors(&p, kernel->name, &t);
    const float zero = groups == 1 ? 9.5f : 128.0f;
    const float first = -127.0f * (7 - zero) + 2.0f * (200 - zero);
    const float second = 10.0f * (0 - zero) - 2.0f * (130 - zero);
    const float expected = 0.5f * first + (groups == 1 ? 0.5f : 2.0f) * second;
    cr_expect_eq(lse, expected, "%d groups: %g, not %g", groups, (double)lse, (double)expected);
  }
}

/* Kernels that round take the option with keys in q8_0 and i8 and nothing else, and rules choose who rounds. */
Test(int8, who_rounds) {
  const attend_kernel *rounds = rounding_kernel(0);
  attend_problem p = attend_test_problem(1, 8, 2, 1, 512, 64);
  attend_plan *plan;
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (!(kernel->can & ATTEND_CAN_INT8)) continue;
    cr_expect_eq(kernel->body, ATTEND_BODY_DECODE, "%s", kernel->name);
    for (attend_dtype k = ATTEND_F32; k < ATTEND_DTYPE_COUNT; k++)
      for (int int8 = 0; int8 <= 1; int8++) {
        p.k_dtype = k, p.v_dtype = ATTEND_F32, p.int8_products = int8;
        attend_resolved r;
        cr_assert_eq(attend_resolve(&p, &r), ATTEND_OK, "%s", attend_error_detail());
        char why[200] = "";
        cr_expect_eq(attend_kernel_can(kernel, &r, why, sizeof why), int8 && (k == ATTEND_Q8_0 || k == ATTEND_I8),
                     "%s, %s", kernel->name, attend_dtype_name(k));
      }
  }
  /* In i8: by whole blocks of 32, with zero points of a row each. */
  static const struct {
    int dim, group;
    bool zeros, can;
  } scales[] = {{64, 0, false, true},   {64, 0, true, true},   {80, 0, false, false},  {96, 32, false, true},
                {192, 96, false, true}, {64, 32, true, false}, {64, 16, false, false}, {64, 1, false, false}};
  for (size_t i = 0; i < COUNT(scales); i++) {
    p = attend_test_problem(1, 8, 2, 1, 512, scales[i].dim);
    p.k_dtype = ATTEND_I8, p.v_dtype = ATTEND_F32, p.int8_products = 1;
    p.k_scaling = (attend_scaling){.group = scales[i].group, .dtype = ATTEND_F32, .zero_points = scales[i].zeros};
    attend_resolved r;
    cr_assert_eq(attend_resolve(&p, &r), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(attend_kernel_can(rounds, &r, NULL, 0), scales[i].can, "%d by %d", scales[i].dim, scales[i].group);
  }
  const bool wide = rounds->isa == ATTEND_ISA_AVX512VNNI;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.profile = "off", options.num_threads = 1;
  for (int which = 0; which < 9; which++) {
    p = attend_test_problem(1, 8, which == 4 || which == 7 ? 8 : 2, 1, 512, which == 5 || which == 7 ? 96 : 64);
    p.k_dtype = p.v_dtype = which == 3 ? ATTEND_Q4_0 : which >= 6 ? ATTEND_I8 : ATTEND_Q8_0;
    p.int8_products = which != 1, p.batch_invariant = which == 2;
    if (which == 8) p.k_scaling = (attend_scaling){.group = 32, .dtype = ATTEND_F32};
    cr_assert_eq(attend_plan_create(&p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
    const bool expected = which == 0 || which == 6 || which == 7 || (!wide && which >= 4);
    cr_expect_eq(strcmp(attend_plan_kernel(plan), rounds->name) == 0, expected, "%d: %s", which,
                 attend_plan_kernel(plan));
    attend_plan_destroy(plan);
  }
  for (int group = 1; group <= 4; group += 3) { /* single tokens beside a prompt: by their own rows, not the prompt's */
    p = attend_test_problem(2, 8, 8 / group, 512, 512, 64);
    p.k_dtype = p.v_dtype = ATTEND_Q8_0, p.int8_products = p.q_starts = 1, p.q_total = 513;
    cr_assert_eq(attend_plan_create(&p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(plan->few.kernel == rounds, group == 4 || !wide, "%d heads to one of keys: %s", group,
                 plan->few.kernel ? plan->few.kernel->name : "none");
    attend_plan_destroy(plan);
  }
  options.kernel = rounds->name;
  p = attend_test_problem(1, 8, 2, 1, 512, 64), p.int8_products = 1;
  p.k_dtype = ATTEND_F32;
  attend_test_refuses(&p, &options, ATTEND_ERROR_UNSUPPORTED, "kernel", NULL, "keys in f32");
}
