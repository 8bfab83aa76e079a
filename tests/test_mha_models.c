/* SPDX-License-Identifier: Apache-2.0 */
/** Layers of language models: against sums in double, in every layout, type of cache and order of steps; same bits. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mha_support.h"
#include "tests/mha_world.h"
#include "tests/support.h"

/** A prompt is given in one go or in pieces, then single tokens; sequences of any lengths side by side. */
static const attend_mha_step steps[] = {
    {.past = {0, 0, 0}, .news = {7, 1, 12}, .packed = true, .sequences = 3},
    {.past = {7, 1, 12}, .news = {1, 9, 1}, .packed = true, .sequences = 3},
    {.past = {8, 10, 13}, .news = {1, 1, 1}, .packed = true, .sequences = 3},
    {.past = {9, 11, 14}, .news = {1, 1, 1}, .sequences = 3},
    {.past = {10, 12, 15}, .news = {4, 4, 4}, .sequences = 3},
    {.past = {14, 16, 19}, .news = {0, 8, 5}, .packed = true, .sequences = 3},
};

/** Runs all steps and gives the largest error. */
static double run_steps(attend_mha_world *w, int threads, const char *name) {
  double worst = 0;
  for (size_t i = 0; i < COUNT(steps); i++) {
    attend_mha_run_data run = attend_mha_world_step(w, &steps[i]);
    attend_mha_test_run(&run.p, &run.t, threads);
    worst = fmax(worst, attend_mha_world_error(w, &steps[i], &run));
    int32_t filled[WORLD_BATCH];
    for (int b = 0; b < WORLD_BATCH; b++) filled[b] = steps[i].past[b] + steps[i].news[b];
    cr_assert(attend_mha_world_rest_untouched(w, filled), "%s: step %zu wrote beyond its tokens", name, i);
  }
  return worst;
}

/* f32: sums of some dozens of numbers. In 16 bits a key or value next to a tie may round the other way. */
static const struct {
  attend_dtype dtype;
  double tolerance;
} caches[] = {{ATTEND_F32, 2e-6}, {ATTEND_F16, 3e-4}, {ATTEND_BF16, 2e-3}};

Test(mha_models, compute_what_sums_in_double_do) {
  if (!attend_mha_test_blas()) return;
  for (int m = 0; m < attend_mha_model_count; m++) {
    const attend_mha_model *model = &attend_mha_models[m];
    for (size_t c = 0; c < COUNT(caches); c++)
      for (int which = 0; which < 8; which++) {
        attend_mha_world w = attend_mha_world_create(model, caches[c].dtype, which & 1);
        w.p.batch_invariant = which >> 1 & 1;
        if (which & 4) w.p.out_proj = 0, w.p.out_dim = 0, w.t.out_bias = NULL;
        const double worst = run_steps(&w, 1 + which % 3, model->name);
        if (which == 0) printf("%-40s %s max error %.2g\n", model->name, attend_dtype_name(caches[c].dtype), worst);
        cr_expect_leq(worst, caches[c].tolerance, "%s, cache in %s, way %d: max error %g", model->name,
                      attend_dtype_name(caches[c].dtype), which, worst);
        attend_mha_world_destroy(&w);
      }
  }
}

Test(mha_models, do_without_a_cache) {
  if (!attend_mha_test_blas()) return;
  for (int m = 0; m < attend_mha_model_count; m++)
    for (int packed = 0; packed < 2; packed++) {
      attend_mha_world w = attend_mha_world_create(&attend_mha_models[m], ATTEND_F32, false);
      attend_mha_step step = {.news = {11, 11, 11}, .packed = packed, .sequences = 3};
      if (packed) step.news[0] = 1, step.news[2] = 20;
      w.p.cache_len = 0;
      attend_mha_run_data run = attend_mha_world_step(&w, &step);
      run.t.k_cache = run.t.v_cache = NULL, run.t.past = NULL;
      attend_mha_test_run(&run.p, &run.t, 2);
      const double error = attend_mha_world_error(&w, &step, &run);
      cr_expect_leq(error, 2e-6, "%s, packed %d: max error %g", attend_mha_models[m].name, packed, error);
      attend_mha_world_destroy(&w);
    }
}

