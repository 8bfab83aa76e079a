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

/**
 * As pthread_create(), but signals go to the program's threads as before: a new thread takes none but those that its
 * own work causes, for which the program may have a handler. Threads that it starts itself do so too.
 */
static bool start(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
  static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
  sigset_t others, before;
  sigfillset(&others);
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&others, own[i]);
  pthread_sigmask(SIG_BLOCK, &others, &before);
  const bool started = pthread_create(thread, attributes, work, argument) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

/* ------------------------------------------------------------------------------------------------------------ forks */

/** The helper thread, which lives as long as the process; both semaphores belong to it. */
static struct {
  bool there;
  sem_t asked, done;
  void (*work)(void *argument);
  void *argument;
} helper;

/* Written in a child that has one thread as yet. */
static int forks;
static pthread_t survivor;

static void count_fork(void) {
  forks++;
  survivor = pthread_self();
  helper.there = false;
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
    wait_for(&helper.asked);
    helper.work(helper.argument);
    sem_post(&helper.done);
  }
  return unused;
}

bool attend_os_run_on_helper(void (*work)(void *argument), void *argument) {
  int cancelling;
  if (!helper.there) {
    pthread_t thread;
    sem_init(&helper.asked, 0, 0);
    sem_init(&helper.done, 0, 0);
    if (!start(&thread, NULL, serve, NULL)) return false;
    pthread_detach(thread);
    helper.there = true;
  }
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling); /* the helper works with what is ours */
  helper.work = work, helper.argument = argument;
  sem_post(&helper.asked);
  wait_for(&helper.done);
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
  int started = 0, cancelling;
  if (pthread_attr_init(&attributes) != 0) return 0;
  if (stack) pthread_attr_setstacksize(&attributes, stack);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling); /* joining could end this thread and leave the others */
  pthread_mutex_lock(&gate);
  while (started < threads && start(&thread[started], &attributes, pass, &gate)) started++;
  pthread_mutex_unlock(&gate);
  pthread_attr_destroy(&attributes);
  for (int i = 0; i < started; i++) {
    void *number = NULL;
    pthread_join(thread[i], &number);
    wait_until_gone((long)number);
  }
  pthread_setcancelstate(cancelling, NULL);
  return started;
}
