/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file append.h
 * Appending to caches of keys and values. attend/attend.h includes it.
 */
#ifndef ATTEND_APPEND_H
#define ATTEND_APPEND_H

#include "attend/attend.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Appending new keys, or new values, to a cache: row i of sequence b, in every head, becomes row positions[b] + i of
 * the cache. A call does one tensor. The cache lies as attend_problem says of k and v, in one piece or in pages:
 * kv_len, k_strides, page_rows, pages and block_table of the attention problem are here cache_len, cache_strides and so
 * on, and its kv_lengths are then positions[b] + the new rows.
 *
 * Numbers are rounded to cache_dtype, to nearest even; too large ones become infinite, a NaN stays a NaN. Where the
 * types are the same, bytes are copied.
 *
 * A cache in a format (attend/formats.h) is quantised. Blocks of ggml's are those of its reference quantiser, bit for
 * bit. In f8, i8 and i4 each group of a new row gets a scale that makes its greatest number the greatest element, and a
 * zero point, if there are such, that makes its range the range of elements; but with scaling.row = 0, scales and zero
 * points that rows share, they are read, and what does not fit becomes the nearest element. Elements are rounded to
 * nearest even. A number that is not finite makes all that share its scale NaN, as far as the scale is its own; with
 * shared scales an infinity becomes the greatest i8 or i4, a NaN the lowest; f8 keeps a NaN, and e5m2 an infinity.
 */
typedef struct attend_append_problem {
  size_t struct_size;         /**< sizeof(attend_append_problem), set by ATTEND_APPEND_PROBLEM_INIT */
  int64_t batch;              /**< B >= 0. With B, H, rows or dim of 0 there is nothing to append, which is no error */
  int64_t heads;              /**< H >= 0: Hkv of the attention problem */
  int64_t rows;               /**< new rows of each sequence, >= 0; with x_starts the most of one sequence */
  int64_t dim;                /**< elements of a row, >= 0: D of keys, Dv of values */
  int64_t cache_len;          /**< rows that the cache has room for in each sequence, >= 0 */
  int64_t x_total;            /**< with x_starts: rows of all sequences, which x has room for; 0 to B rows */
  int64_t page_rows;          /**< > 0: the cache lies in pages of so many rows; 0 = no pages */
  int64_t pages;              /**< with page_rows: pages that the cache has in all */
  int64_t block_table_stride; /**< with page_rows: entries from row to row; 0 = cache_len / page_rows, rounded up */
  attend_strides x_strides;   /**< of (B, H, rows, dim), or with x_starts of (1, H, x_total, dim) */
  attend_strides cache_strides; /**< of (B, H, cache_len, dim), or of (pages, H, page_rows, dim); an output's */

  attend_dtype x_dtype;     /**< type of x: f32, f16 or bf16; default f32 */
  attend_dtype cache_dtype; /**< type of the cache, any of attend/formats.h; default x_dtype */
  int x_starts;             /**< 1 = new rows of all sequences are packed, those of b being x_starts[b] to [b + 1] */
  int num_threads;          /**< as in attend_options; the result is the same for every number */

  attend_scaling scaling; /**< of a cache in f8, i8 or i4; no two rows share a scale that is written */
} attend_append_problem;

#define ATTEND_APPEND_PROBLEM_INIT ATTEND_INIT_(attend_append_problem)

/** The addresses of one call, under the rules of attend_tensors. Nothing but the new rows of the cache is written. */
typedef struct attend_append_tensors {
  size_t struct_size; /**< sizeof(attend_append_tensors), set by ATTEND_APPEND_TENSORS_INIT */
  const void *x;
  void *cache;
  const int32_t *positions; /**< (B): where each sequence's first new row goes, 0 to cache_len - its new rows */
  const int32_t *x_starts;  /**< (B + 1), from 0, not falling, the last at most x_total; steps of at most `rows` */
  /** (B, cache_len / page_rows rounded up), entries from 0 to pages - 1 where new rows go; the others are not read. */
  const int32_t *block_table;

  void *scales;      /**< by scaling: written, or read if scaling.row is 0 */
  void *zero_points; /**< likewise */
} attend_append_tensors;

#define ATTEND_APPEND_TENSORS_INIT ATTEND_INIT_(attend_append_tensors)

/**
 * Appends at once, without plan, workspace or allocation, on up to num_threads OpenMP threads; on the calling one alone
 * when there is little to copy. Reads the environment as attend_plan_create() does. Rows beyond cache_len, and table
 * entries that name no page, are ATTEND_ERROR_INVALID_ARGUMENT. No two sequences or calls at a time may write one row.
 */
ATTEND_API attend_status attend_append(const attend_append_problem *problem, const attend_append_tensors *tensors);

#ifdef __cplusplus
}
#endif

#endif
