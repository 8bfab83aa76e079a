/* SPDX-License-Identifier: Apache-2.0 */
/** Dropout: which weights are dropped, how many, and what becomes of the others. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"
#include "verify/reference.h"

/* With queries of zeros every weight is 1 / LK, and with values of one each, in a dimension of its own, out is weights.
 */
enum { B = 2, HQ = 4, HKV = 2, LQ = 13, LK = 530, D = 3, PAIRS = B * HQ * LQ * LK };

static float zeros[B * HQ * LQ * D], keys[B * HKV * LK * D], values[LK * LK], out[PAIRS], lse[B * HQ * LQ];

static attend_problem problem_of(float dropout) {
  attend_problem p = attend_test_problem(B, HQ, HKV, LQ, LK, D);
  p.v_head_dim = LK, p.dropout = dropout, p.lse = 1;
  p.v_strides = (attend_strides){0, 0, LK};
  return p;
}

static attend_tensors tensors_of(uint64_t seed, uint32_t offset) {
  attend_tensors t = ATTEND_TENSORS_INIT;
  for (int j = 0; j < LK; j++) values[j * LK + j] = 1;
  t.q = zeros, t.k = keys, t.v = values, t.out = out, t.lse = lse;
  t.dropout_seed = seed, t.dropout_offset = offset;
  return t;
}

