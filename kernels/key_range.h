/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Which keys a query attends, as far as causal masks, windows, lengths, first keys and key ranges say: always a range.
 * It is computed here alone, for kernels, costs, layers, the program and the benchmarks. (The reference has its own.)
 */
#ifndef ATTEND_KERNELS_KEY_RANGE_H
#define ATTEND_KERNELS_KEY_RANGE_H

#include <stdbool.h>
#include <stdint.h>

/** Keys begin <= j < end; none: 0 to 0. */
typedef struct key_range {
  int32_t begin, end;
} key_range;

/** No limit: no position of 32 bits and no length comes near. */
#define KEYS_OPEN (INT64_C(1) << 40)

/** What decides the ranges of a sequence's queries. */
typedef struct key_limits {
  int64_t begin, count;   /**< the first key that anyone attends, and the number of keys there are */
  int64_t offset;         /**< query i stands at key position i + offset */
  int64_t left, right;    /**< keys from position - left to position + right; KEYS_OPEN: no limit */
  const int32_t *lengths; /**< by query: keys below that; or NULL */
  const int32_t *ranges;  /**< by query: keys from the first number up to below the second; or NULL */
} key_limits;

/** Whether all queries attend the same range. */
static inline bool ranges_agree(const key_limits *l) {
  return l->left == KEYS_OPEN && l->right == KEYS_OPEN && !l->lengths && !l->ranges;
}

/** The keys from `begin` to below `end` that a query attends. */
static inline key_range range_of(const key_limits *l, int64_t query, int64_t begin, int64_t end) {
  const int64_t position = query + l->offset, first = position - l->left, behind = position + l->right + 1;
  if (begin < l->begin) begin = l->begin;
  if (begin < first) begin = first;
  if (end > l->count) end = l->count;
  if (end > behind) end = behind;
  if (l->lengths && end > l->lengths[query]) end = l->lengths[query];
  if (l->ranges && begin < l->ranges[2 * query]) begin = l->ranges[2 * query];
  if (l->ranges && end > l->ranges[2 * query + 1]) end = l->ranges[2 * query + 1];
  if (begin >= end) return (key_range){0, 0};
  return (key_range){(int32_t)begin, (int32_t)end};
}

#endif
