/* SPDX-License-Identifier: Apache-2.0 */
/** Threads: however many work on a run, whoever owns them and in whatever order they come, the bits are the same. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/machine/topology.h"
#include "tests/support.h"

/* Problems whose work is cut up in different ways. */
enum { FULL, PREFILL, DECODE, SIDE_BY_SIDE, PADDED, PROBLEMS };

static attend_problem problem_at(int which) {
  attend_problem problem;
  int64_t keys;
  switch (which) {
  case FULL: return attend_test_full_problem();
  case PREFILL:
    problem = attend_test_problem(1, 4, 2, 67, 67, 20);
    problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT, problem.lse = 1;
    return problem;
  case DECODE:
    problem = attend_test_problem(1, 4, 1, 1, 5003, 16);
    problem.lse = 1;
    return problem;
  case SIDE_BY_SIDE: /* decode computes heads together on up to 4 threads, and each alone on more */
    keys = attend_topology_get()->l2 / 1500 > 1700 ? (int64_t)attend_topology_get()->l2 / 1500 : 1700; /* not in L2 */
    problem = attend_test_problem(2, 12, 3, 1, keys, 48);
    problem.k_strides = problem.v_strides = (attend_strides){keys * 3 * 48, 48, 3 * 48};
    problem.lse = 1;
    return problem;
  default:
    problem = attend_test_problem(3, 2, 2, 9, 600, 12);
    problem.kv_lengths = ATTEND_LENGTHS_PER_QUERY, problem.q_dtype = ATTEND_BF16;
    return problem;
  }
}

static const char *names[PROBLEMS] = {"full", "prefill", "decode", "side by side", "padded"};

static void join(pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) cr_assert_eq(pthread_join(threads[i], NULL), 0);
}

/* ---------------------------------------------------------------------------------------------- number of threads */

