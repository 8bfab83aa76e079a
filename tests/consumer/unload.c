/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Loads the shared library, runs a plan and closes the library again, 1000 times: unload LIBRARY THREADS MOST, where
 * MOST is by how many KB memory may grow after the first 100 times. It links no OpenMP: the library brings it along.
 */
#include <attend/attend.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CYCLES = 1000, ROWS = 64, HEADS = 8, DIM = 64 };

static float x[HEADS * ROWS * DIM], out[HEADS * ROWS * DIM];

static int cycle(const char *path, int threads) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return puts(dlerror());
  attend_status (*create)(const attend_problem *, const attend_options *, attend_plan **);
  attend_status (*run)(const attend_plan *, const attend_tensors *, void *, size_t);
  void (*destroy)(attend_plan *);
  *(void **)&create = dlsym(library, "attend_plan_create");
  *(void **)&run = dlsym(library, "attend_plan_run");
  *(void **)&destroy = dlsym(library, "attend_plan_destroy");
  attend_problem p = ATTEND_PROBLEM_INIT;
  attend_tensors t = ATTEND_TENSORS_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  p.batch = 1, p.q_heads = HEADS, p.q_len = p.kv_len = ROWS, p.head_dim = DIM;
  t.q = t.k = t.v = x, t.out = out;
  options.num_threads = threads;
  attend_plan *plan;
  if (create(&p, &options, &plan) != ATTEND_OK) return puts("no plan");
  if (run(plan, &t, NULL, 0) != ATTEND_OK) return puts("no run");
  destroy(plan);
  return dlclose(library) ? puts(dlerror()) : 0;
}

static long resident_kb(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1) exit(1);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  long before = 0;
  for (int i = 0; i < CYCLES; i++) {
    if (cycle(argv[1], atoi(argv[2]))) return 1;
    if (i == CYCLES / 10) before = resident_kb();
  }
  const long more = resident_kb() - before;
  printf("%s threads: %ld KB more\n", argv[2], more);
  return more > atol(argv[3]);
}
