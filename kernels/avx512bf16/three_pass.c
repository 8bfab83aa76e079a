/* SPDX-License-Identifier: Apache-2.0 */
/** The blocked rows of this ISA. */
#include "kernels/avx512bf16/vec.h"

#include "kernels/body/three_pass.h"
