/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A child of fork() computes what its parent does, to the bit, on threads of its own, and waits for no thread that
 * stayed behind. Each test is a process of its own, so that the machine is detected when it says so.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attend/layers.h"
#include "dispatch/once.h"
#include "layers/linear.h"
#include "tests/machines.h"
#include "tests/support.h"

/* A child that waits for ever is ended by a signal. */
enum { SECONDS = 100 };

/* Runs `work` in a child. Its exit status, which it returned; or 1000 and the number of the signal that ended it. */
static int in_child(int (*work)(void)) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(SECONDS);
    _exit(work());
  }
  int status = 0;
  cr_assert_gt(child, 0);
  cr_assert_eq(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int count_threads(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *entry; tasks && (entry = readdir(tasks));) count += entry->d_name[0] != '.';
  if (tasks) closedir(tasks);
  return count;
}

/* ------------------------------------------------------------------------------------------------------- detection */

static attend_once_flag flag;
static atomic_int begun, made, go_on;

static void make_slowly(void) {
  atomic_store(&begun, 1);
  while (!atomic_load(&go_on)) usleep(100);
  atomic_fetch_add(&made, 1);
}

static void *make_once(void *unused) {
  attend_once(&flag, make_slowly);
  return unused;
}

static int make_in_child(void) {
  atomic_store(&go_on, 1); /* nobody else does */
  attend_once(&flag, make_slowly);
  attend_once(&flag, make_slowly);
  return atomic_load(&made);
}

static int ask_child(void) { return in_child(make_in_child); }

/* What was under way in the parent is begun again, once; in a child of the child as well. */
Test(once, begins_again_in_a_child) {
  for (int deep = 0; deep < 2; deep++) {
    pthread_t thread;
    atomic_store(&flag, 0), atomic_store(&begun, 0), atomic_store(&made, 0), atomic_store(&go_on, 0);
    cr_assert_eq(pthread_create(&thread, NULL, make_once, NULL), 0);
    while (!atomic_load(&begun)) usleep(100);
    cr_expect_eq(in_child(deep ? ask_child : make_in_child), 1);
    atomic_store(&go_on, 1);
    pthread_join(thread, NULL);
    make_once(NULL);
    cr_expect_eq(atomic_load(&made), 1);
    cr_expect_eq(in_child(make_in_child), 1, "what is done is done in the child too");
  }
}

/* Makes a plan whose threads the library chooses, so that it asks for everything there is to know. */
static int make_plan(void) {
  const attend_problem problem = attend_test_problem(1, 1, 1, 1, 1, 8);
  attend_plan *plan = NULL;
  const int failed = attend_plan_create(&problem, NULL, &plan) != ATTEND_OK;
  attend_plan_destroy(plan);
  return failed;
}

static void *plan_in_thread(void *unused) {
  make_plan();
  return unused;
}

static int delay;

/* In a process that has detected nothing yet: one thread begins to, and after a while another one forks. */
static int fork_while_detecting(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, plan_in_thread, NULL) != 0) return 2;
  usleep((useconds_t)delay);
  return in_child(make_plan);
}

Test(detection, begins_again_in_a_child) {
  /* In the child, AddressSanitizer of gcc 12 waits for its allocator's lock, which a thread of the parent holds. */
  attend_test_skip_under_sanitizers("their own locks do not survive a fork while another thread works");
  for (int i = 0; i < 60; i++) {
    delay = 50 + i * 97 % 4000;
    cr_expect_eq(in_child(fork_while_detecting), 0, "%d us after the first call", delay);
  }
}

/* -------------------------------------------------------------------------------------------------------- two threads
 */

enum { ROWS = 4096, COLUMNS = 128, LENGTH = 256, DIM = 64, HEADS = 4 };

static float x[ROWS * COLUMNS], weight[ROWS * COLUMNS];

static attend_status run_plan(float *out, int bind_threads) {
  attend_problem p = attend_test_problem(1, HEADS, HEADS, LENGTH, LENGTH, DIM);
  attend_tensors t = ATTEND_TENSORS_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2, options.bind_threads = bind_threads;
  t.q = x, t.k = x + LENGTH * DIM, t.v = weight, t.out = out;
  attend_plan *plan = NULL;
  attend_status status = attend_plan_create(&p, &options, &plan);
  if (status == ATTEND_OK) status = attend_plan_run(plan, &t, NULL, 0);
  attend_plan_destroy(plan);
  return status;
}

static attend_status attention(float *out) { return run_plan(out, 0); }
static attend_status bound(float *out) { return run_plan(out, 1); }

static attend_status append(float *out) {
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  p.batch = p.heads = 1, p.rows = p.cache_len = ROWS, p.dim = COLUMNS, p.num_threads = 2;
  t.x = x, t.cache = out, t.positions = (const int32_t[]){0};
  return attend_append(&p, &t);
}

static attend_status merge(float *out) {
  attend_merge_problem p = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  p.parts = 2, p.batch = p.heads = 1, p.rows = ROWS, p.dim = COLUMNS, p.num_threads = 2;
  t.outs = (const void *const[]){x, weight}, t.lses = (const float *const[]){x, weight}, t.out = out;
  return attend_merge(&p, &t);
}

static attend_status softmax(float *out) {
  attend_softmax_problem p = ATTEND_SOFTMAX_PROBLEM_INIT;
  attend_softmax_tensors t = ATTEND_SOFTMAX_TENSORS_INIT;
  p.batch = 1, p.rows = ROWS, p.columns = COLUMNS, p.num_threads = 2;
  t.x = x, t.out = out;
  return attend_masked_softmax(&p, &t);
}

