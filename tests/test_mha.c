/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention against what PyTorch computes, and decoding with a cache against one pass over everything. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/npy.c" /* the program's sources are in no library */
#include "tests/mha_support.h"
#include "tests/support.h"

/** OpenBLAS's, where the library has it. */
void openblas_set_num_threads(int threads) __attribute__((weak));

typedef struct recorded_case {
  const char *name;
  bool self_attention, bias;
  attend_mha_problem problem;
} recorded_case;

#define CASE(name, self_attention, bias, ...)                                                                          \
  {name, self_attention, bias, {.struct_size = sizeof(attend_mha_problem), __VA_ARGS__}},
static const recorded_case cases[] = {
#include "tests/layers/cases.def"
};

/* ---------------------------------------------------------------------------------------------------- recordings */

static attend_npy read_recording(const char *name) {
  char path[4096], why[512];
  snprintf(path, sizeof path, "%s/tests/layers/%s.npy", getenv("SOURCE_DIR"), name);
  attend_npy array;
  cr_assert(attend_npy_read(path, &array, why, sizeof why), "%s: %s", path, why);
  return array;
}

/** The largest error of an output and of the weights, in units of the largest number recorded or of 1. */
static double largest_error(const attend_mha_test *x, const attend_npy *recorded) {
  const attend_mha_problem *p = &x->p;
  const int64_t dim = p->out_proj ? p->embed_dim : p->q_heads * p->v_head_dim;
  const float *wanted = recorded->data;
  double error = 0;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t i = 0; i < p->q_len; i++)
      for (int64_t d = 0; d < dim; d++) error = fmax(error, fabs(attend_mha_test_row(x, b, i)[d] - *wanted++));
  const int64_t heads = p->weights == ATTEND_LAYER_WEIGHTS_PER_HEAD ? p->q_heads : 1;
  const int64_t weights = p->weights ? p->batch * heads * p->q_len * attend_mha_test_keys(p) : 0;
  for (int64_t i = 0; i < weights; i++) error = fmax(error, fabs(x->t.weights[i] - *wanted++));
  cr_assert_eq((size_t)(wanted - (const float *)recorded->data), recorded->count, "the recording is of another size");
  double largest = 1;
  for (size_t i = 0; i < recorded->count; i++) largest = fmax(largest, fabsf(((const float *)recorded->data)[i]));
  return error / largest;
}

static bool finite_rows(const attend_mha_test *x) {
  for (int64_t b = 0; b < x->p.batch; b++)
    for (int64_t i = 0; i < x->p.q_len; i++)
      for (int64_t d = 0; d < x->p.embed_dim && x->p.out_proj; d++)
        if (!isfinite(attend_mha_test_row(x, b, i)[d])) return false;
  return true;
}

/* Outputs are sums of dozens of numbers, rounded by either side: some times 2^-24 of the largest. */
static const double tolerance = 1e-6;

Test(mha, computes_what_pytorch_computes) {
  if (!attend_mha_test_blas()) return;
  for (size_t c = 0; c < COUNT(cases); c++) {
    attend_npy recorded = read_recording(cases[c].name);
    double worst = 0;
    for (int order = 0; order < MHA_ORDERS; order++)
      for (int layout = ATTEND_WEIGHT_OUT_IN; layout <= ATTEND_WEIGHT_IN_OUT; layout++)
        for (int threads = 1; threads <= 3; threads += 2)
          for (int blas_threads = 1; blas_threads <= 2; blas_threads++) {
            attend_mha_problem problem = cases[c].problem;
            problem.weight_layout = layout;
            attend_mha_test x = attend_mha_test_create(&problem, cases[c].self_attention, cases[c].bias, order);
            openblas_set_num_threads(blas_threads);
            attend_mha_test_run(&x.p, &x.t, threads);
            cr_assert(finite_rows(&x), "%s: not a number", cases[c].name);
            worst = fmax(worst, largest_error(&x, &recorded));
            cr_expect(attend_mha_test_gaps_untouched(&x), "%s: wrote between rows", cases[c].name);
            attend_mha_test_destroy(&x);
          }
    printf("%-28s max error %.2g\n", cases[c].name, worst);
    cr_expect_leq(worst, tolerance, "%s: max error %g", cases[c].name, worst);
    attend_npy_free(&recorded);
  }
  openblas_set_num_threads(1);
}

