/* SPDX-License-Identifier: Apache-2.0 */
/** Appending to a cache in a format: how scales lie in random cases, and what a row must have become. */
#ifndef ATTEND_VERIFY_APPEND_FORMATS_H
#define ATTEND_VERIFY_APPEND_FORMATS_H

#include "verify/formats.h"
#include "verify/row_case.h"

/** A random scaling of a cache of (batch or pages, heads, rows, dim). With rows of 0 apart its scales are given. */
attend_scaling attend_verify_append_scaling(const row_case *c, attend_dtype dtype, int64_t heads, int64_t rows,
                                            int64_t dim);

/** Scales of a row. */
int64_t attend_verify_append_scales(const attend_scaling *scaling, int64_t dim);

/**
 * Whether a row became what the numbers x make it: given its scales, no element is farther off than those of
 * verify/formats.c are, and scales that were chosen are no greater than the numbers need. The first element that is not
 * right goes to `wrong`.
 */
bool attend_verify_append_is_right(const attend_verify_row *row, int64_t dim, const float *x, bool given,
                                   int64_t *wrong);

#endif
