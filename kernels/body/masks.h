/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Masks and biases that are given element by element, looked through block by block before anything is computed. Most
 * blocks of a causal mask that comes as numbers, as llama.cpp's does, are all 0 or all -inf: the first need nothing but
 * their scale, the others are not computed at all.
 */
#ifndef ATTEND_KERNELS_BODY_MASKS_H
#define ATTEND_KERNELS_BODY_MASKS_H

#include <math.h>

#include "kernels/body/pack.h"

/** A row of a view (attend_slice says how rows are numbered). */
typedef struct row_place {
  int64_t head, query; /**< of the group, of the sequence */
} row_place;

ATTEND_INLINE row_place place_of(const attend_view *view, int64_t row) {
  if (view->group == 1) return (row_place){0, row}; /* two divisions less */
  return (row_place){row % view->group, row / view->group};
}

ATTEND_INLINE const uint8_t *mask_at(const attend_view *view, row_place at, int64_t key) {
  return view->mask + at.head * view->mask_head + at.query * view->mask_query + key * view->p->mask_strides.key;
}

/** What mask and bias do to some keys of some rows. */
typedef enum block_masks {
  MASKS_KEEP,    /**< nothing: all are attended, and nothing is added; or there are none */
  MASKS_EXCLUDE, /**< no row attends any of the keys */
  MASKS_MIXED    /**< something else */
} block_masks;

ATTEND_INLINE block_masks both_masks(block_masks a, block_masks b) {
  if (a == MASKS_EXCLUDE || b == MASKS_EXCLUDE) return MASKS_EXCLUDE;
  return a == b ? a : MASKS_MIXED;
}

/** What `count` elements of a boolean mask do, `stride` bytes apart. */
ATTEND_OUTLINE block_masks look_through_mask(const uint8_t *m, int64_t stride, int64_t count) {
  if (stride == 0) count = 1;
  unsigned char all = 1, some = 0;
  if (stride == 1)
    for (int64_t i = 0; i < count; i++) all &= m[i] != 0, some |= m[i];
  else
    for (int64_t i = 0; i < count; i++) all &= m[i * stride] != 0, some |= m[i * stride];
  return all ? MASKS_KEEP : some ? MASKS_MIXED : MASKS_EXCLUDE;
}

/** What elements of 16 bits do: without their sign they are 0, or they are all the pattern of -inf. */
ATTEND_OUTLINE block_masks look_through_16(const uint16_t *x, int64_t stride, int64_t count, uint16_t minus_infinity) {
  uint16_t not_zero = 0, not_infinite = 0;
  if (stride == 0) count = 1;
  if (stride == 1 && count == ATTEND_MASK_BLOCK) /* a constant: a few vectors, and no more */
    for (int i = 0; i < ATTEND_MASK_BLOCK; i++) not_zero |= x[i], not_infinite |= x[i] ^ minus_infinity;
  else if (stride == 1)
    for (int64_t i = 0; i < count; i++) not_zero |= x[i], not_infinite |= x[i] ^ minus_infinity;
  else
    for (int64_t i = 0; i < count; i++) not_zero |= x[i * stride], not_infinite |= x[i * stride] ^ minus_infinity;
  return !(not_zero & 0x7fff) ? MASKS_KEEP : !not_infinite ? MASKS_EXCLUDE : MASKS_MIXED;
}

ATTEND_OUTLINE block_masks look_through_32(const uint32_t *x, int64_t stride, int64_t count) {
  uint32_t not_zero = 0, not_infinite = 0;
  if (stride == 0) count = 1;
  if (stride == 1 && count == ATTEND_MASK_BLOCK) /* a constant: a few vectors, and no more */
    for (int i = 0; i < ATTEND_MASK_BLOCK; i++) not_zero |= x[i], not_infinite |= x[i] ^ 0xff800000u;
  else if (stride == 1)
    for (int64_t i = 0; i < count; i++) not_zero |= x[i], not_infinite |= x[i] ^ 0xff800000u;
  else
    for (int64_t i = 0; i < count; i++) not_zero |= x[i * stride], not_infinite |= x[i * stride] ^ 0xff800000u;
  return !(not_zero & 0x7fffffffu) ? MASKS_KEEP : !not_infinite ? MASKS_EXCLUDE : MASKS_MIXED;
}