static void run_in_parts(const attend_plan *plan, attend_test_tensors *tensors, void *workspace, size_t size,
                         const int *order, int parts) {
  attend_test_reset(tensors);
  cr_assert_eq(attend_plan_begin(plan, &tensors->t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  for (int i = 0; i < parts; i++) {
    cr_expect_eq(attend_plan_run_part(plan, &tensors->t, workspace, size, order[i], parts), ATTEND_OK,
                 "part %d of %d: %s", order[i], parts, attend_error_detail());
  }
}

/* Every kernel, run by 1 thread, 2, 3 and 7, and in as many parts as there are threads or fewer. */
static void expect_same_bits(int which) {
  const attend_problem problem = problem_at(which);
  static const int threads[] = {1, 2, 3, 7};
  size_t checked = 0;
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    const attend_kernel *kernel = attend_kernel_at(k);
    if (!attend_test_can(kernel, &problem)) continue;
    attend_test_tensors expected = {0};
    for (size_t i = 0; i < COUNT(threads); i++) {
      attend_plan *plan = attend_test_plan(&problem, kernel->name, threads[i]);
      attend_test_tensors tensors = attend_test_run(plan, &problem);
      if (i == 0) {
        expected = tensors;
        tensors = attend_test_run(plan, &problem);
      }
      cr_expect(attend_test_same(&tensors, &expected), "%s, %s: %d threads", kernel->name, names[which], threads[i]);
      size_t size;
      void *workspace = attend_test_workspace(plan, &size);
      const int most = attend_plan_max_parts(plan), order[] = {3, 0, 6, 1, 5, 2, 4};
      cr_expect_eq(most, threads[i]);
      for (int parts = 1; parts <= most; parts++) {
        int own[7], count = 0;
        for (size_t j = 0; j < COUNT(order); j++) {
          if (order[j] < parts) own[count++] = order[j];
        }
        run_in_parts(plan, &tensors, workspace, size, own, parts);
        cr_expect(attend_test_same(&tensors, &expected), "%s, %s: %d parts", kernel->name, names[which], parts);
      }
      free(workspace);
      attend_test_tensors_destroy(&tensors);
      attend_plan_destroy(plan);
    }
    attend_test_tensors_destroy(&expected);
    checked++;
  }
  cr_expect_gt(checked, 0);
}

Test(bits, do_not_depend_on_threads_full) { expect_same_bits(FULL); }
Test(bits, do_not_depend_on_threads_prefill) { expect_same_bits(PREFILL); }
Test(bits, do_not_depend_on_threads_decode) { expect_same_bits(DECODE); }
Test(bits, do_not_depend_on_threads_side_by_side) { expect_same_bits(SIDE_BY_SIDE); }
Test(bits, do_not_depend_on_threads_padded) { expect_same_bits(PADDED); }

/* Where rows are cut changes no bit, and where keys are split is up to who says so. */
Test(bits, do_not_depend_on_slices) {
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    const int64_t rows = problem.q_heads / problem.kv_heads * problem.q_len;
    for (size_t k = 0; k < attend_kernel_count(); k++) {
      const attend_kernel *kernel = attend_kernel_at(k);
      if (!attend_test_can(kernel, &problem)) continue;
      attend_options options = ATTEND_OPTIONS_INIT;
      options.kernel = kernel->name, options.num_threads = 2;
      const int64_t tile = kernel->q_rows, block = kernel->k_block;
      for (int64_t split = 0; split < 2; split++) {
        if (split && (!(kernel->can & ATTEND_CAN_SPLIT) || problem.weights)) continue;
        attend_test_tensors expected = {0};
        for (int64_t slice_tiles = 1; slice_tiles <= 5; slice_tiles++) {
          attend_tiling tiling = {.slice_rows = slice_tiles < 5 ? slice_tiles * tile : rows, .strip_rows = tile};
          tiling.strip_rows = (1 + slice_tiles % 2) * tile;
          tiling.split_keys = split ? 2 * block : (problem.kv_len + block) / block * block;
          attend_plan *plan = NULL;
          cr_assert_eq(attend_plan_create_tiled(&problem, &options, &tiling, &plan), ATTEND_OK, "%s",
                       attend_error_detail());
          attend_test_tensors tensors = attend_test_run(plan, &problem);
          if (slice_tiles == 1) {
            expected = tensors;
          } else {
            cr_expect(attend_test_same(&tensors, &expected), "%s, %s: %lld rows", kernel->name, names[which],
                      (long long)tiling.slice_rows);
            attend_test_tensors_destroy(&tensors);
          }
          attend_plan_destroy(plan);
        }
        attend_test_tensors_destroy(&expected);
      }
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------- parts */

/* One thread can run the parts one after another, in any order: no part waits for another. */
Test(parts, in_every_order) {
  static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_plan *plan = attend_test_plan(&problem, NULL, 3);
    attend_test_tensors expected = attend_test_run(plan, &problem), tensors = attend_test_tensors_create(&problem);
    size_t size;
    void *workspace = attend_test_workspace(plan, &size);
    for (size_t i = 0; i < COUNT(orders); i++) {
      run_in_parts(plan, &tensors, workspace, size, orders[i], 3);
      cr_expect(attend_test_same(&tensors, &expected), "%s, order %zu", names[which], i);
    }
    free(workspace);
    attend_test_tensors_destroy(&tensors);
    attend_test_tensors_destroy(&expected);
    attend_plan_destroy(plan);
  }
  attend_test_expect_no_leak();
}

/* A run that several threads take parts in. */
typedef struct shared_run {
  const attend_plan *plan;
  const attend_tensors *tensors;
  void *workspace;
  size_t size;
  int parts, late; /* `late`: the part that waits until all others have returned, or -1 */
  atomic_int next, returned, failed;
} shared_run;

static void *take_part(void *argument) {
  shared_run *run = argument;
  const int part = atomic_fetch_add(&run->next, 1);
  while (part == run->late && atomic_load(&run->returned) < run->parts - 1) sched_yield();
  if (attend_plan_run_part(run->plan, run->tensors, run->workspace, run->size, part, run->parts) != ATTEND_OK) {
    atomic_fetch_add(&run->failed, 1);
  }
  atomic_fetch_add(&run->returned, 1);
  return NULL;
}

Test(parts, on_threads_of_ones_own) {
  enum { PARTS = 4, ROUNDS = 10 };
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_plan *plan = attend_test_plan(&problem, NULL, PARTS);
    attend_test_tensors expected = attend_test_run(plan, &problem), tensors = attend_test_tensors_create(&problem);
    size_t size;
    void *workspace = attend_test_workspace(plan, &size);
    for (int round = 0; round < ROUNDS; round++) {
      attend_test_reset(&tensors);
      cr_assert_eq(attend_plan_begin(plan, &tensors.t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
      shared_run run = {.plan = plan, .tensors = &tensors.t, .workspace = workspace, .size = size, .parts = PARTS};
      run.late = round % (PARTS + 1) - 1;
      pthread_t threads[PARTS];
      for (int i = 0; i < PARTS; i++) cr_assert_eq(pthread_create(&threads[i], NULL, take_part, &run), 0);
      join(threads, PARTS);
      cr_expect_eq(run.failed, 0);
      cr_expect(attend_test_same(&tensors, &expected), "%s: %d is late", names[which], run.late);
    }
    free(workspace);
    attend_test_tensors_destroy(&tensors);
    attend_test_tensors_destroy(&expected);
    attend_plan_destroy(plan);
  }
}

/* Parts take work piece by piece and have no fixed share: when the last one comes late, the others have done it all. */
Test(parts, that_come_late_find_less_to_do) {
  const attend_problem problem = problem_at(PREFILL);
  attend_plan *plan = attend_test_plan(&problem, NULL, 2);
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  cr_assert_eq(attend_plan_begin(plan, &tensors.t, workspace, size), ATTEND_OK);
  cr_assert_eq(attend_plan_run_part(plan, &tensors.t, workspace, size, 1, 2), ATTEND_OK);
  cr_expect(attend_test_written(&tensors), "a part left work to another that has not come");
  cr_assert_eq(attend_plan_run_part(plan, &tensors.t, workspace, size, 0, 2), ATTEND_OK);
  free(workspace);
  attend_test_tensors_destroy(&tensors);
  attend_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------------ workspace */

/* A workspace holds nothing between runs, and runs of different plans can share it one after another. */
Test(workspace, may_hold_anything) {
  attend_plan *plans[PROBLEMS];
  attend_test_tensors expected[PROBLEMS], tensors[PROBLEMS];
  size_t most = ATTEND_WORKSPACE_ALIGNMENT;
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    plans[which] = attend_test_plan(&problem, NULL, 2);
    expected[which] = attend_test_run(plans[which], &problem);
    tensors[which] = attend_test_tensors_create(&problem);
    const size_t size = attend_plan_workspace_size(plans[which]);
    if (size > most) most = size;
  }
  most = (most + ATTEND_WORKSPACE_ALIGNMENT - 1) / ATTEND_WORKSPACE_ALIGNMENT * ATTEND_WORKSPACE_ALIGNMENT;
  void *workspace = aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, most);
  cr_assert_not_null(workspace);
  static const int garbage[] = {0x00, 0x01, 0x7f, 0x80, 0xff, -1};
  for (size_t i = 0; i < COUNT(garbage); i++) {
    for (int which = 0; which < PROBLEMS; which++) {
      if (garbage[i] >= 0) memset(workspace, garbage[i], most); /* else what the run before left there */
      attend_test_reset(&tensors[which]);
      cr_expect_eq(attend_plan_run(plans[which], &tensors[which].t, workspace, most), ATTEND_OK);
      cr_expect(attend_test_same(&tensors[which], &expected[which]), "%s, garbage %d", names[which], garbage[i]);
    }
  }
  for (int which = 0; which < PROBLEMS; which++) {
    attend_test_tensors_destroy(&tensors[which]);
    attend_test_tensors_destroy(&expected[which]);
    attend_plan_destroy(plans[which]);
  }
  free(workspace);
}

/* ----------------------------------------------------------------------------------------------- several callers */

/* What a thread of a caller works with. Failures are counted, and looked at by the thread of the test. */
typedef struct caller {
  int number;
  const attend_plan *plan;
  attend_test_tensors tensors;
  const attend_test_tensors *expected;
  void *workspace;
  size_t size;
  int failures;
} caller;

static void *run_often(void *argument) {
  caller *c = argument;
  for (int round = 0; round < 8; round++) {
    attend_test_reset(&c->tensors);
    const bool own = round % 4 != 3; /* and now and then with a workspace that the library allocates */
    attend_status s = attend_plan_run(c->plan, &c->tensors.t, own ? c->workspace : NULL, own ? c->size : 0);
    c->failures += s != ATTEND_OK || !attend_test_same(&c->tensors, c->expected);
  }
  return NULL;
}

Test(callers, run_one_plan_at_once) {
  enum { CALLERS = 2 };
  for (int which = 0; which < PROBLEMS; which++) {
    const attend_problem problem = problem_at(which);
    attend_plan *plan = attend_test_plan(&problem, NULL, 2);
    attend_test_tensors expected = attend_test_run(plan, &problem);
    caller callers[CALLERS] = {0};
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
      callers[i] = (caller){.plan = plan, .tensors = attend_test_tensors_create(&problem), .expected = &expected};
      callers[i].workspace = attend_test_workspace(plan, &callers[i].size);
    }
    for (int i = 0; i < CALLERS; i++) cr_assert_eq(pthread_create(&threads[i], NULL, run_often, &callers[i]), 0);
    join(threads, CALLERS);
    for (int i = 0; i < CALLERS; i++) {
      cr_expect_eq(callers[i].failures, 0, "%s: %d of caller %d's runs", names[which], callers[i].failures, i);
      free(callers[i].workspace);
      attend_test_tensors_destroy(&callers[i].tensors);
    }
    attend_test_tensors_destroy(&expected);
    attend_plan_destroy(plan);
  }
  attend_test_expect_no_leak();
}

static void *plan_often(void *argument) {
  caller *c = argument;
  for (int round = 0; round < 20; round++) {
    const int which = (round + c->number) % PROBLEMS;
    attend_problem problem = problem_at(which);
    attend_options options = ATTEND_OPTIONS_INIT;
    options.num_threads = 1 + round % 3;
    attend_plan *plan;
    if (attend_plan_create(&problem, &options, &plan) != ATTEND_OK) {
      c->failures++;
      continue;
    }
    c->failures += attend_plan_run(plan, &c->tensors.t, NULL, 0) == ATTEND_OK; /* has no tensors: refused */
    c->failures += strstr(attend_error_detail(), "struct_size") == NULL;
    attend_plan_destroy(plan);
    problem.batch = -100 - c->number;
    char value[16];
    snprintf(value, sizeof value, "%d", -100 - c->number);
    c->failures += attend_plan_create(&problem, &options, &plan) != ATTEND_ERROR_INVALID_ARGUMENT;
    c->failures += strstr(attend_error_detail(), value) == NULL;
  }
  return NULL;
}

/* The first calls into the library come from many threads at once: what is detected once is detected safely. */
Test(callers, make_plans_at_once) {
  enum { CALLERS = 8 };
  caller callers[CALLERS] = {0};
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++) {
    callers[i].number = i;
    cr_assert_eq(pthread_create(&threads[i], NULL, plan_often, &callers[i]), 0);
  }
  join(threads, CALLERS);
  for (int i = 0; i < CALLERS; i++) cr_expect_eq(callers[i].failures, 0, "caller %d", i);
  attend_test_expect_no_leak();
}

