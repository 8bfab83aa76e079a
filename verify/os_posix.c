/* SPDX-License-Identifier: Apache-2.0 */
/** POSIX: pages that cannot be touched, and what becomes of a call that touches them. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "verify/internal.h"

size_t attend_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void *attend_pages_reserve(size_t size) {
  void *map = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return map == MAP_FAILED ? NULL : map;
}

bool attend_pages_allow(void *pages, size_t size, bool writing) {
  return mprotect(pages, size, writing ? PROT_READ | PROT_WRITE : PROT_READ) == 0;
}

void attend_pages_release(void *pages, size_t size) { munmap(pages, size); }

static sigjmp_buf astray;
static attend_verify_signal caught;

static void catch_signal(int number, siginfo_t *info, void *context) {
  (void)context;
  caught = (attend_verify_signal){number, info->si_addr};
  siglongjmp(astray, 1);
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
enum { SIGNALS = sizeof signals / sizeof *signals };

attend_verify_signal attend_verify_call(void (*call)(void *context), void *context) {
  struct sigaction before[SIGNALS], action = {.sa_sigaction = catch_signal, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  caught = (attend_verify_signal){0};
  for (int i = 0; i < SIGNALS; i++) sigaction(signals[i], &action, &before[i]);
  if (sigsetjmp(astray, 1) == 0) call(context);
  for (int i = 0; i < SIGNALS; i++) sigaction(signals[i], &before[i], NULL);
  return caught;
}

const char *attend_verify_signal_name(attend_verify_signal s) { return strsignal(s.number); }

bool attend_verify_touched(attend_verify_signal s, const attend_guarded *buffer, ptrdiff_t *at) {
  return (s.number == SIGSEGV || s.number == SIGBUS) && attend_guarded_near(buffer, s.address, at);
}
