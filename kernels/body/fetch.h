/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Prefetching cache lines while products are computed. A row of keys is a few lines long, and hardware prefetchers
 * start anew on every page: packing rows that were not prefetched ran at 7 GB/s on a Zen 5 that reads 45. Lines are
 * prefetched a few at a time, because prefetches that find all miss buffers taken are dropped.
 */
#ifndef ATTEND_KERNELS_BODY_FETCH_H
#define ATTEND_KERNELS_BODY_FETCH_H

#include "kernels/body/rows.h"

enum { FETCH_REGIONS = 12 };

/** Rows to prefetch, `stride` bytes apart. */
typedef struct fetch_region {
  const char *at;
  int64_t stride, bytes, rows;
} fetch_region;

/** Regions to prefetch, and how many lines of them at each call. */
typedef struct fetch_list {
  fetch_region region[FETCH_REGIONS];
  int count, at;
  int64_t offset, lines, quota;
} fetch_list;

/** Adds `rows` rows. Where the list is full, they are not prefetched. */
ATTEND_INLINE void fetch_rows(fetch_list *list, const void *at, int64_t stride, int64_t bytes, int64_t rows) {
  if (list->count == FETCH_REGIONS || rows <= 0) return;
  if (stride == bytes) bytes *= rows, rows = 1; /* one long row */
  list->region[list->count++] = (fetch_region){at, stride, bytes, rows};
  list->lines += rows * ((bytes + 63) / 64);
}

/** Prefetches the next few lines. */
ATTEND_OUTLINE void fetch_some(fetch_list *list) {
  int64_t quota = list->quota;
  while (quota > 0 && list->at < list->count) {
    fetch_region *region = &list->region[list->at];
    const int64_t end = min_i64(region->bytes, list->offset + quota * 64);
    for (; list->offset < end; list->offset += 64, quota--) vf_prefetch(region->at + list->offset);
    if (list->offset < region->bytes) return;
    list->offset = 0;
    region->at += region->stride;
    if (--region->rows == 0) list->at++;
  }
}

/** Spreads the list over `calls` calls. */
ATTEND_INLINE void fetch_spread(fetch_list *list, int64_t calls) { list->quota = list->lines / max_i64(calls, 1) + 1; }

/** Adds rows begin to end of keys or values of `dim` elements, page by page. */
ATTEND_INLINE void fetch_some_rows(fetch_list *list, const attend_rows *rows, int64_t dim, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end && list->count < FETCH_REGIONS;) {
    const int64_t count = min_i64(attend_rows_together(rows, row), end - row);
    fetch_rows(list, attend_row(rows, row), rows->stride, attend_row_size(rows->dtype, dim), count);
    row += count;
  }
}

/** Adds the keys and values of `keys`, as far as the slice has them. */
ATTEND_INLINE void fetch_keys(fetch_list *list, const attend_slice *slice, key_range keys) {
  const attend_view *view = slice->view;
  const int64_t end = min_i64(keys.end, slice->key_end);
  fetch_some_rows(list, &view->k, view->p->head_dim, keys.begin, end);
  fetch_some_rows(list, &view->v, view->p->v_head_dim, keys.begin, end);
}

/**
 * The keys of the first block that a slice will read, by its first and its last row. Under a window it is not the
 * slice's first: prefetching that one made 9 queries on 29 of 2143 keys (D = 192) take 159 us instead of 57.
 */
ATTEND_OUTLINE key_range first_block_keys(const attend_slice *slice, int64_t block) {
  const key_range ends[] = {attended_range(slice, place_of(slice->view, slice->row_begin)),
                            attended_range(slice, place_of(slice->view, slice->row_end - 1))};
  const key_range all = range_union(ends, 2);
  return (key_range){all.begin, (int32_t)min_i64(all.end, all.begin / block * block + block)};
}

/** The keys that are packed after a block, of which each row of a slice prefetches its share. */
typedef struct keys_to_fetch {
  const attend_slice *slice; /**< whose keys they are, or NULL: there are none */
  key_range keys;
  float of_row; /**< keys: by a multiplication, where tiles of few keys would wait for divisions */
} keys_to_fetch;

/** Those of the next block, if the slice attends any there (up to `end`), or else of the next slice's first block. */
ATTEND_OUTLINE keys_to_fetch keys_after(const attend_slice *slice, int64_t block, int64_t size, int64_t end) {
  const int64_t behind = block + size;
  keys_to_fetch ahead = {slice, {(int32_t)behind, (int32_t)min_i64(behind + size, end)}, 0.0f};
  if (behind >= end) {
    ahead.slice = slice->next;
    if (slice->next) ahead.keys = first_block_keys(slice->next, size);
  }
  ahead.of_row = (float)(ahead.keys.end - ahead.keys.begin) / (float)(slice->row_end - slice->row_begin);
  return ahead;
}

/** Adds the share of `count` rows of a slice from its row `row` on. */
ATTEND_INLINE void fetch_keys_share(fetch_list *list, const keys_to_fetch *ahead, int64_t row, int64_t count) {
  if (!ahead->slice) return;
  const int32_t first = ahead->keys.begin;
  fetch_keys(
      list, ahead->slice,
      (key_range){first + (int32_t)((float)row * ahead->of_row),
                  (int32_t)min_i64(ahead->keys.end, first + 1 + (int32_t)((float)(row + count) * ahead->of_row))});
}

/** Adds `count` query rows of q, or of out, as far as the slice has them: for each head of the group the same queries.
 */
ATTEND_INLINE void fetch_queries(fetch_list *list, const attend_slice *slice, int64_t row, int64_t count, bool out) {
  const attend_view *view = slice->view;
  const attend_problem *p = view->p;
  const int64_t end = min_i64(row + count, slice->row_end), group = view->group;
  if (row >= end) return;
  row_place at = place_of(view, row);
  const int64_t queries = group == 1 ? end - row : (end - 1) / group - at.query + 1;
  const int64_t bytes = out ? p->v_head_dim * element_size(p->out_dtype) : p->head_dim * element_size(p->q_dtype);
  for (at.head = 0; at.head < group; at.head++)
    fetch_rows(list, out ? output_at(view, at) : query_at(view, at), out ? view->out_row : view->q_row, bytes, queries);
}

#endif
