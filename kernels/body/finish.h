/* SPDX-License-Identifier: Apache-2.0 */
/** Writing what a slice has computed: final rows with their LSE, or partial results. */
#ifndef ATTEND_KERNELS_BODY_FINISH_H
#define ATTEND_KERNELS_BODY_FINISH_H

#include <string.h>

#include "kernels/body/rows.h"
#include "kernels/row_state.h"

/** Stores the first n lanes as any element type. */
ATTEND_INLINE void store_as(void *p, attend_dtype dtype, vf x, int n) {
  if (dtype == ATTEND_F32 && n == LANES)
    vf_store((float *)p, x);
  else if (dtype == ATTEND_F32)
    vf_store_n((float *)p, x, n);
  else if (dtype == ATTEND_F16)
    vf_store_f16_n((uint16_t *)p, x, n);
  else
    vf_store_bf16_n((uint16_t *)p, x, n);
}

/**
 * How weights are taken. Sums of weighted values may overflow although their average is finite: four values of 1e38 do.
 * So a slice that comes to a result that is not finite is computed once more, with weights that are 2^-64 times as
 * great: 2^31 keys, and dropout that multiplies by 2^24, cannot make such sums overflow. What was finite at first
 * stays: with small weights the least values would lose digits. Ordinary slices pay for a look at their results.
 */
typedef struct weighing {
  float one, many; /**< the weight of the greatest score, 1 or 2^-64, and its inverse */
  float unit;      /**< attend_score_unit() */
  vf bad;          /**< 0, with NaN among the lanes if some result is not finite */
} weighing;

ATTEND_INLINE weighing ordinary_weights(const attend_problem *p) {
  return (weighing){1.0f, 1.0f, attend_score_unit(p), vf_zero()};
}

ATTEND_INLINE bool weigh_again(weighing *w) {
  if (w->one != 1.0f || vf_hsum(w->bad) == 0.0f) return false;
  *w = (weighing){0x1p-64f, 0x1p64f, w->unit, vf_zero()};
  return true;
}

/** Looks for results that are not finite. */
ATTEND_INLINE vf look_for_overflow(vf results, vf bad) { return vf_fma(vf_zero(), results, bad); }

/** What makes an infinity of exactly the numbers that do not fit a type, or come near its end. */
ATTEND_INLINE float overflow_factor(attend_dtype dtype) {
  return dtype == ATTEND_F16 ? 0x1.002p112f : dtype == ATTEND_BF16 ? 0x1.0081p0f : 1.0f;
}

/**
 * Stores a row, and looks for what is not finite of it. Each row begins anew: one chain of additions through all rows
 * of a slice holds up whoever has few keys.
 */
ATTEND_INLINE vf store_row_as(void *out, attend_dtype dtype, const float *o, int64_t dim, float factor) {
  const vf f = vf_set1(factor), overflow = vf_set1(overflow_factor(dtype));
  const int64_t whole = dim / LANES * LANES;
  vf bad = vf_zero();
  for (int64_t c = 0; c < dim; c += LANES) {
    /* + 0 turns -0 into 0. Weights of 0 would do so too, but only where another row needs their block. */
    const vf x = vf_add(vf_mul(f, vf_load(o + c)), vf_zero());
    bad = look_for_overflow(vf_mul(overflow, x), bad);
    if (c < whole)
      store_as((void *)element(out, dtype, c), dtype, x, LANES);
    else
      store_as((void *)element(out, dtype, c), dtype, x, (int)(dim - c));
  }
  return bad;
}

/** Query rows of a register tile at most. */
enum { MOST_TILE_ROWS = 16 };

/** Where final rows are written that come straight from the products: in f32, whole vectors of them. */
typedef struct row_results {
  float *row[MOST_TILE_ROWS], factor[MOST_TILE_ROWS];
  int count; /**< of rows that exist: the others of a tile may come to anything */
  vf bad;    /**< weighing.bad */
} row_results;

/** Writes columns of a row, and returns what looking for overflow finds, as store_row_as() does. */
ATTEND_INLINE vf store_result(float *to, float factor, const vf *o, const int VECS) {
  vf bad = vf_zero();
  ATTEND_UNROLL
  for (int c = 0; c < VECS; c++) {
    const vf x = vf_add(vf_mul(vf_set1(factor), o[c]), vf_zero());
    bad = look_for_overflow(x, bad);
    vf_store(to + c * LANES, x);
  }
  return bad;
}

