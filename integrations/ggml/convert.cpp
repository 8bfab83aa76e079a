/* SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"

namespace attend_ggml {

size_t converted_bytes(const ggml_tensor *x) {
  size_t bytes = sizeof(float);
  for (int d = 0; d < 4; d++)
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(x->ne[d]), &bytes)) return 0;
  return bytes;
}

attend_strides converted_strides(const ggml_tensor *x) {
  return {x->ne[0] * x->ne[1] * x->ne[2], x->ne[0] * x->ne[1], x->ne[0]};
}

void convert(const ggml_tensor *x, float *to, int part, int parts) {
  const ggml_to_float_t to_float = ggml_get_type_traits(x->type)->to_float;
  const int64_t dim = x->ne[0], rows = x->ne[1], heads = x->ne[2], all = rows * heads * x->ne[3];
  /* In the order of a cache of llama.cpp, whose heads lie within its rows. */
  for (int64_t i = all * part / parts; i < all * (part + 1) / parts; i++) {
    const int64_t head = i % heads, row = i / heads % rows, batch = i / heads / rows;
    const char *from = static_cast<const char *>(x->data) + row * x->nb[1] + head * x->nb[2] + batch * x->nb[3];
    to_float(from, to + ((batch * heads + head) * rows + row) * dim, dim);
  }
}

} /* namespace attend_ggml */
