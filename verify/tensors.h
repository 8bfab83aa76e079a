/* SPDX-License-Identifier: Apache-2.0 */
/** What the files that make the tensors of a case share. */
#ifndef ATTEND_VERIFY_TENSORS_H
#define ATTEND_VERIFY_TENSORS_H

#include "verify/internal.h"

/** A tensor by its four dimensions. The numbers of an element follow from its place, so that aliases agree. */
typedef struct attend_verify_view {
  int64_t size[4], stride[4];
} attend_verify_view;

/**
 * Places a tensor and finds its first element. One without elements is NULL, or has an address that none may touch.
 * Inputs are filled with 0xff: an element of every floating type is NaN then, one of the mask says "attend", and a
 * length or page is -1. false: no memory.
 */
bool attend_verify_place(attend_verify_data *data, int which, attend_verify_view v, size_t size, uint64_t key,
                         void **first);
/** The same of `count` elements in a row. */
bool attend_verify_place_list(attend_verify_data *data, int which, int64_t count, size_t size, uint64_t key,
                              void **first);

/** A number from 0 to below `bound`. */
static inline int64_t below(uint64_t key, int64_t index, int64_t bound) {
  return bound > 0 ? (int64_t)(hash(key, index) % (uint64_t)bound) : 0;
}

/** Makes the tensors that say how long sequences are, where they lie and which keys their queries may attend. */
bool attend_verify_fill_sequences(attend_verify_data *data, const attend_verify_case *c, uint64_t key);

#endif
