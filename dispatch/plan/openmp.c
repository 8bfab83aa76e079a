/* SPDX-License-Identifier: Apache-2.0 */
/**
 * OpenMP's threads, which are woken nowhere else. OpenMP's runtimes must be kept from what would end the program or let
 * it wait for ever:
 *
 * - GCC's (libgomp) keeps threads for each thread that has opened a parallel region. A child of fork() has only a list
 *   of them: its next region on the thread that called fork() waits for threads that are not there. So there another
 *   thread, which has opened no region before, opens them in its place. LLVM's (libomp) begins anew by itself.
 * - libomp prepares itself at the first call. A child that was forked just then waits for the thread that was at it.
 * - Both exit or abort where a thread cannot be started. So each calling thread starts as many for a trial first, once
 *   for each greater number of them. It is for each calling thread since libgomp keeps other threads for each, and what
 *   one could start says nothing of as many more.
 */
#ifdef _OPENMP
#include <omp.h>
#endif

#include "dispatch/once.h"

#ifdef _OPENMP

static attend_once_flag once;
static bool usable;

/** A second time is in a child of fork(), where a lock of OpenMP's may be held for ever. */
static void prepare(void) {
  static bool begun;
  if (begun) return;
  begun = true;
  usable = omp_get_max_threads() > 0;
}

static bool is_usable(void) {
  attend_once(&once, prepare);
  return usable;
}

#ifdef KMP_VERSION_MAJOR /* LLVM's header */
enum { SURVIVES_FORK = true };

static size_t stack_size(void) { return kmp_get_stacksize_s(); }
#else
enum { SURVIVES_FORK = false };

static size_t stack_asked; /* it is read when libgomp has just done so: later the environment may be another */

__attribute__((constructor)) static void read_stack(void) { stack_asked = attend_env_openmp_stack(); }

static size_t stack_size(void) { return stack_asked; }
#endif

/** What the calling thread has tried: how many threads it asked for, itself included, and how many it may have. */
static _Thread_local struct {
  int forks, asked, granted;
} tried;

/**
 * How many threads a region may have. Where some cannot be started, half of those that can are left to the rest of the
 * program.
 */
static int affordable(int threads) {
  const int forks = attend_os_forks();
  if (threads > tried.asked || forks != tried.forks) {
    const int most = omp_get_thread_limit(), wanted = threads < most ? threads : most;
    const int more = attend_os_startable(wanted - 1, stack_size());
    tried.forks = forks, tried.asked = threads;
    tried.granted = 1 + (more < wanted - 1 ? more / 2 : more);
  }
  return threads < tried.granted ? threads : tried.granted;
}

typedef struct region {
  int threads;
  void (*task)(void *argument, int i);
  void *argument;
} region;

static void open_region(void *argument) {
  const region *r = argument;
  const int threads = affordable(r->threads);
#pragma omp parallel num_threads(threads)
  r->task(r->argument, omp_get_thread_num());
}

bool attend_on_openmp(int most, void (*task)(void *argument, int i), void *argument) {
  if (!is_usable() || omp_in_parallel()) return false;
  region r = {.threads = most, .task = task, .argument = argument};
  if (!SURVIVES_FORK && attend_os_survived_fork()) return attend_os_run_on_helper(open_region, &r);
  open_region(&r);
  return true;
}

int attend_openmp_team(void) { return omp_get_num_threads(); }

bool attend_uses_openmp(void) { return true; }

#else

bool attend_on_openmp(int most, void (*task)(void *argument, int i), void *argument) {
  (void)most, (void)task, (void)argument;
  return false;
}

int attend_openmp_team(void) { return 1; }

bool attend_uses_openmp(void) { return false; }

#endif

void attend_usable_processors(attend_cpu_set *set) {
  attend_os_get_affinity(set);
#ifdef _OPENMP
  if (!is_usable() || omp_get_proc_bind() == omp_proc_bind_false) return;
  for (int place = 0; place < omp_get_num_places(); place++) {
    int cpus[1024], count = omp_get_place_num_procs(place);
    if (count > (int)(sizeof cpus / sizeof *cpus)) continue;
    omp_get_place_proc_ids(place, cpus);
    for (int i = 0; i < count; i++)
      if (cpus[i] >= 0 && cpus[i] < ATTEND_MOST_PROCESSORS) attend_cpu_set_add(set, cpus[i]);
  }
#endif
}
