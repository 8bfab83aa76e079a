// SPDX-License-Identifier: Apache-2.0
// The one-shot call and a plan from C++: both give the same bits, and bad arguments give an error. Appending to a
// cache, and merging a result with itself, which changes nothing.
#include <attend/attend.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

int main() {
  const std::vector<float> q{1, 0, 2, 2, 2, 2, 2, 1, 3}, k{0, 1, 1, 4, 4, 0, 2, 3, 1}, v{1, 2, 3, 2, 8, 0, 2, 6, 3};
  std::vector<float> once(9), planned(9);

  attend_problem problem = ATTEND_PROBLEM_INIT;
  problem.batch = 1, problem.q_heads = 1, problem.q_len = 3, problem.kv_len = 3, problem.head_dim = 3;
  problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;

  attend_tensors tensors = ATTEND_TENSORS_INIT;
  tensors.q = q.data(), tensors.k = k.data(), tensors.v = v.data(), tensors.out = once.data();
  attend_status status = attend_forward(&problem, &tensors);
  if (status != ATTEND_OK) {
    std::fprintf(stderr, "%s: %s\n", attend_status_string(status), attend_error_detail());
    return 1;
  }

  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 1;
  attend_plan *plan = nullptr;
  if (attend_plan_create(&problem, &options, &plan) != ATTEND_OK) return 2;
  const std::unique_ptr<attend_plan, void (*)(attend_plan *)> owner(plan, attend_plan_destroy);
  tensors.out = planned.data();
  if (attend_plan_run(plan, &tensors, nullptr, 0) != ATTEND_OK) return 3;
  if (std::memcmp(once.data(), planned.data(), once.size() * sizeof(float)) != 0) return 4;

  problem.head_dim = -1;
  if (attend_forward(&problem, &tensors) != ATTEND_ERROR_INVALID_ARGUMENT) return 5;

  std::vector<float> cache(2 * 9), merged(9), lse(3);
  const std::int32_t position = 3;
  attend_append_problem append = ATTEND_APPEND_PROBLEM_INIT;
  append.batch = 1, append.heads = 1, append.rows = 3, append.dim = 3, append.cache_len = 6;
  attend_append_tensors append_tensors = ATTEND_APPEND_TENSORS_INIT;
  append_tensors.x = once.data(), append_tensors.cache = cache.data(), append_tensors.positions = &position;
  if (attend_append(&append, &append_tensors) != ATTEND_OK) return 6;
  if (std::memcmp(&cache[9], once.data(), once.size() * sizeof(float)) != 0) return 7;

  const void *const outs[] = {once.data(), planned.data()};
  const float *const lses[] = {lse.data(), lse.data()};
  attend_merge_problem merge = ATTEND_MERGE_PROBLEM_INIT;
  merge.parts = 2, merge.batch = 1, merge.heads = 1, merge.rows = 3, merge.dim = 3;
  attend_merge_tensors merge_tensors = ATTEND_MERGE_TENSORS_INIT;
  merge_tensors.outs = outs, merge_tensors.lses = lses, merge_tensors.out = merged.data();
  if (attend_merge(&merge, &merge_tensors) != ATTEND_OK) return 8;
  if (merged != once) return 9;

  for (int i = 0; i < 3; i++) std::printf("%.4f %.4f %.4f\n", once[3 * i], once[3 * i + 1], once[3 * i + 2]);
  return 0;
}
