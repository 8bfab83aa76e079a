/* SPDX-License-Identifier: Apache-2.0 */
/** Sizes that saturate: once a sum or product overflows it stays SIZE_MAX, and one check at the end sees it. */
#ifndef ATTEND_KERNELS_SIZE_H
#define ATTEND_KERNELS_SIZE_H

#include <stddef.h>
#include <stdint.h>

static inline size_t size_add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

static inline size_t size_mul(size_t a, size_t b) {
  size_t r;
  return __builtin_mul_overflow(a, b, &r) ? SIZE_MAX : r;
}

/** The least multiple of `unit` (a power of two) that is >= a. */
static inline size_t size_align(size_t a, size_t unit) {
  return a > SIZE_MAX - (unit - 1) ? SIZE_MAX : (a + unit - 1) & ~(unit - 1);
}

/** Reserves `count` items of `item` bytes in a layout that has grown to *total, and returns where they start. */
static inline size_t size_take(size_t *total, size_t count, size_t item) {
  size_t at = size_align(*total, 64);
  *total = size_add(at, size_mul(count, item));
  return at;
}

#endif
