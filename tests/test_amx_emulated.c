/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The AMX kernels on emulated tiles: kernels/amx compiled with tests/amx/emulated_tile.h instead of the instructions,
 * linked in the place of the library's, on a processor that is made to look as if it had AMX. Everything but the tile
 * operations is what runs on a processor with AMX. tests/amx/emulated_tile.c has these operations, and
 * tests/test_hot_loops.py checks that the library has the instructions.
 */
#include <criterion/criterion.h>

#ifdef __x86_64__

#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "tests/amx/emulated_tile.h"
#include "tests/play_x86.h"
#include "tests/support.h"
#include "verify/verify.h"

static const uint64_t vectors = ATTEND_CPU_BIT(AVX512F) | ATTEND_CPU_BIT(AVX512BW) | ATTEND_CPU_BIT(AVX512DQ) |
                                ATTEND_CPU_BIT(AVX512VL) | ATTEND_CPU_BIT(AVX512_BF16);

/* The tiles need nothing of the processor; the code around them does. */
static void play(void) {
  static attend_play_x86 amx = {.saves_tiles = true, .palette = true};
  attend_play_amx(&amx);
  const uint64_t missing = vectors & ~attend_cpu_get()->usable;
  if (missing) {
    const char *feature = attend_cpu_feature_name((attend_cpu_feature)__builtin_ctzll(missing));
    cr_skip_test("the AMX kernels' vector code needs %s", feature);
  }
}

TestSuite(emulated, .init = play);

/* --------------------------------------------------------------------------------------------------- the emulation */

static unsigned char configuration[64];

static void configure(int rows, int row_bytes) {
  memset(configuration, 0, sizeof configuration);
  configuration[0] = 1;
  for (int t = 0; t < 8; t++) configuration[16 + 2 * t] = (unsigned char)row_bytes, configuration[48 + t] = rows;
  amx_load_configuration(configuration);
}

static float first_product(uint16_t a[2], uint16_t b[2], float c) {
  uint16_t left[16 * 32] = {a[0], a[1]}, right[16 * 32] = {b[0], b[1]};
  float sum[16 * 16] = {c};
  configure(16, 64);
  amx_load(0, sum, 64), amx_load(1, left, 64), amx_load(2, right, 64);
  amx_multiply(0, 1, 2);
  amx_store(0, sum, 64);
  return sum[0];
}

static uint16_t bf16(float x) { return f32_to_bf16(x); }

Test(tile, products_are_those_of_the_manual) {
  cr_expect_eq(first_product((uint16_t[]){bf16(2), bf16(3)}, (uint16_t[]){bf16(5), bf16(7)}, 0.5f), 31.5f);
  /* The pair is added up before it meets c: one after the other, 1 would be lost twice. */
  cr_expect_eq(first_product((uint16_t[]){bf16(1), bf16(1)}, (uint16_t[]){bf16(1), bf16(1)}, 0x1p24f), 0x1p24f + 2);
  /* Denormals are 0 on all sides. */
  cr_expect_eq(first_product((uint16_t[]){1, 0}, (uint16_t[]){bf16(0x1p100f), 0}, 0.0f), 0.0f);
  cr_expect_eq(first_product((uint16_t[]){bf16(0x1p-100f), 0}, (uint16_t[]){bf16(0x1p-40f), 0}, 0.0f), 0.0f);
  cr_expect_eq(first_product((uint16_t[]){0, 0}, (uint16_t[]){0, 0}, 0x1p-130f), 0.0f);
  cr_expect(isnan(first_product((uint16_t[]){0, 0}, (uint16_t[]){bf16(INFINITY), 0}, 1.0f)));
}

Test(tile, products_of_all_elements) {
  uint16_t a[16 * 32], b[16 * 32];
  float c[16 * 16];
  for (int i = 0; i < 512; i++) a[i] = bf16((float)(i % 13 - 6)), b[i] = bf16((float)(i % 7 - 3));
  configure(16, 64);
  amx_zero(0);
  amx_load(1, a, 64), amx_load(2, b, 64);
  amx_multiply(0, 1, 2);
  amx_store(0, c, 64);
  for (int m = 0; m < 16; m++)
    for (int n = 0; n < 16; n++) {
      float sum = 0;
      for (int k = 0; k < 32; k++) sum += bf16_to_f32(a[m * 32 + k]) * bf16_to_f32(b[k / 2 * 32 + 2 * n + k % 2]);
      cr_expect_eq(c[m * 16 + n], sum, "row %d, column %d", m, n);
    }
}

