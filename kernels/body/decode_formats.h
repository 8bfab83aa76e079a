/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The products of decode with keys and values in blocks (ATTEND_FORMAT_BLOCK), which become numbers in registers: each
 * block once for all rows of a tile. The multiply-adds are those of plain elements, in the same order, so that it makes
 * no difference to any bit whether a chunk was read to a buffer first. Included by decode.h.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_FORMATS_H
#define ATTEND_KERNELS_BODY_DECODE_FORMATS_H

/* With 16 registers sums and constants go out to the stack, in both compilers: there a buffer is read as elsewhere. */
#if LANES >= 16 && !defined(ATTEND_PAIR_DOT)
#define ATTEND_FORMATS_IN_REGISTERS
#endif

/** Rows and vectors of a tile of values: a block is read once for four rows. */
enum { BLOCK_ROWS = 4, BLOCK_VECTORS = 4 };

#ifdef ATTEND_FORMATS_IN_REGISTERS

/** Loads a block of a format, which is a constant. Returns whether it has an offset. */
ATTEND_INLINE bool load_block(const char *p, const attend_dtype DTYPE, format_block *b) {
  switch (DTYPE) {
#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_SCALED(...)
#define ATTEND_FORMAT_BLOCK(id, ...)                                                                                   \
  case ATTEND_##id: return block_##id(p, b);
#include "kernels/formats.def"
  default: return false;
  }
}

/** Vector i of a block. */
ATTEND_INLINE vf block_vector(const format_block *b, bool offset, const int i) {
  const vf x = vb_to_f32(b->integers, i);
  return offset ? vf_fma(x, b->scale, b->offset) : vf_mul(x, b->scale);
}

/** As score_group(). Keys of a group are read one after the other: queries stay in registers meanwhile. */
ATTEND_INLINE void score_blocks(const operand *q, const char *k, int64_t stride, int64_t count, int64_t dim,
                                uintptr_t next, int64_t apart, float *s, int64_t ld, const int ROWS,
                                const attend_dtype DTYPE, const bool FEW, const bool FETCH, const bool TO_L1) {
  const int KEYS = LANES / ROWS, QUAD = KEYS < 4 ? KEYS : 4, BYTES = attend_formats[DTYPE].bytes;
  const bool flat = apart == attend_row_size(DTYPE, dim);
  vf acc[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) acc[i] = vf_zero();
  ATTEND_UNROLL
  for (int i = 0; i < KEYS; i += QUAD) {
    if (FEW && i >= count) break;
    const int64_t second = FEW && i + 1 >= count ? 0 : stride, third = FEW && i + 2 >= count ? second : 2 * stride;
    const int64_t fourth = FEW && i + 3 >= count ? third : 3 * stride;
    const char *at = k + i * stride;
    keys_ahead fetch = {next + (uintptr_t)(i * apart), 0};
    const operand *row = q;
    for (int64_t d = 0; d < dim; d += STEP, at += BYTES, row += STEP_VECTORS * ROWS * LANES) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      vo x[STEP_VECTORS * SCORE_ROWS];
      const operand *queries = row;
      if (FETCH) prefetch_keys(&fetch, flat, apart, QUAD, BYTES, TO_L1);
      if (!FEW) {
        ATTEND_UNROLL
        for (int j = 0; j < STEP_VECTORS * ROWS; j++) x[j] = vo_load(row + j * LANES);
      }
      ATTEND_UNROLL
      for (int j = 0; j < QUAD; j++) {
        format_block b;
        const bool offset = load_block(keys[j], DTYPE, &b);
        if (FEW) __asm__("" : "+r"(queries)); /* clang would put what it has loaded on the stack */
        ATTEND_UNROLL
        for (int v = 0; v < STEP_VECTORS; v++) {
          const vf key = vf_pin(block_vector(&b, offset, v));
          ATTEND_UNROLL
          for (int r = 0; r < ROWS; r++)
            acc[r * KEYS + i + j] =
                vf_fma(FEW ? vo_load(queries + (v * ROWS + r) * LANES) : x[v * ROWS + r], key, acc[r * KEYS + i + j]);
        }
      }
    }
  }
  vf_store_groups(s, ld, vf_sum_each(acc), KEYS);
}

