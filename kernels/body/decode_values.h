/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The products of weights and values of decode, tile by tile: some rows by some columns, whose sums stay in registers
 * while all values of a chunk are read. Included by decode.h.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_VALUES_H
#define ATTEND_KERNELS_BODY_DECODE_VALUES_H

#include "kernels/body/kv_chunks.h"

/** Turns to what the next tile is to prefetch of the rows that lie ahead: its own share, or nothing. */
ATTEND_INLINE void prefetched(kv_rows *v) {
  for (kv_run *run = v->run; run < v->run + v->runs; run++)
    run->ahead = v->left > 0 && run->ahead ? run->ahead + run->count * v->share : 0;
  v->left -= v->share;
}

/**
 * o = alpha * o + s v for ROWS rows and VECS vectors of columns from column `first` on, the last of which has `tail`
 * elements if that is not 0. Values further on are prefetched.
 */
ATTEND_INLINE void decode_value_tile(const operand *s, kv_rows *v, int64_t first, const float *alpha, float *o,
                                     int64_t width, int tail, const int ROWS, const int VECS, const int LD,
                                     const attend_dtype DTYPE) {
  vf acc[4][8];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) acc[r][c] = vf_mul(vf_set1(alpha[r]), vf_load(o + r * width + c * LANES));
  }
  const int64_t skipped = first * element_size(DTYPE);
  const bool fetch = first < v->until;
  for (const kv_run *run = v->run, *last = run + v->runs - 1;;) { /* there is one at least */
    const int64_t stride = run->stride, count = run->count,
                  gap = v->share < v->bytes ? stride - v->share : stride - run->apart;
    int64_t ahead = fetch && run->ahead ? run->ahead - skipped : 0;
    const char *at = run->at + skipped;
    for (int64_t j = 0; j < count; j += PER_OPERAND, at += PER_OPERAND * stride) {
      vo column[8];
      /* After the last key, the other keys of its operand have weights of 0: any finite values do. */
      const int64_t next = j + PER_OPERAND <= count ? stride : 0;
      ATTEND_UNROLL
      for (int i = 0; i < PER_OPERAND; i++)
        if (ahead) prefetch_row(address_ahead(at, i * stride + ahead), v->share, v->to_l1), ahead -= gap;
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c += PER_OPERAND)
        if (tail)
          read_value_operands_n(element(at, DTYPE, c * LANES), next, DTYPE, tail, column + c);
        else
          read_value_operands(element(at, DTYPE, c * LANES), next, DTYPE, column + c);
      ATTEND_UNROLL
      for (int r = 0; r < ROWS; r++) {
        const vo weight = vo_set1(s[r * LD + j / PER_OPERAND]);
        ATTEND_UNROLL
        for (int c = 0; c < VECS; c++) acc[r][c] = vo_dot(weight, column[c], acc[r][c]);
      }
    }
    if (run == last) break;
    s += count / PER_OPERAND, run++;
  }
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) vf_store(o + r * width + c * LANES, acc[r][c]);
  }
  if (fetch) prefetched(v);
}

/** The same for as many tiles of VECS vectors as there are from column c on; returns the column after them. */
ATTEND_INLINE int64_t decode_value_tiles(const operand *s, kv_rows *v, const float *alpha, float *o, int64_t c,
                                         const int ROWS, const int VECS, const int LD, const attend_dtype DTYPE) {
  for (; c + VECS * LANES <= v->dim; c += VECS * LANES)
    decode_value_tile(s, v, c, alpha, o + c, round_up(v->dim, WIDE), 0, ROWS, VECS, LD, DTYPE);
  return c;
}

/**
 * The same for all columns. The last ones are done in narrower and narrower tiles, because single vectors have too few
 * sums to hide the latency of a multiply-add.
 */
