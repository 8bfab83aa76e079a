/* SPDX-License-Identifier: Apache-2.0 */
/* An engine with threads of its own: they run the parts of a plan, and no other thread comes into being. */
#define _POSIX_C_SOURCE 200809L
#include <attend/attend.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, HQ = 8, HKV = 2, LQ = 33, LK = 65, D = 40, THREADS = 4 };

static float q[B * HQ * LQ * D], k[B * HKV * LK * D], v[B * HKV * LK * D];
static float shared[B * HQ * LQ * D], alone[B * HQ * LQ * D];

typedef struct job {
  const attend_plan *plan;
  const attend_tensors *tensors;
  void *workspace;
  size_t size;
  int part, parts;
  attend_status status;
} job;

static pthread_barrier_t done, counted;

static void *work(void *argument) {
  job *j = argument;
  j->status = attend_plan_run_part(j->plan, j->tensors, j->workspace, j->size, j->part, j->parts);
  pthread_barrier_wait(&done);
  pthread_barrier_wait(&counted);
  return NULL;
}

static void *nothing(void *argument) { return argument; }

static int count_threads(void) {
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1;
  int n = 0;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) n += entry->d_name[0] != '.';
  closedir(tasks);
  return n;
}

static int fail(const char *what, attend_status status) {
  fprintf(stderr, "own_threads: %s: %s: %s\n", what, attend_status_string(status), attend_error_detail());
  return 1;
}

static void fill(float *x, size_t n, unsigned seed) {
  for (size_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
  }
}

int main(void) {
  fill(q, sizeof q / sizeof *q, 1);
  fill(k, sizeof k / sizeof *k, 2);
  fill(v, sizeof v / sizeof *v, 3);
  attend_problem problem = ATTEND_PROBLEM_INIT;
  problem.batch = B, problem.q_heads = HQ, problem.kv_heads = HKV, problem.q_len = LQ, problem.kv_len = LK;
  problem.head_dim = D, problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  attend_tensors tensors = ATTEND_TENSORS_INIT;
  tensors.q = q, tensors.k = k, tensors.v = v, tensors.out = shared;
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = THREADS;

  /* A sanitizer starts a thread of its own beside a program's first: let that happen before counting. */
  pthread_t first;
  if (pthread_create(&first, NULL, nothing, NULL) != 0) return 1;
  pthread_join(first, NULL);
  int before = count_threads();
  if (before < 1) return fprintf(stderr, "own_threads: cannot read /proc/self/task\n"), 1;

  attend_plan *plan;
  attend_status status = attend_plan_create(&problem, &options, &plan);
  if (status != ATTEND_OK) return fail("attend_plan_create", status);
  int parts = attend_plan_max_parts(plan);
  if (parts < 1 || parts > THREADS) return fprintf(stderr, "own_threads: %d parts of %d threads\n", parts, THREADS), 1;
  size_t size = attend_plan_workspace_size(plan);
  void *workspace = NULL;
  if (size > 0 && posix_memalign(&workspace, ATTEND_WORKSPACE_ALIGNMENT, size) != 0) return 1;

  status = attend_plan_begin(plan, &tensors, workspace, size);
  if (status != ATTEND_OK) return fail("attend_plan_begin", status);
  pthread_barrier_init(&done, NULL, (unsigned)parts + 1);
  pthread_barrier_init(&counted, NULL, (unsigned)parts + 1);
  pthread_t threads[THREADS];
  job jobs[THREADS];
  for (int i = 0; i < parts; i++) {
    jobs[i] = (job){plan, &tensors, workspace, size, i, parts, ATTEND_OK};
    if (pthread_create(&threads[i], NULL, work, &jobs[i]) != 0) return 1;
  }
  pthread_barrier_wait(&done);
  int during = count_threads();
  pthread_barrier_wait(&counted);
  for (int i = 0; i < parts; i++) {
    pthread_join(threads[i], NULL);
    if (jobs[i].status != ATTEND_OK) return fail("attend_plan_run_part", jobs[i].status);
  }
  if (during != before + parts) {
    fprintf(stderr, "own_threads: made %d threads, but %d more are there\n", parts, during - before);
    return 1;
  }

  tensors.out = alone;
  status = attend_plan_begin(plan, &tensors, workspace, size);
  if (status == ATTEND_OK) status = attend_plan_run_part(plan, &tensors, workspace, size, 0, 1);
  if (status != ATTEND_OK) return fail("one part", status);
  if (memcmp(shared, alone, sizeof shared) != 0) {
    fprintf(stderr, "own_threads: %d parts and one part give different bits\n", parts);
    return 1;
  }
  free(workspace);
  attend_plan_destroy(plan);
  printf("%d parts on own threads\n", parts);
  return 0;
}
