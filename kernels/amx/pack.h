/* SPDX-License-Identifier: Apache-2.0 */
/** Packing into tiles: keys and values as A tiles, queries as B tiles. What is not there is 0. */
#ifndef ATTEND_KERNELS_AMX_PACK_H
#define ATTEND_KERNELS_AMX_PACK_H

#include "kernels/amx/products.h"
#include "kernels/body/pack_pairs.h"
#include "kernels/body/rows.h"

enum { TILE_PAIRS = TILE_BYTES / 4, TILE_ELEMENTS = TILE_BYTES / 2 };

/** Keys begin to end of a block, `begin` a multiple of 32, and those that fill up the last 32: as they lie. */
ATTEND_OUTLINE void pack_key_tiles(const void *const *rows, int64_t begin, int64_t end, int64_t dim, int64_t depth,
                                   uint16_t *out) {
  for (int64_t key = begin; key < round_up(end, TILE_DEPTH); key++) {
    uint16_t *to = out + key / TILE_ROWS * depth * TILE_ELEMENTS + key % TILE_ROWS * TILE_DEPTH;
    for (int64_t t = 0; t < depth; t++, to += TILE_ELEMENTS) {
      const int n = key < end ? (int)max_i64(0, min_i64(TILE_DEPTH, dim - t * TILE_DEPTH)) : 0;
      const vp x = n == TILE_DEPTH ? vp_load((const uint16_t *)rows[key] + t * TILE_DEPTH)
                   : n > 0         ? vp_load_n((const uint16_t *)rows[key] + t * TILE_DEPTH, n)
                                   : vp_set1(0);
      vp_store((uint32_t *)(void *)to, x);
    }
  }
}

/** Up to 16 query rows of a slice, from row `row` on; negated for a negative scale (attend_score_unit()). */
ATTEND_OUTLINE void pack_query_tiles(const attend_slice *slice, int64_t row, int64_t depth, uint16_t *out) {
  const attend_problem *p = slice->view->p;
  const void *rows[LANES] = {NULL};
  const int n = (int)max_i64(0, min_i64(LANES, slice->row_end - row));
  for (int i = 0; i < n; i++) rows[i] = query_at(slice->view, place_of(slice->view, row + i));
  uint32_t *pairs = (uint32_t *)(void *)out;
  transpose_row_pairs(rows, n, p->head_dim, depth * TILE_ROWS, pairs, LANES);
  if (p->scale < 0.0f)
    for (int64_t i = 0; i < depth * TILE_PAIRS; i += LANES)
      vp_store(pairs + i, _mm512_xor_si512(vp_load((const uint16_t *)(pairs + i)), vp_set1(0x80008000)));
}

/** The two keys of a step's 32 whose weights a pair holds: a half of 16 keys is a turn, and makes pairs 8 keys apart.
 */
ATTEND_INLINE int64_t first_of_pair(int64_t pair) { return pair / 8 * 16 + pair % 8; }
enum { PAIR_DISTANCE = 8 };

/**
 * Values begin to end of a block, `begin` a multiple of 32, transposed: column by column of 16 [steps of the block][16
 * columns][16 pairs of keys]. Returns whether all of them are finite. `columns` is dim in whole columns.
 */
ATTEND_OUTLINE bool pack_value_tiles(const void *const *rows, int64_t begin, int64_t end, int64_t dim, int64_t columns,
                                     int64_t block_steps, uint16_t *out) {
  __m512i most = _mm512_setzero_si512(); /* without signs: numbers that are not finite are the greatest */
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  for (int64_t step = begin / TILE_DEPTH; step * TILE_DEPTH < end; step++) {
    for (int64_t column = 0; column < columns; column += 2) {
      const int n = (int)min_i64(2 * TILE_ROWS, dim - column * TILE_ROWS);
      const __mmask32 there = (__mmask32)((UINT64_C(1) << n) - 1);
      vp low[LANES], high[LANES]; /* columns 0 to 3, 8 to 11, 16 to 19, 24 to 27, and the others */
      for (int i = 0; i < LANES; i++) {
        const int64_t a = step * TILE_DEPTH + first_of_pair(i), b = a + PAIR_DISTANCE;
        const vp x =
            a < end ? _mm512_maskz_loadu_epi16(there, (const uint16_t *)rows[a] + column * TILE_ROWS) : vp_set1(0);
        const vp y =
            b < end ? _mm512_maskz_loadu_epi16(there, (const uint16_t *)rows[b] + column * TILE_ROWS) : vp_set1(0);
        most = _mm512_max_epu16(most, _mm512_max_epu16(vp_and(x, magnitude), vp_and(y, magnitude)));
        low[i] = _mm512_unpacklo_epi16(x, y);
        high[i] = _mm512_unpackhi_epi16(x, y);
      }
      vp_transpose(low);
      vp_transpose(high);
      uint32_t *to = (uint32_t *)(void *)(out + (column * block_steps + step) * TILE_ELEMENTS);
      uint32_t *right = to + block_steps * TILE_PAIRS;
      for (int i = 0; i < LANES; i++) {
        const int at = i / 4 * 8 + i % 4; /* the column that a lane of `low` held */
        uint32_t *tile = at < TILE_ROWS ? to : right;
        if (at >= TILE_ROWS && column + 1 == columns) break;
        vp_store(tile + at % TILE_ROWS * LANES, low[i]);
        vp_store(tile + (at + 4) % TILE_ROWS * LANES, high[i]);
      }
    }
  }
  return _mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(0x7f80)) == 0;
}

/** Replaces elements that are not finite by 0. */
ATTEND_OUTLINE void clear_nonfinite(uint16_t *elements, int64_t count) {
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  for (int64_t i = 0; i < count; i += 2 * LANES) {
    const __m512i x = _mm512_loadu_si512(elements + i);
    const __mmask32 bad = _mm512_cmpeq_epi16_mask(_mm512_and_si512(x, exponent), exponent);
    _mm512_storeu_si512(elements + i, _mm512_mask_mov_epi16(x, bad, _mm512_setzero_si512()));
  }
}

#endif
