/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx512/vec.h"

#define PHASE_ROWS 12
#define PHASE_BLOCK 256
#define PHASE_VECS 2
#define PHASE_STREAM "stream_f32__avx512_q12k256"
#define PHASE_DECODE "decode_f32__avx512_q2k512"
#define PHASE_DTYPE ATTEND_F32
#include "bench/phase_body.h"

const attend_phases attend_phases_avx512 = {.isa = ATTEND_ISA_AVX512,
                                            .limit = ATTEND_LIMIT_F32,
                                            .dims = {32, 64, 128},
                                            .memory = memory_of,
                                            .phases = PHASES_OF_BODY};