/**
 * Stores what is not finite of a row anew. The greatest result takes the place of what rounding made greater.
 * Infinities and NaN of attended values stay: an infinity times a weight that is too small now would be NaN.
 */
ATTEND_OUTLINE void store_row_again(void *out, attend_dtype dtype, const float *o, int64_t dim, float factor,
                                    float greatest) {
  const vf f = vf_set1(0.5f * factor), most = vf_set1(greatest), infinity = vf_set1(INFINITY);
  for (int64_t c = 0; c < dim; c += LANES) {
    const int n = (int)min_i64(LANES, dim - c);
    void *to = (void *)element(out, dtype, c);
    const vf before = load_as_f32_n(to, dtype, n), half = vf_mul(f, vf_load(o + c)), whole = vf_add(half, half);
    vf x = vf_select(vm_gt(whole, most), most, whole);
    x = vf_select(vm_gt(vf_sub(vf_zero(), most), x), vf_sub(vf_zero(), most), x);
    x = vf_select(vm_gt(infinity, vf_abs(half)), x, whole);
    x = vf_select(vm_gt(x, vf_zero()), x, vf_select(vm_gt(vf_set1(1.0f), x), x, before)); /* neither: NaN */
    /* What was finite stays to the bit, the -0 of a number that was too small for 16 bits included. */
    store_as(to, dtype, vf_select(vm_gt(infinity, vf_abs(before)), before, vf_add(x, vf_zero())), n);
  }
}

/** Writes a row of a partial result. As in store_row_again(), nothing becomes NaN that was not. */
ATTEND_INLINE void finish_partial(const attend_slice *slice, int64_t row, float max, float sum, const float *o,
                                  weighing *w) {
  const int64_t dim = slice->view->p->v_head_dim;
  attend_partial *to = (attend_partial *)(slice->partial + (row - slice->row_begin) * attend_partial_stride(dim));
  const bool again = w->one != 1.0f;
  const float *results = again ? to->values : o;
  vf bad = vf_zero();
  for (int64_t d = 0; d < dim; d += LANES)
    bad = look_for_overflow(vf_load_n(results + d, (int)min_i64(LANES, dim - d)), bad);
  if (again && vf_hsum(bad) == 0.0f) return;
  to->max = max;
  to->sum = sum * w->many;
  to->scale = w->many;
  for (int64_t d = 0; d < dim; d++)
    if (!again || !isnan(o[d])) to->values[d] = o[d];
  if (isfinite(sum)) w->bad = vf_add(w->bad, bad);
}

/** Writes a row of the final output, with ordinary weights, and adds what overflows to *bad. */
ATTEND_INLINE float finish_at(const attend_view *view, row_place at, float max, float sum, const float *o, float unit,
                              const attend_dtype DTYPE, vf *bad) {
  const float factor = row_finish_at(view, at.head, at.query, max * unit, sum, lse_at(view, at.head, at.query));
  const vf overflow = store_row_as(output_at(view, at), DTYPE, o, view->p->v_head_dim, factor);
  if (isfinite(sum)) *bad = vf_add(*bad, overflow); /* else all of it is NaN, however it is weighted */
  return factor;
}

/**
 * Finishes row `row` of a slice from the maximum (in attend_score_unit()), the sum and the weighted values o (a whole
 * number of vectors), and returns the factor that makes attention weights of weights.
 */
ATTEND_OUTLINE float finish_row(const attend_slice *slice, int64_t row, float max, float sum, const float *o,
                                weighing *w) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  const row_place at = place_of(view, row);
  if (slice->partial) {
    finish_partial(slice, row, max, sum, o, w);
    return 0.0f;
  }
  if (w->one != 1.0f) { /* the LSE of the first time is right */
    const float factor = row_finish_at(view, at.head, at.query, max * w->unit, sum * w->many, NULL) * w->many;
    store_row_again(output_at(view, at), p->out_dtype, o, p->v_head_dim, factor, greatest_result(p));
    return factor;
  }
  if (p->out_dtype == ATTEND_F32) return finish_at(view, at, max, sum, o, w->unit, ATTEND_F32, &w->bad);
  if (p->out_dtype == ATTEND_F16) return finish_at(view, at, max, sum, o, w->unit, ATTEND_F16, &w->bad);
  return finish_at(view, at, max, sum, o, w->unit, ATTEND_BF16, &w->bad);
}

