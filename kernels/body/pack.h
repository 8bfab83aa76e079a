/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Packing: queries, keys and values are converted to f32 and laid out in the order in which the products read them, so
 * that the inner loops have no conversions, no tails and no strides. Included after a vec.h.
 */
#ifndef ATTEND_KERNELS_BODY_PACK_H
#define ATTEND_KERNELS_BODY_PACK_H

#include "kernels/integers.h"
#include "kernels/kernel.h"

/** Zeros, a whole number of vectors. memset() takes as long to begin as a tile of a few rows takes to be cleared. */
ATTEND_INLINE void clear(float *p, int64_t count) {
  const vf zero = vf_pin(vf_zero()); /* of a zero that they know, compilers make a memset() */
  for (int64_t i = 0; i < count; i += LANES) vf_store(p + i, zero);
}

ATTEND_INLINE int64_t element_size(attend_dtype dtype) { return (int64_t)attend_dtype_size(dtype); }

/** Address of element `index` of a tensor of type `dtype`. */
ATTEND_INLINE const void *element(const void *base, attend_dtype dtype, int64_t index) {
  return (const char *)base + index * element_size(dtype);
}

/** Loads of any element type; `dtype` is a constant wherever these stand in a loop that matters. */
ATTEND_INLINE vf load_as_f32(const void *p, attend_dtype dtype) {
  if (dtype == ATTEND_F32) return vf_load((const float *)p);
  if (dtype == ATTEND_F16) return vf_load_f16((const uint16_t *)p);
  return vf_load_bf16((const uint16_t *)p);
}
ATTEND_INLINE vf load_as_f32_n(const void *p, attend_dtype dtype, int n) {
  if (dtype == ATTEND_F32) return vf_load_n((const float *)p, n);
  if (dtype == ATTEND_F16) return vf_load_f16_n((const uint16_t *)p, n);
  return vf_load_bf16_n((const uint16_t *)p, n);
}

/**
 * Transposes up to LANES rows of `dim` elements: out[d * out_stride + lane] = factor * rows[lane][d], 0 where there is
 * no row. Stores whole vectors, so that out needs LANES floats from its last column on.
 */
ATTEND_INLINE void transpose_rows(const void *const rows[LANES], int count, int64_t dim, attend_dtype dtype,
                                  float factor, float *out, int64_t out_stride) {
  const vf f = vf_set1(factor);
  for (int64_t d = 0; d < dim; d += LANES) {
    const int n = (int)min_i64(LANES, dim - d);
    vf r[LANES];
    if (n == LANES && count == LANES) {
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++) r[i] = vf_mul(f, load_as_f32(element(rows[i], dtype, d), dtype));
    } else if (n == LANES) { /* a tile of queries: fewer rows, but whole vectors of them */
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++)
        r[i] = i < count ? vf_mul(f, load_as_f32(element(rows[i], dtype, d), dtype)) : vf_zero();
    } else {
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++)
        r[i] = i < count ? vf_mul(f, load_as_f32_n(element(rows[i], dtype, d), dtype, n)) : vf_zero();
    }
    vf_transpose(r);
    if (n == LANES) {
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++) vf_store(out + (d + i) * out_stride, r[i]);
    } else {
      ATTEND_UNROLL
      for (int i = 0; i < LANES; i++)
        if (i < n) vf_store(out + (d + i) * out_stride, r[i]);
    }
  }
}

/**
 * Lists where the rows first + begin to first + end of keys or values lie, in rows[begin] to rows[end]. Packing goes
 * over them column by column: the table of a block costs an addition a row, and pages no more than that.
 */
ATTEND_INLINE void list_rows(const attend_rows *all, int64_t first, int64_t begin, int64_t end, const void **rows) {
  for (int64_t i = begin; i < end;) {
    const char *at = attend_row(all, first + i);
    const int64_t run = i + min_i64(attend_rows_together(all, first + i), end - i);
    for (; i < run; i++, at += all->stride) rows[i] = at;
  }
}

/**
 * Packs the keys of a block, where `rows` says, from key `begin` (a multiple of the panel) to `count`, into panels of
 * `panel` keys (a multiple of LANES): panel by panel [dim][panel], each in its place of the whole block. The last panel
 * is filled up with zeros.
 */
ATTEND_INLINE void pack_keys_as(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count, int64_t dim,
                                int panel, float *out) {
  for (int64_t key = begin; key < round_up(count, panel); key += LANES) {
    const int n = (int)max_i64(0, min_i64(LANES, count - key));
    transpose_rows(rows + key, n, dim, dtype, 1.0f, out + key / panel * panel * dim + key % panel, panel);
  }
}

ATTEND_OUTLINE void pack_keys(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count, int64_t dim,
                              int panel, float *out) {
  if (dtype == ATTEND_F32)
    pack_keys_as(rows, ATTEND_F32, begin, count, dim, panel, out);
  else if (dtype == ATTEND_F16)
    pack_keys_as(rows, ATTEND_F16, begin, count, dim, panel, out);
  else
    pack_keys_as(rows, ATTEND_BF16, begin, count, dim, panel, out);
}

/**
 * Makes NaN of lanes where x or y is not finite: 0 times that is NaN, and stays NaN. One addition waits for the one
 * before, not two multiply-adds: with those packing was bound by them.
 */
ATTEND_INLINE vf note_nonfinite(vf x, vf y, vf bad) { return vf_add(bad, vf_fma(x, vf_zero(), vf_mul(y, vf_zero()))); }

/**
 * Packs the value rows of a block, where `rows` says, from row `begin` to `count` into panels of `panel` columns (a
 * multiple of LANES): panel by panel [block][width], width being `panel`, or for the last panel what is left of dim
 * rounded up to LANES and filled up with zeros. Panels lie panel * block floats apart. Returns whether all these values
 * are finite.
 */
ATTEND_INLINE bool pack_values_as(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count,
                                  int64_t dim, int panel, int64_t block, float *out) {
  vf bad = vf_zero();
  for (int64_t c = 0; c < dim; c += panel) {
    const int64_t columns = min_i64(panel, dim - c);
    const int64_t width = round_up(columns, LANES);
    float *to = out + c * block + begin * width;
    for (int64_t i = begin; i < count; i++, to += width) {
      const void *from = element(rows[i], dtype, c);
      int64_t j = 0;
      for (; j + 2 * LANES <= columns; j += 2 * LANES) {
        const vf x = load_as_f32(element(from, dtype, j), dtype);
        const vf y = load_as_f32(element(from, dtype, j + LANES), dtype);
        bad = note_nonfinite(x, y, bad);
        vf_store(to + j, x), vf_store(to + j + LANES, y);
      }
      for (; j < columns; j += LANES) {
        const vf x = load_as_f32_n(element(from, dtype, j), dtype, (int)min_i64(LANES, columns - j));
        bad = note_nonfinite(x, vf_zero(), bad);
        vf_store(to + j, x);
      }
    }
  }
  return vf_hsum(bad) == 0.0f;
}

ATTEND_OUTLINE bool pack_values(const void *const *rows, attend_dtype dtype, int64_t begin, int64_t count, int64_t dim,
                                int panel, int64_t block, float *out) {
  if (dtype == ATTEND_F32) return pack_values_as(rows, ATTEND_F32, begin, count, dim, panel, block, out);
  if (dtype == ATTEND_F16) return pack_values_as(rows, ATTEND_F16, begin, count, dim, panel, block, out);
  return pack_values_as(rows, ATTEND_BF16, begin, count, dim, panel, block, out);
}

#endif