static void *detail_of_new_thread(void *argument) {
  bool *fresh = argument;
  *fresh = strcmp(attend_error_detail(), "") == 0;
  attend_plan_create(NULL, NULL, NULL);
  *fresh = *fresh && strcmp(attend_error_detail(), "") != 0;
  return NULL;
}

Test(callers, have_error_details_of_their_own) {
  attend_problem problem = problem_at(PREFILL);
  problem.head_dim = -77;
  attend_test_refuses(&problem, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "head_dim", "-77", "head_dim");
  pthread_t thread;
  bool fresh = false;
  cr_assert_eq(pthread_create(&thread, NULL, detail_of_new_thread, &fresh), 0);
  join(&thread, 1);
  cr_expect(fresh, "a new thread has the detail of another");
  cr_expect(attend_test_has_word(attend_error_detail(), "head_dim"), "another thread's error took this one's place");
}

/* --------------------------------------------------------------------------------------------------------- OpenMP */

#ifdef _OPENMP
#include <dirent.h>
#include <omp.h>

static int count_threads(void) {
  DIR *tasks = opendir("/proc/self/task");
  if (!tasks) return -1;
  int count = 0;
  for (struct dirent *entry; (entry = readdir(tasks));) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}

static atomic_int watching, most_threads;

static void *watch_threads(void *argument) {
  while (atomic_load(&watching)) {
    const int count = count_threads();
    if (count > atomic_load(&most_threads)) atomic_store(&most_threads, count);
  }
  return argument;
}

