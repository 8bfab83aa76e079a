/* SPDX-License-Identifier: Apache-2.0 */
/** Masked softmax from the inside, for tests and verify/. */
#ifndef ATTEND_LAYERS_SOFTMAX_H
#define ATTEND_LAYERS_SOFTMAX_H

#include "dispatch/dispatch.h"

/** attend_masked_softmax() with a kernel of the caller's, which must be able to run here; NULL is the library's choice.
 */
attend_status attend_masked_softmax_by(const attend_kernel *kernel, const attend_softmax_problem *problem,
                                       const attend_softmax_tensors *tensors);

#endif
