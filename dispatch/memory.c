/* SPDX-License-Identifier: Apache-2.0 */
/** All of the library's allocations, in one place where tests can make any of them fail. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/size.h"

static atomic_long made, failing;

void *attend_alloc(size_t size) {
  long nth = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
  if (nth == atomic_load_explicit(&failing, memory_order_relaxed)) return NULL;
  size_t rounded = size_align(size ? size : 1, 64);
  return rounded > PTRDIFF_MAX ? NULL : aligned_alloc(64, rounded);
}

void attend_free(void *memory) { free(memory); }

void *attend_keep_plan(const void *finished, size_t size) {
  void *kept = attend_alloc(size);
  if (!kept) {
    attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a plan of %zu bytes", size);
    return NULL;
  }
  return memcpy(kept, finished, size);
}

long attend_fail_allocation(long nth) {
  atomic_store_explicit(&failing, nth, memory_order_relaxed);
  return atomic_exchange_explicit(&made, 0, memory_order_relaxed);
}
