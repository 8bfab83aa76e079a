/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Loaders of the formats of kernels/formats.def, each written once, on vectors of 32 bytes. Bodies that pack, and
 * decode, get rows of plain elements from read_rows(), in a buffer that fits the caches: of the type that products
 * compute in, so that everything that follows is as it is for rows of that type. Included after a vec.h and
 * ATTEND_COMPUTE.
 */
#ifndef ATTEND_KERNELS_BODY_FORMATS_H
#define ATTEND_KERNELS_BODY_FORMATS_H

#include <math.h>

#include "kernels/body/blocks.h"
#include "kernels/body/pack.h"
#include "kernels/size.h"

/** Elements that a loader takes at a time, and vectors of them. */
enum { STEP = 32, STEP_VECTORS = STEP / LANES };

/** The type of the elements that formats become: `dtype` itself, if it is no format. */
ATTEND_INLINE attend_dtype plain_dtype(attend_dtype dtype) { return attend_is_format(dtype) ? ATTEND_COMPUTE : dtype; }

/** Elements from row to row of what read_rows() writes: whole steps are stored. */
ATTEND_INLINE int64_t plain_stride(int64_t dim) { return round_up(dim, STEP); }

ATTEND_INLINE void store_plain(char *row, int64_t d, vf x) {
  if (ATTEND_COMPUTE == ATTEND_F32) {
    vf_store((float *)(void *)row + d, x);
    return;
  }
  /* What bf16 rounds to infinity becomes its greatest number: finite values have finite averages. */
  const vf most = vf_set1(0x1.fep127f), size = vf_abs(x);
  const vm over = vm_and(vm_gt(size, most), vm_gt(vf_set1(INFINITY), size));
  if (vm_any(over)) x = vf_select(over, vf_select(vm_gt(x, vf_zero()), most, vf_sub(vf_zero(), most)), x);
  vf_store_bf16_n((uint16_t *)(void *)row + d, x, LANES);
}

/* -------------------------------------------------------------------------------------------------- scaled elements */

/** 32 elements as vectors, before scales and zero points. */
#define DEFINE_ELEMENTS(id, load, convert)                                                                             \
  ATTEND_INLINE void elements_##id(const char *p, bool is_unsigned, vf x[STEP_VECTORS]) {                              \
    const vb bytes = load;                                                                                             \
    (void)is_unsigned;                                                                                                 \
    ATTEND_UNROLL                                                                                                      \
    for (int i = 0; i < STEP_VECTORS; i++) x[i] = convert(bytes, i);                                                   \
  }