Test(mha, gives_the_same_bits_for_any_number_of_threads) {
  if (!attend_mha_test_blas()) return;
  attend_mha_problem problem = ATTEND_MHA_PROBLEM_INIT;
  problem.batch = 2, problem.q_len = problem.kv_len = 300, problem.embed_dim = problem.k_dim = problem.v_dim = 450;
  problem.q_heads = problem.kv_heads = 6, problem.head_dim = problem.v_head_dim = 75, problem.out_proj = 1;
  attend_mha_test one = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
  openblas_set_num_threads(1);
  attend_mha_test_run(&one.p, &one.t, 1);
  for (int threads = 2; threads <= 5; threads++) {
    attend_mha_test many = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
    attend_mha_test_run(&many.p, &many.t, threads);
    cr_expect_eq(memcmp(one.t.out, many.t.out, one.bytes[MHA_OUT]), 0, "%d threads", threads);
    attend_mha_test_destroy(&many);
  }
  attend_mha_test_destroy(&one);
}

/* -------------------------------------------------------------------------------------------------------- packed */

Test(mha, takes_packed_projections_in_place) {
  if (!attend_mha_test_blas()) return;
  enum { E = 24 };
  attend_mha_problem problem = cases[0].problem;
  for (int layout = ATTEND_WEIGHT_OUT_IN; layout <= ATTEND_WEIGHT_IN_OUT; layout++) {
    problem.weight_layout = layout;
    attend_mha_test apart = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
    attend_mha_test packed = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
    float *in_proj = malloc(3 * E * E * sizeof *in_proj);
    const float *parts[] = {apart.t.q_weight, apart.t.k_weight, apart.t.v_weight};
    const bool rows = layout == ATTEND_WEIGHT_OUT_IN;
    for (int part = 0; part < 3; part++)
      for (int i = 0; i < E; i++)
        memcpy(in_proj + (rows ? (part * E + i) * E : i * 3 * E + part * E), parts[part] + i * E, E * sizeof *in_proj);
    const int64_t step = rows ? E * E : E, stride = rows ? 0 : 3 * E;
    packed.t.q_weight = in_proj, packed.t.k_weight = in_proj + step, packed.t.v_weight = in_proj + 2 * step;
    packed.p.q_weight_stride = packed.p.k_weight_stride = packed.p.v_weight_stride = stride;
    attend_mha_test_run(&apart.p, &apart.t, 1);
    attend_mha_test_run(&packed.p, &packed.t, 1);
    cr_expect_eq(memcmp(apart.t.out, packed.t.out, apart.bytes[MHA_OUT]), 0);
    free(in_proj);
    attend_mha_test_destroy(&apart);
    attend_mha_test_destroy(&packed);
  }
}

/* --------------------------------------------------------------------------------------------------------- cache */

/** Copies the rows `from` to `from + len` of every batch entry of a sequence of `total`. */
static float *cut(const float *x, int64_t batch, int64_t total, int64_t from, int64_t len, int64_t dim) {
  float *to = malloc((size_t)(batch * len * dim) * sizeof *to);
  for (int64_t b = 0; b < batch; b++)
    memcpy(to + b * len * dim, x + (b * total + from) * dim, (size_t)(len * dim) * sizeof *to);
  return to;
}