/* Inside a parallel region a run stays on the thread that calls it, even where nested regions are allowed. */
Test(openmp, run_in_a_parallel_region_starts_no_threads) {
  const attend_problem problem = attend_test_problem(2, 8, 4, 256, 256, 32);
  attend_plan *plan = attend_test_plan(&problem, NULL, 4);
  attend_test_tensors tensors[2] = {attend_test_tensors_create(&problem), attend_test_tensors_create(&problem)};
  size_t size;
  void *workspaces[2] = {attend_test_workspace(plan, &size), attend_test_workspace(plan, &size)};
  omp_set_max_active_levels(8);
  omp_set_dynamic(0);
  int failures = 0, before = 0;
  pthread_t watcher;
#pragma omp parallel num_threads(2) reduction(+ : failures)
  {
    const int own = omp_get_thread_num();
#pragma omp single
    {
      atomic_store(&watching, 1);
      failures += pthread_create(&watcher, NULL, watch_threads, NULL) != 0;
      before = count_threads();
    }
    for (int round = 0; round < 10 && omp_get_num_threads() == 2; round++) {
      failures += attend_plan_run(plan, &tensors[own].t, workspaces[own], size) != ATTEND_OK;
    }
  }
  atomic_store(&watching, 0);
  join(&watcher, 1);
  cr_expect_eq(failures, 0);
  cr_expect_gt(before, 0, "threads cannot be counted");
  cr_expect_leq(atomic_load(&most_threads), before, "%d threads instead of %d", atomic_load(&most_threads), before);

  attend_test_tensors expected = attend_test_run(plan, &problem);
  for (int i = 0; i < 2; i++) {
    cr_expect(attend_test_same(&tensors[i], &expected), "thread %d", i);
    attend_test_tensors_destroy(&tensors[i]);
    free(workspaces[i]);
  }
  attend_test_tensors_destroy(&expected);
  attend_plan_destroy(plan);
}

