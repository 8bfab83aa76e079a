/* SPDX-License-Identifier: Apache-2.0 */
/** Arithmetic of sizes that cannot be negative. */
#ifndef ATTEND_KERNELS_INTEGERS_H
#define ATTEND_KERNELS_INTEGERS_H

#include <stdint.h>

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return a / b + (a % b != 0); }
static inline int64_t round_up(int64_t n, int64_t unit) { return divide_up(n, unit) * unit; }
static inline int64_t round_down(int64_t n, int64_t unit) { return n / unit * unit; }

#endif