/** The sums over all lanes of up to LANES rows, and 0s. Bits of a row's do not depend on which rows are beside it. */
ATTEND_INLINE vf sums_of_rows(const float *sum, int64_t count) {
  vf each[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) each[i] = i < count ? vf_load(sum + i * LANES) : vf_zero();
  return vf_sum_each(each);
}

/** Of rows' sums what their values are multiplied by: as row_finish() has it. */
ATTEND_INLINE vf factors_of_rows(vf sums) {
  return vf_select(vm_gt(sums, vf_zero()), vf_div(vf_set1(1.0f), sums), sums);
}

ATTEND_INLINE void finish_rows_as(const attend_slice *slice, int64_t row, int64_t count, const float *max,
                                  const float *sum, const float *o, int64_t width, weighing *w,
                                  const attend_dtype DTYPE) {
  const attend_view *view = slice->view;
  const bool plain = !view->lse && !view->sinks;
  row_place at = place_of(view, row);
  vf bad = w->bad;
  for (; count > 0; count -= LANES, max += LANES, sum += LANES * LANES) {
    const vf sums = sums_of_rows(sum, count);
    float each[LANES], factor[LANES];
    vf_store(each, sums);
    vf_store(factor, factors_of_rows(sums));
    for (int64_t i = 0; i < min_i64(count, LANES); i++, o += width) {
      if (!plain)
        factor[i] = row_finish_at(view, at.head, at.query, max[i] * w->unit, each[i], lse_at(view, at.head, at.query));
      const vf overflow = store_row_as(output_at(view, at), DTYPE, o, view->p->v_head_dim, factor[i]);
      if (isfinite(each[i])) bad = vf_add(bad, overflow); /* else all of it is NaN, however it is weighted */
      if (++at.head == view->group) at.head = 0, at.query++;
    }
  }
  w->bad = bad;
}

/**
 * Whether rows of a tile can be written straight from the products: their sums and values will be complete, and nothing
 * but them is wanted. Says where then, and fills up to `tile` rows with rows of `spare`.
 */
ATTEND_OUTLINE bool results_at(const attend_slice *slice, int64_t row, int count, int tile, const float *sum,
                               float *spare, int64_t width, const weighing *w, row_results *results) {
  const attend_view *view = slice->view;
  if (view->p->out_dtype != ATTEND_F32 || view->p->v_head_dim % LANES != 0 || slice->partial || w->one != 1.0f ||
      view->lse || view->sinks)
    return false;
  vf all = vf_zero();
  for (int i = 0; i < count; i += LANES) {
    const vf sums = sums_of_rows(sum + i * LANES, count - i);
    all = look_for_overflow(sums, all);
    vf_store(results->factor + i, factors_of_rows(sums));
  }
  if (vf_hsum(all) != 0.0f) return false;
  results->bad = w->bad, results->count = count;
  row_place at = place_of(view, row);
  for (int i = 0; i < count; i++) {
    results->row[i] = (float *)output_at(view, at);
    if (++at.head == view->group) at.head = 0, at.query++;
  }
  for (int i = count; i < tile; i++) results->row[i] = spare + i * width, results->factor[i] = 0.0f;
  return true;
}

/**
 * finish_row() for `count` rows whose sums are still LANES lanes each, and whose values lie `width` apart: in one call,
 * because a call a row took a tenth of the time of a few rows with a few keys.
 */
ATTEND_OUTLINE void finish_rows(const attend_slice *slice, int64_t row, int64_t count, const float *max,
                                const float *sum, const float *o, int64_t width, weighing *w) {
  const attend_dtype dtype = slice->view->p->out_dtype;
  if (slice->partial || w->one != 1.0f)
    for (int64_t i = 0; i < count; i++)
      finish_row(slice, row + i, max[i], vf_hsum(vf_load(sum + i * LANES)), o + i * width, w);
  else if (dtype == ATTEND_F32)
    finish_rows_as(slice, row, count, max, sum, o, width, w, ATTEND_F32);
  else if (dtype == ATTEND_F16)
    finish_rows_as(slice, row, count, max, sum, o, width, w, ATTEND_F16);
  else
    finish_rows_as(slice, row, count, max, sum, o, width, w, ATTEND_BF16);
}

#endif
