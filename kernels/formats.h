/* SPDX-License-Identifier: Apache-2.0 */
/** What kernels/formats.def says of an element type, at run time. */
#ifndef ATTEND_KERNELS_FORMATS_H
#define ATTEND_KERNELS_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attend/formats.h"

typedef enum attend_format_kind { ATTEND_PLAIN, ATTEND_SCALED, ATTEND_BLOCKS } attend_format_kind;

typedef struct attend_format {
  const char *name;
  attend_format_kind kind;
  uint8_t elements, bytes; /**< so many elements take so many bytes */
} attend_format;

/** By attend_dtype, whose order the rows have: C++ has no array designators. */
static const attend_format attend_formats[] = {
    {"default", ATTEND_PLAIN, 1, 0},
#define ATTEND_FORMAT_PLAIN(id, name, elements, bytes) {name, ATTEND_PLAIN, elements, bytes},
#define ATTEND_FORMAT_SCALED(id, name, elements, bytes) {name, ATTEND_SCALED, elements, bytes},
#define ATTEND_FORMAT_BLOCK(id, name, elements, bytes, ...) {name, ATTEND_BLOCKS, elements, bytes},
#include "kernels/formats.def"
};
#define ATTEND_DTYPE_COUNT ((int)(sizeof attend_formats / sizeof *attend_formats))

#define ATTEND_DTYPE_BIT(dtype) (1u << (dtype))
/** The plain types, and the formats. */
#define ATTEND_DTYPES_ALL (ATTEND_DTYPE_BIT(ATTEND_F32) | ATTEND_DTYPE_BIT(ATTEND_F16) | ATTEND_DTYPE_BIT(ATTEND_BF16))
#define ATTEND_DTYPES_FORMATS ((ATTEND_DTYPE_BIT(ATTEND_DTYPE_COUNT) - 1) & ~(ATTEND_DTYPE_BIT(ATTEND_BF16 + 1) - 1))

/** Whether a type is a format: elements that are not numbers as they lie. */
static inline bool attend_is_format(attend_dtype dtype) { return dtype > ATTEND_BF16; }

/** Bytes that a stride counts: of an element, or 1 for a format. Inline: a view asks ten times. */
static inline size_t attend_dtype_size(attend_dtype dtype) {
  return attend_is_format(dtype) ? 1 : attend_formats[dtype].bytes;
}

/** Bytes of a row of whole blocks. */
static inline int64_t attend_row_size(attend_dtype dtype, int64_t dim) {
  return dim / attend_formats[dtype].elements * attend_formats[dtype].bytes;
}

/** What strides count in a row: its elements, or its bytes for a format. */
static inline int64_t attend_row_extent(attend_dtype dtype, int64_t dim) {
  return attend_is_format(dtype) ? attend_row_size(dtype, dim) : dim;
}

#endif