/* What would be a fault on a processor. */
Test(tile, not_configured, .signal = SIGABRT) { amx_zero(0); }
Test(tile, released, .signal = SIGABRT) {
  configure(16, 64);
  amx_release();
  amx_zero(0);
}
Test(tile, rows_beyond_the_palette, .signal = SIGABRT) { configure(17, 64); }
Test(tile, columns_beyond_the_palette, .signal = SIGABRT) { configure(16, 68); }
Test(tile, sizes_that_do_not_fit, .signal = SIGABRT) {
  configure(8, 64);
  amx_multiply(0, 1, 2);
}

/* ---------------------------------------------------------------------------------------------------- the kernels */

static bool is_amx(const attend_kernel *kernel) { return kernel->isa == ATTEND_ISA_AMX; }

/* Checks all AMX kernels on a case, as `attend verify` does, and returns how many passed. */
static int prove(attend_verify *v, const attend_verify_case *c) {
  attend_verify_result *result = malloc(sizeof *result);
  int passed = 0;
  cr_assert_not_null(result);
  cr_assert(attend_verify_prepare(v, c), "no memory");
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    if (!is_amx(attend_kernel_at(i))) continue;
    attend_verify_run(v, attend_kernel_at(i), result);
    cr_expect_neq(result->status, ATTEND_VERIFY_FAILED, "%s", result->message);
    const attend_problem *p = &c->problem;
    if (!p->weights && !p->scores && p->score == ATTEND_SCORE_DOT && p->dropout <= 0 && p->q_dtype == ATTEND_BF16 &&
        (!p->k_dtype || p->k_dtype == ATTEND_BF16) && (!p->v_dtype || p->v_dtype == ATTEND_BF16))
      cr_expect_eq(result->status, ATTEND_VERIFY_PASSED, "%s skips %s: %s", attend_kernel_at(i)->name, c->name,
                   result->message);
    passed += result->status == ATTEND_VERIFY_PASSED;
  }
  free(result);
  return passed;
}

Test(emulated, named_cases) {
  attend_verify *v = attend_verify_open(ATTEND_ISA_AMX);
  int passed = 0;
  cr_assert_not_null(v);
  for (size_t i = 0; i < attend_verify_named_count(); i++) {
    attend_verify_case c;
    attend_verify_named_case(i, 1, ATTEND_BF16, &c);
    passed += prove(v, &c);
  }
  attend_verify_close(v);
  cr_expect_gt(passed, 150);
  cr_expect_gt(attend_emulated_products(), 10000);
}

Test(emulated, random_cases) {
  attend_verify *v = attend_verify_open(ATTEND_ISA_AMX);
  int passed = 0, ragged = 0, paged = 0, ranged = 0;
  cr_assert_not_null(v);
  for (uint64_t seed = 1; seed <= 1500; seed++) {
    attend_verify_case c;
    attend_verify_random_case(seed, ATTEND_BF16, &c);
    const int now = prove(v, &c);
    passed += now;
    if (c.problem.q_starts || c.problem.kv_starts) ragged += now;
    if (c.problem.page_rows) paged += now;
    if (c.problem.key_ranges) ranged += now;
  }
  attend_verify_close(v);
  cr_expect_gt(passed, 800);
  cr_expect_geq(ragged, 550);
  cr_expect_geq(paged, 350);
  cr_expect_geq(ranged, 300);
}

/* Programs mask with the lowest number, where they might exclude: all of a row's keys then count the same. */
Test(emulated, rows_of_the_lowest_scores) {
  enum { KEYS = 300, DIM = 16 };
  static uint16_t q[DIM], k[KEYS * DIM], v[KEYS * DIM];
  static float bias[KEYS], out[32 * DIM], lse[32];
  attend_problem problem = attend_test_problem(1, 1, 1, 32, KEYS, DIM);
  problem.q_dtype = ATTEND_BF16, problem.out_dtype = problem.bias_dtype = ATTEND_F32;
  problem.q_strides = (attend_strides){DIM, DIM, 0};
  problem.bias_strides = (attend_strides4){0, 0, 0, 1};
  problem.lse = 1;
  double mean = 0;
  for (int d = 0; d < DIM; d++) q[d] = bf16((float)d);
  for (int i = 0; i < KEYS * DIM; i++) k[i] = bf16((float)(i % 3)), v[i] = bf16((float)(i / DIM % 5));
  for (int j = 0; j < KEYS; j++) bias[j] = -FLT_MAX, mean += j % 5 / (double)KEYS;
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.bias = bias, t.out = out, t.lse = lse;
  attend_plan *plan = attend_test_plan(&problem, NULL, 1);
  cr_assert(is_amx(attend_kernel_find(attend_plan_kernel(plan))));
  cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK);
  for (int i = 0; i < 32 * DIM; i++) cr_expect_lt(fabs((double)out[i] - mean), 1e-5, "%g, not %g", out[i], mean);
  for (int i = 0; i < 32; i++) cr_expect_eq(lse[i], -FLT_MAX);
  attend_plan_destroy(plan);
}