/** Batches padded on the left: first keys, and positions that begin where the text does. */
Test(mha_models, start_where_their_text_does) {
  if (!attend_mha_test_blas()) return;
  for (int m = 0; m < attend_mha_model_count; m++) {
    attend_mha_world w = attend_mha_world_create(&attend_mha_models[m], ATTEND_F32, false);
    const int32_t begins[] = {2, 0, 5}, positions[] = {-2, 1000, -5};
    memcpy(w.begins, begins, sizeof begins);
    memcpy(w.positions, positions, sizeof positions);
    w.p.kv_begins = 1, w.t.kv_begins = w.begins, w.t.rope_positions = w.positions;
    const attend_mha_step prompt = {.news = {9, 9, 9}, .sequences = 3};
    attend_mha_run_data run = attend_mha_world_step(&w, &prompt);
    attend_mha_test_run(&run.p, &run.t, 2);
    double error = attend_mha_world_error(&w, &prompt, &run);
    cr_expect_leq(error, 3e-6, "%s: max error %g", attend_mha_models[m].name, error);
    const attend_mha_step next = {.past = {9, 9, 9}, .news = {1, 1, 1}, .sequences = 3};
    attend_mha_run_data more = attend_mha_world_step(&w, &next);
    int32_t moved[WORLD_BATCH];
    for (int b = 0; b < WORLD_BATCH; b++) moved[b] = positions[b] + 9;
    more.t.rope_positions = moved;
    attend_mha_test_run(&more.p, &more.t, 2);
    error = attend_mha_world_error(&w, &next, &more);
    cr_expect_leq(error, 3e-6, "%s: max error %g of the next token", attend_mha_models[m].name, error);
    attend_mha_world_destroy(&w);
  }
}

/** Lengths in a rectangular batch that is padded on the right: garbage beyond them is not attended. */
Test(mha_models, attend_keys_within_their_lengths) {
  if (!attend_mha_test_blas()) return;
  for (int m = 0; m < attend_mha_model_count; m++) {
    attend_mha_world w = attend_mha_world_create(&attend_mha_models[m], ATTEND_F32, false);
    const int32_t lengths[] = {10, 4, 7};
    const attend_mha_step step = {.news = {10, 10, 10}, .sequences = 3};
    w.p.cache_len = 0;
    w.p.causal = ATTEND_CAUSAL_TOP_LEFT; /* query i is token i, however many there are */
    attend_mha_run_data run = attend_mha_world_step(&w, &step);
    const int64_t e = run.p.embed_dim, dim = attend_mha_world_dim(&run.p);
    float *tokens = attend_mha_world_allocate(&w, (size_t)(run.rows * e) * sizeof *tokens);
    memcpy(tokens, run.t.query, (size_t)(run.rows * e) * sizeof *tokens);
    for (int b = 0; b < WORLD_BATCH; b++)
      for (int64_t i = lengths[b] * e; i < 10 * e; i++) tokens[b * 10 * e + i] = NAN;
    run.t.query = run.t.key = run.t.value = tokens;
    run.p.kv_lengths = 1, run.t.kv_lengths = lengths;
    attend_mha_test_run(&run.p, &run.t, 2);
    for (int b = 0; b < WORLD_BATCH; b++) {
      attend_mha_step own = {.first = b, .sequences = 1};
      own.news[b] = lengths[b];
      attend_mha_run_data part = run;
      part.t.out = run.t.out + b * 10 * dim;
      const double error = attend_mha_world_error(&w, &own, &part);
      cr_expect_leq(error, 2e-6, "%s, sequence %d: max error %g", attend_mha_models[m].name, b, error);
    }
    attend_mha_world_destroy(&w);
  }
}

