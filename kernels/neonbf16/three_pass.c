/* SPDX-License-Identifier: Apache-2.0 */
/** The blocked and tiled rows of this ISA. */
#include "kernels/neonbf16/vec.h"

#include "kernels/body/three_pass.h"
