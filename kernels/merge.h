/* SPDX-License-Identifier: Apache-2.0 */
/** Merging the partial results of slices that split the keys of the same rows. */
#ifndef ATTEND_KERNELS_MERGE_H
#define ATTEND_KERNELS_MERGE_H

#include "kernels/kernel.h"

/**
 * Writes the final output (and LSE) of the rows row_begin to row_end of a view from `splits` partial results, always in
 * the order of the splits. They lie one after the other, each as attend_slice describes it, and are overwritten.
 */
void attend_merge_splits(const attend_view *view, int64_t row_begin, int64_t row_end, float *partial, int64_t splits);

#endif
