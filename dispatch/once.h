/* SPDX-License-Identifier: Apache-2.0 */
/** Doing something once, whichever thread comes first. */
#ifndef ATTEND_DISPATCH_ONCE_H
#define ATTEND_DISPATCH_ONCE_H

#include <stdatomic.h>

#include "dispatch/machine/os.h"

/** Zero-initialised, in static storage. */
typedef atomic_int attend_once_flag;

/** Calls `make` if no thread has yet, and returns when it has been done. */
static inline void attend_once(attend_once_flag *flag, void (*make)(void)) {
  enum { NOT_YET, UNDER_WAY, DONE };
  if (atomic_load_explicit(flag, memory_order_acquire) == DONE) return;
  int expected = NOT_YET;
  if (atomic_compare_exchange_strong_explicit(flag, &expected, UNDER_WAY, memory_order_acq_rel, memory_order_acquire)) {
    make();
    atomic_store_explicit(flag, DONE, memory_order_release);
    return;
  }
  while (atomic_load_explicit(flag, memory_order_acquire) != DONE) attend_os_yield();
}

#endif
