/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The softmax of a register tile's rows: online over key blocks (Milakov & Gimelshein 2018,
 * https://arxiv.org/abs/1805.02867), or in one go when a row's scores are all there.
 *
 * Scores come as raw products, still to be multiplied by `unit`, or finished, with unit 1. exp(unit (s - m)) is
 * computed as 2^((s - m) (unit log2 e)): the scale costs nothing there, and nothing is rounded for it. The subtraction
 * comes first, though one multiply-add with m folded in would save an instruction: for scores of 1e4 the rounding of m
 * log2 e alone would be worth 4e-4.
 */
#ifndef ATTEND_KERNELS_BODY_SOFTMAX_H
#define ATTEND_KERNELS_BODY_SOFTMAX_H

#include <float.h>
#include <math.h>

#include "kernels/body/operand.h"

/** 2^x as exact as weights need to be that the products take. */
ATTEND_INLINE vf weight_exp2(vf x) {
#ifdef ATTEND_PAIR_DOT
  return vf_exp2_bf16(x);
#else
  return vf_exp2(x);
#endif
}

/** What (s - m) is multiplied by for exp2: finite, so that the greatest score's 0 stays 0 under any scale. */
ATTEND_INLINE float exp2_factor(float unit) {
  const float factor = unit * 1.44269504088896340736f;
  return factor < FLT_MAX ? factor : FLT_MAX; /* fminf() is a call, which saves and loads all vectors in use */
}

/** The greatest of s[begin..end), a whole number of vectors; -inf for none. NaN may be ignored: it shows in the sum. */
ATTEND_INLINE float row_max(const float *s, int64_t begin, int64_t end) {
  vf a = vf_set1(-INFINITY), b = a;
  int64_t j = begin;
  for (; j + 2 * LANES <= end; j += 2 * LANES) {
    a = vf_max(a, vf_load(s + j));
    b = vf_max(b, vf_load(s + j + LANES));
  }
  if (j < end) a = vf_max(a, vf_load(s + j));
  return vf_hmax(vf_max(a, b));
}

/** Turns scores, a whole number of steps, into weights exp(unit (s - base)); adds them to *sum, lane by lane. */
ATTEND_INLINE void row_exp(float *s, int64_t begin, int64_t end, float base, float unit, vf *sum) {
  const vf shift = vf_set1(base), factor = vf_set1(exp2_factor(unit));
  vf total = *sum;
  for (int64_t j = begin; j < end; j += SCORE_STEP) {
    vf p[SCORE_VECTORS];
    ATTEND_UNROLL
    for (int i = 0; i < SCORE_VECTORS; i++)
      p[i] = weight_exp2(vf_mul(vf_sub(vf_load(s + j + i * LANES), shift), factor));
    total = keep_weights(s, j, p, total);
  }
  *sum = total;
}

/**
 * The same with the weight of an excluded key marked: it is -0, which no attended key has. Weights are multiplied by
 * `one`, a power of 2.
 */
ATTEND_INLINE void row_exp_selected(float *s, int64_t begin, int64_t end, float base, float unit, float one, vf *sum) {
  for (int64_t j = begin; j < end; j += SCORE_STEP) {
    vf p[SCORE_VECTORS];
    for (int i = 0; i < SCORE_VECTORS; i++) {
      const vf x = vf_load(s + j + i * LANES);
      p[i] = vf_mul(weight_exp2(vf_mul(vf_sub(x, vf_set1(base)), vf_set1(exp2_factor(unit)))), vf_set1(one));
      p[i] = vf_select(vm_gt(vf_set1(-FLT_MAX), x), vf_set1(-0.0f), p[i]);
    }
    *sum = keep_weights(s, j, p, *sum);
  }
}

/** What exp() is taken relative to: the maximum, or 0 for a row that has attended nothing yet. */
ATTEND_INLINE float exp_base(float max) { return max == -INFINITY ? 0.0f : max; }

/**
 * alpha[r] = exp(unit (alpha[r] - base[r])), for as many rows as make `rows` a multiple of 16: the last ones are 1. A
 * function of its own, because gcc makes calls of memset() of it on Arm, and softmax_step() would save vectors for
 * them.
 */
ATTEND_OUTLINE void rescaling(int rows, float unit, float *base, float *alpha) {
  for (int r = rows; r < round_up(rows, 16); r++) base[r] = alpha[r] = 0.0f;
  for (int r = 0; r < rows; r += LANES) {
    const vf old = vf_sub(vf_load(alpha + r), vf_load(base + r));
    vf_store(alpha + r, vf_exp2(vf_mul(old, vf_set1(exp2_factor(unit)))));
  }
}

/**
 * One step of the online softmax: rows s[r * ld + begin..end) of a block become weights relative to the new maxima;
 * max[r] and the lanes of sum[r * LANES] are updated, and alpha[r] is the factor by which earlier sums have to be
 * multiplied: as many are written as make rows a multiple of 16, 32 at most. If it is the `first` step of these rows,
 * max is -inf, and sum and alpha are not read. `one` is the weight of the greatest score (weighing), and `selected`
 * says that excluded keys are to be marked.
 */
ATTEND_OUTLINE void softmax_step(float *s, int ld, int rows, int64_t begin, int64_t end, float unit, bool first,
                                 bool selected, float one, float *max, float *sum, float *alpha) {
  float base[32];
  for (int r = 0; r < rows; r++) {
    const float block_max = row_max(s + r * ld, begin, end);
    const float new_max = block_max > max[r] ? block_max : max[r];
    base[r] = exp_base(new_max);
    alpha[r] = max[r];
    max[r] = new_max;
  }
  if (!first) rescaling(rows, unit, base, alpha);
  for (int r = 0; r < rows; r++) {
    vf total = first ? vf_zero() : vf_mul(vf_load(sum + r * LANES), vf_set1(alpha[r]));
    if (selected || one != 1.0f)
      row_exp_selected(s + r * ld, begin, end, base[r], unit, one, &total);
    else
      row_exp(s + r * ld, begin, end, base[r], unit, &total);
    vf_store(sum + r * LANES, total);
  }
}

#endif
