/* SPDX-License-Identifier: Apache-2.0 */
#include "plans.h"

#include <array>
#include <cstring>
#include <mutex>

#include "memory.h"
#include "warn.h"

namespace attend_ggml {
namespace {

struct entry {
  attend_problem problem;
  int threads;
  uint64_t used; /* the clock when it was asked for last; 0 = an empty entry */
  shared_plan plan;
};

struct cache {
  std::mutex mutex;
  uint64_t clock = 0;
  std::array<entry, 64> entries{};
};

/* Never destroyed: a host may compute until its very end. */
cache &the_cache() {
  static cache *const c = new cache;
  return *c;
}

void *allocate(void *, size_t size) { return allocate_aligned(size); }

void release(void *, void *memory, size_t) { free(memory); }

shared_plan make_plan(const attend_problem &problem, int threads) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.allocate = allocate;
  options.release = release;
  options.num_threads = threads;
  attend_plan *plan = nullptr;
  const attend_status status = attend_plan_create(&problem, &options, &plan);
  if (status != ATTEND_OK) {
    warn_once(status);
    return {};
  }
  return shared_plan(plan, attend_plan_destroy);
}

} /* namespace */

shared_plan find_plan(const attend_problem &problem, int threads) {
  cache &c = the_cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  entry *oldest = &c.entries[0];
  for (entry &e : c.entries) {
    if (e.used > 0 && e.threads == threads && memcmp(&e.problem, &problem, sizeof problem) == 0) {
      e.used = ++c.clock;
      return e.plan;
    }
    if (e.used < oldest->used) oldest = &e;
  }
  shared_plan plan = make_plan(problem, threads);
  if (!plan) return plan;
  memcpy(&oldest->problem, &problem, sizeof problem);
  oldest->threads = threads;
  oldest->used = ++c.clock;
  oldest->plan = plan;
  return plan;
}

} /* namespace attend_ggml */
