// SPDX-License-Identifier: Apache-2.0
// The one-shot call and a plan from C++: both give the same bits, and bad arguments give an error.
#include <attend/attend.h>

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

  for (int i = 0; i < 3; i++) std::printf("%.4f %.4f %.4f\n", once[3 * i], once[3 * i + 1], once[3 * i + 2]);
  return 0;
}
