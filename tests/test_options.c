/* SPDX-License-Identifier: Apache-2.0 */
/** What a program lends the library by attend_options: memory, and a pool of threads. And what options must be. */
#include <criterion/criterion.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "attend/layers.h"
#include "layers/linear.h"
#include "tests/support.h"

/* ---------------------------------------------------------------------------------------------------------- memory */

/* An allocator that knows what it gave out: each block begins with a note of its owner and size. */
typedef struct arena {
  atomic_long live, bytes, calls;
  atomic_long failing;    /* the call, counted from 1, that gets NULL; 0 = none */
  atomic_long misaligned; /* likewise, that gets an address that is none */
  atomic_long wrong;      /* releases of what is not ours, or by another size */
} arena;

typedef struct note {
  const arena *owner;
  size_t size;
} note;

enum { NOTE = ATTEND_WORKSPACE_ALIGNMENT, OFF = 16 };

static void *arena_allocate(void *context, size_t size) {
  arena *a = context;
  const long call = atomic_fetch_add(&a->calls, 1) + 1;
  if (call == atomic_load(&a->failing)) return NULL;
  const size_t shift = call == atomic_load(&a->misaligned) ? OFF : 0;
  char *block = aligned_alloc(NOTE, (size + 2 * NOTE + NOTE - 1) / NOTE * NOTE);
  if (!block) return NULL;
  memcpy(block + shift, &(note){a, size}, sizeof(note));
  memset(block + shift + NOTE, 0xa5, size);
  atomic_fetch_add(&a->live, 1);
  atomic_fetch_add(&a->bytes, (long)size);
  return block + shift + NOTE;
}

static void arena_release(void *context, void *memory, size_t size) {
  arena *a = context;
  char *block = (char *)memory - NOTE;
  note n;
  memcpy(&n, block, sizeof n);
  if (n.owner != a || n.size != size) atomic_fetch_add(&a->wrong, 1);
  atomic_fetch_sub(&a->live, 1);
  atomic_fetch_sub(&a->bytes, (long)size);
  free(block - (uintptr_t)block % NOTE);
}

static attend_options options_with(arena *a, int threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.allocate = arena_allocate, options.release = arena_release, options.memory_context = a;
  options.num_threads = threads;
  return options;
}

static void expect_empty(const arena *a) {
  cr_expect_eq(a->live, 0, "%ld blocks are left", a->live);
  cr_expect_eq(a->bytes, 0, "%ld bytes are left", a->bytes);
  cr_expect_eq(a->wrong, 0, "%ld wrong releases", a->wrong);
}

/* Problems that are planned in different ways: every feature, split keys, packed, nothing to compute. */
enum { PROBLEMS = 5 };

static attend_problem problem_at(int which) {
  switch (which) {
  case 0: return attend_test_full_problem();
  case 1: return attend_test_problem(1, 4, 1, 1, 4096, 16);
  case 2: return attend_test_packed_problem();
  case 3: return attend_test_paged_problem();
  default: return attend_test_problem(0, 4, 1, 1, 64, 16);
  }
}

static attend_plan *plan_with(const attend_problem *problem, const attend_options *options) {
  attend_plan *plan = NULL;
  cr_assert_eq(attend_plan_create(problem, options, &plan), ATTEND_OK, "%s", attend_error_detail());
  return plan;
}

/* What a process keeps once about its profile is the library's own. */
static void look_for_a_profile(void) {
  const attend_problem problem = problem_at(0);
  attend_test_accepts(&problem, NULL, "the first plan");
}

TestSuite(memory, .init = look_for_a_profile);
TestSuite(layers, .init = look_for_a_profile);