/** As decode_value_tile(), for whole blocks. */
ATTEND_INLINE void value_blocks_tile(const operand *s, int64_t ld, kv_rows *v, int64_t first, const float *alpha,
                                     float *o, int64_t width, const int ROWS, const int VECS,
                                     const attend_dtype DTYPE) {
  const int BYTES = attend_formats[DTYPE].bytes;
  vf acc[BLOCK_ROWS][BLOCK_VECTORS];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) acc[r][c] = vf_mul(vf_set1(alpha[r]), vf_load(o + r * width + c * LANES));
  }
  const int64_t skipped = first / STEP * BYTES;
  for (const kv_run *run = v->run; run < v->run + v->runs; s += run->count, run++) {
    const char *at = run->at + skipped;
    int64_t ahead = run->ahead ? run->ahead - skipped : 0;
    for (int64_t j = 0; j < run->count; j++, at += run->stride) {
      if (ahead) prefetch_row(address_ahead(at, ahead), v->bytes, v->to_l1), ahead -= run->stride - run->apart;
      ATTEND_UNROLL
      for (int c = 0; c < VECS; c += STEP_VECTORS) {
        format_block b;
        const bool offset = load_block(at + c / STEP_VECTORS * BYTES, DTYPE, &b);
        ATTEND_UNROLL
        for (int i = 0; i < STEP_VECTORS; i++) {
          const vf column = vf_pin(block_vector(&b, offset, i));
          ATTEND_UNROLL
          for (int r = 0; r < ROWS; r++) acc[r][c + i] = vf_fma(vf_set1(s[r * ld + j]), column, acc[r][c + i]);
        }
      }
    }
  }
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    ATTEND_UNROLL
    for (int c = 0; c < VECS; c++) vf_store(o + r * width + c * LANES, acc[r][c]);
  }
  prefetched(v);
}

ATTEND_INLINE void value_blocks(const operand *s, int64_t ld, kv_rows *v, const float *alpha, float *o, const int ROWS,
                                const attend_dtype DTYPE) {
  const int64_t width = round_up(v->dim, WIDE);
  int64_t c = 0;
  for (; c + BLOCK_VECTORS * LANES <= v->dim; c += BLOCK_VECTORS * LANES)
    value_blocks_tile(s, ld, v, c, alpha, o + c, width, ROWS, BLOCK_VECTORS, DTYPE);
  if (c < v->dim) value_blocks_tile(s, ld, v, c, alpha, o + c, width, ROWS, STEP_VECTORS, DTYPE);
}

#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_SCALED(...)
#define ATTEND_FORMAT_BLOCK(id, ...)                                                                                   \
  DEFINE_SCORES(blocks_##id, SCORE_ROWS, ATTEND_##id, score_blocks)                                                    \
  DEFINE_SCORES(blocks_one_##id, 1, ATTEND_##id, score_blocks)                                                         \
  ATTEND_OUTLINE void values_##id(const operand *s, int64_t ld, kv_rows *v, const float *alpha, float *o) {            \
    value_blocks(s, ld, v, alpha, o, BLOCK_ROWS, ATTEND_##id);                                                         \
  }                                                                                                                    \
  ATTEND_OUTLINE void values_one_##id(const operand *s, int64_t ld, kv_rows *v, const float *alpha, float *o) {        \
    value_blocks(s, ld, v, alpha, o, 1, ATTEND_##id);                                                                  \
  }                                                                                                                    \
  static const decode_products products_##id = {                                                                       \
      &blocks_##id,                                                                                                    \
      &blocks_one_##id,                                                                                                \
      {{values_##id, BLOCK_ROWS, BLOCK_VECTORS * LANES}, {values_one_##id, 1, BLOCK_VECTORS * LANES}},                 \
      0};
#include "kernels/formats.def"

/** The products with what lies in blocks; NULL for other types. */
ATTEND_INLINE const decode_products *products_of_format(attend_dtype dtype) {
  static const decode_products *const products[] = {
      [ATTEND_DTYPE_DEFAULT] = NULL,
#define ATTEND_FORMAT_PLAIN(id, ...) [ATTEND_##id] = NULL,
#define ATTEND_FORMAT_SCALED(id, ...) [ATTEND_##id] = NULL,
#define ATTEND_FORMAT_BLOCK(id, ...) [ATTEND_##id] = &products_##id,
#include "kernels/formats.def"
  };
  return products[dtype];
}

#else

ATTEND_INLINE const decode_products *products_of_format(attend_dtype dtype) {
  (void)dtype;
  return NULL;
}

#endif

#include "kernels/body/decode_scaled.h"

#endif