/** Feeds the tokens of `full` to a layer with a cache, some at a time, and compares with its output. */
static void decode_and_compare(const attend_mha_test *full, attend_mha_problem problem, const int64_t *steps,
                               int64_t cache_len) {
  const int64_t total = full->p.q_len, dim = full->p.embed_dim;
  const int first = (int)steps[0];
  problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  problem.cache_len = cache_len;
  problem.q_len = problem.kv_len = total;
  attend_mha_test x = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
  int32_t *past = x.memory[PAST];
  double worst = 0;
  for (int64_t done = 0, step; done < total; done += step) {
    step = *steps ? *steps++ : 1;
    x.p.q_len = x.p.kv_len = step;
    float *tokens = cut(full->t.query, problem.batch, total, done, step, dim);
    x.t.query = x.t.key = x.t.value = tokens;
    for (int64_t b = 0; b < problem.batch; b++) past[b] = (int32_t)done;
    attend_mha_test_run(&x.p, &x.t, 2);
    free(tokens);
    for (int64_t b = 0; b < problem.batch; b++)
      for (int64_t i = 0; i < step; i++)
        for (int64_t d = 0; d < dim; d++)
          worst = fmax(worst, fabs(x.t.out[(b * step + i) * dim + d] - attend_mha_test_row(full, b, done + i)[d]));
  }
  printf("cache of %d positions, first step %d: max difference %.2g\n", (int)cache_len, first, worst);
  cr_expect_leq(worst, 2 * tolerance, "%g", worst);
  attend_mha_test_destroy(&x);
}

Test(mha, decodes_with_a_cache_as_in_one_pass) {
  if (!attend_mha_test_blas()) return;
  attend_mha_problem problem = ATTEND_MHA_PROBLEM_INIT;
  problem.batch = 2, problem.q_len = problem.kv_len = 37, problem.embed_dim = problem.k_dim = problem.v_dim = 48;
  problem.q_heads = 4, problem.kv_heads = 2, problem.head_dim = 12, problem.v_head_dim = 8, problem.out_proj = 1;
  problem.causal = ATTEND_CAUSAL_TOP_LEFT;
  attend_mha_test full = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
  attend_mha_test_run(&full.p, &full.t, 2);
  const int64_t prefill[] = {30, 0}, chunks[] = {5, 20, 1, 3, 8, 0}, single[] = {1, 0};
  decode_and_compare(&full, problem, prefill, 37);
  decode_and_compare(&full, problem, chunks, 64);
  decode_and_compare(&full, problem, single, 1000);
  attend_mha_test_destroy(&full);
}

/** The attention of a step is that of one causal pass to the bit, given the same kernel: only projections may differ.
 */
