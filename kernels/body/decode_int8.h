/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Scores of int8 queries (decode_queries.h) with keys in q8_0 and i8: bytes of a key and of a query are multiplied,
 * four products to a lane. In q8_0 the sums of a block become numbers that its scale multiplies: four rows take 3
 * operations each for 64 elements where products of numbers take 4, and 6 for the key instead of 12. In i8, with a
 * scale for all of a row, sums stay integers to the end and a row takes one; with scales of groups, keys are put
 * together as blocks first. With q4_0, q5_0 and iq4_nl, whose integers have to be put together first, decode took 0.97
 * to 1.01 of the time of exact products: they have none. Included by decode.h.
 */
#ifndef ATTEND_KERNELS_BODY_DECODE_INT8_H
#define ATTEND_KERNELS_BODY_DECODE_INT8_H

#ifdef ATTEND_BYTE_DOT

/** How 32 bytes of keys lie: by themselves, or after their scale. i8 with scales of groups is made into the last. */
typedef enum key_bytes { BYTES_ALONE = 0, BYTES_AFTER_F16 = 2, BYTES_AFTER_F32 = 4 } key_bytes;

/** A vector of bytes of a key: of two blocks, or with ONE of one and zeros; and the scales that lie before them. */
ATTEND_INLINE vi load_key(const char *at, const key_bytes AS, const bool ONE, vf *scale) {
  const int BYTES = STEP + (int)AS, FIRST = (int)AS;
  const char *second = ONE ? NULL : at + BYTES;
  if (AS == BYTES_AFTER_F16) *scale = vf_halves_f16(at, second);
  if (AS == BYTES_AFTER_F32) *scale = vf_halves_f32(at, second);
  return vi_halves(at + FIRST, ONE ? NULL : second + FIRST);
}

/** Adds the products of a vector of bytes to the sums of QUAD keys from the i-th on: integers, or numbers with scales.
 */
ATTEND_INLINE void multiply_bytes(const operand *row, const char *const keys[4], vi flip, vf *numbers, vi *integers,
                                  const int i, const int QUAD, const int ROWS, const key_bytes AS, const bool ONE) {
  const int KEYS = LANES / ROWS;
  vi x[SCORE_ROWS], begin[SCORE_ROWS];
  ATTEND_UNROLL
  for (int r = 0; r < ROWS; r++) {
    x[r] = vi_load(row + r * LANES);
    if (AS != BYTES_ALONE) begin[r] = vi_load(row + (ROWS + r) * LANES);
  }
  ATTEND_UNROLL
  for (int j = 0; j < QUAD; j++) {
    vf scale;
    const vi key = vi_xor(load_key(keys[j], AS, ONE, &scale), flip);
    ATTEND_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const int at = r * KEYS + i + j;
      if (AS == BYTES_ALONE)
        integers[at] = vi_dot(key, x[r], integers[at]);
      else
        numbers[at] = vf_fma(vi_to_f32(vi_dot(key, x[r], begin[r])), scale, numbers[at]);
    }
  }
}

