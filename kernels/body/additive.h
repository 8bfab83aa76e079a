/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Additive scores, dot(w, tanh(q + k)) (Bahdanau, Cho and Bengio 2015, https://arxiv.org/abs/1409.0473), for the bodies
 * that pack queries and keys.
 *
 * The sums of a row and a vector of keys stay in a register from the first element of the head dim to the last, so that
 * no tanh is ever stored. A score costs D tanh. Loads and broadcasts cost little beside that, so register tiles are not
 * needed, and one function serves all kernel rows.
 */
#ifndef ATTEND_KERNELS_BODY_ADDITIVE_H
#define ATTEND_KERNELS_BODY_ADDITIVE_H

#include "kernels/body/slice.h"
#include "kernels/body/tile.h"

/**
 * tanh to about an ulp of 1, which is enough for one term of a sum: 1 - 2 / (e^2x + 1) everywhere. Both ends follow
 * from it, from 0 and +inf, and NaN stays NaN.
 */
ATTEND_INLINE vf vf_tanh_term(vf x) {
  const vf e = vf_exp2(vf_mul(x, vf_set1(2.885390082f)));
  return vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
}

/**
 * As tile_products.scores: scores of a packed tile of queries (pack_tile_queries(): the queries, and after them the
 * weights of each row's head) with the packed keys begin to end of a block, to s.
 */
ATTEND_OUTLINE void additive_scores(const tile_products *products, int tile, const float *q, const float *k,
                                    int64_t dim, int64_t begin, int64_t end, float *s) {
  const int panel = products->vecs * LANES;
  const int64_t row = query_row_step(dim), step = query_step(tile);
  for (int64_t j = begin; j < end; j += LANES) {
    const int64_t start = j / panel * panel; /* of the panel that holds key j */
    for (int r = 0; r < tile; r++) {
      const float *key = k + start * dim + (j - start), *query = q + r * row, *weight = query + dim * tile;
      vf sum = vf_zero();
      for (int64_t d = 0; d < dim; d++, query += step, weight += step, key += panel)
        sum = vf_fma(vf_set1(*weight), vf_tanh_term(vf_add(vf_set1(*query), vf_load(key))), sum);
      vf_store(s + r * products->block + j, sum);
    }
  }
}

/** Scores of whichever kind the problem asks for. 16-bit operands know dot products only (ATTEND_CAN_OPERANDS). */
ATTEND_INLINE void compute_scores(const attend_problem *p, const tile_products *products, int tile, const operand *q,
                                  const operand *k, int64_t begin, int64_t end, float *s, fetch_list *fetch) {
#if !defined(ATTEND_PAIR_DOT) && !defined(ATTEND_OPERAND)
  if (p->score == ATTEND_SCORE_ADDITIVE) {
    additive_scores(products, tile, q, k, p->head_dim, begin, end, s);
    return;
  }
#endif
  products->scores(tile, q, k, operands(p->head_dim), begin, end, s, fetch);
}

#endif