Test(mha, attends_over_a_cache_to_the_same_bits) {
  enum { L = 300, C = 700, H = 2, D = 16 };
  attend_problem whole = attend_test_problem(1, H, H, L, L, D);
  whole.causal = ATTEND_CAUSAL_TOP_LEFT, whole.batch_invariant = 1;
  for (size_t n = 0; n < attend_kernel_count(); n++) {
    const attend_kernel *kernel = attend_kernel_at(n);
    if (!attend_test_can(kernel, &whole)) continue;
    attend_plan *plan = attend_test_plan(&whole, kernel->name, 2);
    attend_test_tensors full = attend_test_run(plan, &whole);
    attend_plan_destroy(plan);

    attend_problem step = attend_test_problem(1, H, H, 1, C, D);
    step.kv_lengths = ATTEND_LENGTHS_PER_QUERY, step.batch_invariant = 1;
    step.q_strides = step.out_strides = (attend_strides){H * L * D, L * D, D};
    float *cache[2];
    for (int i = 0; i < 2; i++) {
      cache[i] = malloc(H * C * D * sizeof(float));
      for (int j = 0; j < H * C * D; j++) cache[i][j] = NAN;
      for (int h = 0; h < H; h++)
        memcpy(cache[i] + h * C * D, (const float *)(i ? full.t.v : full.t.k) + h * L * D, L * D * sizeof(float));
    }
    float out[H * L * D];
    plan = attend_test_plan(&step, kernel->name, 2);
    for (int32_t i = 0; i < L; i++) {
      const int32_t length = i + 1;
      attend_tensors t = ATTEND_TENSORS_INIT;
      t.q = (const float *)full.t.q + i * D, t.k = cache[0], t.v = cache[1], t.out = out + i * D;
      t.kv_lengths = &length;
      cr_assert_eq(attend_plan_run(plan, &t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    }
    cr_expect_eq(memcmp(out, full.t.out, sizeof out), 0, "%s", kernel->name);
    attend_plan_destroy(plan);
    free(cache[0]);
    free(cache[1]);
    attend_test_tensors_destroy(&full);
  }
}

Test(mha, masks_and_weights_count_the_positions_of_the_cache) {
  if (!attend_mha_test_blas()) return;
  attend_mha_problem problem = ATTEND_MHA_PROBLEM_INIT;
  problem.batch = 2, problem.q_len = 2, problem.kv_len = 3, problem.embed_dim = problem.k_dim = problem.v_dim = 8;
  problem.q_heads = problem.kv_heads = 2, problem.head_dim = problem.v_head_dim = 4, problem.cache_len = 9;
  problem.key_padding_mask = ATTEND_LAYER_MASK_IGNORE, problem.weights = ATTEND_LAYER_WEIGHTS_AVERAGED;
  attend_mha_test x = attend_mha_test_create(&problem, false, true, BATCH_FIRST);
  int32_t *past = x.memory[PAST];
  past[0] = 0, past[1] = 6;
  memset(x.memory[K_CACHE], 0, x.bytes[K_CACHE]);
  memset(x.memory[V_CACHE], 0, x.bytes[V_CACHE]);
  uint8_t *ignore = x.memory[KEY_PADDING_MASK];
  memset(ignore, 0, x.bytes[KEY_PADDING_MASK]);
  ignore[9 + 1] = 1;
  attend_mha_test_run(&x.p, &x.t, 1);
  for (int b = 0; b < 2; b++)
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 9; j++) {
        const bool attended = j < past[b] + 3 && !(b == 1 && j == 1);
        cr_expect_eq(x.t.weights[(b * 2 + i) * 9 + j] > 0, attended, "batch entry %d, query %d, position %d", b, i, j);
      }
  attend_mha_test_destroy(&x);
}

/* --------------------------------------------------------------------------------------------------------- edges */

Test(mha, gives_the_bias_where_no_key_is_attended) {
  if (!attend_mha_test_blas()) return;
  attend_mha_problem problem = cases[0].problem;
  problem.key_padding_mask = ATTEND_LAYER_MASK_IGNORE;
  attend_mha_test x = attend_mha_test_create(&problem, true, true, BATCH_FIRST);
  memset(x.memory[KEY_PADDING_MASK], 1, x.bytes[KEY_PADDING_MASK]);
  attend_mha_test_run(&x.p, &x.t, 1);
  for (int64_t b = 0; b < problem.batch; b++)
    for (int64_t i = 0; i < problem.q_len; i++)
      for (int64_t d = 0; d < problem.embed_dim; d++) cr_expect_eq(attend_mha_test_row(&x, b, i)[d], x.t.out_bias[d]);
  attend_mha_test_destroy(&x);
}

Test(mha, takes_empty_problems) {
  if (!attend_mha_test_blas()) return;
  for (int which = 0; which < 3; which++) {
    attend_mha_problem problem = cases[0].problem;
    *(which == 0 ? &problem.batch : which == 1 ? &problem.q_len : &problem.kv_len) = 0;
    for (int order = 0; order < MHA_ORDERS; order++) {
      attend_mha_test x = attend_mha_test_create(&problem, false, true, order);
      attend_mha_test_run(&x.p, &x.t, 2);
      for (int64_t b = 0; which == 2 && b < problem.batch; b++)
        cr_expect_eq(attend_mha_test_row(&x, b, 1)[2], x.t.out_bias[2], "no key gives the bias");
      attend_mha_test_destroy(&x);
    }
  }
}
