/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Products of matrices on tiles, a step of 32 elements of the depth at a time, so that the softmax fits between them.
 *
 * Both are computed transposed: scores as K Qᵀ and outputs as Vᵀ Pᵀ, so that a row of a C tile holds 16 queries. Their
 * softmax needs no sum and no maximum across lanes, and the weights that it writes are B tiles as they lie.
 *
 * What the Xeon of the 5th generation that this was measured on does, in cycles: a product takes 16, also one after the
 * other into the same C; loading a tile takes 8 of the load ports, beside products; storing one holds up everything
 * behind it for about 15, and for as long as its product takes if that has not ended. So a score tile is stored half a
 * turn after its last product. While the other hyperthread of the core is at work, loading takes 16 and nothing runs
 * beside it. And while any tile instruction is on its way, 512-bit arithmetic has one port instead of two.
 */
#ifndef ATTEND_KERNELS_AMX_PRODUCTS_H
#define ATTEND_KERNELS_AMX_PRODUCTS_H

#include <stdbool.h>

#ifndef ATTEND_TILE_H
#define ATTEND_TILE_H "kernels/amx/tile.h"
#endif
#include ATTEND_TILE_H

enum { TILE_ROWS = 16, TILE_BYTES = 1024, TILE_ROW_BYTES = 64, TILE_DEPTH = 32 };

/* Tiles 0 and 1 are scores of even turns, 6 and 7 of odd ones, 2 and 3 outputs; 4 is A, 5 B. */

/** The scores of a tile of keys with one or two tiles of queries. */
typedef struct amx_scores {
  const char *k, *q; /**< A and B tiles, those along the depth one after the other */
  int64_t depth;     /**< steps; 0: there is nothing to do */
  bool two;          /**< tiles of queries, the second after all of the first */
} amx_scores;

ATTEND_INLINE void amx_begin_scores(const amx_scores *p, const bool odd) {
  if (p->depth == 0) return;
  if (odd) {
    amx_zero(6);
    amx_zero(7);
  } else {
    amx_zero(0);
    amx_zero(1);
  }
}

ATTEND_INLINE void amx_score_step(const amx_scores *p, int64_t step, const bool odd) {
  amx_load(4, p->k + step * TILE_BYTES, TILE_ROW_BYTES);
  amx_load(5, p->q + step * TILE_BYTES, TILE_ROW_BYTES);
  if (odd)
    amx_multiply(6, 4, 5);
  else
    amx_multiply(0, 4, 5);
  if (!p->two) return;
  amx_load(5, p->q + (p->depth + step) * TILE_BYTES, TILE_ROW_BYTES);
  if (odd)
    amx_multiply(7, 4, 5);
  else
    amx_multiply(1, 4, 5);
}

ATTEND_INLINE void amx_store_first_scores(float *s, const bool odd) {
  if (odd)
    amx_store(6, s, TILE_ROW_BYTES);
  else
    amx_store(0, s, TILE_ROW_BYTES);
}

ATTEND_INLINE void amx_store_second_scores(float *s, const bool odd) {
  if (odd)
    amx_store(7, s, TILE_ROW_BYTES);
  else
    amx_store(1, s, TILE_ROW_BYTES);
}

/** Outputs that weighted values are to be added to: one column of values after the other, all keys of a unit each. */
typedef struct amx_values {
  const char *v;    /**< A tiles: the next step's */
  const char *p;    /**< B tiles, two a step */
  char *o;          /**< C tiles, two a column */
  int64_t v_column; /**< bytes from the end of a column of A tiles to the next one's first */
  int64_t depth;    /**< steps of a column */
  int64_t step;     /**< of this column */
  int64_t left;     /**< steps of all columns */
  bool two;         /**< tiles of queries */
  bool fresh;       /**< there are no outputs yet */
  bool open;        /**< tiles 2 and 3 hold outputs of the column before o that are still to be stored */
} amx_values;

ATTEND_INLINE void amx_end_values(amx_values *q) {
  if (!q->open) return;
  amx_store(2, q->o - 2 * TILE_BYTES, TILE_ROW_BYTES);
  if (q->two) amx_store(3, q->o - TILE_BYTES, TILE_ROW_BYTES);
  q->open = false;
}

ATTEND_INLINE void amx_value_step(amx_values *q) {
  if (q->step == 0) {
    amx_end_values(q);
    if (q->fresh) {
      amx_zero(2);
      amx_zero(3);
    } else {
      amx_load(2, q->o, TILE_ROW_BYTES);
      if (q->two) amx_load(3, q->o + TILE_BYTES, TILE_ROW_BYTES);
    }
    q->o += 2 * TILE_BYTES;
    q->open = true;
  }
  const char *p = q->p + q->step * 2 * TILE_BYTES;
  amx_load(4, q->v, TILE_ROW_BYTES);
  amx_load(5, p, TILE_ROW_BYTES);
  amx_multiply(2, 4, 5);
  if (q->two) {
    amx_load(5, p + TILE_BYTES, TILE_ROW_BYTES);
    amx_multiply(3, 4, 5);
  }
  q->v += TILE_BYTES;
  q->left--;
  if (++q->step < q->depth) return;
  q->step = 0;
  q->v += q->v_column;
}

/** So many steps, with everything about them in registers. */
ATTEND_OUTLINE void amx_value_steps(amx_values *values, int64_t steps) {
  amx_values q = *values;
  for (; steps > 0; steps--) amx_value_step(&q);
  *values = q;
}

#endif
