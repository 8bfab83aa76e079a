/* SPDX-License-Identifier: Apache-2.0 */
/** NEON with products of bf16 matrices (FEAT_BF16): all of neon, and operands of its own. Meanings:
 * kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_NEONBF16_VEC_H
#define ATTEND_KERNELS_NEONBF16_VEC_H

#ifndef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
#error "this folder is compiled with -march=armv8.2-a+bf16"
#endif

#define ATTEND_ISA_ID ATTEND_ISA_NEONBF16
#define ATTEND_ISA_CPU (ATTEND_CPU_BIT(NEON) | ATTEND_CPU_BIT(ARM_BF16))
#define ATTEND_ROWS "kernels/neonbf16/rows.def"
#define ATTEND_OPERAND "kernels/neonbf16/operand.h"
#define ATTEND_TILE "kernels/neonbf16/tile.h"
#include "kernels/neon/vec.h"

#endif
