/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The softmax of rows whose weights are rounded to bf16. exp() is as exact as that needs. Weights are relative to a
 * base that follows the row's maximum only when that has grown by more than 2^8, as FlashAttention-4 does to save
 * multiplications: weights up to 2^8 are as exact as weights up to 1, and a row's earlier sums are multiplied a few
 * times instead of once per block. When the base moves depends on the row's own scores alone.
 */
#ifndef ATTEND_KERNELS_AMX_SOFTMAX_H
#define ATTEND_KERNELS_AMX_SOFTMAX_H

#include "kernels/body/softmax.h"

/** How far, as a power of 2, the maximum may rise above the base. */
#define MOST_GROWTH 8.0f
/** Bases beyond this many powers of 2 are subtracted on their own: as part of a multiply-add they would lose 2^-11. */
#define MOST_FOLDED 16384.0f

/**
 * 2^x within 8e-5, a twenty-fourth of what rounding to bf16 costs: a cubic on [0, 1), minimax in relative error, and
 * vscalefps, which takes the floor of x by itself. 0 at -inf, +inf above 128, NaN at NaN.
 */
ATTEND_INLINE vf exp2_for_bf16(vf x) {
  const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  vf p = vf_fma(r, vf_set1(0x1.3f96a4p-4f), vf_set1(0x1.cefc4cp-3f));
  p = vf_fma(p, r, vf_set1(0x1.64444cp-1f));
  p = vf_fma(p, r, vf_set1(0x1.fff632p-1f));
  return _mm512_scalef_ps(p, x);
}

/**
 * Writes 2^(factor s - shift) for s[0..count), as bf16, to p, and adds the numbers that it has written to *sum. These
 * are the weights that the values are multiplied by, so that a row's weights add up to exactly what the row is divided
 * by. count is a multiple of 32.
 */
ATTEND_INLINE void row_weights(const float *s, int64_t count, float factor, float shift, uint16_t *p, vf *sum) {
  const vf f = vf_set1(factor), m = vf_set1(shift);
  vf total = *sum;
  for (int64_t j = 0; j < count; j += 2 * LANES) {
    const vf low = exp2_for_bf16(_mm512_fmsub_ps(vf_load(s + j), f, m));
    const vf high = exp2_for_bf16(_mm512_fmsub_ps(vf_load(s + j + LANES), f, m));
    const vp weights = vp_round(low, high);
    vp_store((uint32_t *)(void *)(p + j), weights);
    total = vp_dot(weights, vp_set1(0x3f803f80), total); /* pairs of 1 */
  }
  *sum = total;
}

/**
 * One step of the online softmax for a row: scores s[begin..end), whole steps of 32 keys, become the weights
 * p[begin..end). *base and the lanes of sum are brought up to date. Returns what the row's earlier values are to be
 * multiplied by.
 */
ATTEND_INLINE float row_softmax(float *s, int64_t begin, int64_t end, float factor, float *base, float *sum,
                                uint16_t *p) {
  const float old = *base, max = row_max(s, begin, end);
  float alpha = 1.0f;
  vf total = vf_load(sum);
  if ((max - old) * factor > MOST_GROWTH) {
    *base = max;
    if (old != -INFINITY) { /* else there is nothing yet */
      const vf scale = vf_exp2(vf_set1((old - max) * factor));
      alpha = _mm512_cvtss_f32(scale);
      total = vf_mul(total, scale);
    }
  }
  float shift = exp_base(*base) * factor;
  if (!(fabsf(shift) <= MOST_FOLDED)) {
    for (int64_t j = begin; j < end; j += LANES) vf_store(s + j, vf_sub(vf_load(s + j), vf_set1(exp_base(*base))));
    shift = 0.0f;
  }
  row_weights(s + begin, end - begin, factor, shift, p + begin, &total);
  vf_store(sum, total);
  return alpha;
}

#endif
