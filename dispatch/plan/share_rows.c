/* SPDX-License-Identifier: Apache-2.0 */
/** Threads of the operations that work row by row and have no plan. */
#include "dispatch/dispatch.h"

/* A thread is to have some tens of microseconds of work, or waking it costs more than it brings. */
static const double elements_per_thread = 1e5;

/** Rows in pieces: the first `more` of them have one row more than the others. */
typedef struct pieces {
  void (*task)(const void *argument, int64_t begin, int64_t end);
  const void *argument;
  int64_t share, more;
} pieces;

static void do_piece(void *argument, int64_t i) {
  const pieces *p = argument;
  const int64_t begin = i * p->share + (i < p->more ? i : p->more);
  p->task(p->argument, begin, begin + p->share + (i < p->more));
}

void attend_share_rows(int64_t rows, double elements, int num_threads, const attend_env *env,
                       void (*task)(const void *argument, int64_t begin, int64_t end), const void *argument) {
  static const attend_host nobody = {0};
  const double worthwhile = 1 + elements / elements_per_thread;
  int threads = 1; /* to count the processors takes longer than a small call */
  if (worthwhile >= 2) threads = num_threads ? num_threads : env->num_threads;
  if (threads == 0) threads = attend_default_threads();
  if (worthwhile < threads) threads = (int)worthwhile;
  if (rows < threads) threads = (int)rows;
  if (threads <= 1) {
    task(argument, 0, rows);
    return;
  }
  pieces p = {.task = task, .argument = argument, .share = rows / threads, .more = rows % threads};
  attend_share_out(&nobody, threads, threads, do_piece, &p);
}
