/* SPDX-License-Identifier: Apache-2.0 */
/** Merging the partial results of slices that split the keys of the same rows. */
#ifndef ATTEND_KERNELS_MERGE_H
#define ATTEND_KERNELS_MERGE_H

#include "kernels/kernel.h"

/**
 * Writes the final output (and LSE) of the rows row_begin to row_end of a key/value head from `splits` partial results,
 * always in the order of the splits. Partial result s begins `s * split_stride` floats behind `partial`, and its rows
 * lie attend_partial_stride(Dv) floats apart. The first partial result is overwritten.
 */
void attend_merge(const attend_call *call, int64_t batch, int64_t kv_head, int64_t row_begin, int64_t row_end,
                  float *partial, int64_t splits, int64_t split_stride);

#endif
