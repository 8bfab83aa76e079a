/* SPDX-License-Identifier: Apache-2.0 */
/** Numbers near the end of their type: finite inputs whose exact result is finite give a finite result. */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "tests/support.h"

enum { LQ = 9, LK = 1100, D = 8, DV = 20 };

static float out[LQ * DV], again[LQ * DV], lse[LQ], more[LQ];
static uint16_t q[LQ * D], k[LK * D], v[LK * DV], narrow[LQ * DV];
static float q_f32[LQ * D], k_f32[LK * D], v_f32[LK * DV];

/* Calls for every kernel that runs here and can do a problem. */
#define FOR_EACH_KERNEL(kernel, problem)                                                                               \
  for (size_t index_ = 0; index_ < attend_kernel_count(); index_++)                                                    \
    for (const attend_kernel *kernel = attend_kernel_at(index_); kernel && attend_test_can(kernel, problem);           \
         kernel = NULL)

static uint16_t narrowed(attend_dtype dtype, float x) { return dtype == ATTEND_F16 ? f32_to_f16(x) : f32_to_bf16(x); }

/* Inputs of a type, from those in f32. */
static attend_tensors inputs(attend_dtype dtype) {
  attend_tensors t = ATTEND_TENSORS_INIT;
  for (int i = 0; i < LQ * D; i++) q[i] = narrowed(dtype, q_f32[i]);
  for (int i = 0; i < LK * D; i++) k[i] = narrowed(dtype, k_f32[i]);
  for (int i = 0; i < LK * DV; i++) v[i] = narrowed(dtype, v_f32[i]);
  const bool f32 = dtype == ATTEND_F32;
  t.q = f32 ? (void *)q_f32 : q, t.k = f32 ? (void *)k_f32 : k, t.v = f32 ? (void *)v_f32 : v;
  t.out = out;
  return t;
}

static attend_problem problem_of(attend_dtype dtype, int64_t keys) {
  attend_problem problem = attend_test_problem(1, 1, 1, LQ, keys, D);
  problem.v_head_dim = DV, problem.q_dtype = dtype, problem.out_dtype = ATTEND_F32;
  return problem;
}

/* Runs a kernel; with `blocks` its keys are split after so many blocks. */
static void run(const attend_kernel *kernel, const attend_problem *problem, const attend_tensors *t, int64_t blocks) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.kernel = kernel->name, options.num_threads = 1;
  const attend_tiling tiling = {LQ * kernel->q_rows, kernel->q_rows, blocks ? blocks * kernel->k_block : LK,
                                blocks > 0,          blocks > 0,     ATTEND_MOST_HEADS};
  attend_plan *plan;
  const attend_status status = attend_plan_create_tiled(problem, &options, &tiling, &plan);
  cr_assert_eq(status, ATTEND_OK, "%s: %s", kernel->name, attend_error_detail());
  cr_assert_eq(attend_plan_run(plan, t, NULL, 0), ATTEND_OK);
  attend_plan_destroy(plan);
}

static bool splits(const attend_kernel *kernel) { return kernel->can & ATTEND_CAN_SPLIT; }

static float greatest(attend_dtype dtype) {
  return dtype == ATTEND_F16 ? 65504.0f : dtype == ATTEND_BF16 ? 0x1.fep127f : FLT_MAX;
}

/* Values are all of the greatest number of their type, in turn of either sign by column; scores are all 0. */
static void fill_greatest(attend_dtype dtype) {
  memset(q_f32, 0, sizeof q_f32);
  memset(k_f32, 0, sizeof k_f32);
  for (int i = 0; i < LK * DV; i++) v_f32[i] = (i % DV % 2 ? -1.0f : 1.0f) * greatest(dtype);
}

