/* SPDX-License-Identifier: Apache-2.0 */
/** Appending rows to a cache: each is converted to the cache's element type. */
#ifndef ATTEND_KERNELS_BODY_APPEND_H
#define ATTEND_KERNELS_BODY_APPEND_H

#include "kernels/body/finish.h"

ATTEND_INLINE void convert_row(const void *from, void *to, int64_t dim, const attend_dtype FROM,
                               const attend_dtype TO) {
  if (FROM == TO) {
    memcpy(to, from, (size_t)(dim * element_size(FROM)));
    return;
  }
  int64_t d = 0;
  for (; d + LANES <= dim; d += LANES)
    store_as((void *)element(to, TO, d), TO, load_as_f32(element(from, FROM, d), FROM), LANES);
  if (d < dim) {
    const int n = (int)(dim - d);
    store_as((void *)element(to, TO, d), TO, load_as_f32_n(element(from, FROM, d), FROM, n), n);
  }
}

ATTEND_INLINE void convert_rows(const attend_row_copy *c, const attend_dtype FROM, const attend_dtype TO) {
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t r = 0; r < c->rows; r++)
      convert_row(c->from + h * c->from_head + r * c->from_row, c->to + h * c->to_head + r * c->to_row, c->dim, FROM,
                  TO);
}

ATTEND_INLINE void convert_rows_from(const attend_row_copy *c, const attend_dtype FROM) {
  if (c->to_dtype == ATTEND_F32)
    convert_rows(c, FROM, ATTEND_F32);
  else if (c->to_dtype == ATTEND_F16)
    convert_rows(c, FROM, ATTEND_F16);
  else
    convert_rows(c, FROM, ATTEND_BF16);
}

#define ATTEND_APPEND(id)                                                                                              \
  static void id(const attend_row_copy *copy) {                                                                        \
    if (copy->from_dtype == ATTEND_F32)                                                                                \
      convert_rows_from(copy, ATTEND_F32);                                                                             \
    else if (copy->from_dtype == ATTEND_F16)                                                                           \
      convert_rows_from(copy, ATTEND_F16);                                                                             \
    else                                                                                                               \
      convert_rows_from(copy, ATTEND_BF16);                                                                            \
  }                                                                                                                    \
  ATTEND_DESCRIBE_ROWS(id, ATTEND_OP_APPEND, append, ATTEND_DTYPE_DEFAULT)

#include "kernels/body/expand.h"

#endif
