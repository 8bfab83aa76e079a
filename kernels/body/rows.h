/* SPDX-License-Identifier: Apache-2.0 */
/** Query rows of a slice: where they lie, which keys they attend, what is done to their scores before the softmax. */
#ifndef ATTEND_KERNELS_BODY_ROWS_H
#define ATTEND_KERNELS_BODY_ROWS_H

#include <float.h>
#include <math.h>

#include "kernels/body/masks.h"

ATTEND_INLINE const void *query_at(const attend_view *view, row_place at) {
  return view->q + at.head * view->q_head + at.query * view->q_row;
}

ATTEND_INLINE void *output_at(const attend_view *view, row_place at) {
  return view->out + at.head * view->out_head + at.query * view->out_row;
}

/** The keys of a slice that one of its rows attends. */
ATTEND_INLINE key_range attended_range(const attend_slice *slice, row_place at) {
  return range_of(&slice->view->keys, at.query, slice->key_begin, slice->key_end);
}

/** The ranges of all rows of a slice. */
ATTEND_OUTLINE void attended_ranges(const attend_slice *slice, key_range *ranges) {
  const int64_t rows = slice->row_end - slice->row_begin;
  if (ranges_agree(&slice->view->keys)) {
    const key_range same = attended_range(slice, place_of(slice->view, slice->row_begin));
    for (int64_t i = 0; i < rows; i++) ranges[i] = same;
    return;
  }
  for (int64_t i = 0; i < rows; i++) ranges[i] = attended_range(slice, place_of(slice->view, slice->row_begin + i));
}

/** The least range that holds those of `count` rows. */
ATTEND_INLINE key_range range_union(const key_range *ranges, int64_t count) {
  key_range all = {0, 0};
  for (int64_t i = 0; i < count; i++) {
    if (ranges[i].begin >= ranges[i].end) continue;
    const bool first = all.end == 0;
    if (first || ranges[i].begin < all.begin) all.begin = ranges[i].begin;
    if (ranges[i].end > all.end) all.end = ranges[i].end;
  }
  return all;
}

/** The part of a range in a block of keys, counted from the block's first; begin is a multiple of `unit`. It is empty
 * if end is not greater than begin. */
ATTEND_INLINE key_range range_in_block(key_range range, int64_t block, int64_t size, int64_t unit) {
  return (key_range){(int32_t)(max_i64(0, range.begin - block) / unit * unit),
                     (int32_t)min_i64(size, range.end - block)};
}

/** Whether every one of `count` rows attends all keys from begin to end, as far as ranges say. */
ATTEND_INLINE bool ranges_cover(const key_range *ranges, int64_t count, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < count; i++)
    if (ranges[i].begin > begin || ranges[i].end < end) return false;
  return true;
}

/**
 * tanh to about 2 ulp: an odd polynomial near 0 (minimax, 4.4e-9 relative up to 0.625), 1 - 2 / (e^2x + 1) elsewhere.
 */
ATTEND_INLINE vf vf_tanh(vf x) {
  const vf a = vf_abs(x), y = vf_mul(x, x);
  vf p = vf_set1(-0.005704987f);
  p = vf_fma(p, y, vf_set1(0.020639086f));
  p = vf_fma(p, y, vf_set1(-0.053739715f));
  p = vf_fma(p, y, vf_set1(0.13331442f));
  p = vf_fma(p, y, vf_set1(-0.3333328f));
  const vf near = vf_fma(vf_mul(p, y), x, x);
  /* Beyond 10, tanh is 1 in f32; e^20 keeps the division in range. Inf must not meet 0 * Inf in the polynomial. */
  const vf bounded = vf_select(vm_gt(a, vf_set1(10.0f)), vf_set1(10.0f), a);
  const vf e = vf_exp2(vf_mul(bounded, vf_set1(2.885390082f)));
  const vf far = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
  const vf signed_far = vf_select(vm_gt(vf_zero(), x), vf_sub(vf_zero(), far), far);
  return vf_select(vm_gt(a, vf_set1(0.625f)), signed_far, near);
}

/** `count` (at most LANES) bias elements of a row that begin at key `key`. */
ATTEND_INLINE vf load_bias(const attend_view *view, row_place at, int64_t key, int count) {
  const attend_dtype dtype = view->p->bias_dtype;
  const int64_t stride = view->p->bias_strides.key;
  const int64_t first = at.head * view->bias_head + at.query * view->bias_query + key * stride;
  if (stride == 1) return load_as_f32_n(element(view->bias, dtype, first), dtype, count);
  const int64_t step = stride * element_size(dtype);
  const char *from = element(view->bias, dtype, first);
  float t[2 * LANES]; /* each store leaves zeros after its element */
  vf_store(t, vf_zero());
  for (int i = 0; i < count; i++, from += step) vf_store(t + i, load_as_f32_n(from, dtype, 1));
  return vf_load(t);
}