/* An average of equal values is that value, whatever its size, its number, and how keys are split. */
Test(huge, averages_of_the_greatest_value) {
  for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++) {
    fill_greatest(dtype);
    const attend_tensors t = inputs(dtype);
    for (int64_t keys = 1; keys <= LK; keys = 3 * keys + 1) {
      const attend_problem problem = problem_of(dtype, keys);
      FOR_EACH_KERNEL(kernel, &problem)
      for (int64_t blocks = 0; blocks <= splits(kernel); blocks++) {
        run(kernel, &problem, &t, blocks);
        for (int i = 0; i < LQ * DV; i++) {
          const float expected = (i % DV % 2 ? -1.0f : 1.0f) * greatest(dtype);
          cr_assert(fabsf(out[i] / expected - 1) < 1e-5f, "%s, %s, %d keys: %g is not %g", kernel->name,
                    attend_dtype_name(dtype), (int)keys, (double)out[i], (double)expected);
        }
      }
    }
  }
}

/* The same written in the values' own type, which rounding must not leave. */
Test(huge, averages_are_rounded_to_what_there_is) {
  for (attend_dtype dtype = ATTEND_F16; dtype <= ATTEND_BF16; dtype++) {
    fill_greatest(dtype);
    attend_tensors t = inputs(dtype);
    t.out = narrow;
    for (int64_t keys = 1; keys <= LK; keys = 3 * keys + 1) {
      attend_problem problem = problem_of(dtype, keys);
      problem.out_dtype = dtype;
      FOR_EACH_KERNEL(kernel, &problem)
      for (int64_t blocks = 0; blocks <= splits(kernel); blocks++) {
        run(kernel, &problem, &t, blocks);
        for (int i = 0; i < LQ * DV; i++)
          cr_assert_eq(narrow[i], narrowed(dtype, v_f32[i % DV]), "%s, %d keys: %04x", kernel->name, (int)keys,
                       narrow[i]);
      }
    }
  }
}

/* Numbers of their own, positive, of the size of `size`. */
static void fill_random(float *numbers, int count, float size) {
  for (int i = 0; i < count; i++) numbers[i] = size * (float)((i * 7919 + 13) % 1009 + 1000) / 2048;
}

/* Beside huge values, others are as they are without: infinities, NaN, and numbers that small weights would lose. */
Test(huge, other_columns_keep_what_they_are) {
  fill_random(q_f32, LQ * D, 1), fill_random(k_f32, LK * D, 1), fill_random(v_f32, LK * DV, 1);
  for (int j = 0; j < LK; j++) v_f32[j * DV + 1] *= 1e-37f;
  for (int d = 0; d < D; d++) k_f32[300 * D + d] = -40; /* small weights make it 0 */
  v_f32[300 * DV + 2] = INFINITY, v_f32[600 * DV + 3] = -INFINITY, v_f32[900 * DV + 4] = NAN;
  for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype += ATTEND_BF16 - ATTEND_F32) {
    const attend_problem problem = problem_of(dtype, LK);
    FOR_EACH_KERNEL(kernel, &problem)
    for (int64_t blocks = 0; blocks <= splits(kernel); blocks++) {
      for (int j = 0; j < LK; j++) v_f32[j * DV] = 1;
      attend_tensors t = inputs(dtype);
      run(kernel, &problem, &t, blocks);
      memcpy(again, out, sizeof out);
      for (int j = 0; j < LK; j++) v_f32[j * DV] = 3e38f;
      t = inputs(dtype);
      run(kernel, &problem, &t, blocks);
      for (int i = 0; i < LQ * DV; i++)
        if (i % DV == 0)
          cr_assert(fabsf(out[i] / 3e38f - 1) < 0.005f, "%s: %g", kernel->name, (double)out[i]);
        else if (!blocks || i % DV != 1) /* where keys are split, a row is computed anew as a whole */
          cr_assert(out[i] == again[i] || (isnan(out[i]) && isnan(again[i])), "%s, column %d: %g is not %g",
                    kernel->name, i % DV, (double)out[i], (double)again[i]);
      cr_assert(out[2] == INFINITY && out[3] == -INFINITY && isnan(out[4]), "%s: %g, %g, %g", kernel->name,
                (double)out[2], (double)out[3], (double)out[4]);
      if (kernel->compute == ATTEND_F32 && !blocks)
        cr_assert(out[1] > 0.4e-37f && out[1] < 1e-37f, "%s: %g", kernel->name, (double)out[1]);
    }
  }
}