/** A prompt whose last tokens alone are asked for: fewer queries than new keys, which stand at the end. */
Test(mha_models, answer_for_the_last_tokens_alone) {
  if (!attend_mha_test_blas()) return;
  for (int m = 0; m < attend_mha_model_count; m++) {
    attend_mha_world w = attend_mha_world_create(&attend_mha_models[m], ATTEND_F32, false);
    for (size_t i = 0; i < COUNT(steps) && steps[i].packed; i++) {
      attend_mha_run_data run = attend_mha_world_step(&w, &steps[i]);
      const int64_t e = run.p.embed_dim;
      int32_t *starts = attend_mha_world_allocate(&w, (WORLD_BATCH + 1) * sizeof *starts);
      float *last = attend_mha_world_allocate(&w, (size_t)(WORLD_BATCH * e) * sizeof *last);
      for (int b = 0; b <= WORLD_BATCH; b++) starts[b] = b;
      for (int b = 0; b < WORLD_BATCH; b++)
        memcpy(last + b * e, run.t.query + (run.t.kv_starts[b + 1] - 1) * e, (size_t)e * sizeof *last);
      run.t.query = last, run.t.q_starts = starts;
      run.p.q_len = 1, run.p.q_total = WORLD_BATCH;
      attend_mha_test_run(&run.p, &run.t, 2);
      attend_mha_step tokens = steps[i];
      for (int b = 0; b < WORLD_BATCH; b++) tokens.past[b] += tokens.news[b] - 1, tokens.news[b] = 1;
      const double error = attend_mha_world_error(&w, &tokens, &run);
      cr_expect_leq(error, 2e-6, "%s, step %zu: max error %g", attend_mha_models[m].name, i, error);
    }
    attend_mha_world_destroy(&w);
  }
}

/* -------------------------------------------------------------------------------------------------------- same bits */

static bool same(const float *a, const float *b, int64_t count) { return memcmp(a, b, (size_t)count * sizeof *a) == 0; }

Test(mha_models, give_each_sequence_of_a_ragged_batch_what_it_gets_alone) {
  if (!attend_mha_test_blas()) return;
  for (int m = 0; m < attend_mha_model_count; m++)
    for (size_t c = 0; c < COUNT(caches); c++) {
      attend_mha_world together = attend_mha_world_create(&attend_mha_models[m], caches[c].dtype, false);
      attend_mha_world alone = together;
      alone.memory = NULL;
      alone.t.k_cache = memset(attend_mha_world_allocate(&alone, alone.cache_bytes[0]), 0xff, alone.cache_bytes[0]);
      alone.t.v_cache = memset(attend_mha_world_allocate(&alone, alone.cache_bytes[1]), 0xff, alone.cache_bytes[1]);
      together.p.batch_invariant = alone.p.batch_invariant = 1;
      for (size_t i = 0; i < COUNT(steps); i++) {
        attend_mha_run_data all = attend_mha_world_step(&together, &steps[i]);
        attend_mha_test_run(&all.p, &all.t, 3);
        const float *rows = all.t.out;
        const int64_t dim = attend_mha_world_dim(&all.p);
        for (int b = 0; b < WORLD_BATCH; b++) {
          attend_mha_step own = steps[i];
          own.first = b, own.sequences = 1;
          attend_mha_run_data one = attend_mha_world_step(&alone, &own);
          attend_mha_test_run(&one.p, &one.t, 1);
          cr_expect(same(one.t.out, rows, one.rows * dim), "%s, step %zu, sequence %d", attend_mha_models[m].name, i,
                    b);
          rows += one.rows * dim;
        }
      }
      cr_expect_eq(memcmp(together.t.k_cache, alone.t.k_cache, together.cache_bytes[0]), 0);
      cr_expect_eq(memcmp(together.t.v_cache, alone.t.v_cache, together.cache_bytes[1]), 0);
      attend_mha_world_destroy(&alone);
      attend_mha_world_destroy(&together);
    }
}

/** A thread of an engine's pool: its part of every phase, with a barrier after each. */
typedef struct worker {
  const attend_mha_plan *plan;
  const attend_mha_tensors *t;
  void *workspace;
  size_t size;
  int part, parts;
  pthread_barrier_t *barrier;
} worker;

static void *work(void *argument) {
  const worker *w = argument;
  for (int phase = 0; phase < attend_mha_plan_phases(w->plan); phase++) {
    if (attend_mha_plan_run_part(w->plan, w->t, w->workspace, w->size, phase, w->part, w->parts) != ATTEND_OK) abort();
    pthread_barrier_wait(w->barrier);
  }
  return NULL;
}

