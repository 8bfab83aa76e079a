/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The queries of decode: as operands, or rounded to int8 (attend_problem.int8_products) where an instruction set
 * multiplies bytes (ATTEND_BYTE_DOT), whose rows of decode do nothing else. Included by decode.h.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_QUERIES_H
#define ATTEND_KERNELS_BODY_DECODE_QUERIES_H

#ifdef ATTEND_BYTE_DOT

/*
 * A row is quantised once: d = max |x| / 127, and x / d rounded to nearest. A score group has, for a vector of bytes at
 * a time, the integers of each row, then what their sums begin with; then the scales as its scores lie, LANES of them;
 * what turns bytes of keys into unsigned ones; and the sum of each row's integers. A scale for each block of 32, as
 * keys have, needs a multiplication more for each 64 products: it took 1.05 times as long.
 */
enum { INT8_QUERIES = 1, INT8_STEP = 4 * LANES, STEP_BLOCKS = INT8_STEP / STEP };
_Static_assert(STEP_BLOCKS == 1 || STEP_BLOCKS == 2, "a vector of bytes is a block or two");

/** Below it, all elements of a query count as zeros: a scale that is a denormal number would lose their digits. */
#define INT8_LEAST 0x1p-100f

/** Operands from row to row of queries, and those of its integers. */
ATTEND_INLINE int64_t integers_stride(int64_t dim) { return divide_up(dim, INT8_STEP) * 2 * LANES; }
ATTEND_INLINE int64_t query_stride(int64_t dim) { return integers_stride(dim) + 3 * LANES; }

/** Where LANES scales follow the integers of a score group, then LANES times four bytes, and the sum of each row. */
ATTEND_INLINE int64_t after_integers(int64_t rows, int64_t dim) { return rows * integers_stride(dim); }

/** Whether keys have one scale or none, so that products are summed as integers, from what all sums begin with on. */
ATTEND_INLINE bool keys_have_one_scale(const attend_problem *p) {
  return p->k_dtype == ATTEND_I8 && p->k_scaling.group >= p->head_dim;
}

/** Elements d and on of a query, negated for a negative scale: a vector of them, and zeros after the last. */
ATTEND_INLINE vf query_vector(const attend_problem *p, const void *query, int64_t d) {
  float x[LANES];
  copy_query_operands(element(query, p->q_dtype, d), p->q_dtype, (int)min_i64(LANES, p->head_dim - d), p->scale < 0.0f,
                      x);
  return vf_load(x);
}

/** The greatest magnitude of a query. NaN if one of its elements is not finite. */
ATTEND_INLINE float query_size(const attend_problem *p, const void *query) {
  vf most = vf_zero(), zero = vf_zero();
  for (int64_t d = 0; d < p->head_dim; d += LANES) {
    const vf x = query_vector(p, query, d);
    most = vf_max(vf_abs(x), most), zero = vf_fma(x, vf_zero(), zero);
  }
  return vf_hmax(most) + vf_hsum(zero);
}

/** Query rows, negated for a negative scale. */
ATTEND_OUTLINE void take_queries(const attend_slice *slice, int64_t width, operand *q) {
  const attend_problem *p = slice->view->p;
  const int64_t rows = slice->row_end - slice->row_begin, grouped = rows / SCORE_ROWS * SCORE_ROWS;
  for (int64_t r = 0; r < rows; r++) {
    const void *from = query_at(slice->view, place_of(slice->view, slice->row_begin + r));
    const int64_t together = r < grouped ? SCORE_ROWS : 1, first = r / together * together, keys = LANES / together;
    operand *group = q + first * width, *to = group + (r - first) * LANES;
    float *after = group + after_integers(together, p->head_dim), *scales = after + (r - first) * keys;
    const float size = query_size(p, from);
    const bool zeros = !(size >= INT8_LEAST && size <= FLT_MAX);
    const float scale = zeros ? size * 0.0f : size / 127.0f; /* of what is not finite, NaN */
    operand *begins = to + together * LANES;
    int64_t sum = 0;
    for (int64_t j = 0; j < keys; j++) scales[j] = scale;
    memset(after + LANES, p->k_dtype == ATTEND_I8 && p->k_scaling.is_unsigned ? 0 : 0x80, INT8_STEP);
    for (int64_t d = 0; d < p->head_dim; d += INT8_STEP, to += 2 * together * LANES) {
      int8_t integers[INT8_STEP] = {0};
      for (int64_t i = d; !zeros && i < min_i64(d + INT8_STEP, p->head_dim); i += LANES)
        vi_store_rounded(integers + (i - d), vf_div(query_vector(p, from, i), vf_set1(scale)));
      for (int i = 0; i < INT8_STEP; i++) sum += integers[i];
      const vi x = vi_load(integers), begin = vi_begin(x);
      vi_store(to, x);
      if (d > 0 && keys_have_one_scale(p))
        vi_store(begins, vi_add(vi_load(begins), begin));
      else
        vi_store(to + together * LANES, begin);
    }
    after[2 * LANES + (r - first)] = (float)sum;
  }
}

#else

enum { INT8_QUERIES = 0 };

/** Operands from row to row of queries. */
ATTEND_INLINE int64_t query_stride(int64_t dim) { return round_up(operands(dim), LANES); }

/**
 * Query rows as operands, `width` each and filled up with zeros, negated for a negative scale (attend_score_unit()).
 * The rows of a score group lie interleaved, a vector of each in turn, so that one pointer reaches them all.
 */
ATTEND_OUTLINE void take_queries(const attend_slice *slice, int64_t width, operand *q) {
  const attend_problem *p = slice->view->p;
  const int64_t rows = slice->row_end - slice->row_begin, grouped = rows / SCORE_ROWS * SCORE_ROWS;
  for (int64_t r = 0; r < rows; r++) {
    const void *from = query_at(slice->view, place_of(slice->view, slice->row_begin + r));
    const int64_t together = r < grouped ? SCORE_ROWS : 1, first = r / together * together;
    operand *to = q + first * width + (r - first) * LANES;
    for (int64_t d = 0; d < p->head_dim; d += WIDE, to += together * LANES)
      copy_query_operands(element(from, p->q_dtype, d), p->q_dtype, (int)min_i64(WIDE, p->head_dim - d),
                          p->scale < 0.0f, to);
  }
}

#endif

#endif
