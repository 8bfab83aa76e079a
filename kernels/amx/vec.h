/* SPDX-License-Identifier: Apache-2.0 */
/** AMX: all of avx512bf16, which every processor with AMX has, beside the tiles of kernels/amx/tile.h. */
#ifndef ATTEND_KERNELS_AMX_VEC_H
#define ATTEND_KERNELS_AMX_VEC_H

#if !defined(__AMX_TILE__) || !defined(__AMX_BF16__)
#error "this folder is compiled with the flags of kernels/avx512bf16 and -mamx-tile -mamx-bf16"
#endif

#define ATTEND_ISA_ID ATTEND_ISA_AMX
#define ATTEND_ISA_CPU (AVX512BF16_CPU | ATTEND_CPU_BIT(AMX_TILE) | ATTEND_CPU_BIT(AMX_BF16))
#define ATTEND_ROWS "kernels/amx/rows.def"
#include "kernels/avx512bf16/vec.h"

#endif
