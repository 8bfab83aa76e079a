/* SPDX-License-Identifier: Apache-2.0 */
/** Runs attention on one thread and on 16, for systems that let a program have fewer: the same bits. */
#include <attend/attend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 512, HEADS = 8, DIM = 64 };

static float x[HEADS * ROWS * DIM], out[2][HEADS * ROWS * DIM];

int main(void) {
  for (int i = 0; i < HEADS * ROWS * DIM; i++) x[i] = (float)(i * 37 % 101 - 50) / 40;
  for (int i = 0; i < 2; i++) {
    attend_problem p = ATTEND_PROBLEM_INIT;
    attend_tensors t = ATTEND_TENSORS_INIT;
    attend_options options = ATTEND_OPTIONS_INIT;
    p.batch = 1, p.q_heads = HEADS, p.q_len = p.kv_len = ROWS, p.head_dim = DIM;
    t.q = t.k = t.v = x, t.out = out[i];
    options.num_threads = i ? 16 : 1;
    attend_plan *plan;
    if (attend_plan_create(&p, &options, &plan) || attend_plan_run(plan, &t, NULL, 0)) return puts("no run");
    if (attend_plan_useful_parts(plan, &t) != options.num_threads) return puts("too small for so many threads");
    attend_plan_destroy(plan);
  }
  if (memcmp(out[0], out[1], sizeof out[0])) return puts("not the same bits");
  puts("the same bits");
  return 0;
}
