/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Expands the rows of one body: included by a body that has just defined its row macro. The other bodies' rows expand
 * to nothing here. No include guard: a translation unit may hold several bodies.
 */
#ifndef ATTEND_ENTER /* a body that needs state of the thread defines both */
#define ATTEND_ENTER NULL
#define ATTEND_LEAVE NULL
#endif

#ifndef ATTEND_DESCRIBE
#define ATTEND_DESCRIBE(id, body_, can_, rows_, block_)                                                                \
  const attend_kernel attend_kernel_##id = {.name = #id,                                                               \
                                            .body = body_,                                                             \
                                            .isa = ATTEND_ISA_ID,                                                      \
                                            .cpu = ATTEND_ISA_CPU,                                                     \
                                            .can = can_,                                                               \
                                            .compute = ATTEND_COMPUTE,                                                 \
                                            .dtypes = ATTEND_DTYPES,                                                   \
                                            .q_rows = rows_,                                                           \
                                            .k_block = block_,                                                         \
                                            .scratch = id##_scratch,                                                   \
                                            .run = id##_run,                                                           \
                                            .enter = ATTEND_ENTER,                                                     \
                                            .leave = ATTEND_LEAVE};
#endif

#ifndef ATTEND_BLOCKED
#define ATTEND_BLOCKED(...)
#endif
#ifndef ATTEND_TILED
#define ATTEND_TILED(...)
#endif
#ifndef ATTEND_STREAMING
#define ATTEND_STREAMING(...)
#endif
#ifndef ATTEND_DECODE
#define ATTEND_DECODE(...)
#endif
#ifndef ATTEND_SOFTMAX
#define ATTEND_SOFTMAX(...)
#endif

#include ATTEND_ROWS

#undef ATTEND_BLOCKED
#undef ATTEND_TILED
#undef ATTEND_STREAMING
#undef ATTEND_DECODE
#undef ATTEND_SOFTMAX