ATTEND_INLINE void decode_values(const operand *s, kv_rows *v, const float *alpha, float *o, const int ROWS,
                                 const int VECS, const int LD, const attend_dtype DTYPE) {
  int64_t c = decode_value_tiles(s, v, alpha, o, 0, ROWS, VECS, LD, DTYPE);
  if (VECS / 2 > PER_OPERAND) c = decode_value_tiles(s, v, alpha, o, c, ROWS, VECS / 2, LD, DTYPE);
  if (VECS / 4 > PER_OPERAND) c = decode_value_tiles(s, v, alpha, o, c, ROWS, VECS / 4, LD, DTYPE);
  if (VECS > PER_OPERAND) c = decode_value_tiles(s, v, alpha, o, c, ROWS, PER_OPERAND, LD, DTYPE);
  if (c < v->dim)
    decode_value_tile(s, v, c, alpha, o + c, round_up(v->dim, WIDE), (int)(v->dim - c), ROWS, PER_OPERAND, LD, DTYPE);
}

/** A tile of values: so many rows by so many columns at a time. Weights of rows lie ld apart. */
typedef struct value_tile {
  void (*add)(const operand *s, int64_t ld, kv_rows *v, const float *alpha, float *o);
  int rows, columns;
} value_tile;

/** The products of a kernel row for one element type, or of any for a format. */
typedef struct decode_products {
  const score_functions *scores, *scores_one; /**< of SCORE_ROWS rows, and of one */
  value_tile values[3];                       /**< the tallest first; the last one has one row */
  int64_t tall_from;                          /**< columns of values, from which on the tallest one is used */
} decode_products;

/**
 * Tall tiles, of as many sums as a kernel row's own have: each value is read, and made f32, once for four rows instead
 * of two. Zen 5, AVX-512, one thread, 4 rows, values in 16 bits: decode took 0.92 to 0.95 of the time where values lie
 * flat, 0.90 to 0.94 with heads side by side. In f32 reading twice costs nothing but where an L1 of 32 KiB does not
 * hold a chunk: 64 rows of 512 columns took 0.73, 4 and 7 rows of 64 and 128 columns with heads side by side 0.96 to
 * 1.09. With AVX2 it took 0.96 to 1.10.
 */
#define TALL_ROWS(rows) (LANES >= 16 && (rows) < 4 ? 4 : (rows))
#define TALL_FROM(dtype) ((dtype) == ATTEND_F32 ? 32768 / (DECODE_CHUNK * (int)sizeof(float)) + 1 : 0)

/* A function of its own, so that its loops have the registers to themselves. */
#define DEFINE_VALUES(name, rows, block, vecs, dtype)                                                                  \
  ATTEND_OUTLINE void name(const operand *s, int64_t ld, kv_rows *v, const float *alpha, float *o) {                   \
    (void)ld; /* operands_in(block) */                                                                                 \
    decode_values(s, v, alpha, o, rows, vecs, block, dtype);                                                           \
  }

ATTEND_INLINE const value_tile *tallest_tile(const decode_products *products, int64_t dim) {
  return products->values + (dim < products->tall_from);
}

/** How many tiles share what is to be prefetched of values: one of each rows, or two of a tall one that is alone. */
ATTEND_INLINE int64_t value_passes_of(const decode_products *products, int64_t rows, int64_t dim) {
  const value_tile *tile = tallest_tile(products, dim);
  int64_t passes = 0;
  for (int64_t left = rows; left > 0; left -= tile->rows, passes++)
    while (tile->rows > left) tile++;
  const bool tall = tile == products->values && tile->rows > tile[1].rows;
  return passes == 1 && tall && dim >= 2 * tile->columns ? 2 : passes;
}

/** Adds a chunk of values to all rows. The first tile prefetches what lies ahead, or several of them a share. */
ATTEND_INLINE void value_chunk(const operand *s, int64_t ld, kv_rows *v, int64_t rows, const float *alpha, float *o,
                               int64_t width, const decode_products *products) {
  const value_tile *tile = tallest_tile(products, v->dim);
  v->left = v->bytes - v->share;
  for (int64_t r = 0; r < rows; r += tile->rows) {
    while (tile->rows > rows - r) tile++;
    /* Of several rows of tiles the first one of each prefetches, of one row the first two, if there are shares. */
    v->until = rows > tile->rows ? 1 : tile->columns + 1;
    tile->add(s + r * ld, ld, v, alpha + r, o + r * width);
  }
}

#endif