static void run(const attend_problem *p, const attend_tensors *t, const char *kernel, const attend_tiling *tiling,
                int threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.kernel = kernel, options.num_threads = threads;
  attend_plan *plan;
  memset(out, 0xff, sizeof out);
  const attend_status status =
      tiling ? attend_plan_create_tiled(p, &options, tiling, &plan) : attend_plan_create(p, &options, &plan);
  cr_assert_eq(status, ATTEND_OK, "%s: %s", kernel, attend_error_detail());
  cr_assert_eq(attend_plan_run(plan, t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
  attend_plan_destroy(plan);
}

/* Every weight is 0 if the reference drops it, else 1 / LK / (1 - p); returns how many are kept. */
static long expect_weights(const attend_problem *p, const attend_tensors *t, const char *what) {
  const double kept = 1.0 / LK / (1 - (double)p->dropout);
  long count = 0;
  const float *weight = out;
  for (int64_t b = 0; b < B; b++)
    for (int64_t h = 0; h < HQ; h++)
      for (int64_t i = 0; i < LQ; i++)
        for (int64_t j = 0; j < LK; j++, weight++) {
          const bool dropped = attend_reference_drops(p, t, b, h, i, j);
          if (dropped ? *weight != 0 : !(fabs((double)*weight - kept) <= 1e-6 * kept))
            cr_assert_fail("%s: weight %d, %d, %d, %d is %g, %s", what, (int)b, (int)h, (int)i, (int)j, (double)*weight,
                           dropped ? "and is to be dropped" : "and is to be kept");
          count += !dropped;
        }
  for (int row = 0; row < B * HQ * LQ; row++) cr_expect_float_eq(lse[row], logf(LK), 1e-5f, "%s", what);
  return count;
}

/* Kernels that can drop, of every body and instruction set, threads, and cuts of rows and keys. */
Test(dropout, drops_the_same_whatever_runs) {
  const attend_problem p = problem_of(0.3f);
  const attend_tensors t = tensors_of(UINT64_C(0x123456789abcdef0), 7);
  size_t kernels = 0, split = 0;
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    const attend_kernel *kernel = attend_kernel_at(k);
    if (!attend_test_can(kernel, &p)) continue;
    kernels++;
    for (int threads = 1; threads <= 3; threads++) {
      run(&p, &t, kernel->name, NULL, threads);
      expect_weights(&p, &t, kernel->name);
    }
    const int64_t tile = kernel->q_rows, block = kernel->k_block, all = (LK + block - 1) / block * block;
    for (int64_t rows = 1; rows <= 3; rows++)
      for (int64_t blocks = 1; blocks <= 2; blocks++) {
        const bool splits = (kernel->can & ATTEND_CAN_SPLIT) && blocks * block < all;
        const attend_tiling tiling = {rows * tile, tile,   splits ? blocks * block : all,
                                      splits,      splits, splits ? ATTEND_MOST_HEADS : 1};
        split += splits;
        run(&p, &t, kernel->name, &tiling, 2);
        expect_weights(&p, &t, kernel->name);
      }
  }
  cr_expect_geq(kernels, 4);
  cr_expect_gt(split, 0);
}

/* The number of weights that are kept is binomial: within 5 standard deviations, for any seed and offset. */
Test(dropout, keeps_the_fraction_that_is_asked_for) {
  const float probabilities[] = {0x1p-12f, 0.05f, 0.1f, 0.5f, 0.9f, 0.999f};
  for (size_t i = 0; i < COUNT(probabilities); i++)
    for (uint32_t offset = 0; offset < 3; offset++) {
      const double p = (double)probabilities[i];
      const attend_problem problem = problem_of(probabilities[i]);
      const attend_tensors t = tensors_of(i, offset);
      run(&problem, &t, NULL, NULL, 2);
      const double kept = (double)expect_weights(&problem, &t, "auto");
      cr_expect_lt(fabs(kept - (1 - p) * PAIRS), 5 * sqrt(p * (1 - p) * PAIRS), "p = %g: %.0f of %d kept", p, kept,
                   PAIRS);
    }
}

/* Two runs agree on as many weights as independent ones do, whichever of seed, its upper half and offset differs. */
Test(dropout, seeds_and_offsets_are_independent) {
  static float first[PAIRS];
  const attend_problem p = problem_of(0.5f);
  const attend_tensors base = tensors_of(1, 1);
  run(&p, &base, NULL, NULL, 1);
  memcpy(first, out, sizeof first);
  const attend_tensors others[] = {tensors_of(2, 1), tensors_of(1 | UINT64_C(1) << 32, 1), tensors_of(1, 2)};
  for (size_t n = 0; n < COUNT(others); n++) {
    long same = 0;
    run(&p, &others[n], NULL, NULL, 1);
    for (int i = 0; i < PAIRS; i++) same += (first[i] == 0) == (out[i] == 0);
    cr_expect_lt(fabs((double)same - 0.5 * PAIRS), 5 * sqrt(0.25 * PAIRS), "%zu: %ld of %d are the same", n, same,
                 PAIRS);
  }
  run(&p, &base, NULL, NULL, 1);
  cr_expect_arr_eq(first, out, sizeof first, "the same seed and offset");
}

/* Neither do rows, heads, batch entries or neighbouring keys repeat one another. */
Test(dropout, no_two_rows_are_alike) {
  const attend_problem p = problem_of(0.5f);
  const attend_tensors t = tensors_of(3, 0);
  run(&p, &t, NULL, NULL, 1);
  for (int a = 0; a < B * HQ * LQ; a++)
    for (int b = 0; b < a; b++) {
      int same = 0;
      for (int j = 0; j < LK; j++) same += (out[a * LK + j] == 0) == (out[b * LK + j] == 0);
      cr_expect_lt(abs(same - LK / 2), 6 * sqrt(0.25 * LK), "rows %d and %d: %d of %d", a, b, same, LK);
    }
  for (int step = 1; step <= 64; step++) {
    int same = 0, pairs = 0;
    for (int i = 0; i + step < PAIRS; i++)
      if (i % LK + step < LK) pairs++, same += (out[i] == 0) == (out[i + step] == 0);
    cr_expect_lt(fabs(same - 0.5 * pairs), 6 * sqrt(0.25 * pairs), "keys %d apart: %d of %d", step, same, pairs);
  }
}

Test(dropout, of_nothing_and_of_everything) {
  static float without[PAIRS];
  attend_problem p = problem_of(0);
  const attend_tensors t = tensors_of(5, 6);
  run(&p, &t, NULL, NULL, 1);
  memcpy(without, out, sizeof without);
  p.dropout = 0x1p-33f; /* no word is below 0 */
  run(&p, &t, NULL, NULL, 1);
  cr_expect_arr_eq(without, out, sizeof without);
  p.dropout = 1;
  run(&p, &t, NULL, NULL, 1);
  for (int i = 0; i < PAIRS; i++) cr_assert_eq(out[i], 0.0f, "weight %d is kept", i);
}

Test(dropout, bad_input) {
  const float bad[] = {-0x1p-149f, -1, 1.0000001f, INFINITY, -INFINITY, NAN};
  for (size_t i = 0; i < COUNT(bad); i++) {
    const attend_problem p = problem_of(bad[i]);
    attend_test_refuses(&p, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "dropout", NULL, "probability");
  }
  attend_problem many = attend_test_problem(1 << 20, 1 << 12, 1, 1, 1, 1);
  many.dropout = 0.5f;
  attend_test_accepts(&many, NULL, "2^32 heads");
  many.q_heads++;
  attend_test_refuses(&many, NULL, ATTEND_ERROR_UNSUPPORTED, "dropout", NULL, "more than 2^32 heads");
  many.dropout = 0;
  attend_test_accepts(&many, NULL, "more than 2^32 heads without dropout");

  const attend_problem p = problem_of(0.5f);
  attend_tensors t = tensors_of(1, 1);
  t.dropout_offset = UINT64_C(1) << 32;
  EXPECT_ERROR(attend_forward(&p, &t), ATTEND_ERROR_INVALID_ARGUMENT, "dropout_offset", "dropout_offset");
}
