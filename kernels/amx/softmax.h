/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The softmax of transposed scores, whose weights are rounded to bf16: a vector holds one key's scores with 16 query
 * rows. exp() is as exact as that needs. No maximum is looked for: weights are relative to a base that follows the
 * row's maximum only when the weights of 16 keys have become greater than MOST_WEIGHT together. Weights up to that are
 * as exact as weights up to 1, and a row's earlier sums are multiplied a few times instead of once per block
 * (FlashAttention-4 lets the maximum grow by 2^8 for the same reason). When the base moves depends on the row's own
 * scores alone.
 */
#ifndef ATTEND_KERNELS_AMX_SOFTMAX_H
#define ATTEND_KERNELS_AMX_SOFTMAX_H

#include "kernels/amx/pack.h"
#include "kernels/body/softmax.h"

/** What the weights of 16 keys may add up to before the base moves. */
#define MOST_WEIGHT 0x1p9f
/** Bases beyond this many powers of 2 are subtracted on their own: as part of a multiply-add they would lose 2^-11. */
#define MOST_FOLDED 16384.0f

/**
 * What 16 query rows have seen. A weight is 2^(factor (score - base) - shift). shift is a whole number, so that moving
 * it rounds nothing, and -inf for a row that has attended nothing yet: then every score makes the base move. base is 0
 * for all but huge scores. Where weights are to be small (weighing), shift is greater by their exponent.
 */
typedef struct row_statistics {
  float shift[16], base[16], sum[16];
} row_statistics;

/**
 * 2^x rounded to bf16: 0 at -inf, +inf above 128, NaN at NaN. A cubic on [0, 1) with the constant 1, minimax in
 * relative error (8.6e-5, a twentieth of what the rounding costs); adding and subtracting 1.5 2^16 rounds it to eight
 * bits; and vscalefps takes the floor of x by itself.
 */
ATTEND_INLINE vf exp2_as_bf16(vf x) {
  const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), magic = vf_set1(0x1.8p16f);
  vf p = vf_fma(r, vf_set1(0x1.3baaaap-4f), vf_set1(0x1.d23788p-3f));
  p = vf_fma(p, r, vf_set1(0x1.63e658p-1f));
  p = vf_fma(p, r, vf_add(magic, vf_set1(1.0f)));
  return _mm512_scalef_ps(vf_sub(p, magic), x);
}

/** The weights of two keys for 16 rows, added to *sum and written as pairs. `scaled`: scores are to be scaled first. */
ATTEND_INLINE void weigh_pair(const float *a, const float *b, vf scale, vf factor, vf shift, vf *sum, uint32_t *p,
                              const bool scaled) {
  const vf first = scaled ? vf_mul(vf_load(a), scale) : vf_load(a);
  const vf second = scaled ? vf_mul(vf_load(b), scale) : vf_load(b);
  const vf x = exp2_as_bf16(_mm512_fmsub_ps(first, factor, shift));
  const vf y = exp2_as_bf16(_mm512_fmsub_ps(second, factor, shift));
  *sum = vf_pin(vf_add(*sum, vf_add(x, y))); /* or gcc keeps all weights of a turn on the stack to add them up later */
  const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(x), 16), high = _mm512_set1_epi32((int)0xffff0000u);
  vp_store(p, _mm512_ternarylogic_epi32(low, _mm512_castps_si512(y), high,
                                        0xf8)); /* low | (y & high): a denormal y has low bits */
}

/** Multiplies weights that are written by a row's alpha. */
ATTEND_INLINE void scale_pairs(uint32_t *p, int64_t pairs, vf alpha) {
  const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
  for (int64_t i = 0; i < pairs; i++, p += LANES) {
    const vp x = vp_load((const uint16_t *)p);
    const vf even = vf_mul(alpha, _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)));
    const vf odd = vf_mul(alpha, _mm512_castsi512_ps(vp_and(x, high)));
    vp_store(p, vp_mix(vp_round(even, odd), vp_round(odd, even), 0));
  }
}

/** The factor of what was weighted before, for rows whose base moves. */
ATTEND_INLINE vf moved_by(const row_statistics *old, vf shift, vf base, vf factor) {
  const vf by = _mm512_fmadd_ps(vf_sub(vf_load(old->base), base), factor, vf_sub(vf_load(old->shift), shift));
  return vf_exp2(by);
}

/**
 * Moves the base of the rows in `moves` to the greatest of 16 keys' scores, which s holds as they are, and weighs these
 * anew; `small` is what shifts are greater by. Only a greater score moves a base: a sum of NaN brings a row here, too.
 * Returns the factors of what was weighted before, and the weights' sum in *sum.
 */
ATTEND_OUTLINE vf move_base(row_statistics *row, vm moves, const float *s, vf factor, vf small, vf *sum, uint32_t *p) {
  const vf none = vf_set1(-INFINITY), old = vf_load(row->base), old_shift = vf_sub(vf_load(row->shift), small);
  vf most = none;
  for (int j = 0; j < TILE_ROWS; j++) most = _mm512_max_ps(vf_load(s + j * LANES), most); /* NaN is passed over */
  const vm fresh = _mm512_cmp_ps_mask(old_shift, none, _CMP_EQ_OQ);
  const vf top = vf_mul(most, factor);
  const vm huge = _mm512_cmp_ps_mask(vf_abs(top), vf_set1(MOST_FOLDED), _CMP_NLE_UQ);
  const vm greater = fresh | vm_gt(_mm512_fmsub_ps(vf_sub(most, old), factor, old_shift), vf_zero());
  moves = moves & greater & vm_gt(most, none);
  const vf shift = vf_add(vf_select(moves, vf_select(huge, vf_zero(), _mm512_floor_ps(top)), old_shift), small);
  const vf base = vf_select(moves, vf_select(huge, most, vf_zero()), old);
  const vf alpha = vf_select((vm)(moves & ~fresh), moved_by(row, shift, base, factor), vf_set1(1.0f));
  vf_store(row->shift, shift);
  vf_store(row->base, base);

  const vf effective = vf_select(_mm512_cmp_ps_mask(shift, none, _CMP_EQ_OQ), vf_zero(), shift);
  *sum = vf_zero();
  for (int j = 0; j < TILE_ROWS / 2; j++) {
    float a[LANES], b[LANES];
    vf_store(a, vf_sub(vf_load(s + j * LANES), base));
    vf_store(b, vf_sub(vf_load(s + (j + PAIR_DISTANCE) * LANES), base));
    weigh_pair(a, b, vf_set1(1.0f), factor, effective, sum, p + j * LANES, false);
  }
  return alpha;
}

#endif
