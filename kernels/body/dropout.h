/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Dropout of attention weights, by Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", SC'11). Which weights are dropped follows from the seed, the offset and the place of a weight alone;
 * attend.h writes down how, so that every kernel, cut and thread count drops the same ones.
 */
#ifndef ATTEND_KERNELS_BODY_DROPOUT_H
#define ATTEND_KERNELS_BODY_DROPOUT_H

#include "kernels/body/rows.h"

/** Four random words for each lane's counter c, in its place. */
ATTEND_INLINE void philox(vu c[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    vu high0, low0, high1, low1;
    vu_mul_wide(c[0], vu_set1(0xd2511f53), &high0, &low0);
    vu_mul_wide(c[2], vu_set1(0xcd9e8d57), &high1, &low1);
    c[0] = vu_xor(vu_xor(high1, c[1]), vu_set1(key0));
    c[1] = low1;
    c[2] = vu_xor(vu_xor(high0, c[3]), vu_set1(key1));
    c[3] = low0;
    key0 += 0x9e3779b9, key1 += 0xbb67ae85;
  }
}

/** Words below this drop a weight. */
ATTEND_INLINE uint32_t dropout_threshold(float probability) {
  return probability < 1.0f ? (uint32_t)((double)probability * 0x1p32) : UINT32_MAX;
}

/** Drops weights of a row: see drop_tile(). */
ATTEND_INLINE void drop_row(const attend_view *view, row_place at, int64_t block, int64_t begin, int64_t end,
                            float *s) {
  const float dropout = view->p->dropout;
  const vu threshold = vu_set1(dropout_threshold(dropout));
  const vf scale = vf_set1(dropout < 1.0f ? 1.0f / (1.0f - dropout) : 0.0f);
  for (int64_t group = (block + begin) / 64; group * 64 < block + end; group++)
    for (int lane = 0; lane < 16; lane += LANES) {
      vu c[4] = {vu_add(vu_set1((uint32_t)(16 * group + lane)), vu_iota()), vu_set1((uint32_t)at.query),
                 vu_set1(view->dropout_head + (uint32_t)at.head), vu_set1(view->dropout_offset)};
      philox(c, (uint32_t)view->dropout_seed, (uint32_t)(view->dropout_seed >> 32));
      for (int word = 0; word < 4; word++) {
        const int64_t j = group * 64 + word * 16 + lane - block;
        if (j < begin || j >= end) continue;
        vf_store(s + j, vf_mul(vf_load(s + j), vf_select(vu_ge(c[word], threshold), scale, vf_zero())));
      }
    }
}

/**
 * Drops weights s[begin..end), those of keys block + begin and on, of `count` rows of a slice, ld apart, and scales the
 * others up: each is multiplied by 0 or 1 / (1 - p), so that NaN stays NaN, and -0, which marks a key that is not
 * attended, -0. block, begin and end are multiples of LANES. A counter gives the words of keys 16 apart, so that lanes
 * are neighbours whatever LANES is.
 */
ATTEND_OUTLINE void drop_tile(const attend_slice *slice, int64_t row, int count, int64_t block, int64_t begin,
                              int64_t end, float *s, int ld) {
  for (int r = 0; r < count; r++)
    drop_row(slice->view, place_of(slice->view, slice->row_begin + row + r), block, begin, end, s + r * ld);
}

#endif
