/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Packing in pairs, for products whose operands are pairs of 16-bit elements (vdpbf16ps, BFDOT): keys as pairs along
 * the head dimension, values as pairs along the keys. A row of what is written is a vector of 32-bit pairs. Transposed
 * queries in panels of 16 are B tiles of AMX as they lie (kernels/amx/pack.h). Included after a vec.h that has pairs.
 */
#ifndef ATTEND_KERNELS_BODY_PACK_PAIRS_H
#define ATTEND_KERNELS_BODY_PACK_PAIRS_H

#include "kernels/body/pack.h"

/** Transposes up to LANES rows of `dim` elements: out[d * out_stride + lane] = elements 2d and 2d + 1 of rows[lane],
 * for d < depth; 0 where there is no row or no element. Stores whole vectors. */
ATTEND_INLINE void transpose_row_pairs(const void *const rows[LANES], int count, int64_t dim, int64_t depth,
                                       uint32_t *out, int64_t out_stride) {
  for (int64_t d = 0; d < depth; d += LANES) {
    const int n = (int)max_i64(0, min_i64(2 * LANES, dim - 2 * d)), steps = (int)min_i64(LANES, depth - d);
    vp r[LANES];
    if (n == 2 * LANES && count == LANES) {
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++) r[i] = vp_load((const uint16_t *)rows[i] + 2 * d);
    } else {
      for (int i = 0; i < LANES; i++)
        r[i] = i < count && n > 0 ? vp_load_n((const uint16_t *)rows[i] + 2 * d, n) : vp_set1(0);
    }
    vp_transpose(r);
    if (steps == LANES) {
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++) vp_store(out + (d + i) * out_stride, r[i]);
    } else {
      for (int i = 0; i < steps; i++) vp_store(out + (d + i) * out_stride, r[i]);
    }
  }
}

/**
 * Packs the keys of a block, `dim` elements each, where `rows` says, from key `begin` (a multiple of the panel) to
 * `count`, into panels of `panel` keys (a multiple of LANES): panel by panel [depth][panel] pairs, each in
 * its place of the whole block, depth being at least dim / 2, rounded up. What is left of the depth and of the last
 * panel is filled up with zeros.
 */
ATTEND_OUTLINE void pack_key_pairs(const void *const *rows, int64_t begin, int64_t count, int64_t dim, int64_t depth,
                                   int panel, uint32_t *out) {
  for (int64_t key = begin; key < round_up(count, panel); key += LANES) {
    const int n = (int)max_i64(0, min_i64(LANES, count - key));
    transpose_row_pairs(rows + key, n, dim, depth, out + key / panel * panel * depth + key % panel, panel);
  }
}

/**
 * Packs the rows of bf16 values of a block, where `rows` says, from row `begin`, an even one, to `count` into panels of
 * `panel` columns (a multiple of LANES): panel by panel [block_depth][width] pairs of keys, up to pair `depth`, width
 * being `panel`, or for the last panel what is left of dim rounded up to LANES. depth is at least count / 2, rounded
 * up. What is left is filled up with zeros. Panels lie panel * block_depth pairs apart. Returns whether all these
 * values are finite.
 */
ATTEND_OUTLINE bool pack_value_pairs(const void *const *rows, int64_t begin, int64_t count, int64_t dim, int64_t depth,
                                     int panel, int64_t block_depth, uint32_t *out) {
  vf bad = vf_zero(); /* as in pack_values_as() */
  for (int64_t c = 0; c < dim; c += panel) {
    const int64_t columns = min_i64(panel, dim - c), width = round_up(columns, LANES);
    uint32_t *to = out + c * block_depth + begin / 2 * width;
    for (int64_t i = begin / 2; i < depth; i++, to += width) {
      const bool has_even = 2 * i < count, has_odd = 2 * i + 1 < count;
      const uint16_t *even = has_even ? (const uint16_t *)rows[2 * i] + c : NULL;
      const uint16_t *odd = has_odd ? (const uint16_t *)rows[2 * i + 1] + c : NULL;
      for (int64_t j = 0; j < width; j += LANES) {
        const int n = (int)min_i64(LANES, columns - j);
        vf a = vf_zero(), b = vf_zero();
        if (has_odd && n == LANES) {
          a = vf_load_bf16(even + j), b = vf_load_bf16(odd + j);
        } else {
          if (has_even) a = vf_load_bf16_n(even + j, n);
          if (has_odd) b = vf_load_bf16_n(odd + j, n);
        }
        bad = note_nonfinite(a, b, bad);
        vp_store(to + j, vp_zip(a, b));
      }
    }
  }
  return vf_hsum(bad) == 0.0f;
}

#endif