/* Key j's score with a query of 1: steps at the edges of turns and within, up and down, and beyond what a shift holds.
 */
static float rising(int pattern, int j) {
  switch (pattern) {
  case 0: return (float)(j / 16 * 64);
  case 1: return (float)(j * 20);
  case 2: return (float)(j * 1024);
  case 3: return j < 40 ? 1e5f : 1.0f;
  case 4: return j < 200 ? -3e5f : 2.0f;
  case 5: return j % 2 ? 300.0f : -300.0f;
  case 6: return j == 299 ? 1e30f : (float)j;
  case 7: return j < 200 ? -1e9f : (float)(j % 7);
  case 8: return j < 32 ? -3.3895314e38f : (float)(j % 5);
  case 9: return j < 100 ? 1e9f : 2e9f + (float)(j % 3) * 0x1p24f;
  default: return 0.0f;
  }
}

/* The base that weights are relative to moves within a unit, between units, and to and from huge ones. */
Test(emulated, rows_whose_scores_rise) {
  enum { KEYS = 300, DIM = 32, ROWS = 40, PATTERNS = 11 };
  static uint16_t q[ROWS * DIM], k[KEYS * DIM], v[KEYS * DIM];
  static float out[ROWS * DIM], lse[ROWS];
  static const float factors[] = {1, -1, 0.5f, 0.125f, -0.25f, 0};
  attend_problem problem = attend_test_problem(1, 1, 1, ROWS, KEYS, DIM);
  problem.q_dtype = ATTEND_BF16, problem.out_dtype = ATTEND_F32;
  problem.scale = 1, problem.lse = 1;
  for (int i = 0; i < KEYS * DIM; i++) v[i] = bf16((float)((i / DIM * 7 + i % DIM) % 11 - 5));
  for (int i = 0; i < ROWS; i++) q[i * DIM] = bf16(factors[i % 6]);
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = out, t.lse = lse;
  attend_plan *plan = attend_test_plan(&problem, NULL, 1);
  cr_assert(is_amx(attend_kernel_find(attend_plan_kernel(plan))));
  for (int pattern = 0; pattern < PATTERNS; pattern++) {
    for (int j = 0; j < KEYS; j++) k[j * DIM] = bf16(rising(pattern, j));
    cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK);
    for (int i = 0; i < ROWS; i++) {
      double max = -INFINITY, sum = 0, values[DIM] = {0};
      for (int j = 0; j < KEYS; j++) max = fmax(max, (double)factors[i % 6] * bf16_to_f32(k[j * DIM]));
      for (int j = 0; j < KEYS; j++) {
        const double weight = exp((double)factors[i % 6] * bf16_to_f32(k[j * DIM]) - max);
        sum += weight;
        for (int d = 0; d < DIM; d++) values[d] += weight * bf16_to_f32(v[j * DIM + d]);
      }
      const double expected = max + log(sum);
      cr_expect_lt(fabs(lse[i] - expected), 5e-3 + 1e-6 * fabs(expected), "pattern %d, row %d: LSE %g, not %g", pattern,
                   i, lse[i], expected);
      for (int d = 0; d < DIM; d++)
        cr_expect_lt(fabs(out[i * DIM + d] - values[d] / sum), 0.02, "pattern %d, row %d: %g, not %g", pattern, i,
                     out[i * DIM + d], values[d] / sum);
    }
  }
  attend_plan_destroy(plan);
}

/* A score of -inf excludes its key, as a mask does: nothing of its value reaches the row, and all of it reaches others.
 */
Test(emulated, keys_excluded_by_their_scores) {
  enum { KEYS = 40, DIM = 32, ROWS = 40, BAD = 17 };
  static uint16_t q[ROWS * DIM], k[KEYS * DIM], v[KEYS * DIM];
  static float out[ROWS * DIM];
  attend_problem problem = attend_test_problem(1, 1, 1, ROWS, KEYS, DIM);
  problem.q_dtype = ATTEND_BF16, problem.out_dtype = ATTEND_F32;
  for (int i = 0; i < ROWS; i++) q[i * DIM] = bf16(i % 2 ? 1.0f : 0.0f), q[i * DIM + 1] = bf16(1.0f);
  for (int i = 0; i < KEYS * DIM; i++) v[i] = bf16(1.0f);
  k[BAD * DIM + 1] = bf16(-INFINITY);
  for (int d = 0; d < DIM; d++) v[BAD * DIM + d] = bf16(d % 2 ? NAN : INFINITY);
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = out;
  attend_plan *plan = attend_test_plan(&problem, NULL, 1);
  cr_assert(is_amx(attend_kernel_find(attend_plan_kernel(plan))));
  cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK);
  for (int i = 0; i < ROWS * DIM; i++) cr_expect_float_eq(out[i], 1.0f, 1e-6f, "row %d: %g", i / DIM, out[i]);
  k[BAD * DIM + 1] = 0;
  cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK);
  for (int i = 0; i < ROWS * DIM; i++) cr_expect(i % 2 ? isnan(out[i]) : isinf(out[i]), "row %d: %g", i / DIM, out[i]);
  attend_plan_destroy(plan);
}

