/* SPDX-License-Identifier: Apache-2.0 */
/** Masked softmax from the inside, for tests and the proof. */
#ifndef ATTEND_LAYERS_SOFTMAX_H
#define ATTEND_LAYERS_SOFTMAX_H

#include "dispatch/dispatch.h"

size_t attend_softmax_kernel_count(void);
/** In table order: widest ISA first, scalar last. */
const attend_softmax_kernel *attend_softmax_kernel_at(size_t index);

/** attend_masked_softmax() with a kernel of the caller's, which must be able to run here; NULL is the library's choice.
 */
attend_status attend_masked_softmax_by(const attend_softmax_kernel *kernel, const attend_softmax_problem *problem,
                                       const attend_softmax_tensors *tensors);

#endif