/** As score_blocks(). Of bytes alone the scores are those of integers, which finish_int8() makes scores. */
ATTEND_INLINE void score_int8(const operand *q, const char *k, int64_t stride, int64_t count, int64_t dim,
                              uintptr_t next, int64_t apart, float *s, int64_t ld, const int ROWS, const key_bytes AS,
                              const bool FEW, const bool FETCH, const bool TO_L1) {
  const int KEYS = LANES / ROWS, QUAD = KEYS < 4 ? KEYS : 4, BYTES = STEP_BLOCKS * (STEP + (int)AS);
  const bool flat = apart == dim / STEP * (STEP + (int)AS);
  const float *after = q + after_integers(ROWS, dim);
  const vi flip = vi_load(after + LANES);
  vf numbers[LANES];
  vi integers[LANES];
  ATTEND_UNROLL
  for (int i = 0; i < LANES; i++) {
    numbers[i] = vf_zero();
    if (AS == BYTES_ALONE) integers[i] = vi_load(q + (ROWS + i / KEYS) * LANES);
  }
  ATTEND_UNROLL
  for (int i = 0; i < KEYS; i += QUAD) {
    if (FEW && i >= count) break;
    const int64_t second = FEW && i + 1 >= count ? 0 : stride, third = FEW && i + 2 >= count ? second : 2 * stride;
    const int64_t fourth = FEW && i + 3 >= count ? third : 3 * stride;
    const char *at = k + i * stride;
    keys_ahead fetch = {next + (uintptr_t)(i * apart), 0};
    const operand *row = q;
    int64_t d = 0;
    for (; d + INT8_STEP <= dim; d += INT8_STEP, at += BYTES, row += 2 * ROWS * LANES) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      if (FETCH) prefetch_keys(&fetch, flat, apart, QUAD, BYTES, TO_L1);
      multiply_bytes(row, keys, flip, numbers, integers, i, QUAD, ROWS, AS, STEP_BLOCKS == 1);
    }
    if (STEP_BLOCKS > 1 && d < dim) {
      const char *const keys[4] = {at, at + second, at + third, at + fourth};
      if (FETCH) prefetch_keys(&fetch, flat, apart, QUAD, BYTES / 2, TO_L1);
      multiply_bytes(row, keys, flip, numbers, integers, i, QUAD, ROWS, AS, true);
    }
  }
  if (AS == BYTES_ALONE) {
    ATTEND_UNROLL
    for (int i = 0; i < LANES; i++) numbers[i] = vi_to_f32(integers[i]);
  }
  /* Of integers and finite scales no sum is infinite. One with an infinite scale becomes NaN: -inf would exclude its
   * key. */
  const vf sums = vf_sum_each(numbers);
  vf_store_groups(s, ld, AS == BYTES_ALONE ? sums : vf_mul(vf_fma(sums, vf_zero(), sums), vf_load(after)), KEYS);
}