static void *run_all_parts(void *argument) {
  caller *c = argument;
  const int parts = attend_plan_max_parts(c->plan);
  c->failures += attend_plan_begin(c->plan, &c->tensors.t, c->workspace, c->size) != ATTEND_OK;
  for (int part = 0; part < parts; part++) {
    c->failures += attend_plan_run_part(c->plan, &c->tensors.t, c->workspace, c->size, part, parts) != ATTEND_OK;
  }
  return NULL;
}

/* Parts never start OpenMP: no thread is there that was not there before. */
Test(openmp, parts_start_no_threads) {
  const attend_problem problem = attend_test_problem(2, 8, 4, 256, 256, 32);
  caller c = {.plan = attend_test_plan(&problem, NULL, 4), .tensors = attend_test_tensors_create(&problem)};
  c.workspace = attend_test_workspace(c.plan, &c.size);
  const int before = count_threads();
  run_all_parts(&c);
  cr_expect_eq(c.failures, 0);
  cr_expect_gt(before, 0);
  cr_expect_eq(count_threads(), before);
  /* while a run does start them, which shows that counting would have told */
  cr_expect_eq(attend_plan_run(c.plan, &c.tensors.t, c.workspace, c.size), ATTEND_OK);
  cr_expect_gt(count_threads(), before);
  free(c.workspace);
  attend_test_tensors_destroy(&c.tensors);
  attend_plan_destroy((attend_plan *)c.plan);
}

#ifndef KMP_VERSION_MAJOR /* LLVM's runtime lets its calls be cancelled itself */
static void *run_cancelled(void *argument) {
  caller *c = argument;
  pthread_cancel(pthread_self());
  if (attend_plan_run(c->plan, &c->tensors.t, c->workspace, c->size) == ATTEND_OK) c->failures = 0;
  pthread_testcancel();
  c->failures = 2;
  return NULL;
}

/* A run is no point where a thread that was cancelled ends, its first one neither, which starts threads for a trial. */
Test(openmp, a_run_cannot_be_cancelled) {
  const attend_problem problem = attend_test_problem(2, 8, 4, 256, 256, 32);
  caller c = {
      .plan = attend_test_plan(&problem, NULL, 4), .tensors = attend_test_tensors_create(&problem), .failures = 1};
  c.workspace = attend_test_workspace(c.plan, &c.size);
  pthread_t thread;
  void *result = NULL;
  cr_assert_eq(pthread_create(&thread, NULL, run_cancelled, &c), 0);
  cr_assert_eq(pthread_join(thread, &result), 0);
  cr_expect_eq(c.failures, 0, "the run did not come to its end, or the thread did not end after it");
  cr_expect_eq(result, PTHREAD_CANCELED);
  free(c.workspace);
  attend_test_tensors_destroy(&c.tensors);
  attend_plan_destroy((attend_plan *)c.plan);
}
#endif
#endif
