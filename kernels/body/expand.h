/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Expands the rows of one body: included by a body that has just defined its row macro. The other bodies' rows expand
 * to nothing here. No include guard: a translation unit may hold several bodies.
 *
 * A row's macro defines the function that runs the kernel under the row's own identifier, so that the name that stands
 * in rows.def, that `attend kernels` prints and that a backtrace shows is one name: `grep -r NAME kernels` finds its
 * row, `break NAME` in gdb stops in it. What else a row needs is named after it: NAME_scratch, and attend_kernel_NAME
 * for its descriptor.
 */
#ifndef ATTEND_ENTER /* a body that needs state of the thread defines both */
#define ATTEND_ENTER NULL
#define ATTEND_LEAVE NULL
#endif

#ifndef ATTEND_DESCRIBE

/** A kernel of attention. */
#define ATTEND_DESCRIBE(id, body_, can_, rows_, block_)                                                                \
  const attend_kernel attend_kernel_##id = {.name = #id,                                                               \
                                            .operation = ATTEND_OP_FORWARD,                                            \
                                            .body = body_,                                                             \
                                            .isa = ATTEND_ISA_ID,                                                      \
                                            .cpu = ATTEND_ISA_CPU,                                                     \
                                            .can = can_,                                                               \
                                            .compute = ATTEND_COMPUTE,                                                 \
                                            .dtypes = ATTEND_DTYPES,                                                   \
                                            .q_rows = rows_,                                                           \
                                            .k_block = block_,                                                         \
                                            .scratch = id##_scratch,                                                   \
                                            .forward = id,                                                             \
                                            .enter = ATTEND_ENTER,                                                     \
                                            .leave = ATTEND_LEAVE};

/** A kernel of another operation, which works row by row on all element types; `member` is its run function's. */
#define ATTEND_DESCRIBE_ROWS(id, operation_, member, compute_)                                                         \
  const attend_kernel attend_kernel_##id = {.name = #id,                                                               \
                                            .operation = operation_,                                                   \
                                            .body = ATTEND_BODY_ROWS,                                                  \
                                            .isa = ATTEND_ISA_ID,                                                      \
                                            .cpu = ATTEND_ISA_CPU,                                                     \
                                            .compute = compute_,                                                       \
                                            .dtypes = ATTEND_DTYPES_ALL,                                               \
                                            .member = id};

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
#ifndef ATTEND_APPEND
#define ATTEND_APPEND(...)
#endif
#ifndef ATTEND_MERGE
#define ATTEND_MERGE(...)
#endif

#include ATTEND_ROWS

#undef ATTEND_BLOCKED
#undef ATTEND_TILED
#undef ATTEND_STREAMING
#undef ATTEND_DECODE
#undef ATTEND_SOFTMAX
#undef ATTEND_APPEND
#undef ATTEND_MERGE
