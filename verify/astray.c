/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>

#include "verify/internal.h"

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

bool attend_verify_touched(attend_verify_signal s, const attend_guarded *buffer, ptrdiff_t *at) {
  return (s.number == SIGSEGV || s.number == SIGBUS) && attend_guarded_near(buffer, s.address, at);
}