/* A mask that excludes nothing changes nothing, nor does a bias of 0: products times the scale may be beyond f32. */
Test(huge, masks_that_say_nothing) {
  static uint8_t mask[LK];
  static float bias[LK];
  memset(mask, 1, sizeof mask);
  for (int sign = -1; sign <= 1; sign += 2)
    for (int shape = 0; shape < 3; shape++) {
      fill_random(q_f32, LQ * D, 1e19f), fill_random(k_f32, LK * D, 1e18f), fill_random(v_f32, LK * DV, 1);
      for (int i = 0; i < LQ * D; i++) q_f32[i] *= (float)sign;
      if (shape > 0)
        for (int i = 0; i < LK * D; i++) k_f32[i] = 1e18f * (float)(i / D % (4 * shape)) / 8;
      for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype += ATTEND_BF16 - ATTEND_F32) {
        attend_problem problem = problem_of(dtype, LK);
        problem.scale = 10;
        attend_tensors t = inputs(dtype);
        t.mask = mask, t.bias = bias;
        FOR_EACH_KERNEL(kernel, &problem)
        for (int64_t blocks = 0; blocks <= splits(kernel); blocks++) {
          attend_problem masked = problem, biased = problem;
          masked.mask = 1, biased.bias_dtype = ATTEND_F32;
          masked.mask_strides = biased.bias_strides = (attend_strides4){0, 0, 0, 1};
          t.out = out;
          run(kernel, &problem, &t, 0);
          t.out = again;
          const attend_problem *others[] = {&problem, &masked, &biased};
          for (size_t n = 0; n < COUNT(others); n++) {
            run(kernel, others[n], &t, blocks);
            if (others[n] == &masked && !blocks) cr_assert_arr_eq(out, again, sizeof out, "%s", kernel->name);
            for (int i = 0; i < LQ * DV; i++)
              cr_assert(fabsf(out[i] - again[i]) < 1e-5f, "%s, %zu: %g is not %g", kernel->name, n, (double)again[i],
                        (double)out[i]);
          }
        }
      }
    }
}

/* ALiBi sees how far apart keys are, not how far away: a query that stands anywhere after the last key is the same. */
Test(huge, far_positions_with_alibi) {
  static const int32_t positions[] = {1000000, 16777219, INT32_MAX - LQ};
  static const float slope = 0.03f;
  enum { NEAR = LK - 1 };
  fill_random(q_f32, LQ * D, 1), fill_random(k_f32, LK * D, 1), fill_random(v_f32, LK * DV, 1);
  for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++) {
    attend_problem problem = problem_of(dtype, LK);
    problem.alibi = problem.lse = 1, problem.causal = ATTEND_CAUSAL_OFFSET;
    attend_tensors t = inputs(dtype);
    t.alibi_slopes = &slope;
    FOR_EACH_KERNEL(kernel, &problem)
    for (int64_t blocks = 0; blocks <= splits(kernel); blocks++)
      for (size_t n = 0; n < COUNT(positions); n++) {
        t.out = out, t.lse = lse, problem.causal_offset = NEAR;
        run(kernel, &problem, &t, blocks);
        t.out = again, t.lse = more, problem.causal_offset = positions[n];
        run(kernel, &problem, &t, blocks);
        cr_assert_arr_eq(out, again, sizeof out, "%s, at %d", kernel->name, positions[n]);
        for (int i = 0; i < LQ; i++) {
          const double expected = (double)lse[i] - (double)slope * ((double)positions[n] - NEAR);
          cr_assert_lt(fabs((double)more[i] / expected - 1), 1e-5, "%s: %g is not %g", kernel->name, (double)more[i],
                       expected);
        }
      }
  }
}
