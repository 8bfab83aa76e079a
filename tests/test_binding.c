/* SPDX-License-Identifier: Apache-2.0 */
/** attend_options.bind_threads: threads are where they should be during a run, and as they were after it. */
#define _GNU_SOURCE /* sched_setaffinity */
#include <criterion/criterion.h>

#ifdef _OPENMP
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "tests/support.h"

static int first_cpu, second_cpu; /* two that this process may use; each is a group of the machine */
static atomic_int on[2], elsewhere;

/* Where a slice is computed: by a thread that may be on one of the two processors only, or by one that may be on both.
 */
static void note_mask(const attend_slice *slice, const attend_tiling *tiling, void *scratch) {
  (void)slice, (void)tiling, (void)scratch;
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) != 1) {
    atomic_fetch_add(&elsewhere, 1);
  } else {
    atomic_fetch_add(&on[CPU_ISSET(second_cpu, &mask)], 1);
  }
}

/* A plan of two threads on a machine of two nodes, whose kernel only notes where it runs. */
static void run_noting(int bind_threads) {
  const attend_problem problem = attend_test_problem(1, 8, 8, 4096, 4096, 64);
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2, options.bind_threads = bind_threads;
  attend_plan *plan;
  cr_assert_eq(attend_plan_create(&problem, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  char text[400];
  attend_plan_explain(plan, text, sizeof text);
  cr_expect_eq(strstr(text, "threads bound") != NULL, bind_threads == 1, "%s", text);
  attend_plan noting = *plan;
  attend_kernel kernel = *plan->choice.kernel;
  kernel.forward = note_mask, noting.choice.kernel = &kernel;
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  atomic_store(&on[0], 0), atomic_store(&on[1], 0), atomic_store(&elsewhere, 0);
  cr_assert_eq(attend_plan_run(&noting, &tensors.t, workspace, size), ATTEND_OK);
  free(workspace);
  attend_test_tensors_destroy(&tensors);
  attend_plan_destroy(plan);
}

/* How many threads of a team of two, the calling one among them, may be on both processors. */
static int count_free(void) {
  int free_threads = 0;
#pragma omp parallel num_threads(2) reduction(+ : free_threads)
  {
    cpu_set_t mask;
    free_threads +=
        sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_ISSET(first_cpu, &mask) && CPU_ISSET(second_cpu, &mask);
  }
  return free_threads;
}

Test(bind, holds_for_the_run_only) {
  cpu_set_t allowed;
  cr_assert_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  if (CPU_COUNT(&allowed) < 2) cr_skip("this process may use one processor only");
  while (!CPU_ISSET(first_cpu, &allowed)) first_cpu++;
  for (second_cpu = first_cpu + 1; !CPU_ISSET(second_cpu, &allowed);) second_cpu++;
  CPU_ZERO(&allowed);
  CPU_SET(first_cpu, &allowed);
  CPU_SET(second_cpu, &allowed);
  cr_assert_eq(sched_setaffinity(0, sizeof allowed, &allowed), 0);
  attend_topology *t = calloc(1, sizeof *t);
  t->end = second_cpu + 1;
  for (int i = 0; i < 2; i++) {
    const uint16_t cpu = (uint16_t)(i ? second_cpu : first_cpu);
    t->processor[cpu] = (attend_processor){.present = true, .core = cpu, .cache = cpu, .node = (uint16_t)i};
  }
  attend_topology_complete(t);
  cr_assert_eq(t->groups, 2);
  attend_topology_set_test_machine(t);
  omp_set_dynamic(0);

  run_noting(0);
  cr_expect_eq(atomic_load(&on[0]) + atomic_load(&on[1]), 0, "a thread was bound that nobody asked to bind");
  cr_expect_gt(atomic_load(&elsewhere), 0);
  cr_expect_eq(count_free(), 2);
  run_noting(1);
  cr_expect_eq(atomic_load(&elsewhere), 0, "%d slices by threads that are not bound", atomic_load(&elsewhere));
  cr_expect_gt(atomic_load(&on[0]) + atomic_load(&on[1]), 0);
  cr_expect_eq(count_free(), 2, "a thread stayed bound");

  /* the calling thread may use no core of its group: then it is not bound, and its mask stays what it is */
  CPU_CLR(first_cpu, &allowed);
  cr_assert_eq(sched_setaffinity(0, sizeof allowed, &allowed), 0);
  run_noting(1);
  cr_expect_eq(atomic_load(&on[0]) + atomic_load(&elsewhere), 0);
  cpu_set_t after;
  cr_assert_eq(sched_getaffinity(0, sizeof after, &after), 0);
  cr_expect(CPU_EQUAL(&after, &allowed));
  free(t);
}

#else

Test(bind, needs_openmp) { cr_skip("this build has no threads of its own to bind"); }

#endif