Test(memory, of_plans_and_runs_is_the_callers) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_plan *usual = attend_test_plan(&problem, NULL, 3);
    attend_test_tensors expected = attend_test_run(usual, &problem), tensors = attend_test_tensors_create(&problem);
    arena a = {0};
    const attend_options options = options_with(&a, 3);
    attend_fail_allocation(0);
    attend_plan *plan = plan_with(&problem, &options);
    cr_expect_eq(a.live, 1);
    const long plan_bytes = a.bytes;
    cr_expect_eq(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(a.calls, attend_plan_workspace_size(plan) ? 2 : 1);
    cr_expect_eq(a.live, 1);
    cr_expect_eq(a.bytes, plan_bytes);
    cr_expect(attend_test_same(&tensors, &expected));
    tensors.t.struct_size = 1;
    cr_expect_neq(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_OK);
    cr_expect_eq(a.live, 1, "an error lost a workspace");
    cr_expect_eq(attend_fail_allocation(0), 0, "the library allocated beside");
    attend_plan_destroy(plan);
    expect_empty(&a);
    attend_test_tensors_destroy(&tensors);
    attend_test_tensors_destroy(&expected);
    attend_plan_destroy(usual);
  }
  attend_test_expect_no_leak();
}

/* Every call is made to fail, in the one way and in the other. */
Test(memory, that_fails_or_lies_wrong_is_an_error) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_test_tensors tensors = attend_test_tensors_create(&problem);
    for (int misaligned = 0; misaligned < 2; misaligned++) {
      const attend_status expected = misaligned ? ATTEND_ERROR_INVALID_ARGUMENT : ATTEND_ERROR_OUT_OF_MEMORY;
      const char *field = misaligned ? "allocate" : NULL;
      arena a = {0};
      const attend_options options = options_with(&a, 3);
      atomic_long *bad = misaligned ? &a.misaligned : &a.failing;
      *bad = 1;
      attend_test_refuses(&problem, &options, expected, field, NULL, "a plan");
      expect_empty(&a);
      attend_plan *plan = plan_with(&problem, &options);
      *bad = a.calls + 1;
      if (attend_plan_workspace_size(plan)) {
        EXPECT_ERROR(attend_plan_run(plan, &tensors.t, NULL, 0), expected, field, "a run");
        cr_expect(attend_test_untouched(&tensors));
        cr_expect_eq(a.live, 1);
      }
      cr_expect_eq(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
      cr_expect(attend_test_written(&tensors));
      attend_test_reset(&tensors);
      attend_plan_destroy(plan);
      expect_empty(&a);
    }
    attend_test_tensors_destroy(&tensors);
  }
  attend_test_expect_no_leak();
}

Test(memory, needs_both_functions) {
  const attend_problem problem = problem_at(0);
  arena a = {0};
  attend_options options = options_with(&a, 1);
  options.release = NULL;
  attend_test_refuses(&problem, &options, ATTEND_ERROR_INVALID_ARGUMENT, "release", NULL, "no release");
  options = options_with(&a, 1);
  options.allocate = NULL;
  attend_test_refuses(&problem, &options, ATTEND_ERROR_INVALID_ARGUMENT, "allocate", NULL, "no allocate");
  cr_expect_eq(a.calls, 0);
}

Test(memory, of_two_plans_is_kept_apart) {
  const attend_problem problem = problem_at(0);
  arena a = {0}, b = {0};
  const attend_options one = options_with(&a, 2), other = options_with(&b, 2);
  attend_plan *first = plan_with(&problem, &one), *second = plan_with(&problem, &other);
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  cr_expect_eq(attend_plan_run(second, &tensors.t, NULL, 0), ATTEND_OK);
  cr_expect_eq(a.calls, 1);
  cr_expect_eq(b.calls, 2);
  cr_expect_eq(attend_plan_run(first, &tensors.t, NULL, 0), ATTEND_OK);
  attend_plan_destroy(first);
  expect_empty(&a);
  cr_expect_eq(b.live, 1);
  cr_expect_eq(attend_plan_run(second, &tensors.t, NULL, 0), ATTEND_OK);
  attend_plan_destroy(second);
  expect_empty(&b);
  attend_test_tensors_destroy(&tensors);
}