/** What mask and bias do to `count` keys of a row from key `key` on. */
ATTEND_OUTLINE block_masks look_through(const attend_view *view, row_place at, int64_t key, int64_t count) {
  const attend_problem *p = view->p;
  block_masks masks = MASKS_KEEP;
  if (view->mask) masks = look_through_mask(mask_at(view, at, key), p->mask_strides.key, count);
  if (!view->bias) return masks;
  const int64_t stride = p->bias_strides.key;
  const int64_t first = at.head * view->bias_head + at.query * view->bias_query + key * stride;
  const void *bias = element(view->bias, p->bias_dtype, first);
  if (p->bias_dtype == ATTEND_F32) return both_masks(masks, look_through_32((const uint32_t *)bias, stride, count));
  const uint16_t minus_infinity = p->bias_dtype == ATTEND_F16 ? 0xfc00 : 0xff80;
  return both_masks(masks, look_through_16((const uint16_t *)bias, stride, count, minus_infinity));
}

/** The same for a whole block of ATTEND_MASK_BLOCK keys, where heads share masks: the first of them to ask looks. */
ATTEND_INLINE block_masks look_at_block(const attend_view *view, int64_t query, int64_t block) {
  unsigned char *seen = view->masks_seen + query * view->masks_seen_query + block;
  const unsigned char known = __atomic_load_n(seen, __ATOMIC_RELAXED);
  if (known) return (block_masks)(known - 1);
  const int64_t key = block * ATTEND_MASK_BLOCK;
  const block_masks masks =
      look_through(view, (row_place){0, query}, key, min_i64(ATTEND_MASK_BLOCK, view->keys.count - key));
  __atomic_store_n(seen, (unsigned char)(masks + 1), __ATOMIC_RELAXED); /* whoever looks meanwhile finds the same */
  return masks;
}

/** What two rows, or two blocks, have in common. */
ATTEND_INLINE block_masks common_masks(block_masks a, block_masks b) { return a == b ? a : MASKS_MIXED; }

/** A factor of the bias that makes NaN of 0. */
ATTEND_INLINE bool scales_are_finite(const attend_view *view) {
  for (int64_t h = 0; view->bias_head_scale && h < view->group; h++)
    if (!isfinite(view->bias_head_scale[h])) return false;
  return true;
}

/** What mask and bias do to keys begin to end, which exist, for `count` rows of a view from row `row` on. */
ATTEND_OUTLINE block_masks masks_here(const attend_view *view, int64_t row, int64_t count, int64_t begin, int64_t end) {
  if ((!view->mask && !view->bias) || begin >= end) return MASKS_KEEP;
  if (!scales_are_finite(view)) return MASKS_MIXED;
  row_place at = place_of(view, row);
  block_masks all = look_through(view, at, begin, end - begin);
  for (int64_t r = row + 1; r < row + count && all != MASKS_MIXED; r++) {
    const int64_t before = at.query;
    at = place_of(view, r);
    if (view->masks_seen && at.query == before) continue; /* heads share them */
    all = common_masks(all, look_through(view, at, begin, end - begin));
  }
  return all;
}

/** The same, block by block and once for all heads if they share masks; then the keys are narrowed to those of blocks
 * that some row may attend. */
ATTEND_OUTLINE block_masks masks_of(const attend_view *view, int64_t row, int64_t count, int64_t *begin, int64_t *end) {
  if (!view->masks_seen || *begin >= *end || !scales_are_finite(view))
    return masks_here(view, row, count, *begin, *end);
  const int64_t first = place_of(view, row).query, last = place_of(view, row + count - 1).query;
  int64_t from = *end, to = *begin;
  block_masks all = MASKS_EXCLUDE;
  for (int64_t block = *begin / ATTEND_MASK_BLOCK; block * ATTEND_MASK_BLOCK < *end; block++) {
    block_masks masks = look_at_block(view, first, block);
    for (int64_t query = first + 1; query <= last && masks != MASKS_MIXED; query++)
      masks = common_masks(masks, look_at_block(view, query, block));
    if (masks == MASKS_EXCLUDE) continue;
    const int64_t key = block * ATTEND_MASK_BLOCK;
    all = from > to ? masks : to < key ? MASKS_MIXED : common_masks(all, masks);
    from = min_i64(from, max_i64(key, *begin));
    to = min_i64(key + ATTEND_MASK_BLOCK, *end);
  }
  if (from < to) *begin = from, *end = to;
  return from < to ? all : MASKS_EXCLUDE;
}

#endif
