/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

struct pool {
  pthread_mutex_t lock;
  pthread_cond_t begin, done;
  void (*task)(void *, int);
  void *argument;
  int next, count, busy, end, workers; /* under the lock: a task takes far longer than to fetch its number */
  pthread_t threads[];
};

/* Takes tasks until there are none. The lock is held when it is called and when it returns. */
static void work(pool *p) {
  while (p->next < p->count) {
    const int i = p->next++;
    p->busy++;
    pthread_mutex_unlock(&p->lock);
    p->task(p->argument, i);
    pthread_mutex_lock(&p->lock);
    p->busy--;
  }
  if (p->busy == 0) pthread_cond_signal(&p->done);
}

static void *worker(void *argument) {
  pool *p = argument;
  pthread_mutex_lock(&p->lock);
  while (!p->end) {
    work(p);
    if (!p->end && p->next >= p->count) pthread_cond_wait(&p->begin, &p->lock);
  }
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

pool *pool_create(int threads) {
  pool *p = calloc(1, sizeof *p + (size_t)threads * sizeof *p->threads);
  if (!p) return NULL;
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->begin, NULL);
  pthread_cond_init(&p->done, NULL);
  while (p->workers < threads - 1 && pthread_create(&p->threads[p->workers], NULL, worker, p) == 0) p->workers++;
  if (p->workers == threads - 1) return p;
  pool_destroy(p);
  return NULL;
}

void pool_destroy(pool *p) {
  if (!p) return;
  pthread_mutex_lock(&p->lock);
  p->end = 1;
  pthread_cond_broadcast(&p->begin);
  pthread_mutex_unlock(&p->lock);
  for (int i = 0; i < p->workers; i++) pthread_join(p->threads[i], NULL);
  pthread_cond_destroy(&p->begin);
  pthread_cond_destroy(&p->done);
  pthread_mutex_destroy(&p->lock);
  free(p);
}

void pool_run(void *context, int count, void (*task)(void *, int), void *argument) {
  pool *p = context;
  pthread_mutex_lock(&p->lock);
  p->task = task, p->argument = argument, p->next = 0, p->count = count;
  pthread_cond_broadcast(&p->begin);
  work(p);
  while (p->busy) pthread_cond_wait(&p->done, &p->lock);
  p->count = 0;
  pthread_mutex_unlock(&p->lock);
}
