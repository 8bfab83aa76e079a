/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Products of matrices on tiles. They can be done a few steps at a time, with the softmax in between: the tile unit and
 * the vector units can work side by side, but a processor looks only a few hundred instructions ahead.
 *
 * A step is 32 elements of the depth for a C of 2 x 2 tiles: four loads, four tile products, 64 cycles of the tile
 * unit. C stays in its tiles over the whole depth. Storing a tile costs about 25 cycles that nothing hides.
 */
#ifndef ATTEND_KERNELS_AMX_PRODUCTS_H
#define ATTEND_KERNELS_AMX_PRODUCTS_H

#include <stdbool.h>

#ifndef ATTEND_TILE_H
#define ATTEND_TILE_H "kernels/amx/tile.h"
#endif
#include ATTEND_TILE_H

enum { TILE_ROWS = 16, TILE_BYTES = 1024, TILE_ROW_BYTES = 64, TILE_DEPTH = 32 };

/** c = a b, or c + a b: one or two tiles of rows, any number of columns of tiles. Strides are in bytes. */
typedef struct amx_product {
  const char *a; /**< [rows][depth] bf16 */
  int64_t a_stride;
  const char *b; /**< B tiles, those along the depth side by side */
  int64_t b_stride;
  char *c; /**< [rows][16 columns] f32 */
  int64_t c_stride;
  int64_t depth;   /**< steps */
  int64_t columns; /**< tiles */
  bool two_rows;   /**< of tiles */
  bool add;        /**< to what c holds */
} amx_product;

/** Products to be done one after the other, and how far they are. */
typedef struct amx_queue {
  amx_product product[2];
  int count, at;
  int64_t column, step; /**< of product[at] */
  int64_t left;         /**< steps until all is done */
} amx_queue;

ATTEND_INLINE void amx_enqueue(amx_queue *queue, amx_product product) {
  if (product.columns == 0) return; /* a Dv of 0: steps that are not there would be taken from the next product */
  queue->product[queue->count++] = product;
  queue->left += product.depth * ((product.columns + 1) / 2);
}

/* Tiles 0 to 3 are C, row by row; 4 and 5 the rows of A; 6 and 7 the columns of B. */

ATTEND_INLINE void amx_begin_columns(const char *c, int64_t stride, bool add, const int ROWS, const int COLUMNS) {
  const char *below = c + TILE_ROWS * stride;
  if (add) {
    amx_load(0, c, stride);
    if (COLUMNS > 1) amx_load(1, c + TILE_ROW_BYTES, stride);
    if (ROWS > 1) amx_load(2, below, stride);
    if (ROWS > 1 && COLUMNS > 1) amx_load(3, below + TILE_ROW_BYTES, stride);
  } else {
    amx_zero(0);
    if (COLUMNS > 1) amx_zero(1);
    if (ROWS > 1) amx_zero(2);
    if (ROWS > 1 && COLUMNS > 1) amx_zero(3);
  }
}

ATTEND_INLINE void amx_end_columns(char *c, int64_t stride, const int ROWS, const int COLUMNS) {
  char *below = c + TILE_ROWS * stride;
  amx_store(0, c, stride);
  if (COLUMNS > 1) amx_store(1, c + TILE_ROW_BYTES, stride);
  if (ROWS > 1) amx_store(2, below, stride);
  if (ROWS > 1 && COLUMNS > 1) amx_store(3, below + TILE_ROW_BYTES, stride);
}

ATTEND_INLINE void amx_steps(const char *a, int64_t a_stride, const char *b, int64_t b_stride, int64_t steps,
                             const int ROWS, const int COLUMNS) {
  const char *below = a + TILE_ROWS * a_stride, *right = b + b_stride;
  for (; steps > 0; steps--) {
    amx_load(4, a, a_stride);
    amx_load(6, b, TILE_ROW_BYTES);
    amx_multiply(0, 4, 6);
    if (ROWS > 1) {
      amx_load(5, below, a_stride);
      amx_multiply(2, 5, 6);
    }
    if (COLUMNS > 1) {
      amx_load(7, right, TILE_ROW_BYTES);
      amx_multiply(1, 4, 7);
      if (ROWS > 1) amx_multiply(3, 5, 7);
    }
    a += TILE_ROW_BYTES, below += TILE_ROW_BYTES, b += TILE_BYTES, right += TILE_BYTES;
  }
}

/** `steps` steps of one or two columns of tiles, from `step` on. */
ATTEND_INLINE void amx_advance_columns(const amx_product *p, int64_t column, int64_t step, int64_t steps,
                                       const int ROWS, const int COLUMNS) {
  char *c = p->c + column * TILE_ROW_BYTES;
  if (step == 0) amx_begin_columns(c, p->c_stride, p->add, ROWS, COLUMNS);
  amx_steps(p->a + step * TILE_ROW_BYTES, p->a_stride, p->b + column * p->b_stride + step * TILE_BYTES, p->b_stride,
            steps, ROWS, COLUMNS);
  if (step + steps == p->depth) amx_end_columns(c, p->c_stride, ROWS, COLUMNS);
}

/** Does the next `steps` steps, or what is left. */
ATTEND_OUTLINE void amx_advance(amx_queue *queue, int64_t steps) {
  if (steps > queue->left) steps = queue->left;
  queue->left -= steps;
  while (steps > 0) {
    const amx_product *p = &queue->product[queue->at];
    const bool two_columns = queue->column + 1 < p->columns;
    const int64_t rest = p->depth - queue->step, now = steps < rest ? steps : rest;
    if (p->two_rows && two_columns)
      amx_advance_columns(p, queue->column, queue->step, now, 2, 2);
    else if (p->two_rows)
      amx_advance_columns(p, queue->column, queue->step, now, 2, 1);
    else if (two_columns)
      amx_advance_columns(p, queue->column, queue->step, now, 1, 2);
    else
      amx_advance_columns(p, queue->column, queue->step, now, 1, 1);
    steps -= now;
    queue->step += now;
    if (queue->step < p->depth) continue;
    queue->step = 0;
    queue->column += 2;
    if (queue->column < p->columns) continue;
    queue->column = 0;
    queue->at++;
  }
}

#endif
