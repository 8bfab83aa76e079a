/* SPDX-License-Identifier: Apache-2.0 */
/* Which types of keys and values attend reads as they lie. The others are converted, see convert.h. */
#ifndef ATTEND_GGML_FORMATS_H
#define ATTEND_GGML_FORMATS_H

#include <attend/attend.h>
#include <cstdint>

#include "ggml.h"

namespace attend_ggml {

struct format {
  ggml_type type;
  attend_dtype dtype;
  int64_t stride_unit; /* bytes that a stride of attend counts in: an element, or 1 where rows are blocks */
};

/* The format of a type, or nullptr where attend has none. */
inline const format *native_format(ggml_type type) {
  static const format formats[] = {
      {GGML_TYPE_F32, ATTEND_F32, 4},   {GGML_TYPE_F16, ATTEND_F16, 2},   {GGML_TYPE_BF16, ATTEND_BF16, 2},
      {GGML_TYPE_Q8_0, ATTEND_Q8_0, 1}, {GGML_TYPE_Q4_0, ATTEND_Q4_0, 1}, {GGML_TYPE_Q4_1, ATTEND_Q4_1, 1},
      {GGML_TYPE_Q5_0, ATTEND_Q5_0, 1}, {GGML_TYPE_Q5_1, ATTEND_Q5_1, 1}, {GGML_TYPE_IQ4_NL, ATTEND_IQ4_NL, 1},
  };
  for (const format &f : formats)
    if (f.type == type) return &f;
  return nullptr;
}

} /* namespace attend_ggml */

#endif
