/* SPDX-License-Identifier: Apache-2.0 */
/** All of the library's allocations, in one place where tests can make any of them fail; and those of its callers. */
#include <stdatomic.h>
#include <string.h>

#include "dispatch/machine/os.h"

static atomic_long made, failing;

void *attend_alloc(size_t size) {
  long nth = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
  if (nth == atomic_load_explicit(&failing, memory_order_relaxed)) return NULL;
  if (size > PTRDIFF_MAX - 64) return NULL;
  return attend_os_allocate(64, size ? size : 1); /* not a byte more: a sanitizer is to see short overruns */
}

void attend_free(void *memory) { attend_os_release(memory); }

attend_status attend_host_allocate(const attend_host *host, size_t size, const char *what, void **memory) {
  void *got = host->allocate ? host->allocate(host->memory_context, size) : attend_alloc(size);
  if (!got) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a %s of %zu bytes", what, size);
  if ((uintptr_t)got % ATTEND_WORKSPACE_ALIGNMENT) {
    attend_host_release(host, got, size);
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "allocate returned %p for a %s, expected a multiple of %d", got,
                       what, ATTEND_WORKSPACE_ALIGNMENT);
  }
  *memory = got;
  return ATTEND_OK;
}

void attend_host_release(const attend_host *host, void *memory, size_t size) {
  if (!memory) return;
  if (host->release)
    host->release(host->memory_context, memory, size);
  else
    attend_free(memory);
}

attend_status attend_keep_plan(const attend_host *host, const void *finished, size_t size, void **kept) {
  const attend_status status = attend_host_allocate(host, size, "plan", kept);
  if (status == ATTEND_OK) memcpy(*kept, finished, size);
  return status;
}

long attend_fail_allocation(long nth) {
  atomic_store_explicit(&failing, nth, memory_order_relaxed);
  return atomic_exchange_explicit(&made, 0, memory_order_relaxed);
}