ATTEND_INLINE vm mask_lanes(const attend_view *view, row_place at, int64_t key, int count) {
  const uint8_t *m = mask_at(view, at, key);
  const int64_t stride = view->p->mask_strides.key;
  if (stride == 1) return vm_bytes_n(m, count);
  uint8_t t[LANES] = {0};
  for (int i = 0; i < count; i++) t[i] = m[i * stride];
  return vm_bytes_n(t, LANES);
}

/** -inf for what a range excludes of one vector of `count` rows, ld apart. */
ATTEND_INLINE void exclude_lanes(vm attended, float *s, int64_t count, int64_t ld) {
  const vf excluded = vf_set1(-INFINITY);
  for (int64_t r = 0; r < count; r++, s += ld) vf_store(s, vf_select(attended, vf_load(s), excluded));
}

/** -inf for the vectors of s[begin..end) that lie outside a range, whole or in part, of `count` rows, ld apart. */
ATTEND_INLINE void exclude_outside(key_range range, int64_t block, int64_t begin, int64_t end, float *s, int64_t count,
                                   int64_t ld) {
  const int64_t from = min_i64(max_i64(range.begin - block, begin), end), to = max_i64(range.end - block, from);
  int64_t j = begin;
  for (; j < from; j += LANES) exclude_lanes(vm_range(from - j, to - j), s + j, count, ld);
  for (j = max_i64(j, to / LANES * LANES); j < end; j += LANES)
    exclude_lanes(vm_range(from - j, to - j), s + j, count, ld);
}

/** What scores are made with, in attend_score_unit(). */
typedef struct score_terms {
  float scale, softcap, one;
} score_terms;

ATTEND_INLINE score_terms score_terms_of(const attend_problem *p) {
  const float unit = attend_score_unit(p);
  return (score_terms){fabsf(p->scale) / unit, p->softcap / unit, 1.0f / unit};
}

/**
 * Scale, softcap, ALiBi and, unless they are known to change nothing, bias and mask for s[begin..end) of a row: the
 * work that attend_scores_need_work() means.
 */
ATTEND_INLINE void adjust_scores(const attend_view *view, row_place at, int64_t block, int64_t begin, int64_t end,
                                 float *s, score_terms in, const bool masks) {
  const attend_problem *p = view->p;
  const vf by = vf_set1(view->bias_head_scale ? view->bias_head_scale[at.head] * in.one : in.one);
  const vf slope = vf_set1(view->alibi_slopes ? -view->alibi_slopes[at.head] * in.one : 0.0f);
  const int64_t position = attend_alibi_position(view, at.query);
  for (int64_t j = begin; j < end; j += LANES) {
    const int64_t key = block + j;
    const int count = (int)max_i64(0, min_i64(LANES, view->keys.count - key));
    vf x = vf_mul(vf_load(s + j), vf_set1(in.scale));
    if (p->softcap > 0.0f) x = vf_mul(vf_set1(in.softcap), vf_tanh(vf_div(x, vf_set1(in.softcap))));
    if (masks && view->bias) {
      /* -inf selects: added to the NaN of a key that nobody may see, it would give NaN. */
      const vf bias = load_bias(view, at, key, count);
      x = vf_select(vm_gt(vf_set1(-FLT_MAX), bias), vf_set1(-INFINITY), vf_fma(by, bias, x));
    }
    if (view->alibi_slopes) {
      const vf ahead = vf_set1((float)(position - key));
      x = vf_fma(slope, vf_abs(vf_sub(ahead, vf_iota())), x);
    }
    if (masks && view->mask) x = vf_select(mask_lanes(view, at, key, count), x, vf_set1(-INFINITY));
    vf_store(s + j, x);
  }
}

/**
 * Turns raw products s[begin..end) of `count` rows of a view, `row` the first, rows ld apart, those of keys block +
 * begin and on, into what the softmax takes: softcap, bias, ALiBi, and -inf for every key that is not attended. begin
 * and end are multiples of LANES. Only keys that exist are looked up in mask and bias, and none where `masks` says that
 * they change nothing there.
 */
ATTEND_OUTLINE void finish_scores(const attend_view *view, int64_t row, const key_range *ranges, int64_t count,
                                  int64_t block, int64_t begin, int64_t end, block_masks masks, float *s, int64_t ld) {
  const bool change = attend_scores_change(view->p), work = change || (view->mask && masks != MASKS_KEEP);
  const score_terms in = work ? score_terms_of(view->p) : (score_terms){0};
  for (int64_t r = 0; work && r < count; r++) {
    if (masks == MASKS_KEEP)
      adjust_scores(view, place_of(view, row + r), block, begin, end, s + r * ld, in, false);
    else
      adjust_scores(view, place_of(view, row + r), block, begin, end, s + r * ld, in, true);
  }
  if (ranges_agree(&view->keys)) { /* a few keys of a row are worth less than looking where they end */
    exclude_outside(ranges[0], block, begin, end, s, count, ld);
    return;
  }
  for (int64_t r = 0; r < count; r++) exclude_outside(ranges[r], block, begin, end, s + r * ld, 1, ld);
}

#endif
