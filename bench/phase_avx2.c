/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx2/vec.h"

#define PHASE_ROWS 6
#define PHASE_BLOCK 128
#define PHASE_VECS 2
#define PHASE_STREAM "stream_f32__avx2_q6k128"
#define PHASE_DECODE "decode_f32__avx2_q2k512"
#define PHASE_DTYPE ATTEND_F32
#include "bench/phase_body.h"

const attend_phases attend_phases_avx2 = {.isa = ATTEND_ISA_AVX2,
                                          .limit = ATTEND_LIMIT_F32,
                                          .dims = {32, 64, 128},
                                          .memory = memory_of,
                                          .phases = PHASES_OF_BODY};
