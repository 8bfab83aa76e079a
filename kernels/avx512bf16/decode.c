/* SPDX-License-Identifier: Apache-2.0 */
/** The decode rows of this ISA. */
#include "kernels/avx512bf16/vec.h"

#include "kernels/body/decode.h"
