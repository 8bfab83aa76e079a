/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Asking for cache lines while products are computed. A row of keys is a few lines long, and hardware prefetchers start
 * anew on every page: packing rows that nobody has asked for ran at 7 GB/s on a Zen 5 that reads 45. Lines are asked
 * for a few at a time, because prefetches that find all miss buffers taken are dropped.
 */
#ifndef ATTEND_KERNELS_BODY_FETCH_H
#define ATTEND_KERNELS_BODY_FETCH_H

#include "kernels/body/rows.h"

enum { FETCH_ROWS = 64 };

/** Rows to ask for, and how many lines of them at each call. */
typedef struct fetch_list {
  const char *row[FETCH_ROWS];
  int32_t bytes[FETCH_ROWS];
  int count, at;
  int32_t offset, lines, quota;
} fetch_list;

/** Adds a row; one too many is not asked for. */
ATTEND_INLINE void fetch_row(fetch_list *list, const void *row, int64_t bytes) {
  if (list->count == FETCH_ROWS) return;
  list->row[list->count] = row;
  list->bytes[list->count++] = (int32_t)min_i64(bytes, 1 << 20);
  list->lines += (int32_t)(min_i64(bytes, 1 << 20) / 64 + 1);
}

/** Asks for the next few lines. */
ATTEND_OUTLINE void fetch_some(fetch_list *list) {
  for (int n = 0; n < list->quota && list->at < list->count; n++) {
    vf_prefetch(list->row[list->at] + list->offset);
    list->offset += 64;
    if (list->offset < list->bytes[list->at]) continue;
    list->at++;
    list->offset = 0;
  }
}

/** Spreads the list over `calls` calls. */
ATTEND_INLINE void fetch_spread(fetch_list *list, int64_t calls) {
  list->quota = (int32_t)(list->lines / max_i64(calls, 1) + 1);
}

/** Adds `count` rows of keys and values, as far as they exist. */
ATTEND_INLINE void fetch_keys(fetch_list *list, const attend_call *call, const attend_slice *slice, int64_t key,
                              int64_t count) {
  const attend_problem *p = &call->problem->p;
  const int64_t size = p->kv_dtype == ATTEND_F32 ? 4 : 2, end = min_i64(key + count, slice->key_end);
  for (int64_t i = key; i < end; i++) fetch_row(list, key_at(call, slice, i), p->head_dim * size);
  for (int64_t i = key; i < end; i++) fetch_row(list, value_at(call, slice, i), p->v_head_dim * size);
}

/** Adds `count` query rows, as far as the slice has them. */
ATTEND_INLINE void fetch_queries(fetch_list *list, const attend_call *call, const attend_slice *slice, int64_t row,
                                 int64_t count) {
  const attend_problem *p = &call->problem->p;
  const int64_t size = p->q_dtype == ATTEND_F32 ? 4 : 2, end = min_i64(row + count, slice->row_end);
  for (int64_t i = row; i < end; i++) fetch_row(list, query_at(call, place_of(call, slice, i)), p->head_dim * size);
}

/** Adds the output rows of `count` query rows. */
ATTEND_INLINE void fetch_outputs(fetch_list *list, const attend_call *call, const attend_slice *slice, int64_t row,
                                 int64_t count) {
  const attend_problem *p = &call->problem->p;
  const int64_t size = p->out_dtype == ATTEND_F32 ? 4 : 2;
  for (int64_t i = row; i < row + count; i++)
    fetch_row(list, output_at(call, place_of(call, slice, i)), p->v_head_dim * size);
}

#endif