static void run_parts(const attend_mha_run_data *run, int parts) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = parts;
  attend_mha_plan *plan;
  cr_assert_eq(attend_mha_plan_create(&run->p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  cr_assert_eq(attend_mha_plan_max_parts(plan), parts);
  const size_t size = attend_mha_plan_workspace_size(plan);
  void *workspace = NULL;
  cr_assert_eq(posix_memalign(&workspace, ATTEND_WORKSPACE_ALIGNMENT, size), 0);
  memset(workspace, 0xff, size);
  cr_assert_eq(attend_mha_plan_begin(plan, &run->t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  pthread_t threads[8];
  worker workers[8];
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, (unsigned)parts);
  for (int part = 0; part < parts; part++) {
    workers[part] = (worker){plan, &run->t, workspace, size, part, parts, &barrier};
    cr_assert_eq(pthread_create(&threads[part], NULL, work, &workers[part]), 0);
  }
  for (int part = 0; part < parts; part++) pthread_join(threads[part], NULL);
  pthread_barrier_destroy(&barrier);
  free(workspace);
  attend_mha_plan_destroy(plan);
}

/** A pool that calls its tasks in reverse, on one thread, and counts them. */
static void in_reverse(void *context, int count, void (*task)(void *argument, int i), void *argument) {
  *(int *)context += count;
  while (count-- > 0) task(argument, count);
}

static void run_pooled(const attend_mha_run_data *run) {
  int tasks = 0;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 4, options.parallel_for = in_reverse, options.parallel_context = &tasks;
  attend_mha_plan *plan;
  cr_assert_eq(attend_mha_plan_create(&run->p, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  cr_assert_eq(attend_mha_plan_run(plan, &run->t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
  attend_mha_plan_destroy(plan);
  cr_expect_gt(tasks, 1, "the pool was not used");
}

/** A layer that is large enough for several threads in every phase. */
static const attend_mha_model large = {"large",
                                       {.struct_size = sizeof(attend_mha_problem),
                                        .embed_dim = 500,
                                        .k_dim = 500,
                                        .v_dim = 500,
                                        .q_heads = 8,
                                        .kv_heads = 4,
                                        .head_dim = 64,
                                        .v_head_dim = 64,
                                        .out_dim = 500,
                                        .out_proj = 1,
                                        .causal = ATTEND_CAUSAL_BOTTOM_RIGHT,
                                        .rope = ATTEND_ROPE_HALF,
                                        .weights = ATTEND_LAYER_WEIGHTS_AVERAGED},
                                       true,
                                       false};

Test(mha_models, give_the_same_bits_on_any_threads) {
  if (!attend_mha_test_blas()) return;
  for (int way = 0; way < 4; way++) {
    const bool packed = way & 1;
    attend_mha_model model = large;
    if (way & 2) model.p.rope = ATTEND_ROPE_NONE;
    attend_mha_world w = attend_mha_world_create(&model, way & 2 ? ATTEND_F32 : ATTEND_BF16, false);
    attend_mha_step step = {.news = {20, 20, 20}, .packed = packed, .sequences = 3};
    if (packed) step.news[1] = 1, step.news[2] = 24;
    attend_mha_run_data run = attend_mha_world_step(&w, &step);
    const int64_t out = run.rows * attend_mha_world_dim(&run.p), weights = run.rows * WORLD_CACHE;
    float *first = attend_mha_world_allocate(&w, (size_t)out * sizeof *first);
    float *first_weights = attend_mha_world_allocate(&w, (size_t)weights * sizeof *first_weights);
    run.t.weights = first_weights;
    attend_mha_test_run(&run.p, &run.t, 1);
    memcpy(first, run.t.out, (size_t)out * sizeof *first);
    run.t.weights = attend_mha_world_allocate(&w, (size_t)weights * sizeof *first_weights);
    for (int parts = 1; parts <= 6; parts++) {
      memset(run.t.out, 0xff, (size_t)out * sizeof *first);
      memset(run.t.weights, 0xff, (size_t)weights * sizeof *first);
      if (parts <= 4) run_parts(&run, parts);
      if (parts == 5) run_pooled(&run);
      if (parts == 6) attend_mha_test_run(&run.p, &run.t, 3);
      cr_expect(same(first, run.t.out, out), "way %d, %d", way, parts);
      cr_expect(same(first_weights, run.t.weights, weights), "weights, way %d, %d", way, parts);
    }
    attend_mha_world_destroy(&w);
  }
}