static attend_status additive(float *out) {
  attend_additive_problem p = ATTEND_ADDITIVE_PROBLEM_INIT;
  attend_additive_tensors t = ATTEND_ADDITIVE_TENSORS_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2;
  p.batch = 1, p.q_len = p.kv_len = LENGTH, p.q_dim = p.k_dim = p.v_dim = p.hidden = COLUMNS;
  t.query = x, t.key = x + LENGTH * COLUMNS, t.value = x, t.out = out;
  t.q_weight = weight, t.k_weight = weight + COLUMNS * COLUMNS, t.score_weight = weight;
  attend_additive_plan *plan = NULL;
  attend_status status = attend_additive_plan_create(&p, &options, &plan);
  if (status == ATTEND_OK) status = attend_additive_plan_run(plan, &t, NULL, 0);
  attend_additive_plan_destroy(plan);
  return status;
}

static attend_status mha(float *out) {
  attend_mha_problem p = ATTEND_MHA_PROBLEM_INIT;
  attend_mha_tensors t = ATTEND_MHA_TENSORS_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2;
  p.batch = 1, p.q_len = p.kv_len = LENGTH, p.q_heads = HEADS, p.embed_dim = DIM * HEADS;
  t.query = t.key = t.value = x, t.out = out;
  t.q_weight = weight, t.k_weight = weight + 1, t.v_weight = weight + 2;
  attend_mha_plan *plan = NULL;
  attend_status status = attend_mha_plan_create(&p, &options, &plan);
  if (status == ATTEND_OK) status = attend_mha_plan_run(plan, &t, NULL, 0);
  attend_mha_plan_destroy(plan);
  return status;
}

static attend_status (*operation)(float *out);
static float expected[ROWS * COLUMNS], got[ROWS * COLUMNS];

static int run_and_compare(void) {
  memset(got, 0xff, sizeof got);
  const attend_status status = operation(got);
  return status != ATTEND_OK ? 10 - (int)status : memcmp(got, expected, sizeof got) != 0;
}

/* On two threads, where OpenMP lends them: those that work are there, and with GCC's one that waits for them. */
static int run_on_two(void) {
  const int wrong = run_and_compare(), again = run_and_compare();
#ifdef KMP_VERSION_MAJOR
  const int threads = 2;
#else
  const int threads = attend_uses_openmp() ? 2 + attend_os_survived_fork() : 1;
#endif
  return wrong ? wrong : again ? again : count_threads() < threads ? 2 : 0;
}

static int run_deeper(void) {
  const int wrong = run_on_two();
  return wrong ? wrong : in_child(run_on_two);
}

static void *run_in_thread(void *result) {
  *(int *)result = run_and_compare();
  return NULL;
}

/* The child's first run is on a thread that the child has started. */
static int run_on_a_new_thread(void) {
  pthread_t thread;
  int wrong = 0;
  if (pthread_create(&thread, NULL, run_in_thread, &wrong) != 0) return 3;
  pthread_join(thread, NULL);
  return wrong ? wrong : run_on_two();
}

/* The parent runs on two threads, and then its children do. */
static void expect_same_in_children(attend_status (*what)(float *out)) {
  for (int i = 0; i < ROWS * COLUMNS; i++) {
    x[i] = (float)(i * 37 % 101 - 50) / 40;
    weight[i] = (float)(i * 41 % 97 - 48) / 400;
  }
  operation = what;
  memset(expected, 0xff, sizeof expected);
  cr_assert_eq(operation(expected), ATTEND_OK, "%s", attend_error_detail());
  cr_assert_eq(run_on_two(), 0, "the parent itself");
  cr_expect_eq(in_child(run_on_two), 0);
  cr_expect_eq(in_child(run_deeper), 0);
  cr_expect_eq(in_child(run_on_a_new_thread), 0);
  cr_expect_eq(run_on_two(), 0, "the parent, afterwards");
}

Test(fork, attention) { expect_same_in_children(attention); }
Test(fork, append) { expect_same_in_children(append); }
Test(fork, merge) { expect_same_in_children(merge); }
Test(fork, softmax) { expect_same_in_children(softmax); }

/* Threads are bound where the machine has two groups of cores. */
Test(fork, bound_threads) {
  attend_topology *machine = attend_test_complete(&attend_test_machines[TWO_SOCKETS]);
  attend_topology_set_test_machine(machine);
  expect_same_in_children(bound);
  free(machine);
}

Test(fork, additive) {
  if (!attend_linear_blas()) cr_skip_test("this library was built without a BLAS");
  expect_same_in_children(additive);
}

Test(fork, layer) {
  if (!attend_linear_blas()) cr_skip_test("this library was built without a BLAS");
  expect_same_in_children(mha);
}

/* A program's handler of what its own work causes is called, whichever thread works. */
static void end_well(int number) { _exit(number == SIGSEGV ? 0 : 4); }

static int read_what_is_not_there(void) {
  attend_problem p = attend_test_problem(1, HEADS, HEADS, LENGTH, LENGTH, DIM);
  attend_tensors t = ATTEND_TENSORS_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 2;
  t.q = x, t.v = weight, t.out = got;
  t.k = mmap(NULL, sizeof x, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  attend_plan *plan = NULL;
  if (t.k == MAP_FAILED || attend_plan_create(&p, &options, &plan) != ATTEND_OK) return 2;
  signal(SIGSEGV, end_well);
  attend_plan_run(plan, &t, NULL, 0);
  return 3;
}

Test(fork, signals_of_the_work_itself) { cr_expect_eq(in_child(read_what_is_not_there), 0); }

#ifdef _OPENMP
/* There the child is in the region too, and alone. */
Test(fork, in_a_parallel_region) {
  expect_same_in_children(attention);
  int wrong = -1;
#pragma omp parallel num_threads(2)
  {
#pragma omp master
    wrong = in_child(run_and_compare);
  }
  cr_expect_eq(wrong, 0);
}
#endif
