/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Quantised keys and values, of the reference and of its cases. It shares no code with kernels/: what lies in a block
 * it reads from kernels/formats.def.
 */
#ifndef ATTEND_VERIFY_FORMATS_H
#define ATTEND_VERIFY_FORMATS_H

#include "verify/internal.h"

/** Whether a type is a format. */
static inline bool attend_verify_is_format(attend_dtype dtype) { return dtype > ATTEND_BF16; }
/** Whether its scales lie in tensors of their own. */
bool attend_verify_is_scaled(attend_dtype dtype);
/** Elements of a block, or of a byte. */
int64_t attend_verify_block_elements(attend_dtype dtype);
/** What strides count in a row of `dim` elements. */
int64_t attend_verify_row_extent(attend_dtype dtype, int64_t dim);

/** A row of keys or values, and its scales. */
typedef struct attend_verify_row {
  const void *tensor, *scales, *zeros;
  attend_dtype dtype;
  const attend_scaling *scaling;
  int64_t at, scales_at; /**< in what strides count */
} attend_verify_row;

/** The row of key j of a kv head, or of its value; and the same by the indices of the tensor itself. */
attend_verify_row attend_verify_row_of(const attend_problem *p, const attend_tensors *t, bool of_values, int64_t b,
                                       int64_t h, int64_t j);
attend_verify_row attend_verify_row_at(const attend_problem *p, const attend_tensors *t, bool of_values,
                                       const int64_t at[3]);
/** Element d of it. */
double attend_verify_row_element(const attend_verify_row *row, int64_t d);

/** Writes `dim` numbers to a row, each as near to its number as the scales allow; and chooses those that blocks hold.
 */
void attend_verify_quantise(const attend_verify_row *row, int64_t dim, const float *numbers);
/** Writes scales and zero points of a row, which follow from their places and the greatest of its numbers. */
void attend_verify_choose_scales(const attend_verify_row *row, int64_t dim, float greatest, uint64_t key);
/**
 * What an element of a block may well be off by, in scales: half a step; a whole one at the end that a range lacks on
 * one side; and more than half of a table's widest step, since scales may cut off numbers.
 */
double attend_verify_block_error(attend_dtype dtype);
/** Makes an element NaN or infinite, and others with it that share its scale. Nothing where that cannot be. */
void attend_verify_spoil(const attend_verify_row *row, int64_t d, float number);

/** A random way for scales to lie: of a tensor of (batch or pages, heads, rows, dim). With rows of 0 apart, rows share
 * them. */
attend_scaling attend_verify_random_scaling(attend_dtype dtype, const int64_t extent[4], uint64_t key);
/** Scales of a row. */
int64_t attend_verify_scales(const attend_scaling *scaling, int64_t dim);

/** Lets a case have keys and values in formats: head dims are rounded up to whole blocks, scales lie as `key` says. */
void attend_verify_take_formats(attend_verify_case *c, attend_dtype k, attend_dtype v, uint64_t key);

#endif