#define DEFINE_INT8_PRODUCTS(name, as)                                                                                 \
  DEFINE_SCORES(name##_four, SCORE_ROWS, as, score_int8)                                                               \
  DEFINE_SCORES(name##_one, 1, as, score_int8)                                                                         \
  static const decode_products name = {.scores = &name##_four, .scores_one = &name##_one};
DEFINE_INT8_PRODUCTS(int8_alone, BYTES_ALONE)
DEFINE_INT8_PRODUCTS(int8_after_f16, BYTES_AFTER_F16)
DEFINE_INT8_PRODUCTS(int8_after_f32, BYTES_AFTER_F32)

/** The products with keys, which are in q8_0 or i8: ATTEND_CAN_INT8. */
ATTEND_INLINE const decode_products *products_of_keys(const attend_problem *p) {
  return p->k_dtype == ATTEND_Q8_0 ? &int8_after_f16 : keys_have_one_scale(p) ? &int8_alone : &int8_after_f32;
}

/** Whether keys are multiplied from where they lie. (int8_alone could be, but finish_int8() stores whole vectors.) */
ATTEND_INLINE bool keys_in_place(const attend_problem *p, const decode_products *products) {
  (void)p;
  return products == &int8_after_f16;
}

/** Puts the keys of a chunk in i8 and the scales of groups, multiples of 32, together as blocks. */
ATTEND_OUTLINE void pack_scales(const kv_block *block, const attend_rows *all, int64_t first, kv_rows *chunk,
                                char *to) {
  const attend_row_scales *scales = &all->scales;
  const int64_t stride = block->dim / STEP * (STEP + BYTES_AFTER_F32);
  int64_t row = block->key + first;
  const char *const begin = to;
  for (const kv_run *run = chunk->run; run < chunk->run + chunk->runs; run++) {
    const char *at = run->at;
    for (int64_t i = 0; i < run->count; i++, at += run->stride, row++) {
      const char *scale = scales->at + attend_row_scales_at(all, row);
      if (run->ahead) prefetch_row(address_ahead(at, run->ahead), block->bytes, block->to_l1);
      for (int64_t d = 0; d < block->dim; scale += scales->step) {
        const vf x = set1_scale(scale, scales->dtype);
        for (const int64_t end = d + scales->group; d < end; d += STEP, to += STEP + BYTES_AFTER_F32) {
          vf_store((float *)(void *)to, x); /* the first of them stays */
          memcpy(to + BYTES_AFTER_F32, at + d, STEP);
        }
      }
    }
  }
  chunk->run[0] = (kv_run){begin, stride, chunk->count, 0, stride};
  chunk->runs = 1;
}

/** Numbers of a scale's type at `at`, of `count` rows from row `row` on. There is room for a vector more. */
ATTEND_INLINE void gather_scales(const attend_rows *all, const char *at, int64_t row, int64_t count, float *to) {
  uint16_t halves[DECODE_CHUNK];
  const int64_t stride = all->scales.stride;
  for (int64_t i = 0, n; i < count; i += n) {
    n = min_i64(attend_rows_together(all, row + i), count - i);
    const char *from = at + attend_row_scales_at(all, row + i);
    if (all->scales.dtype == ATTEND_F32) {
      for (int64_t j = 0; j < n; j++) to[i + j] = *(const float *)(const void *)(from + j * stride);
    } else {
      for (int64_t j = 0; j < n; j++) halves[i + j] = *(const uint16_t *)(const void *)(from + j * stride);
    }
  }
  if (all->scales.dtype == ATTEND_F32) return;
  for (int64_t i = 0; i < count; i += LANES)
    vf_store(to + i, vf_load_f16_n(halves + i, (int)min_i64(LANES, count - i)));
}

/**
 * Makes the scores of `count` keys' integers, from the first-th key of a block on, scores of the keys. With a zero
 * point z a sum of q (x - z) is that of q x, less z times that of q: both are sums of integers still, exact up to 2^24,
 * so that little is lost where they are large and alike.
 */
ATTEND_OUTLINE void finish_int8(const kv_block *block, const attend_rows *all, int64_t first, int64_t count, operand *q,
                                int64_t width, int64_t rows, float *s, int64_t ld) {
  const attend_row_scales *from = &all->scales;
  const int64_t row = block->key + first, grouped = rows / SCORE_ROWS * SCORE_ROWS;
  const vf middle = vf_set1(from->is_unsigned ? 128.0f : 0.0f);
  float scales[DECODE_CHUNK + LANES], zeros[DECODE_CHUNK + LANES];
  if (from->at) gather_scales(all, from->at, row, count, scales);
  if (from->zeros) gather_scales(all, from->zeros, row, count, zeros);
  for (int64_t r = 0; r < rows; r++, s += ld) {
    const int64_t together = r < grouped ? SCORE_ROWS : 1, begin = r / together * together;
    const float *after = q + begin * width + after_integers(together, block->dim);
    const vf step = vf_set1(after[(r - begin) * (LANES / together)]), sum = vf_set1(after[2 * LANES + (r - begin)]);
    for (int64_t j = 0; j < count; j += LANES) {
      vf x = vf_load(s + j);
      if (from->zeros) x = vf_fma(vf_sub(middle, vf_load(zeros + j)), sum, x);
      x = vf_mul(x, step);
      if (from->at) x = vf_mul(x, vf_load(scales + j));
      vf_store(s + j, vf_fma(x, vf_zero(), x));
    }
  }
}

#else

ATTEND_INLINE const decode_products *products_of_keys(const attend_problem *p) {
  return products_of_format(p->k_dtype);
}

/** Whether keys are multiplied from where they lie. */
ATTEND_INLINE bool keys_in_place(const attend_problem *p, const decode_products *products) {
  (void)products;
  return !attend_is_format(p->k_dtype) || products_of_format(p->k_dtype);
}

#endif

#endif
