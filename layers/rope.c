/* SPDX-License-Identifier: Apache-2.0 */
#include "layers/rope.h"

#include <math.h>

#include "kernels/exact_floats.h"

void attend_rope_frequencies(const float *table, double theta, int64_t pairs, double *frequencies) {
  /* Powers by products: an error of 1e-16 a step does not matter, and pow() for each pair and run would take long. */
  const double step = pow(theta, -1.0 / (double)pairs);
  double power = 1;
  for (int64_t n = 0; n < pairs; n++, power *= step) frequencies[n] = table ? (double)table[n] : power;
}

void attend_rope_angles(const double *frequencies, int64_t pairs, int64_t position, float factor, float *cos_sin) {
  /* In double: at position 100,000 an angle in f32 is wrong by up to 4e-3. */
  for (int64_t n = 0; n < pairs; n++) {
    const double angle = (double)position * frequencies[n];
    cos_sin[n] = (float)(cos(angle) * (double)factor);
    cos_sin[pairs + n] = (float)(sin(angle) * (double)factor);
  }
}

void attend_rope_turn(attend_rope how, int64_t pairs, const float *cos_sin, float *head) {
  const float *c = cos_sin, *s = cos_sin + pairs;
  if (how == ATTEND_ROPE_HALF) {
    for (int64_t n = 0; n < pairs; n++) {
      const float x = head[n], y = head[pairs + n];
      head[n] = x * c[n] - y * s[n];
      head[pairs + n] = x * s[n] + y * c[n];
    }
    return;
  }
  for (int64_t n = 0; n < pairs; n++) {
    const float x = head[2 * n], y = head[2 * n + 1];
    head[2 * n] = x * c[n] - y * s[n];
    head[2 * n + 1] = x * s[n] + y * c[n];
  }
}
