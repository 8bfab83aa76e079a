/* SPDX-License-Identifier: Apache-2.0 */
/** Linux: what fork() leaves behind, and how many threads may be started. */
#define _GNU_SOURCE /* gettid's number, by syscall() */

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dispatch/machine/os.h"

/** As pthread_create(), but signals go to the program's threads as before: a new thread takes none. */
static bool start(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const bool started = pthread_create(thread, attributes, work, argument) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

/* ------------------------------------------------------------------------------------------------------------ forks */

/** A thread that works in another's place. It lives as long as the process; both semaphores belong to it. */
static struct {
  bool there;
  sem_t asked, done;
  void (*work)(void *argument);
  void *argument;
} deputy;

/* Written in a child that has one thread as yet. */
static int forks;
static pthread_t survivor;

static void count_fork(void) {
  forks++;
  survivor = pthread_self();
  deputy.there = false;
}

/* Before main(), or while the library is loaded: a child must not depend on what its parent had run by then. */
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

int attend_os_forks(void) { return forks; }

bool attend_os_survived_fork(void) { return forks && pthread_equal(pthread_self(), survivor); }

static void wait_for(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) { /* a signal came */
  }
}

static void *serve(void *unused) {
  for (;;) {
    wait_for(&deputy.asked);
    deputy.work(deputy.argument);
    sem_post(&deputy.done);
  }
  return unused;
}

bool attend_os_by_deputy(void (*work)(void *argument), void *argument) {
  int cancelling;
  if (!deputy.there) {
    pthread_t thread;
    sem_init(&deputy.asked, 0, 0);
    sem_init(&deputy.done, 0, 0);
    if (!start(&thread, NULL, serve, NULL)) return false;
    pthread_detach(thread);
    deputy.there = true;
  }
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling); /* the deputy works with what is ours */
  deputy.work = work, deputy.argument = argument;
  sem_post(&deputy.asked);
  wait_for(&deputy.done);
  pthread_setcancelstate(cancelling, NULL);
  return true;
}

/* ----------------------------------------------------------------------------------------------------------- limits */

/** Returns the number of its thread once the gate is open. */
static void *pass(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
  return (void *)syscall(SYS_gettid);
}

/** A thread that was joined counts against limits until the system has cleared it away, a little later. */
static void wait_until_gone(long number) {
  for (int turn = 0; turn < 1000 && syscall(SYS_tgkill, getpid(), number, 0) == 0; turn++)
    if (turn > 100) sched_yield();
}

int attend_os_startable(int threads, size_t stack) {
  pthread_t thread[ATTEND_MOST_THREADS];
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_attr_t attributes;
  int started = 0;
  if (pthread_attr_init(&attributes) != 0) return 0;
  if (stack) pthread_attr_setstacksize(&attributes, stack);
  pthread_mutex_lock(&gate);
  while (started < threads && start(&thread[started], &attributes, pass, &gate)) started++;
  pthread_mutex_unlock(&gate);
  pthread_attr_destroy(&attributes);
  for (int i = 0; i < started; i++) {
    void *number = NULL;
    pthread_join(thread[i], &number);
    wait_until_gone((long)number);
  }
  return started;
}
