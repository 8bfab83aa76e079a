/* SPDX-License-Identifier: Apache-2.0 */
/** Doing something once, whichever thread comes first. */
#ifndef ATTEND_DISPATCH_ONCE_H
#define ATTEND_DISPATCH_ONCE_H

#include <stdatomic.h>

#include "dispatch/machine/os.h"

/** Zero-initialised, in static storage. */
typedef atomic_int attend_once_flag;

/**
 * Calls `make` if no thread has yet, and returns when it has been done. If the process was forked meanwhile, the thread
 * that was at it is not in the child, and what it had done so far is: the child calls `make` again.
 */
static inline void attend_once(attend_once_flag *flag, void (*make)(void)) {
  enum { NOT_YET, DONE, UNDER_WAY }; /* UNDER_WAY and more: of a process that comes after so many forks */
  int seen = atomic_load_explicit(flag, memory_order_acquire);
  if (seen == DONE) return;
  const int ours = UNDER_WAY + attend_os_forks();
  while (seen != DONE) {
    if (seen == ours) {
      attend_os_yield();
      seen = atomic_load_explicit(flag, memory_order_acquire);
    } else if (atomic_compare_exchange_strong_explicit(flag, &seen, ours, memory_order_acq_rel, memory_order_acquire)) {
      make();
      atomic_store_explicit(flag, DONE, memory_order_release);
      return;
    }
  }
}

#endif
