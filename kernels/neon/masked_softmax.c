/* SPDX-License-Identifier: Apache-2.0 */
/** The masked softmax of this ISA. */
#include "kernels/neon/vec.h"

#include "kernels/body/masked_softmax.h"
