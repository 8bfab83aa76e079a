/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file formats.h
 * Element types, and the formats of quantised keys and values. attend/attend.h includes it; docs/formats.md shows every
 * format byte by byte, with its error and its speed.
 */
#ifndef ATTEND_FORMATS_H
#define ATTEND_FORMATS_H

#include <stdint.h>

/**
 * Element types. Queries, outputs and biases are of the first three; keys and values may be of any, each of its own.
 *
 * Keys and values in the other formats are read as they lie: they become numbers in registers or in a buffer that fits
 * the caches, and nothing is rounded that the format has not rounded, unless products are of bf16 (with queries in
 * bf16, on processors that have such products): then it is the numbers that are rounded to bf16. Their strides count
 * bytes. A row is contiguous and holds whole blocks: the head dim must be a multiple of 32 for ggml's formats, and of 2
 * for i4.
 */
typedef enum attend_dtype {
  ATTEND_DTYPE_DEFAULT = 0,

  ATTEND_F32 = 1,  /**< IEEE binary32 */
  ATTEND_F16 = 2,  /**< IEEE binary16 */
  ATTEND_BF16 = 3, /**< bfloat16: the upper half of a binary32 */

  /* What has scales, in tensors of their own: see attend_scaling. */
  ATTEND_F8_E4M3 = 4, /**< 8-bit floats of 4 exponent bits, finite up to 448, and NaN: "E4M3FN" */
  ATTEND_F8_E5M2 = 5, /**< 8-bit floats of 5 exponent bits, with infinities: the upper half of a binary16 */
  ATTEND_I8 = 6,      /**< 8-bit integers */
  ATTEND_I4 = 7,      /**< 4-bit integers, two a byte, the first in the lower half */

  /* ggml's blocks of 32 elements, which hold their scales: block_q8_0 and so on. */
  ATTEND_Q8_0 = 8,   /**< 34 bytes: an f16 scale, 32 8-bit integers */
  ATTEND_Q4_0 = 9,   /**< 18 bytes: an f16 scale, 32 4-bit integers less 8 */
  ATTEND_Q4_1 = 10,  /**< 20 bytes: an f16 scale, an f16 minimum, 32 4-bit integers */
  ATTEND_Q5_0 = 11,  /**< 22 bytes: an f16 scale, the upper bits, the lower 4 bits of 32 integers less 16 */
  ATTEND_Q5_1 = 12,  /**< 24 bytes: an f16 scale, an f16 minimum, the upper bits, the lower 4 bits of 32 integers */
  ATTEND_IQ4_NL = 13 /**< 18 bytes: an f16 scale, 32 indices into a table of 16 integers */
} attend_dtype;

/**
 * How scales and zero points of keys or values in f8, i8 or i4 lie; other formats do not read it. An element x is
 *
 *     scale * x               without zero points
 *     scale * (x - zero)      with zero points
 *
 * A scale belongs to `group` neighbouring elements of a row. The scale of group g of row r is at element
 *
 *     batch * b + head * h + row * r + step * g
 *
 * of the tensor of scales, where b, h and r are those of the data: of pages, b is the page and r the row in it, and of
 * packed keys b is 0 and r counts the rows of all sequences. A stride of 0 repeats a scale: with four zeros one scale
 * is all there is, with head = 1 and zeros each head has one. Zero points are of the same type and lie at the same
 * places of a tensor of their own; pairs of scale and zero point are one tensor with strides of 2, the zero points
 * beginning an element after the scales.
 */
typedef struct attend_scaling {
  int64_t group; /**< elements that share a scale: a multiple of 16 that divides the head dim; 0 = all of the row; 1 =
                      each has its own, as with scales per channel */
  int64_t batch, head, row, step; /**< strides, in scales */
  attend_dtype dtype;             /**< of scales and zero points: f32 or f16. Default: none, and x is the number */
  int zero_points;                /**< 1 = there are zero points; i8 and i4 only, with scales */
  int is_unsigned; /**< 1 = integers of 0 to 255, or 0 to 15; without zero points less 128, or less 8. 0 = signed ones,
                        in two's complement */
} attend_scaling;

#endif
