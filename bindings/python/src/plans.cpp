// SPDX-License-Identifier: Apache-2.0
// Plans that are kept, workspaces, and runs.
#include <cstdlib>
#include <cstring>

#include "call.h"

namespace attend_python {

namespace {

// One workspace a thread, kept up to a bound; beyond it the library allocates for the run.
struct Workspace {
  void *memory = nullptr;
  size_t size = 0;
  ~Workspace() { free(memory); }
  void *of(size_t wanted) {
    enum { MOST = 64 << 20 };
    if (wanted == 0 || wanted > MOST) return nullptr;
    if (wanted > size) {
      free(memory);
      size = (wanted + 4095) / 4096 * 4096;
      memory = aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, size);
      if (!memory) size = 0;
    }
    return memory;
  }
};
thread_local Workspace workspace;

// Plans that are kept, in sets of a few by a hash, the one used last in front. The GIL keeps threads, and so forks,
// apart.
enum { SETS = 64, WAYS = 4 };
std::shared_ptr<Plan> kept[SETS][WAYS];

// In four lanes, as in one each multiplication waits for the one before.
size_t hash(const Key &key) {
  enum { LANES = 4 };
  static_assert(sizeof(Key) % 8 == 0, "hashed by words");
  const unsigned char *bytes = reinterpret_cast<const unsigned char *>(&key);
  uint64_t h[LANES] = {1, 2, 3, 4};
  for (size_t i = 0; i < sizeof key / 8; i++) {
    uint64_t word;
    memcpy(&word, bytes + 8 * i, 8);
    uint64_t &lane = h[i % LANES];
    lane = (lane ^ word) * 0xD6E8FEB86659FD93u;
    lane ^= lane >> 32;
  }
  uint64_t all = 0;
  for (uint64_t lane : h) all = (all ^ lane) * 0x9E3779B97F4A7C15u, all ^= all >> 32;
  return static_cast<size_t>(all);
}

} // namespace

void check(attend_status status) {
  if (status == ATTEND_OK) return;
  if (status == ATTEND_ERROR_OUT_OF_MEMORY) {
    PyErr_SetString(PyExc_MemoryError, attend_error_detail());
    throw nb::python_error();
  }
  fail_value("%s", attend_error_detail());
}

Plan::Plan(const Key &wanted) : key(wanted) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = key.threads;
  options.kernel = key.kernel[0] ? key.kernel : nullptr;
  check(attend_plan_create(&key.problem, &options, &plan));
  workspace = attend_plan_workspace_size(plan);
}

void clear_plans() {
  for (auto &set : kept)
    for (auto &plan : set) plan.reset();
}

std::shared_ptr<Plan> Call::plan() const {
  auto &set = kept[hash(key) % SETS];
  for (int i = 0; i < WAYS; i++)
    if (set[i] && memcmp(&set[i]->key, &key, sizeof key) == 0) {
      for (; i > 0; i--) set[i].swap(set[i - 1]);
      return set[0];
    }
  auto made = std::make_shared<Plan>(key);
  for (int i = WAYS - 1; i > 0; i--) set[i] = std::move(set[i - 1]);
  return set[0] = std::move(made);
}

nb::object Call::run(const Plan &plan) {
  run_unlocked([&] {
    void *memory = workspace.of(plan.workspace);
    return attend_plan_run(plan.plan, &tensors, memory, memory ? plan.workspace : 0);
  });
  if (count == 1) return outputs[0];
  nb::object all = nb::steal(PyTuple_New(count));
  for (int i = 0; i < count; i++) PyTuple_SetItem(all.ptr(), i, nb::object(outputs[i]).release().ptr());
  return all;
}

} // namespace attend_python
