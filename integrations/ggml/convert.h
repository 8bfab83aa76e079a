/* SPDX-License-Identifier: Apache-2.0 */
/* Keys or values of a type that attend does not read, as f32. */
#ifndef ATTEND_GGML_CONVERT_H
#define ATTEND_GGML_CONVERT_H

#include <attend/attend.h>

#include "ggml.h"

namespace attend_ggml {

/* Bytes of the converted tensor, (batch, heads, rows, dim) and contiguous; 0 where they are more than a size_t says. */
size_t converted_bytes(const ggml_tensor *x);

/* How it lies. */
attend_strides converted_strides(const ggml_tensor *x);

/* Converts the rows of one part of `parts`, by ggml's own code of the type. */
void convert(const ggml_tensor *x, float *to, int part, int parts);

} /* namespace attend_ggml */

#endif