static const int8_t signed_nibbles[16] = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
static const int8_t centred_nibbles[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
DEFINE_ELEMENTS(F8_E4M3, vb_load(p), vb_e4m3_to_f32)
DEFINE_ELEMENTS(F8_E5M2, vb_load(p), vb_e5m2_to_f32)
DEFINE_ELEMENTS(I8, vb_add(vb_load(p), is_unsigned ? -128 : 0), vb_to_f32)
DEFINE_ELEMENTS(I4, vb_lookup(is_unsigned ? centred_nibbles : signed_nibbles, vb_pairs(p)), vb_to_f32)

/** What one row's scales are. */
typedef struct format_scales {
  const char *at, *zeros;
  int64_t step, group;
  attend_dtype dtype;
  bool is_unsigned;
  float middle; /**< what loaders have subtracted from unsigned integers */
} format_scales;

/** Scales and zero points of elements d to d + 31 of a row. A function of its own, so that it takes no registers. */
ATTEND_OUTLINE void scales_one_by_one(const format_scales *s, int64_t d, int64_t dim, vf scale[STEP_VECTORS],
                                      vf zero[STEP_VECTORS]) {
  float scales[STEP] = {0}, zeros[STEP] = {0};
  for (int64_t i = 0; i < min_i64(STEP, dim - d); i++) {
    const int64_t at = (int64_t)((uint32_t)(d + i) / (uint32_t)s->group) * s->step;
    scales[i] = load_scale(s->at + at, s->dtype);
    if (s->zeros) zeros[i] = load_scale(s->zeros + at, s->dtype) - s->middle;
  }
  for (int i = 0; i < STEP_VECTORS; i++) scale[i] = vf_load(scales + i * LANES), zero[i] = vf_load(zeros + i * LANES);
}

/** The same of one group: the same number everywhere. */
ATTEND_INLINE vf set1_scale(const char *p, attend_dtype dtype) {
  return dtype == ATTEND_F32 ? vf_set1(*(const float *)(const void *)p) : vf_set1_f16(p);
}

/* ------------------------------------------------------------------------------------------------------------ rows */

/** An address that may be in another tensor or after the last one: a number, since no pointer may leave its tensor. */
ATTEND_INLINE uintptr_t address_ahead(const char *p, int64_t bytes) { return (uintptr_t)p + (uintptr_t)bytes; }

/** Prefetches the cache line at an address: attend_tiling.to_l1 says where to. */
ATTEND_INLINE void prefetch_line(uintptr_t address, bool to_l1) {
  if (to_l1)
    vf_prefetch((const void *)address);
  else
    vf_prefetch_l2((const void *)address);
}

ATTEND_INLINE void prefetch_lines(uintptr_t p, int64_t bytes, const bool TO_L1) {
  int64_t at = 0;
  for (; at + 256 <= bytes; at += 256, p += 256) {
    ATTEND_UNROLL
    for (int i = 0; i < 256; i += 64) prefetch_line(p + (uintptr_t)i, TO_L1);
  }
  for (; at < bytes; at += 64, p += 64) prefetch_line(p, TO_L1);
}

/** Prefetches the cache lines of `bytes` bytes. */
ATTEND_INLINE void prefetch_row(uintptr_t p, int64_t bytes, bool to_l1) {
  if (to_l1)
    prefetch_lines(p, bytes, true);
  else
    prefetch_lines(p, bytes, false);
}

/** Lines ahead of some keys that are read side by side. */
typedef struct keys_ahead {
  uintptr_t next;
  int64_t covered; /**< where keys have gaps: bytes of each, from where it is read, whose lines ahead were prefetched */
} keys_ahead;

/**
 * Prefetches as much as is read of `COUNT` keys, BYTES of each: in the order of addresses where they lie without gaps,
 * which the hardware's own prefetchers follow (5 to 10 % faster than line by line from four keys in turn), else a line
 * of each whenever one begins. No line is prefetched twice: with that, keys in f16 with gaps took 6.0 ms instead of 2.5
 * (8192 of 2 KiB apart, D = 128, 8 heads, from memory, AVX-512 on Zen 5).
 */
ATTEND_INLINE void prefetch_keys(keys_ahead *ahead, bool flat, int64_t stride, const int COUNT, const int BYTES,
                                 const bool TO_L1) {
  if (flat) {
    ATTEND_UNROLL
    for (int i = 0; i < COUNT * BYTES; i += 64) prefetch_line(ahead->next + (uintptr_t)i, TO_L1);
    ahead->next += (uintptr_t)(COUNT * BYTES);
    return;
  }
  if (ahead->covered < BYTES) {
    ATTEND_UNROLL
    for (int i = 0; i < COUNT; i++) prefetch_line(ahead->next + (uintptr_t)(i * stride), TO_L1);
    ahead->next += 64, ahead->covered += 64;
  }
  ahead->covered -= BYTES;
}

/** Rows of a format that lie evenly, and where their elements go. */
typedef struct format_run {
  const char *at;
  int64_t stride, count, dim;
  format_scales scales; /**< of the first row */
  int64_t scales_stride;
  char *out;
  int64_t out_stride; /**< bytes */
  int64_t ahead;      /**< bytes from a row to the one to prefetch meanwhile; 0 = none */
  bool to_l1;         /**< see attend_tiling */
} format_run;

ATTEND_INLINE void load_elements(const char *p, const attend_dtype DTYPE, bool is_unsigned, vf x[STEP_VECTORS]) {
  switch (DTYPE) {
#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_BLOCK(...)
#define ATTEND_FORMAT_SCALED(id, ...)                                                                                  \
  case ATTEND_##id: elements_##id(p, is_unsigned, x); return;
#include "kernels/formats.def"
  default: return;
  }
}

/** Rows of a scaled format. Scales stay in registers for a group, which is most often some whole steps. */
ATTEND_INLINE void read_scaled(const format_run *run, const attend_dtype DTYPE, const bool ZEROS) {
  const int64_t dim = run->dim, bytes = attend_row_size(DTYPE, STEP);
  const bool whole = !run->scales.at || run->scales.group >= dim || run->scales.group % STEP == 0;
  const int64_t every = !run->scales.at ? dim : whole ? run->scales.group : STEP;
  const vf middle = vf_set1(run->scales.middle);
  format_scales scales = run->scales;
  const char *row = run->at;
  char *out = run->out;
  for (int64_t r = 0; r < run->count; r++, row += run->stride, out += run->out_stride) {
    const char *at = row, *scale_at = scales.at, *zero_at = scales.zeros;
    if (run->ahead) prefetch_row(address_ahead(row, run->ahead), attend_row_size(DTYPE, dim), run->to_l1);
    for (int64_t d = 0; d < dim;) {
      const int64_t end = min_i64(dim, d + every);
      vf scale[STEP_VECTORS], zero[STEP_VECTORS];
      ATTEND_UNROLL
      for (int i = 0; i < STEP_VECTORS; i++) scale[i] = vf_set1(1.0f), zero[i] = vf_zero();
      if (!whole) {
        scales_one_by_one(&scales, d, dim, scale, zero);
      } else if (scale_at) {
        const vf one = set1_scale(scale_at, scales.dtype);
        ATTEND_UNROLL
        for (int i = 0; i < STEP_VECTORS; i++) scale[i] = one;
        if (ZEROS) {
          const vf from = vf_sub(set1_scale(zero_at, scales.dtype), middle);
          ATTEND_UNROLL
          for (int i = 0; i < STEP_VECTORS; i++) zero[i] = from;
          zero_at += scales.step;
        }
        scale_at += scales.step;
      }
      for (; d < end; d += STEP, at += bytes) {
        vf x[STEP_VECTORS];
        if (d + STEP <= dim) {
          load_elements(at, DTYPE, scales.is_unsigned, x);
        } else {
          char tail[STEP] = {0};
          memcpy(tail, at, (size_t)attend_row_size(DTYPE, dim - d));
          load_elements(tail, DTYPE, scales.is_unsigned, x);
        }
        ATTEND_UNROLL
        for (int i = 0; i < STEP_VECTORS; i++)
          store_plain(out, d + i * LANES, vf_mul(scale[i], ZEROS ? vf_sub(x[i], zero[i]) : x[i]));
      }
    }
    if (scales.at) scales.at += run->scales_stride;
    if (ZEROS) scales.zeros += run->scales_stride;
  }
}

#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_BLOCK(id, name, elements, bytes, ...)                                                            \
  ATTEND_OUTLINE void read_run_##id(const format_run *run) {                                                           \
    const char *row = run->at;                                                                                         \
    char *out = run->out;                                                                                              \
    for (int64_t r = 0; r < run->count; r++, row += run->stride, out += run->out_stride) {                             \
      const char *at = row;                                                                                            \
      if (run->ahead)                                                                                                  \
        prefetch_row(address_ahead(row, run->ahead), attend_row_size(ATTEND_##id, run->dim), run->to_l1);              \
      for (int64_t d = 0; d < run->dim; d += STEP, at += bytes) {                                                      \
        format_block b;                                                                                                \
        const bool offset = block_##id(at, &b);                                                                        \
        ATTEND_UNROLL                                                                                                  \
        for (int i = 0; i < STEP_VECTORS; i++) {                                                                       \
          const vf x = vb_to_f32(b.integers, i);                                                                       \
          store_plain(out, d + i * LANES, offset ? vf_fma(x, b.scale, b.offset) : vf_mul(x, b.scale));                 \
        }                                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
  }
#define ATTEND_FORMAT_SCALED(id, name, elements, bytes)                                                                \
  ATTEND_OUTLINE void read_run_##id(const format_run *run) {                                                           \
    if (run->scales.zeros)                                                                                             \
      read_scaled(run, ATTEND_##id, true);                                                                             \
    else                                                                                                               \
      read_scaled(run, ATTEND_##id, false);                                                                            \
  }
#include "kernels/formats.def"

ATTEND_INLINE void read_run(const format_run *run, attend_dtype dtype) {
  static void (*const read[])(const format_run *) = {
#define ATTEND_FORMAT_PLAIN(...)
#define ATTEND_FORMAT_BLOCK(id, ...) [ATTEND_##id] = read_run_##id,
#define ATTEND_FORMAT_SCALED(id, ...) [ATTEND_##id] = read_run_##id,
#include "kernels/formats.def"
  };
  read[dtype](run);
}

/**
 * Rows `row` to row + count of keys or values in a format, as elements of plain_dtype(), plain_stride() apart. Rows
 * `ahead` bytes further on are prefetched meanwhile, if that is not 0.
 */
ATTEND_OUTLINE void read_rows(const attend_rows *all, int64_t row, int64_t count, int64_t dim, char *out, int64_t ahead,
                              bool to_l1) {
  const attend_row_scales *s = &all->scales;
  format_run run = {.stride = all->stride,
                    .dim = dim,
                    .ahead = ahead,
                    .to_l1 = to_l1,
                    .out = out,
                    .out_stride = plain_stride(dim) * element_size(ATTEND_COMPUTE)};
  run.scales = (format_scales){.step = s->step,
                               .group = s->group,
                               .dtype = s->dtype,
                               .is_unsigned = s->is_unsigned,
                               .middle = !s->is_unsigned           ? 0.0f
                                         : all->dtype == ATTEND_I8 ? 128.0f
                                                                   : 8.0f};
  run.scales_stride = s->at ? s->stride : 0;
  for (int64_t end = row + count; row < end; row += run.count) {
    run.at = attend_row(all, row);
    run.count = min_i64(attend_rows_together(all, row), end - row);
    if (s->at) {
      const int64_t at = attend_row_scales_at(all, row);
      run.scales.at = s->at + at;
      run.scales.zeros = s->zeros ? s->zeros + at : NULL;
    }
    read_run(&run, all->dtype);
    run.out += run.count * run.out_stride;
  }
}

/** Bytes of `rows` rows of keys or values that are not plain, as read_rows() writes them. */
ATTEND_INLINE size_t plain_size(attend_dtype dtype, int64_t dim, size_t rows) {
  if (!attend_is_format(dtype)) return 0;
  return size_mul(size_mul((size_t)plain_stride(dim), attend_dtype_size(ATTEND_COMPUTE)), rows);
}

/** The same for whichever of keys and values needs more. */
ATTEND_INLINE size_t plain_kv_size(const attend_problem *p, size_t rows) {
  const size_t k = plain_size(p->k_dtype, p->head_dim, rows), v = plain_size(p->v_dtype, p->v_head_dim, rows);
  return k > v ? k : v;
}

/**
 * Lists rows for packing as list_rows() does. Rows in a format are read to `plain` first, and those are listed. Returns
 * the type of what is listed.
 */
ATTEND_INLINE attend_dtype list_plain_rows(const attend_rows *all, int64_t dim, int64_t first, int64_t begin,
                                           int64_t end, const void **rows, char *plain) {
  if (!attend_is_format(all->dtype)) {
    list_rows(all, first, begin, end, rows);
    return all->dtype;
  }
  const int64_t stride = plain_stride(dim) * element_size(ATTEND_COMPUTE);
  if (begin < end) read_rows(all, first + begin, end - begin, dim, plain, 0, false);
  for (int64_t i = begin; i < end; i++, plain += stride) rows[i] = plain;
  return ATTEND_COMPUTE;
}

/** A row as plain elements: where it lies, or in `plain` if it is in a format. */
ATTEND_INLINE const char *plain_row(const attend_rows *all, int64_t row, int64_t dim, char *plain) {
  if (!attend_is_format(all->dtype)) return attend_row(all, row);
  read_rows(all, row, 1, dim, plain, 0, false);
  return plain;
}

#endif
