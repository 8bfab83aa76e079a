/* SPDX-License-Identifier: Apache-2.0 */
#include <attend/attend.h>
#include <stdio.h>

int main(void) {
  /* Three queries, keys and values of one head: (batch, heads, length, dim) = (1, 1, 3, 3). */
  const float q[] = {1, 0, 2, 2, 2, 2, 2, 1, 3};
  const float k[] = {0, 1, 1, 4, 4, 0, 2, 3, 1};
  const float v[] = {1, 2, 3, 2, 8, 0, 2, 6, 3};
  float out[9];

  attend_problem problem = ATTEND_PROBLEM_INIT;
  problem.batch = 1, problem.q_heads = 1, problem.q_len = 3, problem.kv_len = 3, problem.head_dim = 3;
  problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;

  attend_tensors tensors = ATTEND_TENSORS_INIT;
  tensors.q = q, tensors.k = k, tensors.v = v, tensors.out = out;

  attend_status status = attend_forward(&problem, &tensors);
  if (status != ATTEND_OK) {
    fprintf(stderr, "%s: %s\n", attend_status_string(status), attend_error_detail());
    return 1;
  }
  for (int i = 0; i < 3; i++) printf("%.4f %.4f %.4f\n", out[3 * i], out[3 * i + 1], out[3 * i + 2]);
  return 0;
}
