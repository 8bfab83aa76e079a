/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx512bf16/vec.h"

#define PHASE_ROWS 12
#define PHASE_BLOCK 256
#define PHASE_VECS 2
#define PHASE_STREAM "stream_bf16__avx512bf16_q12k256"
#define PHASE_DECODE "decode_bf16__avx512bf16_q2k512"
#define PHASE_DTYPE ATTEND_BF16
#include "bench/phase_body.h"

const attend_phases attend_phases_avx512bf16 = {.isa = ATTEND_ISA_AVX512BF16,
                                                .limit = ATTEND_LIMIT_BF16,
                                                .dims = {32, 64, 128},
                                                .memory = memory_of,
                                                .phases = PHASES_OF_BODY};