/* One of several threads that run a plan. */
typedef struct runner {
  const attend_plan *plan;
  attend_test_tensors tensors;
  int failures;
} runner;

static void *run_often(void *argument) {
  runner *r = argument;
  for (int i = 0; i < 20; i++) r->failures += attend_plan_run(r->plan, &r->tensors.t, NULL, 0) != ATTEND_OK;
  return NULL;
}

static void run_on_threads(const attend_plan *plan, const attend_problem *problem) {
  enum { THREADS = 2 };
  attend_test_tensors expected = attend_test_run(plan, problem);
  runner runners[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    runners[i] = (runner){plan, attend_test_tensors_create(problem), 0};
    cr_assert_eq(pthread_create(&threads[i], NULL, run_often, &runners[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    cr_assert_eq(pthread_join(threads[i], NULL), 0);
    cr_expect_eq(runners[i].failures, 0);
    cr_expect(attend_test_same(&runners[i].tensors, &expected));
    attend_test_tensors_destroy(&runners[i].tensors);
  }
  attend_test_tensors_destroy(&expected);
}

Test(memory, may_be_asked_for_by_several_threads) {
  const attend_problem problem = problem_at(0);
  arena a = {0};
  const attend_options options = options_with(&a, 2);
  attend_plan *plan = plan_with(&problem, &options);
  run_on_threads(plan, &problem);
  attend_plan_destroy(plan);
  expect_empty(&a);
  attend_test_expect_no_leak();
}

/* ------------------------------------------------------------------------------------------------------------ pool */

/* What a pool is asked for. */
typedef struct pool {
  int most;
  atomic_int calls, tasks, wrong;
} pool;

static void count_call(pool *p, int count) {
  atomic_fetch_add(&p->calls, 1);
  atomic_fetch_add(&p->tasks, count);
  if (count < 2 || count > p->most) atomic_fetch_add(&p->wrong, 1);
}

static void last_first(void *context, int count, void (*task)(void *argument, int i), void *argument) {
  count_call(context, count);
  for (int i = count - 1; i >= 0; i--) task(argument, i);
}

typedef struct job {
  void (*task)(void *argument, int i);
  void *argument;
  int i;
} job;

static void *do_job(void *argument) {
  const job *j = argument;
  j->task(j->argument, j->i);
  return NULL;
}

enum { MOST_THREADS = 8 };

static void on_new_threads(void *context, int count, void (*task)(void *argument, int i), void *argument) {
  pool *p = context;
  pthread_t threads[MOST_THREADS];
  job jobs[MOST_THREADS];
  count_call(p, count);
  if (count > MOST_THREADS) return;
  for (int i = 0; i < count; i++) {
    jobs[i] = (job){task, argument, i};
    if (pthread_create(&threads[i], NULL, do_job, &jobs[i]) != 0) abort();
  }
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

typedef void parallel_for(void *context, int count, void (*task)(void *argument, int i), void *argument);

static parallel_for *const pools[] = {last_first, on_new_threads};

static attend_options options_on(pool *p, parallel_for *function, int threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.parallel_for = function, options.parallel_context = p, options.num_threads = p->most = threads;
  return options;
}

/* Large enough for more threads than one; packed with lengths of each run. */
static attend_problem large_problem(bool packed) {
  attend_problem problem = attend_test_problem(2, 8, 4, 300, 600, 64);
  problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT, problem.lse = 1;
  if (packed) problem.q_starts = problem.kv_starts = 1, problem.q_total = 500, problem.kv_total = 1000;
  return problem;
}

Test(pool, gives_the_same_bits_as_openmp) {
  for (int packed = 0; packed < 2; packed++) {
    const attend_problem problem = large_problem(packed);
    attend_plan *usual = attend_test_plan(&problem, NULL, 1);
    attend_test_tensors expected = attend_test_run(usual, &problem);
    for (size_t i = 0; i < COUNT(pools) * 3; i++) {
      pool p = {0};
      const attend_options options = options_on(&p, pools[i / 3], i % 3 == 0 ? 2 : i % 3 == 1 ? 3 : MOST_THREADS);
      attend_plan *plan = plan_with(&problem, &options);
      attend_test_tensors tensors = attend_test_run(plan, &problem);
      cr_expect(attend_test_same(&tensors, &expected), "pool %zu, %d threads", i / 3, p.most);
      cr_expect_eq(p.calls, 1, "%d calls", p.calls);
      cr_expect_eq(p.tasks, attend_plan_useful_parts(plan, &tensors.t));
      cr_expect_eq(p.wrong, 0);
      cr_expect_eq(attend_plan_run(plan, &tensors.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
      cr_expect(attend_test_same(&tensors, &expected), "without workspace");
      attend_test_tensors_destroy(&tensors);
      attend_plan_destroy(plan);
    }
    attend_test_tensors_destroy(&expected);
    attend_plan_destroy(usual);
  }
  attend_test_expect_no_leak();
}

/* Every kernel, rows and keys cut into small pieces, on all threads that there are. */
Test(pool, runs_every_kernel) {
  const attend_problem problems[] = {attend_test_full_problem(), attend_test_problem(1, 4, 2, 67, 1300, 20),
                                     attend_test_problem(1, 4, 1, 1, 5003, 16)};
  size_t checked = 0;
  for (size_t k = 0; k < attend_kernel_count() * COUNT(problems) * COUNT(pools); k++) {
    const attend_kernel *kernel = attend_kernel_at(k / COUNT(problems) / COUNT(pools));
    const attend_problem problem = attend_test_typed_for(kernel, problems[k / COUNT(pools) % COUNT(problems)]);
    if (!attend_test_can(kernel, &problem)) continue;
    attend_tiling tiling = {.slice_rows = 2 * kernel->q_rows, .strip_rows = kernel->q_rows, .split_keys = 1 << 16};
    if ((kernel->can & ATTEND_CAN_SPLIT) && !problem.weights) tiling.split_keys = 2 * kernel->k_block;
    pool p = {0};
    attend_options options = ATTEND_OPTIONS_INIT;
    attend_plan *alone = NULL, *plan = NULL;
    options.kernel = kernel->name, options.num_threads = 1;
    cr_assert_eq(attend_plan_create_tiled(&problem, &options, &tiling, &alone), ATTEND_OK, "%s", attend_error_detail());
    options = options_on(&p, pools[k % COUNT(pools)], 4);
    options.kernel = kernel->name;
    cr_assert_eq(attend_plan_create_tiled(&problem, &options, &tiling, &plan), ATTEND_OK, "%s", attend_error_detail());
    attend_test_tensors expected = attend_test_run(alone, &problem), tensors = attend_test_run(plan, &problem);
    cr_expect(attend_test_same(&tensors, &expected), "%s", kernel->name);
    cr_expect_eq(p.wrong, 0);
    checked += p.calls > 0;
    attend_test_tensors_destroy(&expected);
    attend_test_tensors_destroy(&tensors);
    attend_plan_destroy(alone);
    attend_plan_destroy(plan);
  }
  cr_expect_gt(checked, 0);
}

/* Several threads at once, each of which brings a pool's threads into being. */
Test(pool, may_be_used_by_several_threads) {
  const attend_problem problem = large_problem(true);
  pool p = {0};
  const attend_options options = options_on(&p, on_new_threads, 3);
  attend_plan *plan = plan_with(&problem, &options);
  run_on_threads(plan, &problem);
  cr_expect_gt(p.calls, 40);
  cr_expect_eq(p.wrong, 0);
  attend_plan_destroy(plan);
}

/* A pool whose tasks use it again, as those of a program may that runs its layers in parallel. */
typedef struct nested {
  const attend_plan *plan;
  attend_test_tensors tensors[2];
  atomic_int failures;
} nested;

static void run_nested(void *argument, int i) {
  nested *n = argument;
  if (attend_plan_run(n->plan, &n->tensors[i].t, NULL, 0) != ATTEND_OK) atomic_fetch_add(&n->failures, 1);
}

Test(pool, may_be_used_by_its_own_tasks) {
  const attend_problem problem = large_problem(false);
  pool p = {0};
  const attend_options options = options_on(&p, on_new_threads, 2);
  attend_plan *plan = plan_with(&problem, &options);
  attend_test_tensors expected = attend_test_run(plan, &problem);
  nested n = {.plan = plan, .tensors = {attend_test_tensors_create(&problem), attend_test_tensors_create(&problem)}};
  on_new_threads(&p, 2, run_nested, &n);
  cr_expect_eq(n.failures, 0);
  cr_expect_eq(p.calls, 4);
  for (int i = 0; i < 2; i++) {
    cr_expect(attend_test_same(&n.tensors[i], &expected));
    attend_test_tensors_destroy(&n.tensors[i]);
  }
  attend_test_tensors_destroy(&expected);
  attend_plan_destroy(plan);
}

/* In a parallel region OpenMP leaves a run to the thread that calls it; a pool does not. */
Test(pool, is_used_inside_parallel_regions) {
#ifndef _OPENMP
  cr_skip_test("this library was built without OpenMP");
#else
  const attend_problem problem = large_problem(false);
  pool p = {0};
  const attend_options options = options_on(&p, last_first, 3);
  attend_plan *plan = plan_with(&problem, &options);
  attend_test_tensors expected = attend_test_run(plan, &problem);
  attend_test_tensors tensors[2] = {attend_test_tensors_create(&problem), attend_test_tensors_create(&problem)};
  int failures = 0;
  omp_set_dynamic(0);
#pragma omp parallel for num_threads(2) reduction(+ : failures)
  for (int i = 0; i < 2; i++) failures += attend_plan_run(plan, &tensors[i].t, NULL, 0) != ATTEND_OK;
  cr_expect_eq(failures, 0);
  cr_expect_eq(p.calls, 3);
  for (int i = 0; i < 2; i++) {
    cr_expect(attend_test_same(&tensors[i], &expected));
    attend_test_tensors_destroy(&tensors[i]);
  }
  attend_test_tensors_destroy(&expected);
  attend_plan_destroy(plan);
#endif
}

/* Work for one thread is done by the one that calls. */
Test(pool, is_left_alone_by_small_runs) {
  const attend_problem problem = attend_test_problem(1, 2, 2, 1, 4, 8); /* small for the slowest kernel, too */
  pool p = {0};
  const attend_options options = options_on(&p, on_new_threads, 4), alone = options_on(&p, on_new_threads, 1);
  for (int one = 0; one < 2; one++) {
    const attend_problem run = one ? large_problem(false) : problem;
    attend_plan *plan = plan_with(&run, one ? &alone : &options);
    attend_test_tensors tensors = attend_test_run(plan, &run);
    cr_expect_eq(p.calls, 0);
    attend_test_tensors_destroy(&tensors);
    attend_plan_destroy(plan);
  }
}

/* ---------------------------------------------------------------------------------------------------------- layers */

enum { B = 2, LQ = 130, LK = 150, E = 512, DV = 24 };

static float *numbers(size_t count, unsigned seed) {
  float *memory = malloc(count * sizeof *memory);
  cr_assert_not_null(memory);
  for (size_t i = 0; i < count; i++) memory[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 20) / 4096 - 0.5f;
  return memory;
}

/* A layer of which all that it needs comes from the caller. */
Test(layers, use_what_the_options_lend) {
  if (!attend_linear_blas()) cr_skip_test("this library was built without a BLAS");
  attend_linear_one_blas_thread();
  attend_additive_problem problem = ATTEND_ADDITIVE_PROBLEM_INIT;
  problem.batch = B, problem.q_len = LQ, problem.kv_len = LK, problem.q_dim = problem.k_dim = problem.hidden = E;
  problem.v_dim = DV;
  float *query = numbers((size_t)B * LQ * E, 1), *key = numbers((size_t)B * LK * E, 2);
  float *value = numbers((size_t)B * LK * DV, 3), *score = numbers(E, 4), *q_bias = numbers(E, 5);
  float *q_weight = numbers((size_t)E * E, 6), *k_weight = numbers((size_t)E * E, 7);
  const size_t size = sizeof(float) * B * LQ * DV;
  float *expected = malloc(size), *out = malloc(size);
  attend_additive_tensors t = ATTEND_ADDITIVE_TENSORS_INIT;
  t.query = query, t.key = key, t.value = value, t.score_weight = score, t.q_bias = q_bias;
  t.q_weight = q_weight, t.k_weight = k_weight, t.out = expected;
  attend_options options = ATTEND_OPTIONS_INIT;
  attend_additive_plan *plan;
  options.num_threads = 1;
  cr_assert_eq(attend_additive_plan_create(&problem, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(attend_additive_plan_run(plan, &t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
  attend_additive_plan_destroy(plan);
  t.out = out;
  for (size_t i = 0; i < COUNT(pools); i++) {
    arena a = {0};
    pool p = {0};
    options = options_with(&a, 0);
    options.parallel_for = pools[i], options.parallel_context = &p, options.num_threads = p.most = 3;
    cr_assert_eq(attend_additive_plan_create(&problem, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(a.live, 2, "a plan for the layer, and one for its attention");
    memset(out, 0xff, size);
    attend_fail_allocation(0);
    cr_expect_eq(attend_additive_plan_run(plan, &t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(attend_fail_allocation(0), 0, "the layer allocated beside");
    cr_expect_eq(a.calls, 3);
    cr_expect_eq(memcmp(out, expected, size), 0);
    cr_expect_eq(p.calls, 2, "%d calls, for projections and attention", p.calls);
    cr_expect_eq(p.wrong, 0);
    attend_additive_plan_destroy(plan);
    expect_empty(&a);
    for (int nth = 1; nth <= 2; nth++) {
      a.failing = a.calls + nth;
      EXPECT_ERROR(attend_additive_plan_create(&problem, &options, &plan), ATTEND_ERROR_OUT_OF_MEMORY, NULL,
                   "allocation %d of a layer", nth);
      expect_empty(&a);
    }
  }
  float *const all[] = {query, key, value, score, q_bias, q_weight, k_weight, expected, out};
  for (size_t i = 0; i < COUNT(all); i++) free(all[i]);
}

/* Projections, mean weights and attention of a whole layer. */
Test(layers, with_averaged_weights_use_it_too) {
  if (!attend_linear_blas()) cr_skip_test("this library was built without a BLAS");
  attend_linear_one_blas_thread();
  attend_mha_problem problem = ATTEND_MHA_PROBLEM_INIT;
  problem.batch = B, problem.q_len = problem.kv_len = LQ, problem.embed_dim = E, problem.q_heads = 8;
  problem.out_proj = 1, problem.weights = ATTEND_LAYER_WEIGHTS_AVERAGED;
  enum { OUTPUTS = B * LQ * (E + LQ) };
  float *x = numbers((size_t)B * LQ * E, 1), *w = numbers((size_t)E * E, 2), *results[2];
  for (int pooled = 0; pooled < 2; pooled++) {
    arena a = {0};
    pool p = {.most = 3};
    attend_options options = options_with(&a, pooled ? 3 : 1);
    if (pooled) options.parallel_for = on_new_threads, options.parallel_context = &p;
    attend_mha_tensors t = ATTEND_MHA_TENSORS_INIT;
    t.query = t.key = t.value = x, t.q_weight = t.k_weight = t.v_weight = t.out_weight = w;
    t.out = results[pooled] = numbers(OUTPUTS, 3), t.weights = t.out + B * LQ * E;
    attend_mha_plan *plan;
    attend_fail_allocation(0);
    cr_assert_eq(attend_mha_plan_create(&problem, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(attend_mha_plan_run(plan, &t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    attend_mha_plan_destroy(plan);
    cr_expect_eq(attend_fail_allocation(0), 0, "the layer allocated beside");
    cr_expect_eq(p.calls > 2, pooled, "%d calls", p.calls);
    cr_expect_eq(p.wrong, 0);
    expect_empty(&a);
  }
  cr_expect_eq(memcmp(results[0], results[1], OUTPUTS * sizeof(float)), 0);
  free(x), free(w), free(results[0]), free(results[1]);
}

/* ---------------------------------------------------------------------------------------------------------- values */

Test(options, flags_are_yes_or_no) {
  static const struct {
    const char *name;
    size_t offset;
  } flags[] = {{"bind_threads", offsetof(attend_options, bind_threads)},
               {"ignore_environment", offsetof(attend_options, ignore_environment)},
               {"verbose", offsetof(attend_options, verbose)}};
  const attend_problem problem = attend_test_problem(2, 4, 2, 70, 70, 24);
  for (size_t i = 0; i < COUNT(flags); i++) {
    const int values[] = {0, 1, 2, -1, INT_MAX, INT_MIN};
    for (size_t j = 0; j < COUNT(values); j++) {
      attend_options options = ATTEND_OPTIONS_INIT;
      char value[16];
      snprintf(value, sizeof value, "%d", values[j]);
      memcpy((char *)&options + flags[i].offset, &values[j], sizeof values[j]);
      if (j < 2)
        attend_test_accepts(&problem, &options, flags[i].name);
      else
        attend_test_refuses(&problem, &options, ATTEND_ERROR_INVALID_ARGUMENT, flags[i].name, value, flags[i].name);
    }
  }
}

Test(options, num_threads_has_bounds) {
  const attend_problem problem = attend_test_problem(2, 8, 8, 64, 64, 16);
  const int bad[] = {-1, 1025, INT_MAX, INT_MIN}, good[] = {0, 1, 2, 1024};
  attend_options options = ATTEND_OPTIONS_INIT;
  for (size_t i = 0; i < COUNT(bad); i++) {
    char value[24];
    snprintf(value, sizeof value, "%d", options.num_threads = bad[i]);
    attend_test_refuses(&problem, &options, ATTEND_ERROR_INVALID_ARGUMENT, "num_threads", value, "num_threads");
  }
  for (size_t i = 0; i < COUNT(good); i++) {
    options.num_threads = good[i];
    attend_test_accepts(&problem, &options, "num_threads");
  }
}

Test(options, unknown_kernels_are_refused) {
  const attend_problem problem = attend_test_problem(1, 1, 1, 2, 3, 4);
  static char longest[10000];
  memset(longest, 'x', sizeof longest - 1);
  /* the last: what looks like a known one */
  const attend_kernel *known = attend_kernel_at(0);
  char longer[128], shorter[128];
  snprintf(longer, sizeof longer, "%s ", known->name);
  snprintf(shorter, sizeof shorter, "%s", known->name);
  shorter[strlen(shorter) - 1] = '\0';
  const char *const unknown[] = {"", "AUTO", "auto ", "none", "two\nlines", "100%s%n", longest, longer, shorter};
  for (size_t i = 0; i < COUNT(unknown); i++) {
    if (attend_kernel_find(unknown[i])) continue; /* a shortened name that is another kernel's */
    attend_options options = ATTEND_OPTIONS_INIT;
    options.kernel = unknown[i];
    attend_test_refuses(&problem, &options, ATTEND_ERROR_UNKNOWN_KERNEL, "kernel", NULL, unknown[i]);
  }
  attend_options options = ATTEND_OPTIONS_INIT;
  options.kernel = "no_such_kernel";
  attend_test_refuses(&problem, &options, ATTEND_ERROR_UNKNOWN_KERNEL, "no_such_kernel", NULL, "unknown kernel");
  options.kernel = "auto";
  attend_test_accepts(&problem, &options, "auto");
}
