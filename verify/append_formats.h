/* SPDX-License-Identifier: Apache-2.0 */
/** Appending to a cache in a format: what a row must have become. */
#ifndef ATTEND_VERIFY_APPEND_FORMATS_H
#define ATTEND_VERIFY_APPEND_FORMATS_H

#include "verify/formats.h"

/**
 * Whether a row became what the numbers x make it: given its scales, no element is farther off than those of
 * verify/formats.c are, and scales that were chosen are no greater than the numbers need. The first element that is not
 * right goes to `wrong`.
 */
bool attend_verify_append_is_right(const attend_verify_row *row, int64_t dim, const float *x, bool given,
                                   int64_t *wrong);

#endif