/* --------------------------------------------------------------------------------------------------- thread state */

/* What the library chooses. */
static bool chooses_amx(attend_dtype dtype, int64_t q_len) {
  attend_problem problem = attend_test_problem(1, 4, 4, q_len, 300, 64);
  problem.q_dtype = dtype;
  attend_plan *plan = attend_test_plan(&problem, NULL, 1);
  const bool chosen = is_amx(attend_kernel_find(attend_plan_kernel(plan)));
  attend_plan_destroy(plan);
  return chosen;
}

Test(emulated, are_chosen_for_bf16_and_enough_rows) {
  cr_expect(chooses_amx(ATTEND_BF16, 300));
  cr_expect(chooses_amx(ATTEND_BF16, 8));
  cr_expect_not(chooses_amx(ATTEND_BF16, 7), "less than half of a tile's rows");
  cr_expect_not(chooses_amx(ATTEND_BF16, 1));
  cr_expect_not(chooses_amx(ATTEND_F16, 300), "bf16 has fewer bits");
  cr_expect_not(chooses_amx(ATTEND_F32, 300), "bf16 has fewer bits");
  setenv("ATTEND_ISA", "avx512", 1);
  cr_expect_not(chooses_amx(ATTEND_BF16, 300), "ATTEND_ISA=avx512");
}

static attend_plan *plan_of(const attend_problem *problem, int threads) {
  attend_plan *plan = attend_test_plan(problem, NULL, threads);
  cr_assert_not_null(strstr(attend_plan_kernel(plan), "__amx_"), "auto is %s", attend_plan_kernel(plan));
  return plan;
}

static attend_problem some_problem(void) {
  attend_problem problem = attend_test_problem(2, 4, 2, 100, 300, 64);
  problem.q_dtype = ATTEND_BF16;
  return problem;
}

static void run_once(int threads) {
  const attend_problem problem = some_problem();
  attend_plan *plan = plan_of(&problem, threads);
  attend_test_tensors t = attend_test_run(plan, &problem);
  attend_test_tensors_destroy(&t);
  attend_plan_destroy(plan);
}

Test(emulated, leaves_tiles_released) {
  unsigned char after[64], none[64] = {0};
  run_once(1);
  amx_store_configuration(after);
  cr_expect_arr_eq(after, none, sizeof after);
}

Test(emulated, puts_back_what_the_caller_had_configured) {
  unsigned char after[64];
  configure(5, 12);
  run_once(1);
  amx_store_configuration(after);
  cr_expect_arr_eq(after, configuration, sizeof after);
  run_once(3); /* the calling thread works among OpenMP's */
  amx_store_configuration(after);
  cr_expect_arr_eq(after, configuration, sizeof after);
}

/* Parts on the caller's thread, in any order, and whole runs inside a parallel region. */
Test(emulated, same_bits_however_it_is_run) {
  const attend_problem problem = some_problem();
  attend_plan *plan = plan_of(&problem, 3);
  attend_test_tensors expected = attend_test_run(plan, &problem);
  attend_test_tensors parts = attend_test_tensors_create(&problem);
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  cr_assert_eq(attend_plan_begin(plan, &parts.t, workspace, size), ATTEND_OK);
  for (int part = 2; part >= 0; part--)
    cr_assert_eq(attend_plan_run_part(plan, &parts.t, workspace, size, part, 3), ATTEND_OK);
  cr_expect(attend_test_same(&parts, &expected));
  int same = 0;
#ifdef _OPENMP
#pragma omp parallel for reduction(+ : same) num_threads(4)
#endif
  for (int i = 0; i < 4; i++) {
    attend_test_tensors nested = attend_test_run(plan, &problem);
    same += attend_test_same(&nested, &expected);
    attend_test_tensors_destroy(&nested);
  }
  cr_expect_eq(same, 4);
  free(workspace);
  attend_test_tensors_destroy(&parts);
  attend_test_tensors_destroy(&expected);
  attend_plan_destroy(plan);
}

#else

Test(emulated, is_of_another_processor) { cr_skip_test("AMX is of x86-64"); }

#endif
